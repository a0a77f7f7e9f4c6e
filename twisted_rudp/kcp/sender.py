"""
The sending half: numbers, windows, retransmission, our end of stream.

Segment numbers and times are unbounded integers here.
"""

from __future__ import annotations

from typing import TypeAlias

from twisted_rudp.core.congestion import Controller, Losses, RoundTrip
from twisted_rudp.core.serial import HALF32, MASK32, difference32
from twisted_rudp.kcp.flights import NEVER, Cause, Flight, Flights, Policy
from twisted_rudp.kcp.outbox import Outbox, Piece
from twisted_rudp.kcp.pacer import Pacer
from twisted_rudp.kcp.packing import Packer, segments_per_run
from twisted_rudp.kcp.profiles import Settings
from twisted_rudp.kcp.wire import END, HEADER_SIZE, PUSH, Counters, pack_header
from twisted_rudp.kernels import build_run
from twisted_rudp.kernels.pure import MAXIMUM_PARTS, Buffer

REMEMBERED_SENDINGS = 64
"""
How many transmissions are kept to recognise the first acknowledgement by.
"""

FEW = 16
"""
Up to so many segments in flight a timeout is worth a repetition too many: there is
not much to repeat, and perhaps nothing else will tell of the loss.
"""

INITIAL_PEER_WINDOW = 32
"""
Guess of the peer's window before it was heard (kcp.md 1.2).
"""


Stamp: TypeAlias = tuple[int, int, int, int, int]
"""
What all segments of one flush have in common (kcp.md 1.11): C{conv}, C{wnd},
C{ts}, C{una}, and the unbounded clock of which C{ts} is what goes on the wire.
"""


class Sender:
    """
    Numbers what is in the outbox as the windows allow, keeps it until it is
    acknowledged, and sends it again when it has to.

    @ivar peer_window: the window the peer advertised last.
    @ivar mss: payload bytes of a full new segment.
    @ivar dead: some segment was sent C{dead_link} times; only a mark.
    @ivar ending: our end of stream is to follow the data.
    @ivar end: its number, once it has one.
    @ivar end_sendings: how often it was sent.
    @ivar started: the first flush is over.
    @ivar alarm: a clock before which nothing expires.
    @ivar proved: the peer has echoed number and timestamp of something we sent.
    """

    __slots__ = (
        "_arrived",
        "_counters",
        "_heard",
        "_pacer",
        "_run_limit",
        "_selective",
        "_sendings",
        "_settings",
        "_unlaunched",
        "alarm",
        "controller",
        "dead",
        "end",
        "end_sendings",
        "ending",
        "flights",
        "mss",
        "outbox",
        "overhead",
        "peer_window",
        "proved",
        "round_trip",
        "snd_wnd",
        "started",
    )

    def __init__(
        self,
        first: int,
        settings: Settings,
        outbox: Outbox,
        controller: Controller,
        counters: Counters,
        overhead: int,
    ) -> None:
        self.flights = Flights(first)
        self.round_trip = RoundTrip(settings.minimum_timeout, settings.interval)
        self.controller = controller
        self.outbox = outbox
        self.peer_window = INITIAL_PEER_WINDOW
        self.snd_wnd = settings.sndwnd
        self.overhead = overhead
        self.dead = False
        self.ending = False
        self.end: int | None = None
        self.end_sendings = 0
        self.started = False
        self.alarm = NEVER
        self.proved = False
        self._settings = settings
        self._selective = controller.selective
        self._pacer = Pacer()
        self._heard = -NEVER
        self._arrived = first
        self._counters = counters
        self._unlaunched: list[Flight] = []
        self._sendings: list[tuple[int, int, int]] = []
        self.set_mss(settings.mss)

    def set_mss(self, mss: int) -> None:
        """
        Change the size of what will be numbered from now on.
        """
        self.mss = mss
        self._run_limit = segments_per_run(mss, self.overhead)

    def adopt(self, settings: Settings, controller: Controller) -> None:
        """
        Go by other settings from now on; timeouts that run are not moved.
        """
        self._settings = settings
        self.controller = controller
        self._selective = controller.selective
        self._arrived = self.flights.nxt - self.flights.outstanding
        self.round_trip.minimum = settings.minimum_timeout
        self.round_trip.granularity = settings.interval
        self.snd_wnd = settings.sndwnd

    def release(self) -> None:
        """
        Drop all data, keep the numbers.
        """
        self.flights.release()
        self._unlaunched.clear()
        self._sendings.clear()
        self.alarm = NEVER

    # what the peer says

    def cover(self, una: int) -> bool:
        """
        Take in a cumulative acknowledgement from the wire. One of what was never
        sent is ignored and counted (kcp_close.md 7.3).

        @return: it was news.
        """
        flights = self.flights
        step = difference32(una, flights.una)
        if step <= 0:
            return False
        if step > flights.nxt - flights.una:
            self._counters.una_beyond += 1
            return False
        flights.forget(flights.una + step)
        return True

    def grow(self, covered: int) -> None:
        """
        A datagram has moved C{una} on.
        """
        flights = self.flights
        underway = flights.nxt - flights.una
        if self._selective:
            underway = flights.outstanding
            arrived = flights.nxt - underway
            covered, self._arrived = arrived - self._arrived, arrived
        self.controller.advanced(self.mss, self.peer_window, covered, underway)

    def acknowledge(self, acks: list[tuple[int, int]], now: int) -> None:
        """
        Take in acknowledgements of single segments, as numbers and echoed
        timestamps on the wire. What is not in flight (any more) is ignored.
        """
        flights = self.flights
        una = flights.una
        span = flights.nxt - una
        known = [
            (una + ((sn - una) & MASK32), now + ((ts - now + HALF32) & MASK32) - HALF32)
            for sn, ts in acks
            if (sn - una) & MASK32 < span
        ]
        if known:
            flights.acknowledge(known)

    def sample(self, ts: int, now: int) -> None:
        """
        Learn the round trip from an echoed timestamp, unless it is older than any
        timeout: who forges one must not make ours meaningless.
        """
        elapsed = difference32(now, ts)
        if 0 <= elapsed <= RoundTrip.MAXIMUM:
            self._heard = now
            self.round_trip.sample(elapsed)
            self.controller.sampled(elapsed)

    def prove(self, sn: int, ts: int) -> None:
        """
        See whether an acknowledgement echoes a transmission of ours.
        """
        for first, count, sent in self._sendings:
            if ts == sent and (sn - first) & MASK32 < count:
                self.proved = True
                self._sendings.clear()
                return

    @property
    def end_acknowledged(self) -> bool:
        """
        Our end of stream and everything before it is acknowledged.
        """
        return self.end is not None and not self.flights.outstanding

    # windows

    @property
    def window(self) -> int:
        """
        How many segments may be in flight.
        """
        return min(self.snd_wnd, self.peer_window, self.controller.window())

    @property
    def room(self) -> int:
        """
        How many segments may get a number now; may be negative.
        """
        ends = min(self.snd_wnd, self.peer_window) - (self.flights.nxt - self.flights.una)
        return min(ends, self.controller.window() - self.underway)

    @property
    def underway(self) -> int:
        """
        How many segments count for the congestion window.
        """
        flights = self.flights
        return flights.outstanding if self._selective else flights.nxt - flights.una

    @property
    def wait_snd(self) -> int:
        """
        Segments queued and in flight, as kcp-go counts them (kcp.md 1.4).
        """
        return self.flights.nxt - self.flights.una + self.outbox.segments(self.mss)

    def may_end(self, peer_marked: bool) -> bool:
        """
        Our end of stream is the next thing to get a number.
        """
        return self.ending and peer_marked and self.end is None and not self.outbox.size

    @property
    def next_due(self) -> int:
        """
        A time before which nothing expires and nothing that was held back may go;
        L{NEVER} when there is neither.
        """
        if self._unlaunched:
            return 0
        return min(self.alarm if self.flights.outstanding else NEVER, self._pacer.due)

    # sending

    def flush(
        self, stamp: Stamp, packer: Packer, budget: int, strict: bool, peer_marked: bool
    ) -> bool:
        """
        Steps 4 to 6 of kcp.md 1.11.

        @param budget: bytes, overhead of each datagram included.
        @param strict: never more than that; else what crosses it still goes out.
        @return: something is left that only C{budget} or the packer stopped.
        """
        flights = self.flights
        window = self.window
        span = flights.nxt - flights.una
        # Without loss the two ways of counting are one.
        room = window - span if flights.outstanding == span else self.room
        self._pacer.due = NEVER
        new = room > 0 and (self.outbox.size > 0 or self.may_end(peer_marked))
        more = False
        repeated = None
        if stamp[4] >= self.alarm or flights.skipped:
            repeated = self._counters.repeated
            more = self._repeat(stamp, packer, budget, strict, early=not new)
        if self._unlaunched:
            for flight in self._unlaunched:
                packer.add_run(self._launch(flight, stamp), flight.mss + HEADER_SIZE)
            self._unlaunched.clear()
        if new and not more:
            if strict:
                more = self._send_within(stamp, packer, budget, peer_marked)
            else:
                if self._selective and self.round_trip.smoothed >= Pacer.NEAR:
                    room = self._paced(room, stamp[4])
                more = self._send_new(stamp, packer, budget, room, peer_marked)
        if repeated is not None:
            self._tell_losses(repeated, window)
        if not self.started:
            self._start()
        return more

    def _paced(self, room: int, now: int) -> int:
        """
        How many of the segments that the window admits may leave now.
        """
        window, trip = self.controller.window(), self.round_trip.smoothed
        return self._pacer.admit(room, self.flights.nxt, now, window, trip)

    def _tell_losses(self, before: tuple[int, int], window: int) -> None:
        """
        Let the congestion controller know what a flush has sent again.

        @param before: C{repeated} of the counters before the flush.
        @param window: how many segments were allowed in flight in it.
        """
        skipped, expired = self._counters.repeated
        skipped -= before[0]
        expired -= before[1]
        if skipped or expired:
            again = skipped + expired
            losses = Losses(skipped > 0, expired > 0, self.underway, window, again)
            self.controller.lost(self.mss, losses)

    def _start(self) -> None:
        self.started = True
        self.controller.started(self.mss)

    @property
    def is_small(self) -> bool:
        """
        At most one segment is due, and nothing but data.
        """
        return (
            self.started
            and not self.ending
            and not self.flights.skipped
            and not self._unlaunched
            and self._pacer.due == NEVER
            and self.outbox.segments(self.mss) <= 1
        )

    def number_only(self, peer_marked: bool) -> None:
        """
        What an acknowledgement-only flush of kcp-go does with data: number what
        the window admits, send it at the next full flush (kcp.md 1.11).
        """
        while self.room > 0 and self.outbox.size:
            self._unlaunched.append(self._number(self.room))
        if self.room > 0 and self.may_end(peer_marked):
            self._unlaunched.append(self._number_end())
        if not self.started:
            self._start()

    def _send_new(
        self, stamp: Stamp, packer: Packer, budget: int, room: int, peer_marked: bool
    ) -> bool:
        """
        Number and send what the window and the budget admit.

        @param room: how many segments the window admits.
        """
        outbox = self.outbox
        while room > 0 and outbox.size:
            most = packer.admits(budget)
            if not most:
                return True
            run, count, mss = self._send_run(most if most < room else room, stamp)
            room -= count
            packer.pass_run(run, mss + HEADER_SIZE)
        if room > 0 and self.may_end(peer_marked):
            packer.add(self._launch(self._number_end(), stamp))
        return False

    def _send_run(self, most: int, stamp: Stamp) -> tuple[bytes, int, int]:
        """
        Number and launch what makes one run: of a stream a flight for each piece
        that the queue gives, of messages one flight.

        @param most: how many segments it may have.
        @return: the run, how many it has, and their payload length.
        """
        outbox = self.outbox
        first = self.flights.nxt & MASK32
        flight = self._launch_next(most, stamp)
        count = flight.end - flight.first
        mss = flight.mss
        conv, wnd, ts, una, _ = stamp
        data: Buffer | tuple[Buffer, ...] = flight.data
        if count < most and outbox.size and self._settings.stream:
            parts = [flight.data]
            while count < most and outbox.size and len(parts) < MAXIMUM_PARTS:
                flight = self._launch_next(most - count, stamp)
                parts.append(flight.data)
                count += flight.end - flight.first
            data = tuple(parts)
        return build_run(conv, wnd, ts, first, una, flight.frg, mss, data), count, mss

    def _launch_next(self, most: int, stamp: Stamp) -> Flight:
        """
        Number and launch the next segments, at most C{most}. What L{_number} and
        L{_begin} do, for the way that all bulk takes.
        """
        data, mss, frg = self.outbox.cut(most, self.mss)
        count = -(-len(data) // mss) or 1
        flights = self.flights
        timeout = self.round_trip.timeout
        flight = Flight(flights.nxt, count, data, mss, frg, stamp[4], timeout, flights.delivered, 1)
        flights.add(flight)
        if flight.due < self.alarm:
            self.alarm = flight.due
        self._counters.out_segs += count
        if not self.proved:
            self._remember(flight.first, count, stamp[2])
        if self._settings.dead_link == 1:
            self.dead = True
        return flight

    def send_one(self, stamp: Stamp) -> bytes:
        """
        Number the next segment.

        @return: the segment.
        """
        return self._launch(self._number(1), stamp)

    def _send_within(
        self, stamp: Stamp, packer: Packer, budget: int, peer_marked: bool
    ) -> bool:
        """
        Number and send no more than a third of what is left of a strict budget,
        so that all of it can be repeated twice, and that only while nothing
        else is to be repeated.
        """
        share = (budget - packer.cost) // 3
        header = HEADER_SIZE + self.overhead
        if packer.blocked or self.flights.outstanding or share < header:
            return True
        if not self.outbox.size:
            packer.add(self._launch(self._number_end(), stamp))
            return False
        count = share // (self.mss + header)
        if count:
            flight = self._number(min(count, self.room))
            packer.add_run(self._launch(flight, stamp), flight.mss + HEADER_SIZE)
        elif share > header:
            piece = self.outbox.cut_short(share - header, self.mss)
            if piece is not None:
                packer.add(self._launch(self._enter(piece), stamp))
        return self.room > 0 and (self.outbox.size > 0 or self.may_end(peer_marked))

    def _number(self, count: int) -> Flight:
        return self._enter(self.outbox.cut(min(count, self._run_limit), self.mss))

    def _number_end(self) -> Flight:
        self.end = self.flights.nxt
        return self._enter((b"", self.mss, END))

    def _enter(self, piece: Piece) -> Flight:
        data, mss, frg = piece
        count = -(-len(data) // mss) or 1
        flight = Flight(self.flights.nxt, count, data, mss, frg)
        self.flights.add(flight)
        return flight

    def _launch(self, flight: Flight, stamp: Stamp) -> bytes:
        """
        Send a flight for the first time.

        @return: its segments as a run.
        """
        self._begin(flight, stamp)
        return self._encode(flight, 0, flight.end - flight.first, stamp)

    def _begin(self, flight: Flight, stamp: Stamp) -> None:
        """
        Note that a flight leaves for the first time.
        """
        flight.launch(stamp[4], self.round_trip.timeout, self.flights.delivered)
        if flight.due < self.alarm:
            self.alarm = flight.due
        if self._settings.dead_link == 1:
            self.dead = True
        self._note(flight, 0, flight.end - flight.first, stamp[2])

    def _note(self, flight: Flight, start: int, end: int, ts: int) -> None:
        """
        Count segments that leave now, and remember them until one is echoed.
        """
        self._counters.out_segs += end - start
        if flight.first == self.end:
            self.end_sendings += 1
        if not self.proved:
            self._remember(flight.first + start, end - start, ts)

    def _remember(self, first: int, count: int, ts: int) -> None:
        self._sendings.append((first & MASK32, count, ts))
        if len(self._sendings) > REMEMBERED_SENDINGS:
            del self._sendings[0]

    def _encode(self, flight: Flight, start: int, end: int, stamp: Stamp) -> bytes:
        """
        Consecutive segments of one flight, as they go on the wire.
        """
        conv, wnd, ts, una, _ = stamp
        first = (flight.first + start) & MASK32
        frg = flight.fragment(start) if flight.frg else 0
        data = flight.payload(start, end)
        if end - start == 1:
            return pack_header(conv, PUSH, frg, wnd, ts, first, una, len(data)) + data
        return build_run(conv, wnd, ts, first, una, frg, flight.mss, data)

    # repeating

    def _repeat(
        self, stamp: Stamp, packer: Packer, budget: int, strict: bool, early: bool
    ) -> bool:
        """
        Send again what was skipped or has expired (kcp.md 1.11 step 5).

        @return: the budget or the packer ended it.
        """
        settings = self._settings
        timeout = self.round_trip.timeout
        now = stamp[4]
        policy = Policy(
            now,
            settings.resend or NEVER,
            early,
            timeout,
            timeout // 2 if settings.nodelay else timeout,
            not self._selective,
        )
        flights = self.flights
        # While acknowledgements come, what is lost shows as skipped. A timeout says
        # no more than that a queue has become longer.
        patient = self._selective and flights.outstanding > FEW
        held = self._heard + timeout if patient else -NEVER
        stopped = waiting = False
        alarm = NEVER
        for flight in flights:
            if not flight.sendings:
                continue
            if flight.due <= now < held:
                flight.due = held
            if now >= flight.due or flight.stragglers:
                stopped = stopped or packer.blocked or packer.cost >= budget
                if strict and (stopped or not self._fits(flight, packer, budget)):
                    flight.postpone(now)
                elif not stopped:
                    self._repeat_flight(flight, policy, stamp, packer)
                waiting = waiting or flight.has_skips
            alarm = min(alarm, flight.next_due())
        self.alarm = alarm
        flights.skipped = waiting
        return stopped

    def _fits(self, flight: Flight, packer: Packer, budget: int) -> bool:
        """
        All that is missing of a flight may be sent within a strict budget.
        """
        start, end = self.flights.start_of(flight), flight.end - flight.first
        count = sum(1 for _ in flight.missing(start, end))
        cost = flight.size_between(start, end) + count * (HEADER_SIZE + self.overhead)
        return packer.cost + cost <= budget

    def _repeat_flight(
        self, flight: Flight, policy: Policy, stamp: Stamp, packer: Packer
    ) -> None:
        chosen = flight.repeats(self.flights.start_of(flight), policy)
        if not chosen:
            return
        counters = self._counters
        start = end = chosen[0][0]
        for index, cause in chosen:
            if cause is Cause.TIMEOUT:
                counters.lost_segs += 1
            elif cause is Cause.FAST:
                counters.fast_retrans_segs += 1
            else:
                counters.early_retrans_segs += 1
            if index != end:
                self._send_again(flight, start, end, stamp, packer)
                start = index
            end = index + 1
        self._send_again(flight, start, end, stamp, packer)
        dead_link = self._settings.dead_link
        if dead_link and flight.most_sendings() >= dead_link:
            self.dead = True

    def _send_again(
        self, flight: Flight, start: int, end: int, stamp: Stamp, packer: Packer
    ) -> None:
        self._note(flight, start, end, stamp[2])
        packer.add_run(self._encode(flight, start, end, stamp), flight.mss + HEADER_SIZE)
