"""
Streams: what each direction of one is waiting for, and the table of them
(qotp.md section 5).

Our own peers number the streams they open: even ones the initiator, odd ones the
responder; 0 is there from the start.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.qotp.reassembly import Reassembly

MAX_STREAMS: Final = 1024
"""Open at one time; a peer can make no more (W6)."""

FINISHED_MEMORY: Final = 4096
"""Streams remembered after their end, so that what is late does not open them anew."""


class LostSegment(NamedTuple):
    """Bytes to be sent again, at the border they had (rule R5)."""

    offset: int
    data: Buffer
    fin: bool
    sendings: int


class Stream:
    """
    Both directions of one stream.

    @ivar queue: written and not yet sent.
    @ivar sent: the offset of the next new byte.
    @ivar unsettled: bytes sent and not acknowledged.
    @ivar lost: to be sent again.
    @ivar finishing: our half is to end.
    @ivar fin_sent: its end is on the wire.
    @ivar fin_acknowledged: and has arrived.
    @ivar incoming: the other direction.
    @ivar end_told: the application knows that the peer's half has ended.
    @ivar flush_told: it knows that all of ours has arrived.
    @ivar discarding: what comes is thrown away.
    """

    __slots__ = (
        "discarding", "end_told", "fin_acknowledged", "fin_sent", "finishing", "flush_told",
        "incoming", "lost", "number", "queue", "sent", "unsettled",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.queue = ByteQueue()
        self.sent = 0
        self.unsettled = 0
        self.lost: deque[LostSegment] = deque()
        self.finishing = False
        self.fin_sent = False
        self.fin_acknowledged = False
        self.incoming = Reassembly()
        self.end_told = False
        self.flush_told = False
        self.discarding = False

    @property
    def has_new(self) -> bool:
        """There are bytes, or an end, that were never sent."""
        return bool(self.queue.size) or (self.finishing and not self.fin_sent)

    @property
    def drained(self) -> bool:
        """All that was written is acknowledged, the end included if there is one."""
        if self.queue.size or self.unsettled or self.lost:
            return False
        return self.fin_acknowledged or not self.finishing

    @property
    def undelivered(self) -> bool:
        """Bytes that were written are not acknowledged."""
        return bool(self.queue.size or self.unsettled or any(each.data for each in self.lost))

    @property
    def over(self) -> bool:
        """Both directions have ended and both sides know."""
        return self.fin_acknowledged and self.drained and self.end_told

    def settle(self, size: int, fin: bool) -> None:
        """Bytes were acknowledged, or C{fin}: the end was."""
        self.unsettled -= size
        if fin:
            self.fin_acknowledged = True

    def stop_sending(self) -> None:
        """Drop what was not sent and what would be sent again."""
        self.queue = ByteQueue()
        self.lost.clear()
        self.finishing = self.fin_sent = True


class StreamTable:
    """
    The streams of a connection.

    @param first: the number of the first that is opened here: 2 or 1.
    """

    def __init__(self, first: int) -> None:
        self.open: dict[int, Stream] = {0: Stream(0)}
        self._next = first
        self._finished: dict[int, None] = {}

    def make(self) -> Stream:
        """
        Open one more.

        @raise ValueError: there are too many.
        """
        if len(self.open) >= MAX_STREAMS:
            raise ValueError(f"a connection has at most {MAX_STREAMS} streams at a time")
        while self._next in self.open or self._next in self._finished:
            self._next += 2
        stream = self.open[self._next] = Stream(self._next)
        self._next += 2
        return stream

    def heard(self, number: int) -> Stream | None:
        """The peer has named a stream for the first time; None if there are too many."""
        if len(self.open) >= MAX_STREAMS:
            return None
        stream = self.open[number] = Stream(number)
        return stream

    def finished(self, number: int) -> bool:
        """The stream was here and is over."""
        return number in self._finished

    def completed(self, number: int) -> bool:
        """The peer's half of the stream has come whole, its end included."""
        stream = self.open.get(number)
        return number in self._finished if stream is None else stream.incoming.complete

    def drop(self, stream: Stream) -> None:
        """A stream is over. Stream 0 stays, it is the connection's own."""
        if stream.number and self.open.pop(stream.number, None) is not None:
            self._finished[stream.number] = None
            if len(self._finished) > FINISHED_MEMORY:
                del self._finished[next(iter(self._finished))]
