"""
What was sent and is not acknowledged (qotp.md 5.2, 5.3).

A L{SentBatch} is what one call sent of one stream: datagrams numbered in a row. Only
where something is lost its single segments are looked at.

Acknowledgements come as ranges of packet numbers from our own peers and as exact
segments from the release.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

from twisted_rudp.core.engine import Buffer
from twisted_rudp.qotp.streams import LostSegment, Stream

REORDERING: Final = 3
"""So many later acknowledgements make a datagram lost (RFC 9002 section 6.1.1)."""


class ControlFrame(NamedTuple):
    """
    Something that is not a stream's: a PING, or bytes of the control stream.

    @ivar repeat: it is sent again when it is lost.
    """

    stream: int
    offset: int
    body: bytes = b""
    repeat: bool = False


class SentBatch:
    """
    Datagrams of one stream, or one L{ControlFrame}.

    @ivar first: number of the first datagram.
    @ivar last: that of the last one.
    @ivar offset: of the first byte in the stream.
    @ivar size: bytes of each segment; the last may be shorter.
    @ivar fin: the last segment ends the stream.
    @ivar sendings: how often its bytes have been sent.
    @ivar before: bytes that had been acknowledged when it was sent.
    @ivar since: when the last of those had been acknowledged.
    @ivar limited: there was nothing more to send then.
    @ivar left: datagrams neither acknowledged nor lost.
    """

    __slots__ = (
        "_settled", "before", "data", "fin", "first", "frame", "last", "left", "limited",
        "offset", "sendings", "sent_at", "since", "size", "stream",
    )  # fmt: skip

    def __init__(
        self,
        first: int,
        count: int,
        sent_at: int,
        stream: Stream | None = None,
        offset: int = 0,
        size: int = 0,
        data: Buffer = b"",
        fin: bool = False,
        *,
        sendings: int = 1,
        frame: ControlFrame | None = None,
    ) -> None:
        self.first = first
        self.last = first + count - 1
        self.sent_at = sent_at
        self.stream = stream
        self.offset = offset
        self.size = size
        self.data = data
        self.fin = fin
        self.sendings = sendings
        self.frame = frame
        self.left = count
        self.before = self.since = 0
        self.limited = False
        self._settled: bytearray | None = None

    def segment(self, index: int) -> tuple[int, Buffer, bool]:
        """Offset, bytes and end of one segment."""
        start = index * self.size
        fin = self.fin and self.first + index == self.last
        if self.first == self.last:
            return self.offset, self.data, fin
        return self.offset + start, memoryview(self.data)[start : start + self.size], fin

    def in_flight(self, index: int) -> bool:
        """Whether this datagram is neither acknowledged nor lost."""
        return self._settled is None or not self._settled[index]

    def settle(self, index: int) -> None:
        """It is one or the other now."""
        if self._settled is None:
            self._settled = bytearray(self.last - self.first + 1)
        self._settled[index] = 1
        self.left -= 1


class SentPackets:
    """
    All batches of a connection, in the order of their numbers.

    @ivar in_flight: bytes of streams.
    @ivar frames: L{ControlFrame}s in flight.
    @ivar largest: the highest number acknowledged.
    @ivar total: bytes acknowledged so far.
    @ivar since: when that last grew.
    @ivar settled: streams of which something was acknowledged; for the caller to
        look at and clear.
    @ivar losing: streams of which something is to be sent again.
    """

    def __init__(self) -> None:
        self._batches: list[SentBatch] = []
        self._exact: dict[tuple[int, int, int], tuple[SentBatch, int]] | None = None
        self.in_flight = 0
        self.frames = 0
        self.largest = -1
        self.total = 0
        self.since = 0
        self.settled: dict[Stream, None] = {}
        self.losing: dict[Stream, None] = {}

    @property
    def pending(self) -> bool:
        """Something is in flight."""
        return bool(self._batches)

    def expect_segments(self) -> None:
        """From now on acknowledgements name segments."""
        if self._exact is None:
            self._exact = {}
            for batch in self._batches:
                self._enter(batch)

    @property
    def overtaken(self) -> bool:
        """Something that was sent later than the oldest datagram has been acknowledged."""
        return bool(self._batches) and self._batches[0].first < self.largest

    def sent(self, batch: SentBatch) -> None:
        """Enter what has just been sent."""
        if not self._batches:
            self.since = batch.sent_at
        batch.before, batch.since = self.total, self.since
        self._batches.append(batch)
        self.in_flight += len(batch.data)
        self.frames += batch.frame is not None
        if self._exact is not None:
            self._enter(batch)

    # acknowledged

    def acknowledge(self, low: int, end: int) -> SentBatch | None:
        """
        Packet numbers C{low} .. C{end} - 1 have arrived.

        @return: the newest batch of which something is acknowledged for the first
            time.
        """
        batches = self._batches
        high = end - 1
        if high > self.largest:
            self.largest = high
        if len(batches) == 1 and low <= batches[0].first and batches[0].last <= high:
            batch = batches.pop()
            self._whole(batch)
            return batch
        begin = at = bisect_left(batches, low, key=_last)
        newest = None
        while at < len(batches) and batches[at].first <= high:
            batch = batches[at]
            if low <= batch.first and batch.last <= high:
                if batch.left:
                    newest = batch
                    self._whole(batch)
            else:
                before = batch.left
                for number in range(max(low, batch.first), min(high, batch.last) + 1):
                    if batch.in_flight(number - batch.first):
                        self._one(batch, number - batch.first)
                if batch.left != before:
                    newest = batch
            at += 1
        self._sweep(begin, at)
        return newest

    def acknowledge_segment(self, stream: int, offset: int, length: int) -> SentBatch | None:
        """
        The release has received exactly this segment.

        @return: its batch; None if no such segment is in flight.
        """
        if self._exact is None:
            return None
        found = self._exact.pop((stream, offset, length), None)
        if found is None:
            return None
        batch, index = found
        if not batch.in_flight(index):
            return None
        if batch.sendings == 1 and batch.frame is None:
            # Else it may be the answer to what was sent first, which overtook nobody.
            self.largest = max(self.largest, batch.first + index)
        self._one(batch, index)
        if not batch.left:
            at = bisect_left(self._batches, batch.first, key=_first)
            self._sweep(at, at + 1)
        return batch

    def _whole(self, batch: SentBatch) -> None:
        if batch.left <= batch.last - batch.first:
            for index in range(batch.last - batch.first + 1):
                if batch.in_flight(index):
                    self._one(batch, index)
            return
        batch.left = 0
        size = len(batch.data)
        self.frames -= batch.frame is not None
        self.in_flight -= size
        self.total += size
        if batch.stream is not None:
            batch.stream.settle(size, batch.fin)
            self.settled[batch.stream] = None

    def _one(self, batch: SentBatch, index: int) -> None:
        batch.settle(index)
        self.frames -= batch.frame is not None
        if batch.stream is not None:
            _, data, fin = batch.segment(index)
            self.in_flight -= len(data)
            self.total += len(data)
            batch.stream.settle(len(data), fin)
            self.settled[batch.stream] = None

    def _sweep(self, begin: int, end: int) -> None:
        """Forget the batches in this part of which nothing is in flight."""
        self._batches[begin:end] = [each for each in self._batches[begin:end] if each.left]

    # lost

    def find_lost(self, now: int, patience: int) -> tuple[list[ControlFrame], int, int | None]:
        """
        Give up on datagrams that later ones have overtaken, by L{REORDERING} or by
        C{patience} nanoseconds. Their segments are in C{lost} of their streams then.

        @return: frames to be repeated, bytes lost, and when to look again.
        """
        frames: list[ControlFrame] = []
        size = 0
        again = None
        changed = 0
        for position, batch in enumerate(self._batches):
            if batch.first >= self.largest:
                break
            changed = position + 1
            late = batch.sent_at + patience <= now
            for number in range(batch.first, min(batch.last, self.largest - 1) + 1):
                index = number - batch.first
                if not batch.in_flight(index):
                    continue
                if late or number + REORDERING <= self.largest:
                    size += self._give_up(batch, index, frames)
                elif again is None:
                    again = batch.sent_at + patience
        if changed:
            self._sweep(0, changed)
        return frames, size, again

    def give_up_oldest(self, count: int) -> tuple[list[ControlFrame], int]:
        """
        Nothing was acknowledged for too long: count the oldest datagrams as lost.

        @return: frames to be repeated and bytes lost.
        """
        frames: list[ControlFrame] = []
        size = 0
        position = 0
        for batch in self._batches:
            for index in range(batch.last - batch.first + 1):
                if count and batch.in_flight(index):
                    size += self._give_up(batch, index, frames)
                    count -= 1
            position += 1
            if not count:
                break
        self._sweep(0, position)
        return frames, size

    def forget(self, stream: Stream) -> None:
        """A stream is given up: nothing of it is sent again."""
        self.losing.pop(stream, None)
        for batch in self._batches:
            if batch.stream is stream:
                for index in range(batch.last - batch.first + 1):
                    if batch.in_flight(index):
                        self.in_flight -= len(batch.segment(index)[1])
                batch.stream, batch.data = None, b""

    def _give_up(self, batch: SentBatch, index: int, frames: list[ControlFrame]) -> int:
        batch.settle(index)
        if batch.frame is not None:
            self.frames -= 1
            if batch.frame.repeat:
                frames.append(batch.frame)
            return 0
        if batch.stream is None:
            return 0
        offset, data, fin = batch.segment(index)
        self.in_flight -= len(data)
        batch.stream.unsettled -= len(data)
        batch.stream.lost.append(LostSegment(offset, data, fin, batch.sendings))
        self.losing[batch.stream] = None
        return len(data)

    def _enter(self, batch: SentBatch) -> None:
        assert self._exact is not None
        if batch.frame is not None:
            self._exact[batch.frame.stream, batch.frame.offset, 0] = (batch, 0)
        elif batch.stream is not None:
            for index in range(batch.last - batch.first + 1):
                if batch.in_flight(index):
                    offset, data, _ = batch.segment(index)
                    self._exact[batch.stream.number, offset, len(data)] = (batch, index)


def _last(batch: SentBatch) -> int:
    return batch.last


def _first(batch: SentBatch) -> int:
    return batch.first
