"""Sending segments that have numbers, above all again (kcp.md 1.11 step 5)."""

from __future__ import annotations

from typing import TypeAlias

from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.flights import NEVER, Cause, Flight, Policy
from twisted_rudp.kcp.packing import Packer
from twisted_rudp.kcp.sendstate import REMEMBERED_SENDINGS, SendState
from twisted_rudp.kcp.wire import HEADER_SIZE, PUSH, pack_header
from twisted_rudp.kernels import build_run

FEW = 16
"""
Up to so many segments in flight a timeout is worth a repetition too many: there is
not much to repeat, and perhaps nothing else will tell of the loss.
"""

Stamp: TypeAlias = tuple[int, int, int, int, int]
"""
What all segments of one flush have in common (kcp.md 1.11): C{conv}, C{wnd},
C{ts}, C{una}, and the unbounded clock of which C{ts} is what goes on the wire.
"""


class Repeater(SendState):
    """Encodes segments, and sends again what was skipped or has expired."""

    __slots__ = ()

    def _note(self, flight: Flight, start: int, end: int, ts: int) -> None:
        """Count segments that leave now, and remember them until one is echoed."""
        self._counters.out_segs += end - start
        if flight.first == self.end:
            self.end_sendings += 1
        if not self.validated:
            self._remember(flight.first + start, end - start, ts)

    def _encode(self, flight: Flight, start: int, end: int, stamp: Stamp) -> bytes:
        """Consecutive segments of one flight, as they go on the wire."""
        conv, wnd, ts, una, _ = stamp
        first = (flight.first + start) & MASK32
        frg = flight.fragment(start) if flight.frg else 0
        data = flight.payload(start, end)
        if end - start == 1:
            return pack_header(conv, PUSH, frg, wnd, ts, first, una, len(data)) + data
        return build_run(conv, wnd, ts, first, una, frg, flight.mss, data)

    def _remember(self, first: int, count: int, ts: int) -> None:
        self._sendings.append((first & MASK32, count, ts))
        if len(self._sendings) > REMEMBERED_SENDINGS:
            del self._sendings[0]

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
        """All that is missing of a flight may be sent within a strict budget."""
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
