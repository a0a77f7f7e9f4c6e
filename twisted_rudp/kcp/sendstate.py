"""
What the sending half of a KCP conversation knows: what is in flight, what the peer
said, how much may follow.

Segment numbers and times are unbounded integers here.
"""

from __future__ import annotations

from twisted_rudp.core.congestion.segments import Controller, RoundTrip
from twisted_rudp.core.serial import HALF32, MASK32
from twisted_rudp.kcp.flights import NEVER, Flight, Flights
from twisted_rudp.kcp.outbox import Outbox
from twisted_rudp.kcp.pacer import Pacer
from twisted_rudp.kcp.packing import segments_per_run
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import Counters

REMEMBERED_SENDINGS = 64
"""How many transmissions are kept to recognise the first acknowledgement by."""

INITIAL_PEER_WINDOW = 32
"""Guess of the peer's window before it was heard (kcp.md 1.2)."""


class SendState:
    """
    What is to be sent, what was, and what is known of its fate.

    @ivar peer_window: the window the peer advertised last.
    @ivar mss: payload bytes of a full new segment.
    @ivar dead: some segment was sent C{dead_link} times; only a mark.
    @ivar ending: our end of stream is to follow the data.
    @ivar end: its number, once it has one.
    @ivar end_sendings: how often it was sent.
    @ivar started: the first flush is over.
    @ivar alarm: a clock before which nothing expires.
    @ivar validated: the peer has echoed number and timestamp of something we sent.
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
        "round_trip",
        "snd_wnd",
        "started",
        "validated",
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
        self.validated = False
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
        """Change the size of what will be numbered from now on."""
        self.mss = mss
        self._run_limit = segments_per_run(mss, self.overhead)

    def adopt(self, settings: Settings, controller: Controller) -> None:
        """Go by other settings from now on; timeouts that run are not moved."""
        self._settings = settings
        self.controller = controller
        self._selective = controller.selective
        self._arrived = self.flights.nxt - self.flights.outstanding
        self.round_trip.minimum = settings.minimum_timeout
        self.round_trip.granularity = settings.interval
        self.snd_wnd = settings.sndwnd

    def release(self) -> None:
        """Drop all data, keep the numbers."""
        self.flights.release()
        self._unlaunched.clear()
        self._sendings.clear()
        self.alarm = NEVER

    # what the peer says

    def cover(self, una: int) -> bool:
        """
        Take in a cumulative acknowledgement from the wire. One of what was never
        sent is ignored and counted (kcp-close.md 7.3).

        @return: it was news.
        """
        flights = self.flights
        step = ((una - flights.una + HALF32) & MASK32) - HALF32
        if step <= 0:
            return False
        if step > flights.nxt - flights.una:
            self._counters.una_beyond += 1
            return False
        flights.forget(flights.una + step)
        return True

    def grow(self, covered: int) -> None:
        """A datagram has moved C{una} on."""
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
        elapsed = ((now - ts + HALF32) & MASK32) - HALF32
        if 0 <= elapsed <= RoundTrip.MAXIMUM:
            self._heard = now
            self.round_trip.sample(elapsed)
            self.controller.sampled(elapsed)

    def prove(self, sn: int, ts: int) -> None:
        """See whether an acknowledgement echoes a transmission of ours."""
        for first, count, sent in self._sendings:
            if ts == sent and (sn - first) & MASK32 < count:
                self.validated = True
                self._sendings.clear()
                return

    @property
    def end_acknowledged(self) -> bool:
        """Our end of stream and everything before it is acknowledged."""
        return self.end is not None and not self.flights.outstanding

    # windows

    @property
    def window(self) -> int:
        """How many segments may be in flight."""
        return min(self.snd_wnd, self.peer_window, self.controller.window())

    @property
    def room(self) -> int:
        """How many segments may get a number now; may be negative."""
        flights = self.flights
        span = underway = flights.nxt - flights.una
        if self._selective:
            underway = flights.outstanding
        room = self.controller.window() - underway
        if self.snd_wnd - span < room:
            room = self.snd_wnd - span
        return self.peer_window - span if self.peer_window - span < room else room

    @property
    def underway(self) -> int:
        """How many segments count for the congestion window."""
        flights = self.flights
        return flights.outstanding if self._selective else flights.nxt - flights.una

    @property
    def wait_snd(self) -> int:
        """Segments queued and in flight, as kcp-go counts them (kcp.md 1.4)."""
        return self.flights.nxt - self.flights.una + self.outbox.segments(self.mss)

    def may_end(self, peer_marked: bool) -> bool:
        """Our end of stream is the next thing to get a number."""
        return self.ending and peer_marked and self.end is None and not self.outbox.size

    @property
    def next_due(self) -> int:
        """
        A time before which nothing expires and nothing that was held back may go;
        L{NEVER} when there is neither.
        """
        if self._unlaunched:
            return 0
        due = self._pacer.due
        return self.alarm if self.flights.outstanding and self.alarm < due else due
