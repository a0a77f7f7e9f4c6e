"""
Streams: what each direction of one is waiting for, how what arrives is put in order, and the
table of them (qotp.md section 5).

Our own peers number the streams they open: even ones the initiator, odd ones the
responder; 0 is there from the start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from operator import attrgetter
from typing import Final, NamedTuple

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.core.ranges import Ranges

MAX_STREAMS: Final = 1024
"""Open at one time; a peer can make no more (W6)."""

FINISHED_MEMORY: Final = 4096
"""Streams remembered after their end, so that what is late does not open them anew."""

PIECE_COST: Final = 184
"""What a piece out of order costs beside its bytes: measured, so that many small ones
cost no more than they are counted for (W6)."""

_SMALL: Final = 256
_JOINED: Final = 8192

_offset: Final = attrgetter("offset")


class LostSegment(NamedTuple):
    """Bytes to be sent again, at the border they had (rule R5)."""

    offset: int
    data: Buffer
    fin: bool
    sendings: int


class Reassembly:
    """
    The receiving half of one stream: from segments in any order to bytes in order (qotp.md
    5.4), without the release's faults: every overlap is resolved, and of a byte that comes
    twice the first copy is kept.

    @ivar next: all bytes before this offset have come.
    @ivar end: where the stream ends, once known; the first word counts.
    @ivar unread: bytes in order that were not taken.
    @ivar held: what all that is kept here costs.
    """

    __slots__ = ("_ahead", "_cost", "_pieces", "_ready", "end", "held", "next", "unread")

    def __init__(self, piece_cost: int = PIECE_COST) -> None:
        self.next = 0
        self.end: int | None = None
        self.unread = 0
        self.held = 0
        self._cost = piece_cost
        self._ready: deque[Buffer] = deque()
        self._ahead = Ranges()
        self._pieces: dict[int, bytes] = {}

    @property
    def complete(self) -> bool:
        """Everything up to the end has come."""
        return self.end is not None and self.next >= self.end

    @property
    def highest(self) -> int:
        """Behind the last byte that has come."""
        return self._ahead.end or self.next

    def finish(self, end: int) -> bool:
        """
        Note where the stream ends.

        @return: False if that contradicts what is known: another end, or bytes
            beyond it (W17).
        """
        if self.end is not None:
            return self.end == end
        if self.highest > end:
            return False
        self.end = end
        return True

    def insert(self, offset: int, data: Buffer, room: int) -> bool:
        """
        Take in a segment; the buffer is kept.

        @param room: by how much C{held} may grow.
        @return: False if there is no room, and nothing was kept.
        """
        if offset == self.next and not self._pieces and self.end is None:
            if len(data) > room:
                return False
            self._append(data)
            return True
        stop = offset + len(data)
        if self.end is not None:
            stop = min(stop, self.end)
        gaps = self._ahead.gaps(max(offset, self.next), stop)
        if sum(high - low + self._cost for low, high in gaps) > room + self._cost:
            return False
        view = memoryview(data)
        for low, high in gaps:
            self._keep(low, view[low - offset : high - offset])
        return True

    def take(self, limit: int) -> bytes:
        """The next bytes in order, at most C{limit}."""
        ready = self._ready
        if self.unread <= limit:
            data = b"".join(ready)
            ready.clear()
        else:
            parts: list[Buffer] = []
            left = limit
            while left:
                piece = ready.popleft()
                if len(piece) > left:
                    view = memoryview(piece)
                    ready.appendleft(view[left:])
                    piece = view[:left]
                parts.append(piece)
                left -= len(piece)
            data = b"".join(parts)
        self.unread -= len(data)
        self.held -= len(data)
        return data

    def discard(self) -> None:
        """Forget everything that is kept."""
        self._ready.clear()
        self._ahead.clear()
        self._pieces.clear()
        self.unread = self.held = 0

    def _keep(self, offset: int, data: memoryview) -> None:
        if offset != self.next:
            self._ahead.add(offset, offset + len(data))
            # Not the view: it would keep the whole datagram.
            self._pieces[offset] = bytes(data)
            self.held += len(data) + self._cost
            return
        self._append(data)
        end = self._ahead.pop_through(self.next)
        while self.next < end:
            piece = self._pieces.pop(self.next)
            self.held -= len(piece) + self._cost
            self._append(piece)

    def _append(self, data: Buffer) -> None:
        """
        The next bytes in order. Small ones are joined, or their objects would cost
        more than they hold.
        """
        size = len(data)
        self.next += size
        self.unread += size
        self.held += size
        if size > _SMALL:
            self._ready.append(data)
            return
        last = self._ready[-1] if self._ready else None
        if isinstance(last, bytearray) and len(last) < _JOINED:
            last += data
        else:
            self._ready.append(bytearray(data))


class Stream:
    """
    Both directions of one stream.

    @ivar queue: written and not yet sent.
    @ivar sent: the offset of the next new byte.
    @ivar unsettled: bytes sent and not acknowledged.
    @ivar lost: to be sent again, in order.
    @ivar finishing: our half is to end.
    @ivar fin_sent: its end is on the wire.
    @ivar fin_acknowledged: and has arrived.
    @ivar incoming: the other direction.
    @ivar end_told: the application knows that the peer's half has ended.
    @ivar flush_told: it knows that all of ours has arrived.
    @ivar discarding: what comes is thrown away.
    @ivar stopped: the peer has given the stream up behind its own end; what it wrote is still
        to be read.
    """

    __slots__ = (
        "discarding", "end_told", "fin_acknowledged", "fin_sent", "finishing", "flush_told",
        "incoming", "lost", "number", "queue", "sent", "stopped", "unsettled",
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
        self.stopped = False

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

    def lose(self, segment: LostSegment) -> None:
        """A segment is to be sent again."""
        lost = self.lost
        if lost and segment.offset < lost[-1].offset:
            # What is lost once more stands before later bytes: the peer waits for the earliest.
            lost.insert(bisect_left(lost, segment.offset, key=_offset), segment)
        else:
            lost.append(segment)

    def stop_sending(self) -> None:
        """Drop what was not sent and what would be sent again."""
        self.queue = ByteQueue()
        self.lost.clear()
        self.unsettled = 0
        self.finishing = self.fin_sent = self.fin_acknowledged = self.flush_told = True


class StreamTable:
    """
    The streams of a connection.

    @param first: the number of the first that is opened here: 2 or 1.
    """

    def __init__(self, first: int) -> None:
        self.open: dict[int, Stream] = {0: Stream(0)}
        self._next = first
        self._finished: dict[int, bool] = {}

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

    def highest(self, number: int) -> int:
        """Behind the last byte of the stream that has come; 0 if it is not open."""
        stream = self.open.get(number)
        return 0 if stream is None else stream.incoming.highest

    def unwanted(self, number: int) -> bool:
        """Nobody reads what still comes for a stream that is over, and the peer is to be told."""
        return self._finished.get(number, False)

    def refused(self, number: int) -> None:
        """The peer has been told that nobody reads the rest of this stream."""
        if number in self._finished:
            self._finished[number] = False

    def drop(self, stream: Stream, unwanted: bool = False) -> None:
        """A stream is over. Stream 0 stays, it is the connection's own."""
        if stream.number and self.open.pop(stream.number, None) is not None:
            self._finished[stream.number] = unwanted
            if len(self._finished) > FINISHED_MEMORY:
                del self._finished[next(iter(self._finished))]
