"""
What was sent and is not acknowledged (C{qotp.md} 5.2, 5.3).

A L{Flight} is what one call sent of one stream: datagrams numbered in a row. Only
where something is lost its single segments are looked at.

Acknowledgements come as ranges of packet numbers from our own peers and as exact
segments from the release.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from twisted_rudp.core.engine import Buffer
from twisted_rudp.qotp.streams import Segment, Stream

REORDERING = 3
"""So many later acknowledgements make a datagram lost (RFC 9002 section 6.1.1)."""


class Word(NamedTuple):
    """
    Something that is not a stream's: a PING, or bytes of the control stream.

    @ivar repeat: it is sent again when it is lost.
    """

    stream: int
    offset: int
    body: bytes = b""
    repeat: bool = False


class Flight:
    """
    Datagrams of one stream, or one L{Word}.

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
        "_settled", "before", "data", "fin", "first", "last", "left", "limited", "offset",
        "sendings", "sent_at", "since", "size", "stream", "word",
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
        word: Word | None = None,
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
        self.word = word
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


class Flights:
    """
    All flights of a connection, in the order of their numbers.

    @ivar in_flight: bytes of streams.
    @ivar words: L{Word}s in flight.
    @ivar largest: the highest number acknowledged.
    @ivar total: bytes acknowledged so far.
    @ivar since: when that last grew.
    @ivar settled: streams of which something was acknowledged; for the caller to
        look at and clear.
    @ivar losing: streams of which something is to be sent again.
    """

    def __init__(self) -> None:
        self._flights: list[Flight] = []
        self._exact: dict[tuple[int, int, int], tuple[Flight, int]] | None = None
        self.in_flight = 0
        self.words = 0
        self.largest = -1
        self.total = 0
        self.since = 0
        self.settled: dict[Stream, None] = {}
        self.losing: dict[Stream, None] = {}

    @property
    def pending(self) -> bool:
        """Something is in flight."""
        return bool(self._flights)

    def expect_segments(self) -> None:
        """From now on acknowledgements name segments."""
        if self._exact is None:
            self._exact = {}
            for flight in self._flights:
                self._enter(flight)

    @property
    def overtaken(self) -> bool:
        """Something that was sent later than the oldest datagram has been acknowledged."""
        return bool(self._flights) and self._flights[0].first < self.largest

    def sent(self, flight: Flight) -> None:
        """Enter what has just been sent."""
        if not self._flights:
            self.since = flight.sent_at
        flight.before, flight.since = self.total, self.since
        self._flights.append(flight)
        self.in_flight += len(flight.data)
        self.words += flight.word is not None
        if self._exact is not None:
            self._enter(flight)

    # acknowledged

    def acknowledge(self, low: int, high: int) -> Flight | None:
        """
        Packet numbers C{low} to C{high} have arrived.

        @return: the newest flight of which something is acknowledged for the first
            time.
        """
        flights = self._flights
        if high > self.largest:
            self.largest = high
        if len(flights) == 1 and low <= flights[0].first and flights[0].last <= high:
            flight = flights.pop()
            self._whole(flight)
            return flight
        begin = end = bisect_left(flights, low, key=_last)
        newest = None
        while end < len(flights) and flights[end].first <= high:
            flight = flights[end]
            if low <= flight.first and flight.last <= high:
                if flight.left:
                    newest = flight
                    self._whole(flight)
            else:
                before = flight.left
                for number in range(max(low, flight.first), min(high, flight.last) + 1):
                    if flight.in_flight(number - flight.first):
                        self._one(flight, number - flight.first)
                if flight.left != before:
                    newest = flight
            end += 1
        self._sweep(begin, end)
        return newest

    def acknowledge_segment(self, stream: int, offset: int, length: int) -> Flight | None:
        """
        The release has received exactly this segment.

        @return: its flight; None if no such segment is in flight.
        """
        if self._exact is None:
            return None
        found = self._exact.pop((stream, offset, length), None)
        if found is None:
            return None
        flight, index = found
        if not flight.in_flight(index):
            return None
        if flight.sendings == 1 and flight.word is None:
            # Else it may be the answer to what was sent first, which overtook nobody.
            self.largest = max(self.largest, flight.first + index)
        self._one(flight, index)
        if not flight.left:
            at = bisect_left(self._flights, flight.first, key=_first)
            self._sweep(at, at + 1)
        return flight

    def _whole(self, flight: Flight) -> None:
        if flight.left <= flight.last - flight.first:
            for index in range(flight.last - flight.first + 1):
                if flight.in_flight(index):
                    self._one(flight, index)
            return
        flight.left = 0
        size = len(flight.data)
        self.words -= flight.word is not None
        self.in_flight -= size
        self.total += size
        if flight.stream is not None:
            flight.stream.settle(size, flight.fin)
            self.settled[flight.stream] = None

    def _one(self, flight: Flight, index: int) -> None:
        flight.settle(index)
        self.words -= flight.word is not None
        if flight.stream is not None:
            _, data, fin = flight.segment(index)
            self.in_flight -= len(data)
            self.total += len(data)
            flight.stream.settle(len(data), fin)
            self.settled[flight.stream] = None

    def _sweep(self, begin: int, end: int) -> None:
        """Forget the flights in this part of which nothing is in flight."""
        self._flights[begin:end] = [each for each in self._flights[begin:end] if each.left]

    # lost

    def find_lost(self, now: int, patience: int) -> tuple[list[Word], int, int | None]:
        """
        Give up on datagrams that later ones have overtaken, by L{REORDERING} or by
        C{patience} nanoseconds. Their segments are in C{lost} of their streams then.

        @return: words to be repeated, bytes lost, and when to look again.
        """
        words: list[Word] = []
        size = 0
        again = None
        changed = 0
        for position, flight in enumerate(self._flights):
            if flight.first >= self.largest:
                break
            changed = position + 1
            late = flight.sent_at + patience <= now
            for number in range(flight.first, min(flight.last, self.largest - 1) + 1):
                index = number - flight.first
                if not flight.in_flight(index):
                    continue
                if late or number + REORDERING <= self.largest:
                    size += self._give_up(flight, index, words)
                elif again is None:
                    again = flight.sent_at + patience
        if changed:
            self._sweep(0, changed)
        return words, size, again

    def give_up_oldest(self, count: int) -> tuple[list[Word], int]:
        """
        Nothing was acknowledged for too long: count the oldest datagrams as lost.

        @return: words to be repeated and bytes lost.
        """
        words: list[Word] = []
        size = 0
        position = 0
        for flight in self._flights:
            for index in range(flight.last - flight.first + 1):
                if count and flight.in_flight(index):
                    size += self._give_up(flight, index, words)
                    count -= 1
            position += 1
            if not count:
                break
        self._sweep(0, position)
        return words, size

    def forget(self, stream: Stream) -> None:
        """A stream is given up: nothing of it is sent again."""
        self.losing.pop(stream, None)
        for flight in self._flights:
            if flight.stream is stream:
                for index in range(flight.last - flight.first + 1):
                    if flight.in_flight(index):
                        self.in_flight -= len(flight.segment(index)[1])
                flight.stream, flight.data = None, b""

    def _give_up(self, flight: Flight, index: int, words: list[Word]) -> int:
        flight.settle(index)
        if flight.word is not None:
            self.words -= 1
            if flight.word.repeat:
                words.append(flight.word)
            return 0
        if flight.stream is None:
            return 0
        offset, data, fin = flight.segment(index)
        self.in_flight -= len(data)
        flight.stream.unsettled -= len(data)
        flight.stream.lost.append(Segment(offset, data, fin, flight.sendings))
        self.losing[flight.stream] = None
        return len(data)

    def _enter(self, flight: Flight) -> None:
        assert self._exact is not None
        if flight.word is not None:
            self._exact[flight.word.stream, flight.word.offset, 0] = (flight, 0)
        elif flight.stream is not None:
            for index in range(flight.last - flight.first + 1):
                if flight.in_flight(index):
                    offset, data, _ = flight.segment(index)
                    self._exact[flight.stream.number, offset, len(data)] = (flight, index)


def _last(flight: Flight) -> int:
    return flight.last


def _first(flight: Flight) -> int:
    return flight.first
