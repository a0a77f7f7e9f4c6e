"""
What was sent and is not acknowledged (qotp.md 5.2, 5.3).

L{Recovery<twisted_rudp.core.recovery.Recovery>} knows which packet numbers are in flight,
lost or acknowledged; here is what each of them carried. A L{SentRun} is what one call sent
of one stream: packets numbered in a row. Only where something is lost its single segments
are looked at.

Acknowledgements come as ranges of packet numbers from extended peers and as exact
segments from the release.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import Final

from twisted_rudp.core.engine import MILLISECOND, Buffer
from twisted_rudp.core.pacer import NEAR
from twisted_rudp.core.recovery import COPY_SHARE, MOST_COPIED, Copies, Recovery
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.qotp.extensions import RangesReader
from twisted_rudp.qotp.path import PathMTU
from twisted_rudp.qotp.streams import LostSegment, Stream
from twisted_rudp.qotp.wire import ControlFrame

ACK_DELAY: Final = 12 * MILLISECOND
"""How long a peer may gather what it acknowledges."""

GIVEN_UP_MEMORY: Final = 256
"""So many packets that were given up are remembered, should they arrive all the same."""


_first: Final = attrgetter("first")
_last: Final = attrgetter("last")


class SentRun:
    """
    Packets of one stream, or one L{ControlFrame}, or a copy of another run's packet.

    @ivar first: number of the first packet.
    @ivar last: that of the last one.
    @ivar offset: of the first byte in the stream.
    @ivar size: bytes of each segment; the last may be shorter.
    @ivar fin: the last segment ends the stream.
    @ivar sendings: how often its bytes have been sent.
    @ivar left: packets neither acknowledged nor lost.
    @ivar original: the run of which it is a copy; its packet has the index C{copied} there.
    """

    __slots__ = (
        "_settled", "copied", "data", "fin", "first", "frame", "last", "left", "offset",
        "original", "sendings", "size", "stream",
    )  # fmt: skip

    def __init__(
        self,
        first: int,
        count: int,
        stream: Stream | None = None,
        offset: int = 0,
        size: int = 0,
        data: Buffer = b"",
        fin: bool = False,
        *,
        sendings: int = 1,
        frame: ControlFrame | None = None,
        original: SentRun | None = None,
        copied: int = 0,
    ) -> None:
        self.first = first
        self.last = first + count - 1
        self.stream = stream
        self.offset = offset
        self.size = size
        self.data = data
        self.fin = fin
        self.sendings = sendings
        self.frame = frame
        self.left = count
        self.original = original
        self.copied = copied
        self._settled: bytearray | None = None

    def segment(self, index: int) -> tuple[int, Buffer, bool]:
        """Offset, bytes and end of one segment."""
        start = index * self.size
        fin = self.fin and self.first + index == self.last
        if self.first == self.last:
            return self.offset, self.data, fin
        return self.offset + start, memoryview(self.data)[start : start + self.size], fin

    def length(self, index: int) -> int:
        """How long one segment is."""
        if self.first + index == self.last:
            return len(self.data) - index * self.size
        return self.size

    def in_flight(self, index: int) -> bool:
        """Whether this packet is neither acknowledged nor lost."""
        return self._settled is None or not self._settled[index]

    def stretches(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where neighbours among the packets C{start} .. C{end} - 1 are in flight."""
        settled = self._settled
        if settled is None:
            return [(start, end)]
        found: list[tuple[int, int]] = []
        low = settled.find(0, start, end)
        while low >= 0:
            high = settled.find(1, low, end)
            if high < 0:
                high = end
            found.append((low, high))
            low = settled.find(0, high, end)
        return found

    def settle(self, start: int, end: int) -> None:
        """The packets C{start} .. C{end} - 1, all in flight, are acknowledged or lost now."""
        if self._settled is None:
            self._settled = bytearray(self.last - self.first + 1)
        self._settled[start:end] = b"\1" * (end - start)
        self.left -= end - start


class SentPackets:
    """
    All runs of a connection, in the order of their numbers.

    @ivar recovery: what became of the packets.
    @ivar stream_bytes: bytes of streams in flight; what the peer's window limits.
    @ivar frames: L{ControlFrame}s in flight.
    @ivar acknowledged_bytes: bytes of streams acknowledged so far.
    @ivar lost: packets that were declared lost.
    @ivar settled: streams of which something was acknowledged; for the caller to
        look at and clear.
    @ivar losing: streams of which something is to be sent again.
    @ivar copies: packets that are to be sent once more soon.
    """

    def __init__(self, round_trip: RoundTrip, first: int, path_mtu: PathMTU) -> None:
        """
        @param first: the number of the first packet.
        @param path_mtu: learns which lengths get through.
        """
        self._path_mtu = path_mtu
        self.recovery = Recovery(round_trip, first, ACK_DELAY)
        self.stream_bytes = 0
        self.frames = 0
        self.acknowledged_bytes = 0
        self.lost = 0
        self._ranges = RangesReader()
        self.settled: dict[Stream, None] = {}
        self.losing: dict[Stream, None] = {}
        self.copies = Copies()
        self._runs: list[SentRun] = []
        # Copies that have arrived since the runs were swept last.
        self._arrived: list[SentRun] = []
        self._exact: dict[tuple[int, int, int], tuple[SentRun, int]] | None = None
        # Stream, offset and length by the number of the packet; the last of the numbers.
        self._given_up: dict[int, tuple[Stream, int, int]] = {}
        self._last_given_up = -1

    def expect_segments(self) -> None:
        """From now on acknowledgements name segments."""
        if self._exact is None:
            self._exact = {}
            for run in self._runs:
                self._enter(run)

    def sent(self, run: SentRun, size: int, last_size: int, now: int, draining: bool) -> None:
        """
        Enter what has just been sent.

        @param size: bytes of each datagram but the last.
        @param last_size: bytes of the last.
        @param draining: see L{Controller.draining
            <twisted_rudp.core.congestion.controller.Controller.draining>}.
        """
        recovery = self.recovery
        if run.first > recovery.next:
            # Acknowledgements are not acknowledged.
            recovery.on_skipped(run.first - recovery.next)
        recovery.on_sent(run.last - run.first + 1, size, now, last_size, draining)
        self._runs.append(run)
        self.stream_bytes += len(run.data)
        self.frames += run.frame is not None
        if self._exact is not None:
            self._enter(run)

    def release(self) -> None:
        """The connection is over."""
        self.recovery.stop()
        self._runs.clear()
        self._arrived.clear()
        self._given_up.clear()
        self.copies.clear()
        self._exact = None
        self.settled.clear()
        self.losing.clear()
        self.stream_bytes = self.frames = 0

    def plan_copies(self, run: SentRun, now: int) -> None:
        """What has just been sent may be the beginning of a stream, and is to be copied then."""
        smoothed = self.recovery.round_trip.smoothed
        if run.offset < MOST_COPIED and smoothed >= NEAR:
            count = min(-(-(MOST_COPIED - run.offset) // run.size), run.last - run.first + 1)
            self.copies.plan(now, smoothed // COPY_SHARE, run.first, run.first + count)

    def to_copy(self, now: int) -> list[tuple[SentRun, int]]:
        """Packets of streams to be copied now, as runs and indices: those still in flight."""
        found: list[tuple[SentRun, int]] = []
        for first, end in self.copies.take(now):
            at = bisect_left(self._runs, first, key=_last)
            if at == len(self._runs) or self._runs[at].first > first:
                continue
            run = self._runs[at]
            if run.stream is not None and run.left:
                indices = range(first - run.first, end - run.first)
                found += [(run, index) for index in indices if run.in_flight(index)]
        return found

    # acknowledged

    def acknowledge_ranges(self, newest: tuple[int, int], more: bytes) -> None:
        """
        Packet numbers in these ranges have arrived.

        @param newest: first and end.
        @param more: a control frame that may tell of lower ones. Most of those stood in the last
            acknowledgement too.
        """
        self.acknowledge(*newest)
        if more:
            for first, end in self._ranges.read(more, newest[0]):
                self.acknowledge(first, end)

    def acknowledge(self, first: int, end: int) -> None:
        """Packet numbers C{first} .. C{end} - 1 have arrived."""
        self.recovery.on_acknowledged(first, end)
        if first <= self._last_given_up:
            self._late_arrivals(first, end)
        runs = self._runs
        if len(runs) == 1 and first <= runs[0].first and runs[0].last < end:
            self._whole(runs.pop())
            return
        begin = at = bisect_left(runs, first, key=_last)
        while at < len(runs) and runs[at].first < end:
            run = runs[at]
            if first <= run.first and run.last < end:
                if run.left:
                    self._whole(run)
            else:
                low, high = max(first, run.first), min(end, run.last + 1)
                self._part(run, low - run.first, high - run.first)
            at += 1
        self._sweep(begin, at)
        while self._arrived:
            self._copy_arrived(self._arrived.pop())

    def _late_arrivals(self, first: int, end: int) -> None:
        """
        Of the packets C{first} .. C{end} - 1 some were given up. What they carried is there, and
        is not sent again; if it was, nobody may be left to acknowledge that.
        """
        for number in [each for each in self._given_up if first <= each < end]:
            stream, offset, length = self._given_up.pop(number)
            for segment in stream.lost:
                if segment.offset == offset and len(segment.data) == length:
                    stream.lost.remove(segment)
                    if not stream.lost:
                        self.losing.pop(stream, None)
                    self.acknowledged_bytes += length
                    stream.settle(0, segment.fin)
                    self.settled[stream] = None
                    break
            else:
                self._sent_again(stream, offset, length)

    def _sent_again(self, stream: Stream, offset: int, length: int) -> None:
        """A segment that was sent again has arrived the first time already."""
        for at, run in enumerate(self._runs):
            if run.stream is not stream or run.original is not None or not run.left:
                continue
            index = (offset - run.offset) // run.size if run.size else 0
            if not 0 <= index <= run.last - run.first or not run.in_flight(index):
                continue
            start, data, _ = run.segment(index)
            if start == offset and len(data) == length:
                number = run.first + index
                self.recovery.on_superseded(number, number + 1)
                self._part(run, index, index + 1)
                self._sweep(at, at + 1)
                return

    def _copy_arrived(self, copy: SentRun) -> None:
        """What a packet carried has arrived by a copy of it."""
        run, index = copy.original, copy.copied
        if run is not None and run.left and run.in_flight(index):
            number = run.first + index
            self.recovery.on_superseded(number, number + 1)
            self._part(run, index, index + 1)
            at = bisect_left(self._runs, run.first, key=_first)
            self._sweep(at, at + 1)

    def acknowledge_segment(self, stream: int, offset: int, length: int) -> bool:
        """
        The release has received exactly this segment.

        @return: False if no such segment is in flight.
        """
        if self._exact is None:
            return False
        found = self._exact.pop((stream, offset, length), None)
        if found is None:
            return False
        run, index = found
        if not run.in_flight(index):
            return False
        number = run.first + index
        if run.sendings == 1:
            self.recovery.on_acknowledged(number, number + 1)
        else:
            # It may be the answer to what was sent first, which overtook nobody.
            self.recovery.on_superseded(number, number + 1)
            self.recovery.probes = 0
        self._part(run, index, index + 1)
        if not run.left:
            at = bisect_left(self._runs, run.first, key=_first)
            self._sweep(at, at + 1)
        return True

    def _whole(self, run: SentRun) -> None:
        if run.left <= run.last - run.first:
            self._part(run, 0, run.last - run.first + 1)
            return
        run.left = 0
        if run.original is not None:
            if run.original.left:
                self._arrived.append(run)
            return
        size = len(run.data)
        self._path_mtu.acknowledged(size if size < run.size else run.size)
        if run.frame is not None:
            self.frames -= 1
            self._path_mtu.frame_acknowledged(len(run.frame.body))
        self.stream_bytes -= size
        self.acknowledged_bytes += size
        if run.stream is not None:
            run.stream.settle(size, run.fin)
            self.settled[run.stream] = None

    def _part(self, run: SentRun, start: int, end: int) -> None:
        """What is in flight of the packets C{start} .. C{end} - 1 of a run has arrived."""
        for low, high in run.stretches(start, end):
            run.settle(low, high)
            if run.frame is not None:
                self.frames -= 1
                self._path_mtu.frame_acknowledged(len(run.frame.body))
            if run.stream is not None:
                size = (high - low - 1) * run.size + run.length(high - 1)
                self._path_mtu.acknowledged(run.length(low))
                self.stream_bytes -= size
                self.acknowledged_bytes += size
                run.stream.settle(size, run.fin and run.first + high - 1 == run.last)
                self.settled[run.stream] = None

    def _sweep(self, begin: int, end: int) -> None:
        """Forget the runs in this part of which nothing is in flight."""
        if all(each.left == 0 for each in self._runs[begin:end]):
            del self._runs[begin:end]
        else:
            self._runs[begin:end] = [each for each in self._runs[begin:end] if each.left]

    # lost

    def take_lost(self) -> list[ControlFrame]:
        """
        Give up what was declared lost. Its segments are in C{lost} of their streams then.

        @return: control frames to be repeated.
        """
        frames: list[ControlFrame] = []
        for first, end in self.recovery.lost:
            self.lost += end - first
            self._give_up_between(first, end, frames)
        self.recovery.lost.clear()
        return frames

    def give_up_oldest(self, count: int) -> list[ControlFrame]:
        """
        Nothing was acknowledged for too long: the oldest packets are to be sent again.

        @return: control frames to be repeated.
        """
        frames: list[ControlFrame] = []
        position = 0
        for run in self._runs:
            for index in range(run.last - run.first + 1):
                if count and run.in_flight(index) and run.original is None:
                    number = run.first + index
                    self.recovery.on_superseded(number, number + 1)
                    self._give_up(run, index, frames)
                    count -= 1
            position += 1
            if not count:
                break
        self._sweep(0, position)
        return frames

    def give_up(self, first: int, end: int) -> None:
        """The segments in the packets C{first} .. C{end} - 1 are to be sent again."""
        self._give_up_between(first, end, [], early=True)

    def _give_up_between(
        self, first: int, end: int, frames: list[ControlFrame], early: bool = False
    ) -> None:
        """
        Give up what is in flight of the packets C{first} .. C{end} - 1.

        @param frames: control frames to be repeated are added.
        @param early: nothing of it was declared lost, and only segments are given up.
        """
        runs = self._runs
        begin = at = bisect_left(runs, first, key=_last)
        while at < len(runs) and runs[at].first < end:
            run = runs[at]
            if run.stream is not None or not early:
                for number in range(max(first, run.first), min(end, run.last + 1)):
                    if run.in_flight(number - run.first):
                        if early:
                            self.recovery.on_superseded(number, number + 1)
                        self._give_up(run, number - run.first, frames)
            at += 1
        self._sweep(begin, at)

    def forget(self, stream: Stream) -> None:
        """A stream is given up: nothing of it is sent again."""
        self.losing.pop(stream, None)
        for run in self._runs:
            if run.stream is stream:
                for index in range(run.last - run.first + 1):
                    if run.in_flight(index):
                        self.stream_bytes -= run.length(index)
                run.stream, run.data = None, b""

    def _give_up(self, run: SentRun, index: int, frames: list[ControlFrame]) -> None:
        run.settle(index, index + 1)
        if run.frame is not None:
            self.frames -= 1
            if run.frame.repeat:
                frames.append(run.frame)
        elif run.stream is not None:
            offset, data, fin = run.segment(index)
            self._path_mtu.lost(len(data))
            if self._exact is not None:
                self._exact.pop((run.stream.number, offset, len(data)), None)
            else:
                self._remember(run.first + index, run.stream, offset, len(data))
            self.stream_bytes -= len(data)
            run.stream.unsettled -= len(data)
            run.stream.lose(LostSegment(offset, data, fin, run.sendings))
            self.losing[run.stream] = None

    def _remember(self, number: int, stream: Stream, offset: int, length: int) -> None:
        """A packet is given up."""
        given_up = self._given_up
        if len(given_up) >= GIVEN_UP_MEMORY:
            del given_up[next(iter(given_up))]
        given_up[number] = (stream, offset, length)
        self._last_given_up = max(self._last_given_up, number)

    def _enter(self, run: SentRun) -> None:
        assert self._exact is not None
        if run.frame is not None:
            self._exact[run.frame.stream, run.frame.offset, 0] = (run, 0)
        elif run.stream is not None:
            for index in range(run.last - run.first + 1):
                if run.in_flight(index):
                    offset, data, _ = run.segment(index)
                    self._exact[run.stream.number, offset, len(data)] = (run, index)
