"""What to send next, and when: windows, pacing, retransmission (C{qotp.md} 5.1 to 5.3, 6 and 7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.pacing import (
    Delivered,
    DeliveryRate,
    PreciseRoundTrip,
    RateController,
    ReleasePacing,
)
from twisted_rudp.qotp.acks import Acks
from twisted_rudp.qotp.flights import Flight, Flights, Word
from twisted_rudp.qotp.mark import Peer
from twisted_rudp.qotp.outlet import RUN_BYTES, Outlet
from twisted_rudp.qotp.payload import NARROW, cut, encode
from twisted_rudp.qotp.payload import Segment as PayloadSegment
from twisted_rudp.qotp.streams import Segment, Stream, StreamTable
from twisted_rudp.qotp.wire import DATA_OVERHEAD

FIRST_WINDOW = 16 << 20
"""What a peer is taken to have room for until it says so (section 6)."""

NEVER = 1 << 62

SLACK = 2 * MILLISECOND
"""Pacing lets go of so much at a time, so that it still sends runs."""

LONGEST_WAIT = 5 * SECOND
SMALLER_MTUS = (1280, 1232, 1024, 576)

PROBES = 2
"""Datagrams sent again when nothing was acknowledged for too long."""

_HEAD_NARROW, _HEAD_WIDE, _BLOCK = 8, 11, 16


class Sender:
    """
    The sending half of a connection.

    @ivar mtu: longest Data datagram.
    @ivar words: PINGs and resets to be sent.
    @ivar ready: streams with something that was never sent.
    @ivar peer_window: bytes that may be in flight by the peer's word.
    @ivar resent: datagrams sent again.
    @ivar wake: when pacing lets go of more.
    """

    def __init__(
        self,
        streams: StreamTable,
        mtu: int,
        minimum_timeout: int,
        ping: Callable[[], Word],
        congestion: str,
    ) -> None:
        """
        @param congestion: one of L{CONGESTION<twisted_rudp.qotp.life.CONGESTION>}.
        @param ping: makes what asks the peer for its window (rule R7).
        """
        self.mtu = mtu
        self._ping = ping
        self.words: deque[Word] = deque()
        self.ready: dict[Stream, None] = {}
        self.flights = Flights()
        self.round_trip = PreciseRoundTrip(minimum_timeout)
        self.control: RateController = DeliveryRate(self.round_trip, mtu)
        if congestion == "release":
            self.control = ReleasePacing(self.round_trip)
        self.peer_window = FIRST_WINDOW
        self.resent = 0
        self.wake = NEVER
        self._streams = streams
        self._window_number = -1
        self._again = NEVER
        self._last_sent = 0
        self._backoff = 0
        self._probes = 0
        self._ready_at = 0
        self._starved_at = NEVER

    # news

    def note_window(self, number: int, window: int) -> None:
        """The peer's window, from the datagram with this number; only the newest counts (W4)."""
        if number >= self._window_number:
            self._window_number = number
            self.peer_window = window

    def acknowledged(
        self, range: tuple[int, int], more: Iterable[tuple[int, int]], now: int
    ) -> None:
        """
        Our own peer has received these packet numbers.

        @param more: ranges below the first.
        """
        flights = self.flights
        before = flights.total
        newest = flights.acknowledge(*range)
        for low, high in more:
            flight = flights.acknowledge(low, high)
            newest = newest or flight
        if newest is not None:
            self._digest(newest, before, now, exact=True)

    def segment_acknowledged(self, stream: int, offset: int, length: int, now: int) -> None:
        """The release has received this segment."""
        before = self.flights.total
        flight = self.flights.acknowledge_segment(stream, offset, length)
        if flight is None:
            self.control.duplicate()
        else:
            self._digest(flight, before, now, exact=False)

    def _digest(self, flight: Flight, before: int, now: int, exact: bool) -> None:
        flights = self.flights
        self._backoff = 0
        elapsed = 0
        # Which transmission of a repeated segment the release means is not known.
        if (exact or flight.sendings == 1) and self.round_trip.sample(now - flight.sent_at, now):
            elapsed = now - flight.sent_at
        if flights.total > before:
            self.control.delivered(
                Delivered(
                    now, flights.total - before, elapsed, flight.before, flight.since,
                    flights.total, flight.limited, flights.in_flight,
                )
            )  # fmt: skip
            flights.since = now

    def shrink(self, size: int) -> None:
        """The path takes no datagrams of C{size} bytes (0: of the present MTU)."""
        size = min(size or self.mtu, self.mtu)
        self.mtu = next((mtu for mtu in SMALLER_MTUS if mtu < size), self.mtu)

    # time

    def deadline(self) -> int:
        """When L{tick} and a flush have something to do."""
        due = self._timeout_at()
        if self._again < due:
            due = self._again
        return self.wake if self.wake < due else due

    def tick(self, now: int) -> None:
        """Give up on what was not acknowledged in time."""
        if self.flights.overtaken:
            self._find_lost(now)
        else:
            self._again = NEVER
        if now < self._timeout_at():
            return
        self._backoff += 1
        if self.flights.pending:
            words, size = self.flights.give_up_oldest(PROBES)
            self.words.extend(words)
            self._probes = PROBES
            if size:
                self.control.lost(size)
            self._last_sent = now
        else:
            self._starved_at = now
            self.words.append(self._ping())

    def _timeout_at(self) -> int:
        if self.flights.pending:
            since = self._last_sent
        elif self._starved_at == NEVER:
            return NEVER
        else:
            since = self._starved_at
        wait = self.round_trip.timeout << self._backoff
        return since + (wait if wait < LONGEST_WAIT else LONGEST_WAIT)

    def _find_lost(self, now: int) -> None:
        trip = self.round_trip
        patience = max(trip.smoothed * 9 // 8, 2 * MILLISECOND)
        words, size, again = self.flights.find_lost(now, patience)
        self._again = NEVER if again is None else again
        self.words.extend(words)
        if size:
            self.control.lost(size)

    # out

    @property
    def waiting(self) -> bool:
        """There is more than one datagram to send."""
        if self.flights.losing or self.words or len(self.ready) > 1:
            return True
        for stream in self.ready:
            return stream.queue.size > self.mtu // 2
        return False

    def flush(self, now: int, outlet: Outlet, acks: Acks) -> None:
        """
        Send words, then what was lost, then what is new.

        @param acks: of which some may ride along.
        """
        if self.flights.overtaken:
            self._find_lost(now)
        else:
            self._again = NEVER
        self.wake = self._starved_at = NEVER
        while self.words and outlet.room(_HEAD_WIDE + len(self.words[0].body)):
            self._send_word(self.words.popleft(), now, outlet, acks)
        if self.flights.losing and not self._resend(now, outlet, acks):
            self._probes = 0
            return
        self._send_new(now, outlet, acks)
        self._probes = 0

    def _send_word(self, word: Word, now: int, outlet: Outlet, acks: Acks) -> None:
        mark = acks.take_block() if acks.marking else None
        payload = encode(mark, PayloadSegment(word.stream, word.offset, word.body))
        first = outlet.send([payload])
        self._track(Flight(first, 1, now, word=word))

    def _resend(self, now: int, outlet: Outlet, acks: Acks) -> bool:
        """
        @return: whether there is nothing left that was lost.
        """
        mark = acks.take_block() if acks.marking else None
        for stream in list(self.flights.losing):
            while stream.lost:
                batch = self._batch(stream, outlet)
                if not batch:
                    return False
                payloads = [
                    encode(mark, PayloadSegment(stream.number, each.offset, each.data, each.fin))
                    for each in batch
                ]
                first = outlet.send(payloads)
                self.resent += len(batch)
                for number, each in enumerate(batch, first):
                    stream.unsettled += len(each.data)
                    self._track(
                        Flight(
                            number,
                            1,
                            now,
                            stream=stream,
                            offset=each.offset,
                            size=len(each.data),
                            data=each.data,
                            fin=each.fin,
                            sendings=each.sendings + 1,
                        )
                    )
                self._pace(now, sum(map(len, payloads)))
            del self.flights.losing[stream]
        return True

    def _batch(self, stream: Stream, outlet: Outlet) -> list[Segment]:
        """
        Lost segments of a stream that may be sent now, cut where they have become
        too long for the MTU (rule R5 allows cutting, not joining).
        """
        room = outlet.room(self.mtu - DATA_OVERHEAD)
        free = self.control.window() - self.flights.in_flight
        batch: list[Segment] = []
        while stream.lost and len(batch) < min(room, 32):
            segment = stream.lost[0]
            space = self._space(segment.offset)
            if len(segment.data) > space:
                view = memoryview(segment.data)
                rest = Segment(segment.offset + space, view[space:], segment.fin, 1)
                stream.lost[0] = rest
                segment = Segment(segment.offset, view[:space], False, segment.sendings)
                stream.lost.appendleft(segment)
            if free < len(segment.data) and not self._probes:
                break
            self._probes = max(self._probes - 1, 0)
            free -= len(segment.data)
            batch.append(stream.lost.popleft())
        return batch

    def _send_new(self, now: int, outlet: Outlet, acks: Acks) -> None:
        """Take turns among the streams, a run each."""
        ready = self.ready
        while ready:
            stream = next(iter(ready))
            if stream.has_new and not self._send_from(stream, now, outlet, acks):
                return
            del ready[stream]
            if stream.queue.size:
                ready[stream] = None

    def _send_from(self, stream: Stream, now: int, outlet: Outlet, acks: Acks) -> bool:
        """
        Send at most a run of a stream.

        @return: whether something was sent.
        """
        queue = stream.queue
        offset = stream.sent
        space = self._space(offset)
        riding = acks.marking or (
            acks.pending and (acks.peer is Peer.RELEASE or queue.size <= space - _BLOCK)
        )
        if riding:
            space -= _BLOCK
        size = self._allowed(stream, space, now, outlet)
        if size is None:
            return False
        data = queue.take(min(size, space) if riding else size)
        size = len(data)
        fin = stream.finishing and not queue.size
        stream.sent += size
        stream.unsettled += size
        stream.fin_sent = stream.fin_sent or fin
        if riding:
            segment = PayloadSegment(stream.number, offset, data, fin)
            payloads: Sequence[bytes] = (encode(acks.take_block(), segment),)
        else:
            payloads = cut(stream.number, offset, data, space, fin)
        first = outlet.send(payloads)
        flight = Flight(first, len(payloads), now, stream, offset, space, data, fin)
        self._last_sent = now
        flights = self.flights
        flights.sent(flight)
        flight.limited = not queue.size and flights.in_flight < self.control.window() // 2
        self._pace(now, size)
        return True

    def _allowed(self, stream: Stream, space: int, now: int, outlet: Outlet) -> int | None:
        """
        Bytes of a stream that may be sent at once, whole segments if not all; 0 for
        an end alone, None for nothing.
        """
        if self._ready_at > now + SLACK:
            self.wake = min(self.wake, self._ready_at - SLACK // 2)
            return None
        room = outlet.room(space + _HEAD_WIDE)
        if not room:
            return None
        queued = stream.queue.size
        if not queued:
            return 0
        in_flight = self.flights.in_flight
        free = min(self.control.window(), self.peer_window) - in_flight
        wanted = min(queued, space)
        if free < wanted:
            if not in_flight and self.peer_window < wanted:
                self._starved_at = self._last_sent if self._last_sent else now
            return None
        if queued <= space:
            return queued
        pause = self.control.pause(self.mtu)
        paced = (now + SLACK - max(self._ready_at, now)) // pause + 1 if pause else RUN_BYTES
        segments = min(room, max(paced, 2), RUN_BYTES // self.mtu)
        segments = min(segments, max(free // space, 1))
        if stream.sent <= NARROW:
            segments = min(segments, max((NARROW - stream.sent) // space, 1))
        return min(queued, segments * space, free)

    def _space(self, offset: int) -> int:
        head = _HEAD_WIDE if offset > NARROW else _HEAD_NARROW
        return self.mtu - DATA_OVERHEAD - head

    def _track(self, flight: Flight) -> None:
        self._last_sent = flight.sent_at
        self.flights.sent(flight)

    def _pace(self, now: int, size: int) -> None:
        start = self._ready_at if self._ready_at > now else now
        self._ready_at = start + self.control.pause(size)
