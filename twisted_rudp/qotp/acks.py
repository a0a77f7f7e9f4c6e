"""
Acknowledgements to be sent: exact segments for the release, ranges of packet numbers
for our own peers (rules R6, R7 and R10).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from twisted_rudp.core.received import Received
from twisted_rudp.qotp.mark import (
    CONTROL,
    MORE_RANGES,
    Peer,
    mark_ack,
    range_ack,
    say_ranges,
    window_ack,
)
from twisted_rudp.qotp.outlet import Outlet
from twisted_rudp.qotp.payload import NARROW, Ack, Segment, encode

MAX_QUEUED = 4096
"""Segments waiting to be acknowledged; the oldest go first, for they will be sent again (W6)."""


NO_PLACE = NARROW
"""Offset of a stream header that says nothing. The release echoes it as it would our
end at that place (rule R8), so it must not be one where a stream is likely to end."""


class Heard(NamedTuple):
    """
    A segment of the release that is to be acknowledged.

    @ivar completing: with a stream header, so that the release sees that all of the
        stream has arrived (rule R6).
    """

    stream: int
    offset: int
    length: int
    completing: bool


class Acks:
    """
    What is to be acknowledged on one connection.

    @ivar peer: who is to understand it.
    @ivar window: what we have room for now.
    @ivar wanted: what has come from our own peer is to be acknowledged.
    @ivar announce: say so even if there is nothing to acknowledge.
    @ivar marking: everything is to carry our mark, for it was not answered yet.
    """

    def __init__(self, numbers: Received) -> None:
        """
        @param numbers: the packet numbers that were received.
        """
        self.peer = Peer.UNKNOWN
        self.window = 0
        self.announce = False
        self.marking = False
        self._numbers = numbers
        self.wanted = False
        self._heard: deque[Heard] = deque(maxlen=MAX_QUEUED)

    @property
    def pending(self) -> bool:
        """There is something to say."""
        return self.wanted or self.announce or bool(self._heard)

    def heard(self, stream: int, offset: int, length: int, complete: bool) -> None:
        """
        A segment of the release has come.

        @param complete: all of its stream has, so this may be the acknowledgement
            that the release still lacks.
        """
        self._heard.append(Heard(stream, offset, length, complete and stream != 0))

    def take_block(self) -> Ack | None:
        """
        The next acknowledgement, to ride along with a segment. None if the next one
        needs a datagram of its own.
        """
        if self.marking:
            return mark_ack(self.window)
        if self.peer is not Peer.OWN:
            return None if self._heard and self._heard[0].completing else self._exact()
        if len(self._numbers) > 1:
            return None
        self.wanted = self.announce = False
        low, high = self._numbers.last
        return range_ack(low, high, self.window)

    def _exact(self) -> Ack | None:
        if not self._heard:
            if not self.announce:
                return None
            self.announce = False
            return window_ack(self.window)
        self.announce = False
        one = self._heard.popleft()
        return Ack(one.stream, one.offset, one.length, self.window)

    def flush(self, outlet: Outlet) -> None:
        """Send all of them in datagrams of their own."""
        if self.peer is Peer.OWN:
            self._flush_ranges(outlet)
        else:
            self._flush_segments(outlet)

    def _flush_ranges(self, outlet: Outlet) -> None:
        ranges = list(self._numbers.newest(MORE_RANGES + 1))
        if not ranges:
            self.announce = False
            return
        block = range_ack(*ranges[0], self.window)
        segment = None
        if len(ranges) > 1:
            segment = Segment(CONTROL, 0, say_ranges(ranges[0][0], ranges[1:]))
        payload = encode(block, segment)
        if outlet.room(len(payload)):
            outlet.send([payload])
            self.wanted = self.announce = False

    def _flush_segments(self, outlet: Outlet) -> None:
        payloads: list[bytes] = []
        room = outlet.room(24)
        while (self._heard or self.announce) and len(payloads) < room:
            header = None
            if self._heard and self._heard[0].completing:
                header = Segment(self._heard[0].stream, NO_PLACE, b"")
            payloads.append(encode(self._exact(), header))
        if payloads:
            outlet.send(payloads)
