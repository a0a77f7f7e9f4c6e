"""
The sending half: numbers, windows, our end of stream.

Segment numbers and times are unbounded integers here.
"""

from __future__ import annotations

from twisted_rudp.core.congestion.segments import Losses
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.flights import NEVER, Flight
from twisted_rudp.kcp.outbox import Piece
from twisted_rudp.kcp.pacer import Pacer
from twisted_rudp.kcp.packing import Packer
from twisted_rudp.kcp.repeating import Repeater, Stamp
from twisted_rudp.kcp.wire import END, HEADER_SIZE, PUSH, pack_header
from twisted_rudp.kernels import build_run
from twisted_rudp.kernels.pure import MAXIMUM_PARTS, Buffer

__all__ = ["Sender", "Stamp"]


class Sender(Repeater):
    """
    Numbers what is in the outbox as the windows allow, keeps it until it is
    acknowledged, and sends it again when it has to.
    """

    __slots__ = ()

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
        """How many of the segments that the window admits may leave now."""
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
        """At most one segment is due, and nothing but data."""
        return (
            self.started
            and not self.ending
            and not self.flights.skipped
            and not self._unlaunched
            and self._pacer.due == NEVER
            and (not self.outbox.size or self.outbox.segments(self.mss) == 1)
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
        if not self.validated:
            self._remember(flight.first, count, stamp[2])
        if self._settings.dead_link == 1:
            self.dead = True
        return flight

    def send_one(self, stamp: Stamp) -> bytes:
        """
        Number the next segment.

        @return: the segment.
        """
        flight = self._launch_next(1, stamp)
        conv, wnd, ts, una, _ = stamp
        data = flight.data
        first = flight.first & MASK32
        return pack_header(conv, PUSH, flight.frg, wnd, ts, first, una, len(data)) + data

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
        """Note that a flight leaves for the first time."""
        flight.launch(stamp[4], self.round_trip.timeout, self.flights.delivered)
        if flight.due < self.alarm:
            self.alarm = flight.due
        if self._settings.dead_link == 1:
            self.dead = True
        self._note(flight, 0, flight.end - flight.first, stamp[2])
