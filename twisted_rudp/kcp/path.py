"""
What length of datagram gets through to a peer (RFC 8899, kcp-close.md 16): a length that does not
is given up, segments that have a number already go in pieces, and longer ones are tried again.
"""

from __future__ import annotations

import struct
from typing import Final

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.timers import NEVER

LENGTHS: Final[tuple[int, ...]] = (1280, 1232, 1024, 576)
"""Datagrams of these lengths are tried where those of the settings do not get through."""

STALLED: Final = 400 * MILLISECOND
"""Nothing was acknowledged for so long, though something is in flight: that may be its length."""

STRIKES: Final = 2
"""So often in a row a short question was answered and nothing long acknowledged."""

RAISE_INTERVAL: Final = 60 * SECOND
"""After so long a longer datagram is tried again."""

PIECE: Final = 1
"""First byte of the payload of a WINS that is a piece of a segment."""

_piece: Final = struct.Struct("<BIIBHH")

PIECE_HEAD: Final = _piece.size

MOST_BYTES: Final = 1 << 18
"""Of incomplete segments together; the oldest goes first."""

MOST_SEGMENTS: Final = 256

SHORTEST_PIECE: Final = 128
"""Bytes of each piece but the last of a segment, at least: no path is so short that they need to be
shorter, and what a peer can have kept and looked through is bounded by it."""


class Path:
    """
    Finds the longest datagram that gets through.

    @ivar length: of the longest datagram that is sent now, all headers included.
    @ivar trial: the length that is to be tried next; 0: none.
    @ivar tried: the one that was tried last.
    @ivar due: when L{suspect} is to be called next, if nothing is acknowledged until then.
    @ivar raise_at: when a longer one is to be tried.
    @ivar answered: the peer has said something that is no acknowledgement since it was asked.
    """

    __slots__ = (
        "_asked_at",
        "_largest",
        "_strikes",
        "answered",
        "due",
        "length",
        "raise_at",
        "trial",
        "tried",
    )

    def __init__(self, largest: int) -> None:
        """
        @param largest: never more than this.
        """
        self._largest = self.length = largest
        self._asked_at = -1
        self.due = 0
        self._strikes = 0
        self.answered = False
        self.trial = self.tried = 0
        self.raise_at = NEVER

    def adopt(self, largest: int) -> None:
        """Go by another length of the settings."""
        self._largest = self.length = largest
        self._strikes = self.trial = self.tried = 0
        self.raise_at = NEVER

    def reduced(self, length: int, now: int) -> None:
        """The network has refused what is longer than this."""
        self.length = length
        self.raise_at = now + RAISE_INTERVAL if length < self._largest else NEVER

    def suspect(self, una_moved: int, timeout: int, now: int) -> bool:
        """
        Something is in flight, and nothing was acknowledged for a while.

        @param una_moved: when something was.
        @return: the peer is to be asked something short. L{length} may be less than before.
        """
        if now < self.due:
            return False
        if una_moved > self._asked_at:
            self._strikes = 0
        elif self.answered and self._asked_at >= 0:
            self._strikes += 1
            if self._strikes >= STRIKES:
                # The next length has to prove itself sooner.
                self._strikes = STRIKES - 1
                self.length = next((each for each in LENGTHS if each < self.length), self.length)
                self.raise_at = now + RAISE_INTERVAL
        self._asked_at = now
        self.answered = False
        self.due = now + max(timeout, STALLED)
        return True

    def try_longer(self, now: int) -> None:
        """It is time to see whether a longer one gets through by now."""
        larger = [each for each in (self._largest, *LENGTHS) if self.length < each <= self._largest]
        self.trial = min(larger, default=0)
        self.raise_at = now + RAISE_INTERVAL if larger else NEVER

    def arrived(self) -> None:
        """What was tried has got through."""
        if self.tried > self.length:
            self.length = self.tried
        if self.length >= self._largest:
            self.raise_at = NEVER


def pieces(sn: int, ts: int, frg: int, payload: bytes, room: int) -> list[bytes]:
    """
    The payloads of the WINS segments that carry a segment.

    @param room: bytes that one of them may have.
    """
    step = room - PIECE_HEAD
    total = len(payload)
    return [
        _piece.pack(PIECE, sn, ts, frg, start, total) + payload[start : start + step]
        for start in range(0, total, step)
    ]


class Pieces:
    """Segments of which some pieces have come."""

    __slots__ = ("_held", "_size")

    def __init__(self) -> None:
        self._held: dict[int, tuple[int, dict[int, bytes]]] = {}
        self._size = 0

    def take(self, body: bytes) -> tuple[int, int, int, bytes] | None:
        """
        Take in a piece.

        @return: number, timestamp, fragment and payload of the segment that it completes.
        """
        if len(body) <= PIECE_HEAD:
            return None
        _, sn, ts, frg, start, total = _piece.unpack_from(body)
        data = body[PIECE_HEAD:]
        if len(data) < SHORTEST_PIECE and start + len(data) != total:
            return None
        held = self._held.get(sn)
        if held is None or held[0] != total:
            self._drop(sn)
            held = self._held[sn] = (total, {})
        found = held[1]
        if start not in found and start + len(data) <= total:
            found[start] = data
            self._size += len(data)
        whole = b""
        while piece := found.get(len(whole)):
            whole += piece
        if len(whole) == total:
            self._drop(sn)
            return sn, ts, frg, whole
        while self._size > MOST_BYTES or len(self._held) > MOST_SEGMENTS:
            self._drop(next(iter(self._held)))
        return None

    def _drop(self, sn: int) -> None:
        held = self._held.pop(sn, None)
        if held is not None:
            self._size -= sum(map(len, held[1].values()))
