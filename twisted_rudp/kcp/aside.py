"""Messages beside the stream (kcp.md 5.5): sent once, unordered, perhaps lost."""

from __future__ import annotations

from twisted_rudp.kcp.fec import OUT_OF_BAND_OVERHEAD, out_of_band_packet
from twisted_rudp.kcp.runs import RunWriter

OUT_OF_BAND_HELD = 64
"""Out-of-band messages kept each way; the oldest goes first: they are not worth waiting for."""


class Aside:
    """
    The out-of-band messages of one session, both ways.

    @ivar heard: those that came and were not taken.
    """

    __slots__ = ("_conv", "_said", "heard")

    def __init__(self, conv: int) -> None:
        self._conv = conv
        # Lists, because most sessions have none of either and an empty deque is large.
        self._said: list[bytes] = []
        self.heard: list[bytes] = []

    def hear(self, view: memoryview, size: int) -> int:
        """
        Take in a run of out-of-band packets.

        @return: how many there were.
        """
        starts = range(0, len(view), size)
        for start in starts:
            _keep(self.heard, bytes(view[start + OUT_OF_BAND_OVERHEAD : start + size]))
        return len(starts)

    def say(self, data: bytes, longest: int) -> None:
        """
        Keep a message until the next flush.

        @raise ValueError: it has more than C{longest} bytes.
        """
        if len(data) > longest:
            raise ValueError(f"an out-of-band message of {len(data)} bytes: at most {longest} fit")
        _keep(self._said, bytes(data))

    def flush(self, writer: RunWriter) -> None:
        """Write what was said."""
        for data in self._said:
            writer.add(out_of_band_packet(self._conv, data))
        self._said.clear()


def _keep(messages: list[bytes], message: bytes) -> None:
    messages.append(message)
    if len(messages) > OUT_OF_BAND_HELD:
        del messages[0]
