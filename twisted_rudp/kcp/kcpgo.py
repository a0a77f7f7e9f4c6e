"""
Loss and congestion as kcp-go 5.6.72 has them (kcp.md 1.8 to 1.11): skip counts, a timeout
for each segment, a window of segments. All profiles but our own go by this.

Segment numbers and clocks, in milliseconds, are unbounded integers here.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.core.recovery import COPY_SHARE, Copies
from twisted_rudp.core.serial import HALF32, MASK32
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.congestion import (
    Controller,
    FixedWindow,
    KCPWindow,
    Losses,
    RoundTrip,
)
from twisted_rudp.kcp.packing import Packer, Stamp, Transmitter
from twisted_rudp.kcp.sent import (
    SETTLED,
    Cause,
    RetransmitPolicy,
    SentBatch,
    SentSegments,
)
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import Counters

FEW: Final = 16
"""
Up to so many segments in flight a timeout is worth a repetition too many: there is
not much to repeat, and perhaps nothing else will tell of the loss.
"""

SILENCE: Final = 3
"""
Timeouts after the first expiry for which all that has expired is sent again. When nothing was
acknowledged meanwhile, the first segment asks alone whether anything arrives (RFC 6298 5.5),
as often as before: a window of megabytes each time would only fill the path.
"""

PACE_FROM: Final = 10
"""Milliseconds: shorter round trips are not worth pacing. Acknowledgements come
as often as a timer would, and the queues of such paths hold a window."""

PACE: Final = 2
"""Windows in a round trip."""

LEAST_BURST: Final = 16
"""Segments that may always leave together."""

BURST_SHARE: Final = 1 / 16
"""Of a window, may leave together as well."""


def controller_for(settings: Settings) -> Controller:
    """The congestion controller that the settings ask for."""
    if settings.nc:
        return FixedWindow(selective=settings.congestion != "kcp-go")
    return KCPWindow(settings.resend)


class SegmentPacer:
    """
    A bucket of segments that fills at twice the window a round trip: fast enough
    for a window that doubles, slow enough for the queues of a path when an
    acknowledgement frees hundreds of segments at once.

    @ivar due: a clock at which more may be sent; L{NEVER} if nothing waits for it.
    """

    __slots__ = ("_level", "_number", "_since", "due")

    def __init__(self) -> None:
        self._level: float = float(LEAST_BURST)
        self._since: int | None = None
        self._number = 0
        self.due = NEVER

    def admit(self, room: int, number: int, now: int, window: int, round_trip: int) -> int:
        """
        How many segments may leave now.

        @param room: how many the window admits.
        @param number: of the next segment; what was numbered since the last call has
            left.
        @param round_trip: in milliseconds, like C{now}; above 0.
        """
        if self._since is not None:
            self._level = max(self._level - (number - self._number), 0.0)
            filled = (now - self._since) * PACE * window / round_trip
            self._level = min(self._level + filled, max(LEAST_BURST, window * BURST_SHARE))
        self._since, self._number = now, number
        allowed = int(self._level)
        if allowed >= room:
            return room
        self.due = now + 1
        return allowed


class SkipRecovery:
    """
    Finds what is lost by counting later acknowledgements and by timeouts.

    @ivar round_trip: smoothed round trip and timeout, in milliseconds.
    @ivar controller: how many segments may be in flight.
    @ivar mss: payload bytes of a full new segment.
    """

    __slots__ = (
        "_alarm",
        "_arrived",
        "_asking",
        "_copies",
        "_counters",
        "_epoch",
        "_heard",
        "_pacer",
        "_progress",
        "_repeated",
        "_selective",
        "_sent",
        "_settings",
        "_silence",
        "_skipped",
        "_started",
        "_transmitter",
        "_window",
        "controller",
        "mss",
        "round_trip",
    )

    def __init__(
        self,
        settings: Settings,
        sent: SentSegments,
        transmitter: Transmitter,
        counters: Counters,
        epoch: int = 0,
    ) -> None:
        """
        @param epoch: what the clock shows at time 0.
        """
        self._epoch = epoch
        self._settings = settings
        self._sent = sent
        self._transmitter = transmitter
        self._counters = counters
        self.round_trip = RoundTrip(settings.minimum_timeout, settings.interval)
        self.controller = controller_for(settings)
        self._selective = self.controller.selective
        self._pacer = SegmentPacer()
        self._heard = -NEVER
        self._arrived = sent.nxt
        self._alarm = NEVER
        self._skipped = False
        self._started = False
        self._asking = False
        self._copies = Copies()
        self._progress = -1
        self._silence = NEVER
        self._window = 0
        self._repeated: tuple[int, int] | None = None
        self.mss = settings.mss

    def set_mss(self, mss: int) -> None:
        """New segments carry so many bytes."""
        self.mss = mss

    def open(self) -> None:
        """Open the window before the first flush does."""
        self.controller.started(self.mss)

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on; timeouts that run are not moved."""
        old, self._settings = self._settings, settings
        controller = self.controller
        exact = settings.congestion == "kcp-go", old.congestion == "kcp-go"
        if settings.nc != old.nc or (settings.nc and exact[0] != exact[1]):
            controller = controller_for(settings)
            controller.started(settings.mss)
        elif isinstance(controller, KCPWindow):
            controller.resend = settings.resend
        self.controller = controller
        self._selective = controller.selective
        self._arrived = self._sent.nxt - self._sent.outstanding
        self.round_trip.minimum = settings.minimum_timeout
        self.round_trip.granularity = settings.interval

    def new_path(self) -> None:
        """kcp-go follows nobody and knows no paths: its estimates go on."""

    def give_up(self) -> None:
        """What is in flight was too long for the path: its timeouts come."""

    def release(self) -> None:
        """All data was dropped."""
        self._alarm = NEVER
        self._skipped = self._asking = False
        self._copies.clear()

    # how much may be sent

    @property
    def window(self) -> int:
        """How many segments may be in flight."""
        return self.controller.window()

    @property
    def underway(self) -> int:
        """How many segments count for the congestion window."""
        sent = self._sent
        return sent.outstanding if self._selective else sent.nxt - sent.una

    @property
    def room(self) -> int:
        """How many more segments the congestion window admits; may be negative."""
        return self.window - self.underway

    @property
    def timeout(self) -> int:
        """Of a retransmission, in nanoseconds."""
        return self.round_trip.timeout * MILLISECOND

    @property
    def smoothed(self) -> int:
        """The smoothed round trip in nanoseconds; 0 before it was measured."""
        trip = self.round_trip
        # Less than a millisecond is 0 for this clock, and yet it was measured.
        return trip.smoothed * MILLISECOND or int(trip.timeout != trip.INITIAL)

    def facts(self) -> dict[str, float | int]:
        """For people. Times are seconds."""
        trip = self.round_trip
        return {
            "round_trip": trip.smoothed / 1000,
            "round_trip_variation": trip.variation / 1000,
            "retransmission_timeout": trip.timeout / 1000,
        }

    def take_over(self, stamp: Stamp) -> None:
        """Go on with what another recovery has sent, as if it left now."""
        self.controller.started(self.mss)
        for batch in self._sent.batches:
            self.launched(batch, stamp)

    def quiet(self, stamp: Stamp, waiting: bool) -> bool:
        """There is nothing to be sent again and nothing to be waited for."""
        return (
            self._started
            and stamp[4] < self._alarm
            and stamp[4] < self._copies.due
            and not self._skipped
            and not self._asking
            and self._pacer.due == NEVER
        )

    def admit(self, room: int, stamp: Stamp) -> int:
        """How many of C{room} new segments may leave now."""
        trip = self.round_trip.smoothed
        if not self._selective or trip < PACE_FROM:
            return room
        return self._pacer.admit(room, self._sent.nxt, stamp[4], self.controller.window(), trip)

    # what the peer says

    def acknowledge(
        self, acks: list[tuple[int, int, int]], clock: int, repeated: bool
    ) -> None:
        """
        Mark what is acknowledged, and count it as skips of what is still missing
        below (kcp.md 1.9). What is not in flight (any more) is ignored.
        """
        sent = self._sent
        una = sent.una
        span = sent.nxt - una
        known = sorted(
            (una + ((sn - una) & MASK32), clock + ((ts - clock + HALF32) & MASK32) - HALF32)
            for start, ts, count in acks
            for sn in range(start, start + count)
            if (sn - una) & MASK32 < span
            and not (repeated and sent.arrived[(sn - una) & MASK32])
        )
        if known:
            sent.mark([number for number, _ in known])
            self._skip(known)

    def _skip(self, ordered: list[tuple[int, int]]) -> None:
        sent = self._sent
        numbers = [number for number, _ in ordered]
        total = len(numbers)
        oldest = min(clock for _, clock in ordered)
        newest = max(clock for _, clock in ordered)
        top = numbers[-1]
        for batch in sent.batches:
            if batch.first >= top:
                break
            own = batch.states
            if own is None and batch.sent > newest:
                continue
            first = batch.first if batch.first > sent.una else sent.una
            for number in list(sent.missing(first, min(batch.end, top))):
                state = own.get(number) if own else None
                if state is None:
                    since = batch.sent
                elif state.skips == SETTLED:
                    continue
                else:
                    since = state.sent
                if since > newest:
                    continue
                above = bisect_right(numbers, number)
                if since <= oldest:
                    skips = total - above
                else:
                    skips = sum(1 for _, clock in ordered[above:] if clock >= since)
                if skips:
                    state = batch.state(number)
                    own = batch.states
                    state.skips += skips
                    self._skipped = True

    def heard(self, echo: int, clock: int, covered: int, peer_window: int) -> None:
        """A datagram was read. kcp-go learns from each, so this cannot wait for a turn's end."""
        if echo >= 0:
            self._sample(echo, clock)
        if covered:
            self._advance(covered, peer_window)

    def _sample(self, ts: int, clock: int) -> None:
        """
        Learn the round trip from the last echo of a datagram, unless it is older than any
        timeout: who forges one must not make ours meaningless.
        """
        elapsed = ((clock - ts + HALF32) & MASK32) - HALF32
        if 0 <= elapsed <= RoundTrip.MAXIMUM:
            self._heard = clock
            self.round_trip.sample(elapsed)
            self.controller.sampled(elapsed)

    def _advance(self, covered: int, peer_window: int) -> None:
        """One datagram has moved C{una} on by C{covered}."""
        sent = self._sent
        underway = sent.nxt - sent.una
        if self._selective:
            underway = sent.outstanding
            arrived = sent.nxt - underway
            covered, self._arrived = arrived - self._arrived, arrived
        self.controller.advanced(self.mss, peer_window, covered, underway)

    # what leaves

    def launched(self, batch: SentBatch, stamp: Stamp, last: bool = False) -> None:
        """A batch leaves for the first time."""
        # Not a call of launch: all bulk comes here.
        batch.sent = stamp[4]
        batch.timeout = timeout = self.round_trip.timeout
        batch.due = due = stamp[4] + timeout
        batch.sendings = 1
        if due < self._alarm:
            self._alarm = due

    def begin(self, stamp: Stamp) -> None:
        """A flush begins."""
        self._pacer.due = NEVER
        if self._silence != NEVER and self._sent.nxt - self._sent.outstanding != self._progress:
            self._silence = NEVER
            if self._asking:
                # Something arrives again: what has expired meanwhile need not wait for more.
                self._asking = False
                self._heard = -NEVER
                self._alarm = stamp[4]

    def retransmit(
        self, stamp: Stamp, packer: Packer, budget: int, window: int, strict: bool, idle: bool
    ) -> bool:
        """
        Send again what was skipped or has expired (kcp.md 1.11 step 5).

        @param window: how many segments may be in flight.
        @param strict: C{budget} is a hard bound.
        @param idle: nothing new follows.
        @return: the budget or the packer ended it.
        """
        if stamp[4] >= self._copies.due:
            self._send_copies(stamp, packer, budget)
        if stamp[4] < self._alarm and not self._skipped:
            return False
        self._repeated = self._counters.repeated
        self._window = window
        if not strict and self._is_silent(stamp[4]):
            return self._ask(stamp, packer)
        return self._retransmit(stamp, packer, budget, strict, idle)

    def copy_later(self, first: int, end: int, stamp: Stamp) -> None:
        """What has just been sent is to be sent again soon, twice."""
        self._copies.plan(stamp[4], self.round_trip.smoothed // COPY_SHARE, first, end)

    def _send_copies(self, stamp: Stamp, packer: Packer, budget: int) -> None:
        """
        Send once more what was sent a while ago and has not arrived. That is no sign of a
        loss, so neither timeouts nor the congestion controller know of it.
        """
        for number in self._sent.missing_among(self._copies.take(stamp[4])):
            batch = self._sent.batch_of(number)
            cost = self._transmitter.cost(batch, (number,))
            if packer.blocked or packer.cost + cost > budget:
                break
            self._transmitter.transmit(batch, number, number + 1, stamp, packer)
            self._counters.early_retrans_segs += 1

    def _retransmit(
        self, stamp: Stamp, packer: Packer, budget: int, strict: bool, idle: bool
    ) -> bool:
        timeout = self.round_trip.timeout
        now = stamp[4]
        policy = self._policy(now, idle)
        sent = self._sent
        expired = self._counters.lost_segs
        # While acknowledgements come, what is lost shows as skipped. A timeout says
        # no more than that a queue has become longer.
        patient = self._selective and sent.outstanding > FEW
        held = self._heard + timeout if patient else -NEVER
        stopped = waiting = False
        alarm = NEVER
        for batch in sent.batches:
            if batch.due <= now < held:
                batch.due = held
            if now >= batch.due or batch.states:
                stopped = stopped or packer.blocked or packer.cost >= budget
                if strict and (stopped or not self._fits(batch, packer, budget)):
                    batch.postpone(now)
                elif not stopped:
                    self._retransmit_batch(batch, policy, stamp, packer)
                waiting = waiting or batch.has_skips
            alarm = min(alarm, batch.next_due())
        self._alarm = alarm
        self._skipped = waiting
        if self._silence == NEVER and self._counters.lost_segs != expired:
            self._silence = now
            self._progress = sent.nxt - sent.outstanding
        return stopped

    def _policy(self, now: int, idle: bool) -> RetransmitPolicy:
        settings, timeout = self._settings, self.round_trip.timeout
        return RetransmitPolicy(
            now,
            settings.resend or NEVER,
            idle,
            timeout,
            timeout // 2 if settings.nodelay else timeout,
            not self._selective,
        )

    def _is_silent(self, now: int) -> bool:
        """Much is in flight, and nothing was acknowledged for a while."""
        return (
            self._selective
            and self._sent.outstanding > FEW
            and now - self._silence >= SILENCE * self.round_trip.timeout
        )

    def _ask(self, stamp: Stamp, packer: Packer) -> bool:
        """Send the first segment alone, when it has expired."""
        self._asking = True
        sent, now = self._sent, stamp[4]
        number = next(sent.missing(sent.una, sent.nxt))
        batch = sent.batch_of(number)
        state = batch.state(number)
        if now >= state.due:
            state.renew(Cause.TIMEOUT, self._policy(now, True))
            self._counters.lost_segs += 1
            self._transmitter.transmit(batch, number, number + 1, stamp, packer)
            self._transmitter.count_sendings(state.sendings)
        self._alarm = state.due
        self._skipped = False
        return False

    def _fits(self, batch: SentBatch, packer: Packer, budget: int) -> bool:
        """All that is missing of a batch may be sent within a strict budget."""
        missing = self._sent.missing_of(batch)
        return packer.cost + self._transmitter.cost(batch, missing) <= budget

    def _retransmit_batch(
        self, batch: SentBatch, policy: RetransmitPolicy, stamp: Stamp, packer: Packer
    ) -> None:
        chosen = batch.retransmit(self._sent, policy)
        if not chosen:
            return
        counters = self._counters
        first = end = chosen[0][0]
        for number, cause in chosen:
            if cause is Cause.TIMEOUT:
                counters.lost_segs += 1
            elif cause is Cause.FAST:
                counters.fast_retrans_segs += 1
            else:
                counters.early_retrans_segs += 1
            if number != end:
                self._transmitter.transmit(batch, first, end, stamp, packer)
                first = number
            end = number + 1
        self._transmitter.transmit(batch, first, end, stamp, packer)
        self._transmitter.count_sendings(batch.most_sendings())

    def finish(self, stamp: Stamp, waiting: bool, room: int) -> None:
        """A flush is over: tell the congestion controller what it has sent again."""
        if self._repeated is not None:
            fast, expired = self._counters.repeated
            fast -= self._repeated[0]
            expired -= self._repeated[1]
            self._repeated = None
            if fast or expired:
                again = fast + expired
                losses = Losses(fast > 0, expired > 0, self.underway, self._window, again)
                self.controller.lost(self.mss, losses)
        if not self._started:
            self._started = True
            self.controller.started(self.mss)

    def deadline(self) -> int:
        """A time before which nothing expires and nothing that was held back may go."""
        due = self._pacer.due
        if self._sent.outstanding:
            due = min(due, self._alarm, self._copies.due)
        return due if due >= NEVER else (due - self._epoch) * MILLISECOND
