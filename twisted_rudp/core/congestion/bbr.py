"""
A rate-based controller, after BBR version 3 (Cardwell et al., draft-ietf-ccwg-bbr), with an
estimate of the loss that no sender causes.

It sends as fast as the path delivers, and looks from time to time whether that is more by
now. What BBR version 3 takes from loss, "this was too much", is wrong on a link that loses
at random. Here the loss of what was sent while I{less} than the path's rate was sent is
known not to be our overflow; that much counts as noise, and only what exceeds it makes the
controller slower.

It may be the overflow of other flows, though, and if each of them took that for noise all would
send more and more. So it counts only while no queue shows, and only for a flow that has seen a
queue go when it sent less, or that has come down far without less of it being lost.
"""

from __future__ import annotations

from enum import Enum
from math import sqrt
from typing import Final

from twisted_rudp.core.congestion.controller import (
    INITIAL_DATAGRAMS,
    LEAST_DATAGRAMS,
    UNLIMITED,
    Sample,
    WindowUse,
)
from twisted_rudp.core.engine import MILLISECOND, SECOND


class Phase(Enum):
    """What the controller is doing."""

    STARTUP = "doubling the rate until the path carries no more"
    DRAIN = "emptying the queue that start-up has made"
    PROBE_BANDWIDTH = "at the path's rate, now and then above and below"
    PROBE_ROUND_TRIP = "so slow that the path is empty, to measure it anew"


_STARTUP_GAIN: Final = 2.77
"""4 ln 2: the least gain that doubles the rate each round trip (BBR 2.4)."""

_STARTUP_WINDOW: Final = 2.25
"""Bandwidth-delay products in flight at the end of start-up. More overflows a queue of one
bandwidth-delay product in the last round."""

_FIRST_ROUNDS: Final = 3
_FAR: Final = 100 * MILLISECOND
"""Rounds in which all that arrives widens the window as long as no queue shows, where round trips
are long: what was measured of the rate until then is less than the first windows carry, and would
hold up their doubling. Elsewhere that costs little, and the first windows fill a slow path."""

_WINDOW_GAIN: Final = 2.0
_DRAIN_GAIN: Final = 0.5
_CYCLE: Final[tuple[float, ...]] = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0)
"""Six phases of a round trip each. With eight a second flow takes twice as long to its share."""

_DOWN: Final = 1
"""Where in the cycle less is sent than the path carries."""

_PROBE_DATAGRAMS: Final = 8
_MOST_PROBE: Final = 0.5
"""A probe puts so many datagrams more in flight, up to half of what is there: the same for
each flow, so that the one with less gains on the other."""

_QUEUED_GAIN: Final = 0.95
"""In a round that shows a queue the even phases of the cycle let it drain."""

_FOREIGN_QUEUED_GAIN: Final = 0.97
"""The same while the queue seems to be somebody else's. Of two flows like this one only one may
think so, and would take more and more of what the other makes room for."""

_PROBE_WINDOW: Final = 1.5
"""Products of bandwidth and present round trip in flight during a probe. Where others keep a
queue, two of the empty path's would hold the probe back to the rate of before."""

_FELL: Final = 0.86
_GIVEN_WAY: Final = 0.7
_WAYS: Final = 2
_WAY_ROUNDS: Final = 3
"""Where a queue stands and less than 86 % of the bandwidth arrive, there is a new flow.
It gets three tenths, and after some rounds once more if it still presses. Then the path has to
be without a foreign queue for a cycle before this is done again, or a flow that always fills
the queue would get all."""

_MARGIN: Final = 0.99
"""Of the measured rate, so that a queue never grows by measuring (BBR 4.6.2)."""

_MEMORY: Final = 7
"""Rounds for which a rate is remembered: one more than a cycle has phases."""

_ROUND_TRIP_AGE: Final = 10 * SECOND
"""Where no round trip was as short as the least for half of this, the path is measured anew at the
next multiple of it: all flows of a host together, or each would measure the queue of the others."""

_OLD_ROUNDS: Final = 10
"""At least so many round trips, of which start-up alone takes some."""

_MEASURING_SHARE: Final = 0.25
"""Of the bandwidth-delay product in flight then. What several flows have measured is more than they
share, and the queue has to go."""

_CONFIRMED: Final = 0.875
"""The least round trip was right if the new one has so much of it at least. Before, it was that of
a queue, and so was the noise."""

_GROWN: Final = 1.2
_GROWN_CYCLES: Final = 2

_LONGER: Final = 10 * MILLISECOND
_LONGER_ROUNDS: Final = 3
"""After so many rounds in which each round trip took twice the least and L{_LONGER}, the
path may have got longer, and is measured anew at once."""

_MEASURING: Final = 200 * MILLISECOND

_TURN: Final = 3 * MILLISECOND
"""Both ends gather what comes in so long; the window has room for it."""

_EXCESS: Final = 0.02
"""Loss beyond the noise that means overflow (BBR 4.5.10.2 has two percent)."""

_EXCESS_BURST: Final = 0.15
"""The same in start-up, and where nothing waits on a path that this flow seems to have to itself:
losses come in bursts."""

_EXCESS_KNOWN: Final = 0.08
"""The same where nothing waits and the noise is known, but others may be there: a queue of a few
datagrams loses what probes for bandwidth."""

_EXCESS_SAMPLE: Final = 128
_EXCESS_ROUNDS: Final = 8
_EXCESS_LEAST: Final = 32
"""Datagrams before their loss is judged: fewer tell nothing of a share. After eight rounds a
quarter of them is enough."""

_LOSSY: Final = 0.02
"""Where more is lost a short round trip does not say that the path is empty: the queue may have
been full since it was measured first."""

_SEEN_TO_GO: Final = 4
"""A queue of this part of the least round trip that goes when less is sent was this flow's own."""

_FAR_DOWN: Final = 0.65
"""Of the bandwidth of before. Where as much is lost as before this is not what overflows."""

_TRIAL_ROUNDS: Final = 16
_TRIAL_AGE: Final = 10 * SECOND
_MOST_TRIAL_AGE: Final = 80 * SECOND
"""If it goes on as before then, and more is lost in so many rounds, the loss was overflow after
all. The next such trial comes after ten seconds, and each further one after twice as many."""

_NOISE_KEPT: Final = 0.875
"""Of the noise, where a queue stays while less is sent: it may have been estimated too high."""

_EXCESS_DEVIATIONS: Final = 3.0
"""Standard deviations by which a loss exceeds what is tolerated: of 128 datagrams of which one in
a hundred is lost by chance, three are at times."""

_FIRST_NOISE_SAMPLE: Final = 128
_NOISE_SAMPLE: Final = 256
_MOST_NOISE: Final = 0.25
_FEWEST: Final = 2
"""Datagrams that stay in flight on a path whose queue holds no more than that."""

_PERSISTENT: Final = 3
_LEAST_SILENCE: Final = 100 * MILLISECOND
"""Round trips, and time, in which only losses were told, until the path counts as congested."""

_CAP_QUEUED: Final = 0.85
"""Of the rate, where the queue is full: all flows measure what together just keeps it full."""

_CAP_LEFT: Final = 0.7
_CAP_ROUNDS: Final = 3
_CAP_GROWTH: Final = 1.05


class BBR:
    """
    See the module.

    @ivar window: see L{Controller.window
        <twisted_rudp.core.congestion.controller.Controller.window>}; C{pacing_rate} and
        C{draining} see there too. They change with L{on_turn} and L{on_timeout} only.
    @ivar phase: what it is doing.
    @ivar bandwidth: bytes a second that the path delivers; 0.0 before the first sample.
    @ivar least: the round trip of the empty path, in nanoseconds; 0 before it is known.
    @ivar noise: share of what is sent that the path loses whatever the rate; 0.0 before that is
        known.
    @ivar gain: what is sent, as a share of the bandwidth.
    """

    __slots__ = (
        "_alone",
        "_before",
        "_cap",
        "_cap_round",
        "_confirmed",
        "_cycle_bandwidth",
        "_flat",
        "_foreign_queue",
        "_full",
        "_grown",
        "_heard_at",
        "_index",
        "_judged_acked",
        "_judged_lost",
        "_judged_round",
        "_latest",
        "_least_at",
        "_longer",
        "_lossy",
        "_lost_share",
        "_measured_until",
        "_mss",
        "_noise_sample",
        "_old_least",
        "_peak",
        "_phase_at",
        "_phase_least",
        "_prior_window",
        "_rates",
        "_round",
        "_round_acked",
        "_round_at",
        "_round_end",
        "_round_least",
        "_round_lost",
        "_settled",
        "_settled_lost",
        "_silent_at",
        "_stretch",
        "_trial_age",
        "_trial_at",
        "_trial_end",
        "_uncapped",
        "_use",
        "_was_filled",
        "_way_end",
        "_way_round",
        "_ways",
        "_window",
        "bandwidth",
        "draining",
        "gain",
        "least",
        "noise",
        "pacing_rate",
        "phase",
        "window",
    )

    def __init__(self, mss: int) -> None:
        """
        @param mss: bytes of a full datagram.
        """
        self._mss = mss
        self.phase = Phase.STARTUP
        self.gain = _STARTUP_GAIN
        self.bandwidth = 0.0
        self.least = 0
        self._latest = 0
        self.noise = 0.0
        self._least_at = 0
        self._window = float(INITIAL_DATAGRAMS * mss)
        self._round = 0
        self._round_end = 0
        self._round_at = 0
        # Round trips of the last round, as a multiple of the least.
        self._stretch = 1.0
        self._rates: dict[int, float] = {}
        self._full = 0.0
        self._flat = 0
        self._index = 2
        self._phase_at = 0
        self._phase_least = 0
        self._prior_window = 0.0
        self._foreign_queue = False
        self._measured_until = 0
        self._longer = 0
        self._grown = 0
        self._heard_at = 0
        self._cycle_bandwidth = 0.0
        self._old_least = 0
        self._round_least = 0
        self._round_acked = 0
        self._round_lost = 0
        self._judged_acked = 0
        self._judged_lost = 0
        self._judged_round = 0
        self._lossy = False
        self._lost_share = 0.0
        self._trial_at = self._trial_end = 0
        self._trial_age = _TRIAL_AGE
        # The longest of the rounds' shortest round trips since a queue was seen to go.
        self._peak = 0
        # No other flow seems to share the path; and its least round trip was measured twice.
        self._alone = self._confirmed = False
        self._settled = 0
        self._settled_lost = 0
        self._noise_sample = _FIRST_NOISE_SAMPLE
        self._ways = self._way_round = self._way_end = 0
        self._cap = float(UNLIMITED)
        self._cap_round = 0
        # The bandwidth before it was capped.
        self._uncapped = 0.0
        # What the latest silence has cost: window, bandwidth and rates of before.
        self._before: tuple[float, float, dict[int, float]] | None = None
        self._silent_at = 0
        self._use = WindowUse()
        # The window was full in the last round.
        self._was_filled = False
        self._update_control()

    def on_timeout(self, now: int) -> None:
        if self._before is None:
            self._before = self._window, self.bandwidth, dict(self._rates)
            self._silent_at = now
        self._window = float(LEAST_DATAGRAMS * self._mss)
        self._update_control()

    def on_turn(self, sample: Sample) -> None:
        self._learn(sample)
        self._update_control()

    def _update_control(self) -> None:
        """Set what senders read, which they do more often than they report something."""
        self.window = int(self._window)
        # The cap is what arrived when too much was lost, so within it less is sent too.
        bandwidth = max(self.bandwidth, self._uncapped)
        self.draining = self.gain < 1.0 or self._cap < bandwidth * self.least / SECOND
        if not self.least:
            self.pacing_rate = 0.0
            return
        rate = self.bandwidth * self.gain * _MARGIN / (1.0 - self.noise)
        # Whatever was measured, over an outage for instance: two datagrams a round trip.
        floor = _FEWEST * self._mss * SECOND / max(self._latest, self.least)
        if self.phase is Phase.STARTUP:
            # An estimate that is still growing must not hold back its own growth.
            floor = 2.0 * self._window * SECOND / self.least
        self.pacing_rate = rate if rate > floor else floor

    def _learn(self, sample: Sample) -> None:
        now = sample.now
        filled = self._use.filled(sample, self.window, self._mss)
        if sample.acked and self._before is not None:
            self._judge_silence(sample, *self._before)
            self._before = None
        if sample.acked or not self._heard_at:
            self._heard_at = now
        elif sample.lost and now - self._heard_at > max(_PERSISTENT * self.least, _LEAST_SILENCE):
            self._congested(now)
            return
        self._round_acked += sample.acked
        self._round_lost += sample.lost
        if sample.settled:
            self._learn_noise(sample)
        if sample.round_trip:
            self._measured(sample.round_trip, now)
        rate = sample.rate
        # What was in flight when this flow gave way still arrives at the rate of before.
        later = sample.before >= self._way_end
        if rate and later and (not sample.app_limited or rate > self.bandwidth):
            if rate > self._rates.get(self._round, 0.0):
                self._rates[self._round] = rate
            if rate > self.bandwidth:
                self.bandwidth = rate
        if sample.before >= self._round_end:
            self._end_round(sample, filled)
        if not self.least:
            self._window += sample.acked
            return
        carried = self.bandwidth * self.least / SECOND
        self._advance(now, carried, sample.in_flight)
        self._size(sample, carried)

    def _congested(self, now: int) -> None:
        """
        For several round trips only losses were told (persistent congestion, RFC 9002 section
        7.6). What is lost is in flight no more, so the rate has to fall, not only the window.
        """
        self._heard_at = now
        self.on_timeout(now)
        if not self.least:
            self.least, self._least_at = _LEAST_SILENCE, now
        self._rates.clear()
        self.bandwidth = min(self.bandwidth, self._window * SECOND / self.least) / 2
        self._enter(Phase.DRAIN, _DRAIN_GAIN, now)

    def _judge_silence(
        self, sample: Sample, window: float, bandwidth: float, rates: dict[int, float]
    ) -> None:
        """
        The first acknowledgement after a timeout. If it is for what was sent before that, nothing
        was lost: the path has become longer (RFC 4015, RFC 5682). Where the flow did not fill the
        path, and so did not make it longer, what it had measured stands, but for the round trip.
        The first windows of a flow were measured by nothing.
        """
        if bandwidth and sample.app_limited and sample.sent_before(self._silent_at):
            self._window = window
            self._rates = rates
            self.bandwidth = bandwidth
            self.least, self._least_at = sample.round_trip, sample.now
            self._start_anew(sample.now)

    def _learn_noise(self, sample: Sample) -> None:
        """
        Loss while less is sent than the path carries is not our overflow, see the module. Where
        it stays though we have come down far the path carries what it did before.
        """
        far_down = self._is_far_down()
        trial = far_down and self._confirmed and sample.now >= self._trial_at
        if self._is_queue(self._latest) or not (self._alone or trial):
            return
        self._settled += sample.settled
        self._settled_lost += sample.settled_lost
        if self._settled >= self._noise_sample * self._mss:
            share = min(self._settled_lost / self._settled, _MOST_NOISE)
            known = self._noise_sample == _NOISE_SAMPLE
            self.noise = (self.noise + share) / 2 if known else share
            self._noise_sample = _NOISE_SAMPLE
            self._settled = self._settled_lost = 0
            if far_down:
                self._trial_end = self._round + _TRIAL_ROUNDS
                self.bandwidth = self._uncapped
                self._rates = {self._round: self.bandwidth}
                self._uncap()

    def _measured(self, elapsed: int, now: int) -> None:
        if not self._round_least or elapsed < self._round_least:
            self._round_least = elapsed
        if not self._phase_least or elapsed < self._phase_least:
            self._phase_least = elapsed
        self._latest = elapsed
        if not self.least or elapsed < self.least:
            self.least, self._least_at = elapsed, now
        elif elapsed < self.least + self.least // 32 + MILLISECOND and not self._lossy:
            self._least_at = now

    def _end_round(self, sample: Sample, filled: bool) -> None:
        """
        A round trip's worth was acknowledged: judge it.

        @param filled: the window was full in it.
        """
        acked, lost, shortest = self._round_acked, self._round_lost, self._round_least
        self._round_acked = self._round_lost = self._round_least = 0
        self._judged_acked += acked
        self._judged_lost += lost
        if acked + lost:
            self._lost_share += (lost / (acked + lost) - self._lost_share) / 8
        self._lossy = self._lost_share > _LOSSY and not self._alone
        queued = self._is_queue(shortest)
        if shortest and not queued and self._peak > shortest + self.least // _SEEN_TO_GO:
            self._alone, self._peak = True, 0
        elif shortest > self._peak:
            self._peak = shortest
        self._stretch = max(shortest / self.least, 1.0) if self.least else 1.0
        excess = judged = False
        rounds = self._round - self._judged_round
        total = self._judged_acked + self._judged_lost
        enough = _EXCESS_SAMPLE if rounds < _EXCESS_ROUNDS else _EXCESS_LEAST
        if total >= enough * self._mss:
            judged = True
            self._judged_round = self._round
            usual = (self.noise + self._excess(queued)) * total
            excess = self._judged_lost > usual + _EXCESS_DEVIATIONS * sqrt(usual * self._mss)
            self._judged_acked = self._judged_lost = 0
        self._longer = self._longer + 1 if shortest > 2 * self.least + _LONGER else 0
        if self._longer and sample.app_limited and not self._was_filled:
            # What was sent while the window had room met no queue of this flow's: the path is
            # longer.
            self.least, self._least_at, self._longer = shortest, sample.now, 0
        self._was_filled = filled
        fell = acked * SECOND < _FELL * self.bandwidth * (sample.now - self._round_at)
        self._round += 1
        self._round_at = sample.now
        self._round_end = sample.delivered
        self._rates.pop(self._round - _MEMORY, None)
        self.bandwidth = max(self._rates.values(), default=self.bandwidth)
        fills = filled or not sample.app_limited
        if self.phase is Phase.STARTUP:
            if not sample.app_limited or (filled and queued):
                self._judge_growth(sample.now, queued, excess)
        elif self.phase is Phase.PROBE_BANDWIDTH:
            if queued and fell and fills:
                self._give_way(sample)
            if _CYCLE[self._index] == 1.0:
                gain = _FOREIGN_QUEUED_GAIN if self._foreign_queue else _QUEUED_GAIN
                self.gain = gain if queued else 1.0
        if excess and fills and self.phase is Phase.PROBE_BANDWIDTH:
            self._overflowed(acked, queued)
            if self._round <= self._trial_end:
                self._forget_noise()
                self._trial_at = sample.now + self._trial_age
                self._trial_age = min(2 * self._trial_age, _MOST_TRIAL_AGE)
        elif judged and self._cap < UNLIMITED and self._round - self._cap_round >= _CAP_ROUNDS:
            self._cap = self._cap * _CAP_GROWTH + self._mss * (1 + rounds / 2)
            if self._cap > 4 * self.bandwidth * self.least / SECOND:
                self._uncap()

    def _give_way(self, sample: Sample) -> None:
        """There is another flow: leave some of the rate to it, see L{_WAYS}."""
        if self._ways and self._round >= self._way_round + _WAY_ROUNDS:
            self._ways -= 1
            self._way_round = self._round
            self._way_end = sample.delivered + sample.in_flight
            self.bandwidth *= _GIVEN_WAY
            self._rates = {self._round - 1: self.bandwidth}

    def _judge_cycle(self, now: int) -> bool:
        """
        A cycle is over. Where probe after probe finds a fifth more, there is room for many
        times that.

        @return: start-up has begun to find it.
        """
        grown = self.bandwidth > _GROWN * self._cycle_bandwidth and not self._foreign_queue
        self._cycle_bandwidth = self.bandwidth
        self._grown = self._grown + 1 if grown else 0
        if self._grown < _GROWN_CYCLES:
            return False
        self._start_anew(now)
        return True

    def _start_anew(self, now: int) -> None:
        """Double the rate again until the path carries no more."""
        self._full, self._flat = 0.0, 0
        self._grown = 0
        self._uncap()
        self._enter(Phase.STARTUP, _STARTUP_GAIN, now)

    def _excess(self, queued: bool) -> float:
        """Loss beyond the noise that is tolerated."""
        if self.phase is Phase.STARTUP or (self._alone and not queued):
            return _EXCESS_BURST
        known = self._noise_sample == _NOISE_SAMPLE
        return _EXCESS_KNOWN if known and not queued else _EXCESS

    def _forget_noise(self) -> None:
        self.noise = 0.0
        self._noise_sample = _FIRST_NOISE_SAMPLE
        self._settled = self._settled_lost = 0

    def _uncap(self) -> None:
        self._cap = float(UNLIMITED)
        self._uncapped = 0.0

    def _is_far_down(self) -> bool:
        """What overflowed has come down to much less than was thought to be carried."""
        return self._cap * SECOND < _FAR_DOWN * self._uncapped * self.least

    def _is_old(self, now: int) -> bool:
        """The path has to be measured anew, see L{_ROUND_TRIP_AGE}."""
        since = self._least_at
        waited = now - since > max(_ROUND_TRIP_AGE // 2, _OLD_ROUNDS * self.least)
        return waited and now // _ROUND_TRIP_AGE != since // _ROUND_TRIP_AGE

    def _is_queue(self, elapsed: int) -> bool:
        """Whether a round trip is so long that something waits on the path."""
        return elapsed > self.least + self.least // 4 + 2 * MILLISECOND

    def _judge_growth(self, now: int, queued: bool, excess: bool) -> None:
        """Start-up is over when the rate has stopped growing, the sooner the clearer that is."""
        if self.bandwidth >= self._full * 1.25:
            self._full, self._flat = self.bandwidth, 0
        else:
            self._flat += 1
        enough = 1 if excess else 2 if queued else 3
        if self._flat >= enough:
            self._enter(Phase.DRAIN, _DRAIN_GAIN, now)

    def _overflowed(self, acked: int, queued: bool) -> None:
        """More was lost than noise: keep to what arrived, and to what is measured now."""
        kept = max(float(acked), _CAP_LEFT * min(self._window, self._cap))
        self._cap = max(kept, float(_FEWEST * self._mss))
        self._cap_round = self._round
        self._uncapped = max(self._uncapped, self.bandwidth)
        recent = [rate for number, rate in self._rates.items() if number >= self._round - 2]
        if recent:
            self.bandwidth = max(recent) * (_CAP_QUEUED if queued else 1.0)
            self._rates = {self._round - 1: self.bandwidth}

    def _enter(self, phase: Phase, gain: float, now: int) -> None:
        self.phase, self.gain = phase, gain
        self._phase_at = now
        self._phase_least = 0

    def _cruise(self, now: int) -> None:
        """Begin the cycle in one of its even phases, not all flows in the same."""
        self._index = 2 + now // MILLISECOND % 4
        self._enter(Phase.PROBE_BANDWIDTH, 1.0, now)

    def _advance(self, now: int, carried: float, in_flight: int) -> None:
        """Go on to the next phase if it is time."""
        least = self.least
        held = carried / (1.0 - self.noise)
        elapsed = now - self._phase_at
        if self.phase is Phase.DRAIN:
            if in_flight <= held or elapsed > 3 * least:
                # What start-up has lost tells nothing of the path.
                self._lost_share = 0.0
                self._cruise(now)
        elif self.phase is Phase.PROBE_BANDWIDTH:
            gain = self.gain
            if gain > 1.0:
                over = elapsed > least and (in_flight >= gain * held or elapsed > 2 * least)
            elif gain < _QUEUED_GAIN:
                over = in_flight <= held + 3 * self._mss or elapsed > 3 * least
            else:
                over = elapsed > least
            if over:
                if self._index == _DOWN:
                    # A queue that stays while we send three quarters is not ours: to make
                    # room for it would give the path away.
                    self._foreign_queue = self._is_queue(self._phase_least)
                    if self._foreign_queue:
                        self._alone = self._confirmed = False
                        self.noise *= _NOISE_KEPT
                    else:
                        self._ways = min(self._ways + 1, _WAYS)
                    if self._judge_cycle(now):
                        return
                self._index = (self._index + 1) % len(_CYCLE)
                gain = _CYCLE[self._index]
                if gain > 1.0 and carried > 0.0:
                    gain += min(_PROBE_DATAGRAMS * self._mss / carried, _MOST_PROBE)
                self._enter(Phase.PROBE_BANDWIDTH, gain, now)
            if self._is_old(now) or self._longer >= _LONGER_ROUNDS:
                self._enter(Phase.PROBE_ROUND_TRIP, 1.0, now)
                self._prior_window = self._window
                self._measured_until = self._longer = 0
        elif self.phase is Phase.PROBE_ROUND_TRIP:
            if not self._measured_until:
                if in_flight <= self._window:
                    self._measured_until = now + max(_MEASURING, least)
                    self._least_at = now
                    self._old_least = least
                    self.least = 0
                    self._round_least = 0
            elif now > self._measured_until:
                self._least_at = now
                if least > 2 * self._old_least:
                    # The path is another one by now, and what was measured does not count. It
                    # carries the window of before, or growth would show only after that.
                    self._rates.clear()
                    self._window = max(self._window, self._prior_window)
                    self.bandwidth = self._window * SECOND / least
                    self._start_anew(now)
                else:
                    self._confirmed = least >= _CONFIRMED * self._old_least
                    if not self._confirmed:
                        self._forget_noise()
                    self._cruise(now)

    def _size(self, sample: Sample, carried: float) -> None:
        """Set the window."""
        extra = self.bandwidth * _TURN / SECOND + 3 * self._mss
        scale = 1.0 / (1.0 - self.noise)
        floor = float(_FEWEST * self._mss)
        if self.phase is Phase.STARTUP:
            if self._window < _STARTUP_WINDOW * carried * scale + extra:
                self._window += sample.acked + sample.lost
            elif (
                self._round <= _FIRST_ROUNDS
                and self.least >= _FAR
                and not self._is_queue(sample.round_trip)
            ):
                self._window += sample.acked
        elif self.phase is Phase.PROBE_ROUND_TRIP:
            if not self._measured_until:
                self._window = max(min(self._window, carried * _MEASURING_SHARE), floor)
        else:
            gain = _WINDOW_GAIN
            if self.gain > 1.0:
                gain = max(gain, _PROBE_WINDOW * self._stretch)
            target = min(gain * carried * scale + extra, self._cap)
            self._window = max(min(self._window + sample.acked, target), floor)
