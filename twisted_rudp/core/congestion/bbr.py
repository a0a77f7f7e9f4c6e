"""
A rate-based controller, after BBR version 3 (Cardwell et al., draft-ietf-ccwg-bbr), with an
estimate of the loss that no sender causes.

It sends as fast as the path delivers, and looks from time to time whether that is more by
now. What BBR version 3 takes from loss, "this was too much", is wrong on a link that loses
at random. Here the loss of what was sent while I{less} than the path's rate was sent is
known not to be our overflow; that much counts as noise, and only what exceeds it makes the
controller slower.

It may be the overflow of other flows, though, and if each of them took that for noise all would
send more and more. So it counts only while no queue shows, neither a long one nor a short one
that stays full, and only for a flow that has seen a queue go when it sent less, or that has come
down far without less of it being lost. Where many share a path they measure it at the same time,
so that the queue of none hides how long the empty path is.
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
from twisted_rudp.core.engine import CLOCK_PERIOD, MILLISECOND, SECOND


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

_LAST: Final = len(_CYCLE) - 1

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

_MARGIN: Final = 0.99
"""Of the measured rate, so that a queue never grows by measuring (BBR 4.6.2)."""

_MEMORY: Final = 7
"""Rounds for which a rate is remembered: one more than a cycle has phases."""

_GROWN: Final = 1.2
_GROWN_CYCLES: Final = 2
"""Where so many cycles after each other found so much more, there is room for many times that."""

_ROUND_TRIP_AGE: Final = CLOCK_PERIOD
"""Where no round trip was as short as the least for half of this, the path is measured anew at the
next multiple of it: all flows of a host together, or each would measure the queue of the others."""

_OLD_ROUNDS: Final = 10
"""At least so many round trips, of which start-up alone takes some."""

_JOINING_ROUNDS: Final = 60
"""After so many a flow on a crowded path takes part each time. A young one would lose by it."""

_MEASURING: Final = 200 * MILLISECOND
_MEASURING_SHARE: Final = 0.25
"""How long, and of the bandwidth-delay product in flight then. What several flows have measured is
more than they share, and the queue has to go."""

_REMEMBERED: Final = 0.5
"""Of the bandwidth before that. On a short path the measurement takes longer than rates are
remembered. Flows that had too much of a path begin with less after it."""

_CONFIRMED: Final = 0.875
"""The least round trip was right if the new one has so much of it at least. Before, it was that of
a queue, and so was the noise."""

_LONGER: Final = 10 * MILLISECOND
_LONGER_ROUNDS: Final = 3
"""After so many rounds in which each round trip took twice the least and L{_LONGER}, the
path may have got longer, and is measured anew at once."""

_LOSSY: Final = 0.02
"""Where more is lost a short round trip does not say that the path is empty: the queue may have
been full since it was measured first."""

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

_FEWEST: Final = 2
"""Datagrams that stay in flight on a path whose queue holds no more than that."""

_PERSISTENT: Final = 3
_LEAST_SILENCE: Final = 100 * MILLISECOND
"""Round trips, and time, in which only losses were told, until the path counts as congested."""

_HOPELESS: Final = 3
"""Where so many times what is acknowledged is lost, it is not by chance."""


class _Round:
    """
    What came back in one round trip: from when a datagram is sent until it is acknowledged.

    @ivar number: counted from 0.
    @ivar began: when.
    @ivar end: it is over when a datagram is acknowledged before whose sending so many bytes were.
    @ivar acked: bytes acknowledged in it, and C{lost} those that were declared lost.
    @ivar shortest: of its round trips; 0 before there was one.
    """

    __slots__ = ("acked", "began", "end", "lost", "number", "shortest")

    def __init__(self, number: int, began: int, end: int) -> None:
        self.number = number
        self.began = began
        self.end = end
        self.acked = 0
        self.lost = 0
        self.shortest = 0

    def is_hopeless(self) -> bool:
        """So much was lost that less has to be sent, even if the window was not filled."""
        return self.lost > _HOPELESS * self.acked

    def measured(self, round_trip: int) -> None:
        if not self.shortest or round_trip < self.shortest:
            self.shortest = round_trip


_JUDGED: Final = 128
_JUDGED_ROUNDS: Final = 8
_JUDGED_LEAST: Final = 32
"""Datagrams before their loss is judged: fewer tell nothing of a share. After eight rounds a
quarter of them is enough."""

_DEVIATIONS: Final = 3.0
"""Standard deviations by which a loss exceeds what is tolerated: of 128 datagrams of which one in
a hundred is lost by chance, three are at times."""


class _Losses:
    """
    What was lost of enough rounds to be judged.

    @ivar share: what is lost of what is sent, over the last eight rounds or so.
    @ivar rounds: since the last judgement.
    """

    __slots__ = ("_acked", "_lost", "_since", "rounds", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self.rounds = 0
        self._acked = 0
        self._lost = 0
        self._since = 0

    def add(self, ended: _Round) -> None:
        """A round is over."""
        self._acked += ended.acked
        self._lost += ended.lost
        total = ended.acked + ended.lost
        if total:
            self.share += (ended.lost / total - self.share) / 8

    def restart(self, number: int) -> None:
        """What was lost until then is of another window than the present one."""
        self._since = number
        self._acked = self._lost = 0

    def judge(self, number: int, tolerated: float, mss: int) -> bool | None:
        """
        @param number: of the round that is over.
        @param tolerated: the share that may be lost.
        @return: whether more was lost; C{None}: there is too little to judge yet.
        """
        self.rounds = number - self._since
        total = self._acked + self._lost
        if total < (_JUDGED if self.rounds < _JUDGED_ROUNDS else _JUDGED_LEAST) * mss:
            return None
        usual = tolerated * total
        exceeded = self._lost > usual + _DEVIATIONS * sqrt(usual * mss)
        self.restart(number)
        return exceeded


_FIRST_NOISE_SAMPLE: Final = 128
_NOISE_SAMPLE: Final = 256
_MOST_NOISE: Final = 0.25


class _Noise:
    """
    An estimate of the loss that no sender causes.

    @ivar share: of what is sent; 0.0 before that is known.
    @ivar is_known: it was measured.
    """

    __slots__ = ("_lost", "_settled", "is_known", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self.is_known = False
        self._settled = 0
        self._lost = 0

    def learn(self, settled: int, lost: int, mss: int) -> bool:
        """
        @param settled: bytes whose fate became known and whose loss was not this flow's overflow.
        @return: that was enough for a new estimate.
        """
        self._settled += settled
        self._lost += lost
        if self._settled < (_NOISE_SAMPLE if self.is_known else _FIRST_NOISE_SAMPLE) * mss:
            return False
        share = min(self._lost / self._settled, _MOST_NOISE)
        self.share = (self.share + share) / 2 if self.is_known else share
        self.is_known = True
        self._settled = self._lost = 0
        return True


_LATE_ROUNDS: Final = 16
_JITTER: Final = 2 * MILLISECOND
"""Round trips that are longer by no more than this are no longer, whatever the others were."""

_LASTING: Final = 8
"""Samples at least that show a queue: one that is late by chance is none."""

_LONG_QUEUE: Final = 2
"""A queue of this part of the least round trip is noticed whoever has made it."""

_SEEN_TO_GO: Final = 4
"""A queue of this part of the least round trip that goes when less is sent was this flow's own."""


class _Sharing:
    """
    Whether other flows are on the path.

    @ivar is_alone: a queue was seen to go when this flow sent less, and none has stayed since.
    @ivar has_foreign_queue: the last time when it sent less a queue stayed.
    """

    __slots__ = (
        "_longest",
        "_peak",
        "_samples",
        "_shortest",
        "_since",
        "has_foreign_queue",
        "is_alone",
    )

    def __init__(self) -> None:
        self.is_alone = False
        self.has_foreign_queue = False
        # The longest round trip that lasted since a queue was seen to go.
        self._peak = 0
        # The shortest of the present quarter of a round trip, and how many were measured in it.
        self._shortest = 0
        self._samples = 0
        self._since = 0
        # The longest of the rounds' shortest round trips of late.
        self._longest = 0

    def measured(self, elapsed: int, least: int, now: int) -> None:
        """A queue that comes and goes within a round is seen in a quarter of it."""
        if not self._samples or elapsed < self._shortest:
            self._shortest = elapsed
        self._samples += 1
        if self._samples >= _LASTING and now - self._since > least // _SEEN_TO_GO:
            if self._shortest > max(self._peak, least + least // _LONG_QUEUE):
                self._peak = self._shortest
            self._samples, self._since = 0, now

    def is_lower_half(self, elapsed: int, least: int) -> bool:
        """
        Whether a round trip is in the lower half of those of late. A short queue that others keep
        full never is so long that it shows otherwise.
        """
        return elapsed <= least + max((self._longest - least) // 2, _JITTER)

    def forget_queue(self) -> None:
        """There was one, and it went for another reason than that this flow sent less."""
        self._peak = 0

    def judge(self, shortest: int, least: int, queued: bool) -> None:
        """A round is over. Its shortest round trip did, or did not, show a queue."""
        if shortest > self._longest:
            self._longest = shortest
        elif shortest:
            self._longest -= (self._longest - shortest) // _LATE_ROUNDS
        if shortest and not queued and self._peak > shortest + least // _SEEN_TO_GO:
            self.is_alone, self._peak = True, 0
        elif shortest > self._peak:
            self._peak = shortest


_FELL: Final = 0.86
_GIVEN_WAY: Final = 0.7
_WAYS: Final = 2
_WAY_ROUNDS: Final = 3
"""Where a queue stands and less than 86 % of the bandwidth arrive, there is a new flow.
It gets three tenths, and after some rounds once more if it still presses. Then the path has to
be without a foreign queue for a cycle before this is done again, or a flow that always fills
the queue would get all."""


class _Yielding:
    """
    How often this flow may still make room for a new one.

    @ivar left: times.
    @ivar end: bytes that had been delivered when the last that was sent before it made room
        arrives. They still arrive at the rate of before.
    """

    __slots__ = ("_round", "end", "left")

    def __init__(self) -> None:
        self.left = 0
        self.end = 0
        self._round = 0

    def begin(self, number: int, sample: Sample) -> bool:
        """
        @param number: of the round that shows a new flow.
        @return: make room for it now.
        """
        if not self.left or number < self._round + _WAY_ROUNDS:
            return False
        self.left -= 1
        self._round = number
        self.end = sample.delivered + sample.in_flight
        return True


_LONGEST_WAIT: Final = 2 * SECOND
_MOST_WAITED: Final = 63
"""A wait is at most so long and so many rounds, and no more rounds than the path holds datagrams of
this flow: in so many a flow of Reno grows back (BBR 4.3.3.5.1)."""

_WAITING_GAIN: Final = 1.02
"""Until then no probe measures that the path carries what it did, and each round would find a
little less."""


class _Wait:
    """
    How long the next probe for bandwidth waits. Flows that answer each loss with half of their
    window need seconds to grow back. Probes several times a second overflow the queue that such
    flows keep, and they would never get there.

    @ivar rounds: still to go.
    """

    __slots__ = ("_acked", "_lost", "_usual", "rounds")

    def __init__(self) -> None:
        self.rounds = 0
        self._acked = 0
        self._lost = 0
        self._usual = 0.0

    def begin_probe(self, usual: float) -> None:
        """
        @param usual: the share that was lost before it.
        """
        self._usual = usual
        self._acked = self._lost = 0

    def add(self, sample: Sample) -> None:
        """Count what came back of the probe."""
        self._acked += sample.acked
        self._lost += sample.lost

    def end_probe(self, noise: float, carried: float, least: int, mss: int) -> None:
        """
        It has met a queue that is not this flow's.

        @param noise: the share that is lost whatever is sent.
        @param carried: the bandwidth-delay product.
        @param least: the round trip of the empty path.
        """
        usual = max(noise, self._usual) * (self._acked + self._lost)
        if self._lost > usual + _DEVIATIONS * sqrt(usual * mss):
            self.rounds = min(_MOST_WAITED, _LONGEST_WAIT // least, int(carried / mss))


_CAP_QUEUED: Final = 0.85
"""Of the rate, where the queue is full: all flows measure what together just keeps it full."""

_CAP_LEFT: Final = 0.7
_CAP_ROUNDS: Final = 3
_CAP_GROWTH: Final = 1.05

_FAR_DOWN: Final = 0.65
"""Of the bandwidth of before. Where as much is lost as before this is not what overflows."""

_TRIAL_ROUNDS: Final = 16
_TRIAL_AGE: Final = 10 * SECOND
_MOST_TRIAL_AGE: Final = 80 * SECOND
"""If it goes on as before then, and more is lost in so many rounds, the loss was overflow after
all. The next such trial comes after ten seconds, and each further one after twice as many."""

_NOISE_KEPT: Final = 0.875
"""Of the noise, where a queue stays while less is sent: it may have been estimated too high."""


class _Cap:
    """
    What overflowed, and how much less is sent since then.

    @ivar window: bytes in flight that may not be exceeded.
    @ivar bandwidth: what was measured before it; 0.0: nothing has overflowed.
    @ivar trial_at: from then on the loss may be tried to be taken for noise.
    """

    __slots__ = ("_since", "_trial_age", "_trial_end", "bandwidth", "trial_at", "window")

    def __init__(self) -> None:
        self.window = float(UNLIMITED)
        self.bandwidth = 0.0
        self._since = 0
        self.trial_at = 0
        self._trial_age = _TRIAL_AGE
        self._trial_end = 0

    def lower(self, number: int, window: float, bandwidth: float) -> None:
        """
        It has overflowed.

        @param number: of the round.
        @param bandwidth: what is measured now.
        """
        self.window = window
        self.bandwidth = max(self.bandwidth, bandwidth)
        self._since = number

    def grow(self, number: int, rounds: int, mss: int, carried: float) -> None:
        """
        No more was lost than may be.

        @param rounds: that were judged.
        @param carried: the bandwidth-delay product. A cap that is much more is none.
        """
        if self.window < UNLIMITED and number - self._since >= _CAP_ROUNDS:
            self.window = self.window * _CAP_GROWTH + mss * (1 + rounds / 2)
            if self.window > 4 * carried:
                self.lift()

    def lift(self) -> None:
        self.window = float(UNLIMITED)
        self.bandwidth = 0.0

    def is_far_down(self, least: int) -> bool:
        """It has come down to much less than was thought to be carried."""
        return self.window * SECOND < _FAR_DOWN * self.bandwidth * least

    def try_without(self, number: int) -> None:
        """It may have been noise: begin a trial in which as much is sent as before."""
        self._trial_end = number + _TRIAL_ROUNDS
        self.lift()

    def end_trial(self, number: int, now: int) -> bool:
        """
        It has overflowed again.

        @return: in a trial.
        """
        if number >= self._trial_end:
            return False
        self.trial_at = now + self._trial_age
        self._trial_age = min(2 * self._trial_age, _MOST_TRIAL_AGE)
        return True


class _RoundTripProbe:
    """
    A measurement of the empty path's round trip.

    @ivar window: before it, and C{bandwidth} too.
    @ivar least: the least round trip before it; 0: what is in flight has not left the path yet.
    @ivar end: when it is over.
    """

    __slots__ = ("bandwidth", "end", "least", "window")

    def __init__(self, window: float, bandwidth: float) -> None:
        self.window = window
        self.bandwidth = bandwidth
        self.least = 0
        self.end = 0


class _Silence:
    """
    What was known when nothing came back any more.

    @ivar began: when it was noticed.
    """

    __slots__ = ("bandwidth", "began", "rates", "window")

    def __init__(
        self, began: int, window: float, bandwidth: float, rates: dict[int, float]
    ) -> None:
        self.began = began
        self.window = window
        self.bandwidth = bandwidth
        self.rates = rates


class BBR:
    """
    See the module.

    @ivar window: see L{Controller.window
        <twisted_rudp.core.congestion.controller.Controller.window>}; C{pacing_rate} and
        C{draining} see there too. They change with L{on_turn} and L{on_timeout} only.
    @ivar phase: what it is doing.
    @ivar bandwidth: bytes a second that the path delivers; 0.0 before the first sample.
    @ivar least: the round trip of the empty path, in nanoseconds; 0 before it is known.
    @ivar gain: what is sent, as a share of the bandwidth.
    """

    __slots__ = (
        "_cap",
        "_confirmed",
        "_cycle_bandwidth",
        "_flat",
        "_full",
        "_grown",
        "_heard_at",
        "_index",
        "_latest",
        "_least_at",
        "_longer",
        "_losses",
        "_mss",
        "_noise",
        "_phase_at",
        "_phase_least",
        "_probe",
        "_rates",
        "_round",
        "_sharing",
        "_silence",
        "_stretch",
        "_use",
        "_wait",
        "_was_filled",
        "_window",
        "_yielding",
        "bandwidth",
        "draining",
        "gain",
        "least",
        "pacing_rate",
        "phase",
        "window",
    )

    def __init__(self, mss: int) -> None:
        """
        @param mss: bytes of a full datagram.
        """
        self._mss = mss
        self._window = float(INITIAL_DATAGRAMS * mss)
        self._use = WindowUse()
        # The window was full in the last round.
        self._was_filled = False

        self.phase = Phase.STARTUP
        self.gain = _STARTUP_GAIN
        self._phase_at = 0
        self._phase_least = 0
        # Start-up: the bandwidth that has not grown any more, and for how many rounds.
        self._full = 0.0
        self._flat = 0
        # Where in the cycle; the bandwidth at its beginning, and in how many cycles it has grown.
        self._index = 2
        self._cycle_bandwidth = 0.0
        self._grown = 0
        self._probe = _RoundTripProbe(0.0, 0.0)

        self.bandwidth = 0.0
        # The best of each round.
        self._rates: dict[int, float] = {}
        self._round = _Round(0, 0, 0)

        self.least = 0
        self._least_at = 0
        # It was measured twice.
        self._confirmed = False
        self._latest = 0
        # Round trips of the last round, as a multiple of the least.
        self._stretch = 1.0
        # Rounds in which they took much longer.
        self._longer = 0

        self._losses = _Losses()
        self._noise = _Noise()
        self._cap = _Cap()
        self._sharing = _Sharing()
        self._yielding = _Yielding()
        self._wait = _Wait()
        self._heard_at = 0
        self._silence: _Silence | None = None
        self._update_control()

    @property
    def noise(self) -> float:
        """The share of what is sent that the path loses whatever the rate; 0.0: not known."""
        return self._noise.share

    def on_timeout(self, now: int) -> None:
        if self._silence is None:
            self._silence = _Silence(now, self._window, self.bandwidth, dict(self._rates))
        self._window = float(LEAST_DATAGRAMS * self._mss)
        self._update_control()

    def on_turn(self, sample: Sample) -> None:
        self._learn(sample)
        self._update_control()

    def _update_control(self) -> None:
        """Set what senders read, which they do more often than they report something."""
        self.window = int(self._window)
        # The cap is what arrived when too much was lost, so within it less is sent too.
        bandwidth = max(self.bandwidth, self._cap.bandwidth)
        self.draining = self.gain < 1.0 or self._cap.window < bandwidth * self.least / SECOND
        if not self.least:
            self.pacing_rate = 0.0
            return
        rate = self.bandwidth * self.gain * _MARGIN / (1.0 - self._noise.share)
        # Whatever was measured, over an outage for instance: two datagrams a round trip.
        floor = _FEWEST * self._mss * SECOND / max(self._latest, self.least)
        if self.phase is Phase.STARTUP:
            # An estimate that is still growing must not hold back its own growth.
            floor = 2.0 * self._window * SECOND / self.least
        self.pacing_rate = rate if rate > floor else floor

    def _learn(self, sample: Sample) -> None:
        now = sample.now
        current = self._round
        filled = self._use.filled(sample, self.window, self._mss)
        if sample.acked and self._silence is not None:
            self._end_silence(sample, self._silence)
            self._silence = None
        if sample.acked or not self._heard_at:
            self._heard_at = now
        elif sample.lost and now - self._heard_at > max(_PERSISTENT * self.least, _LEAST_SILENCE):
            self._congested(now)
            return
        current.acked += sample.acked
        current.lost += sample.lost
        self._wait.add(sample)
        if sample.settled:
            self._learn_noise(sample)
        if sample.round_trip:
            self._measured(sample.round_trip, now)
        rate = sample.rate
        # What was in flight when this flow gave way still arrives at the rate of before.
        later = sample.before >= self._yielding.end
        if rate and later and (not sample.app_limited or rate > self.bandwidth):
            if rate > self._rates.get(current.number, 0.0):
                self._rates[current.number] = rate
            if rate > self.bandwidth:
                self.bandwidth = rate
        if sample.before >= current.end:
            self._end_round(sample, current, filled)
            self._round = _Round(current.number + 1, now, sample.delivered)
        if not self.least:
            self._window += sample.acked
            return
        carried = self.bandwidth * self.least / SECOND
        self._advance(now, carried, sample.in_flight)
        self._size(sample, carried)

    def _set_bandwidth(self, bandwidth: float) -> None:
        """It is this much, whatever was measured before."""
        self.bandwidth = bandwidth
        self._rates = {self._round.number: bandwidth}

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

    def _end_silence(self, sample: Sample, silence: _Silence) -> None:
        """
        The first acknowledgement after a timeout. If it is for what was sent before that, nothing
        was lost: the path has become longer (RFC 4015, RFC 5682). Where the flow did not fill the
        path, and so did not make it longer, what it had measured stands, but for the round trip.
        The first windows of a flow were measured by nothing.
        """
        if silence.bandwidth and sample.app_limited and sample.sent_before(silence.began):
            self._window = silence.window
            self._rates = silence.rates
            self.bandwidth = silence.bandwidth
            self.least, self._least_at = sample.round_trip, sample.now
            self._start_anew(sample.now)

    def _learn_noise(self, sample: Sample) -> None:
        """
        Loss while less is sent than the path carries is not our overflow, see the module. Where
        it stays though we have come down far the path carries what it did before.
        """
        cap = self._cap
        far_down = cap.is_far_down(self.least)
        trial = far_down and self._confirmed and sample.now >= cap.trial_at
        if self._is_queue(self._latest) or not (self._sharing.is_alone or trial):
            return
        if not self._sharing.is_lower_half(self._latest, self.least):
            return
        if self._noise.learn(sample.settled, sample.settled_lost, self._mss) and far_down:
            self._set_bandwidth(cap.bandwidth)
            cap.try_without(self._round.number)

    def _measured(self, elapsed: int, now: int) -> None:
        self._round.measured(elapsed)
        if not self._phase_least or elapsed < self._phase_least:
            self._phase_least = elapsed
        self._latest = elapsed
        if not self._sharing.is_alone and self.phase is not Phase.PROBE_ROUND_TRIP:
            self._sharing.measured(elapsed, self.least, now)
        if not self.least or elapsed < self.least:
            self.least, self._least_at = elapsed, now
        elif elapsed < self.least + self.least // 32 + MILLISECOND and not self._is_crowded():
            self._least_at = now

    def _end_round(self, sample: Sample, ended: _Round, filled: bool) -> None:
        """
        A round trip's worth was acknowledged: judge it.

        @param filled: the window was full in it.
        """
        number, shortest = ended.number, ended.shortest
        queued = self._is_queue(shortest)
        self._losses.add(ended)
        if self.phase is not Phase.PROBE_ROUND_TRIP:
            self._sharing.judge(shortest, self.least, queued)
        excess = self._losses.judge(number, self._noise.share + self._excess(queued), self._mss)
        self._stretch = max(shortest / self.least, 1.0) if self.least else 1.0
        self._longer = self._longer + 1 if shortest > 2 * self.least + _LONGER else 0
        if self._longer and sample.app_limited and not self._was_filled:
            # What was sent while the window had room met no queue of this flow's: the path is
            # longer.
            self.least, self._least_at, self._longer = shortest, sample.now, 0
        self._was_filled = filled
        fell = ended.acked * SECOND < _FELL * self.bandwidth * (sample.now - ended.began)
        self._rates.pop(number + 1 - _MEMORY, None)
        self.bandwidth = max(self._rates.values(), default=self.bandwidth)
        hopeless = ended.is_hopeless()
        fills = filled or not sample.app_limited or hopeless
        if self.phase is Phase.STARTUP:
            if not sample.app_limited or (filled and queued) or hopeless:
                self._judge_growth(sample.now, queued, excess)
        elif self.phase is Phase.PROBE_BANDWIDTH:
            if queued and fell and fills and self._yielding.begin(number, sample):
                self._set_bandwidth(self.bandwidth * _GIVEN_WAY)
            if _CYCLE[self._index] == 1.0:
                gain = _FOREIGN_QUEUED_GAIN if self._sharing.has_foreign_queue else _QUEUED_GAIN
                if not queued:
                    gain = _WAITING_GAIN if self._wait.rounds else 1.0
                self.gain = gain
        if excess and fills and self.phase is Phase.PROBE_BANDWIDTH:
            self._overflowed(ended, queued)
            if self._cap.end_trial(number, sample.now):
                self._noise = _Noise()
        elif excess is not None:
            carried = self.bandwidth * self.least / SECOND
            self._cap.grow(number, self._losses.rounds, self._mss, carried)

    def _judge_growth(self, now: int, queued: bool, excess: bool | None) -> None:
        """Start-up is over when the rate has stopped growing, the sooner the clearer that is."""
        if self.bandwidth >= self._full * 1.25:
            self._full, self._flat = self.bandwidth, 0
        else:
            self._flat += 1
        enough = 1 if excess else 2 if queued else 3
        if self._flat >= enough:
            self._enter(Phase.DRAIN, _DRAIN_GAIN, now)

    def _overflowed(self, ended: _Round, queued: bool) -> None:
        """More was lost than noise: keep to what arrived, and to what is measured now."""
        cap = self._cap
        kept = float(ended.acked)
        if not ended.is_hopeless():
            kept = max(kept, _CAP_LEFT * min(self._window, cap.window))
        cap.lower(ended.number, max(kept, float(_FEWEST * self._mss)), self.bandwidth)
        recent = [rate for number, rate in self._rates.items() if number >= ended.number - 1]
        if recent:
            self._set_bandwidth(max(recent) * (_CAP_QUEUED if queued else 1.0))

    def _excess(self, queued: bool) -> float:
        """Loss beyond the noise that is tolerated."""
        if self.phase is Phase.STARTUP or (self._sharing.is_alone and not queued):
            return _EXCESS_BURST
        return _EXCESS_KNOWN if self._noise.is_known and not queued else _EXCESS

    def _is_queue(self, elapsed: int) -> bool:
        """Whether a round trip is so long that something waits on the path."""
        return elapsed > self.least + self.least // 4 + 2 * MILLISECOND

    def _is_old(self, now: int) -> bool:
        """The path has to be measured anew, see L{_ROUND_TRIP_AGE}."""
        since = self._least_at
        if now // _ROUND_TRIP_AGE == since // _ROUND_TRIP_AGE:
            return False
        joins = self._round.number > _JOINING_ROUNDS and self._is_crowded()
        half = 0 if joins else _ROUND_TRIP_AGE // 2
        return now - since > max(half, _OLD_ROUNDS * self.least)

    def _is_crowded(self) -> bool:
        """Others may be on the path, and keep its queue full, see L{_LOSSY}."""
        usual = self._noise.share + _EXCESS_KNOWN if self._sharing.is_alone else _LOSSY
        return self._losses.share > usual

    def _enter(self, phase: Phase, gain: float, now: int) -> None:
        self.phase, self.gain = phase, gain
        self._phase_at = now
        self._phase_least = 0

    def _start_anew(self, now: int) -> None:
        """Double the rate again until the path carries no more."""
        self._full, self._flat = 0.0, 0
        self._grown = 0
        self._cap.lift()
        self._enter(Phase.STARTUP, _STARTUP_GAIN, now)

    def _cruise(self, now: int) -> None:
        """Begin the cycle in one of its even phases, not all flows in the same."""
        self._index = 2 + now // MILLISECOND % 4
        self._wait.rounds = 0
        self._enter(Phase.PROBE_BANDWIDTH, 1.0, now)

    def _advance(self, now: int, carried: float, in_flight: int) -> None:
        """Go on to the next phase if it is time."""
        if self.phase is Phase.DRAIN:
            held = carried / (1.0 - self._noise.share)
            if in_flight <= held or now - self._phase_at > 3 * self.least:
                # What start-up has lost tells nothing of the path.
                self._losses.share = 0.0
                self._cruise(now)
        elif self.phase is Phase.PROBE_BANDWIDTH:
            if self._is_phase_over(now, carried, in_flight):
                if self._index == _DOWN and self._end_cycle(now, carried):
                    return
                self._go_round(now, carried)
            if self._is_old(now) or self._longer >= _LONGER_ROUNDS:
                self._enter(Phase.PROBE_ROUND_TRIP, 1.0, now)
                self._probe = _RoundTripProbe(self._window, self.bandwidth)
                self._longer = 0
        elif self.phase is Phase.PROBE_ROUND_TRIP:
            self._advance_round_trip(now, in_flight)

    def _go_round(self, now: int, carried: float) -> None:
        """Begin the next phase of the cycle."""
        wait = self._wait
        if self._index == _LAST and wait.rounds:
            wait.rounds -= 1
        else:
            self._index = (self._index + 1) % len(_CYCLE)
        gain = _CYCLE[self._index]
        if gain > 1.0:
            wait.begin_probe(self._losses.share)
            if carried > 0.0:
                gain += min(_PROBE_DATAGRAMS * self._mss / carried, _MOST_PROBE)
        self._enter(Phase.PROBE_BANDWIDTH, gain, now)

    def _is_phase_over(self, now: int, carried: float, in_flight: int) -> bool:
        """Whether it is time for the next phase of the cycle."""
        held = carried / (1.0 - self._noise.share)
        elapsed = now - self._phase_at
        least = self.least
        if self.gain > 1.0:
            return elapsed > least and (in_flight >= self.gain * held or elapsed > 2 * least)
        if self.gain < _QUEUED_GAIN:
            return in_flight <= held + 3 * self._mss or elapsed > 3 * least
        return elapsed > least

    def _end_cycle(self, now: int, carried: float) -> bool:
        """
        The phase is over in which less was sent.

        @return: so much more was found that start-up begins anew, see L{_GROWN_CYCLES}.
        """
        sharing = self._sharing
        # To make room for a queue that is not ours would give the path away.
        sharing.has_foreign_queue = self._is_queue(self._phase_least)
        if sharing.has_foreign_queue:
            sharing.is_alone = self._confirmed = False
            self._wait.end_probe(self._noise.share, carried, self.least, self._mss)
            self._noise.share *= _NOISE_KEPT
        else:
            self._yielding.left = min(self._yielding.left + 1, _WAYS)
        others = sharing.has_foreign_queue or self._is_crowded()
        grown = self.bandwidth > _GROWN * self._cycle_bandwidth and not others
        self._cycle_bandwidth = self.bandwidth
        self._grown = self._grown + 1 if grown else 0
        if self._grown < _GROWN_CYCLES:
            return False
        self._start_anew(now)
        return True

    def _advance_round_trip(self, now: int, in_flight: int) -> None:
        """Measure the empty path: let it drain, wait, compare."""
        probe = self._probe
        least = self.least
        if not probe.least:
            if in_flight <= self._window:
                probe.least = least
                probe.end = now + max(_MEASURING, least)
                self._least_at = now
                self.least = 0
                self._round.shortest = 0
        elif now > probe.end:
            # The other flows have made room as well, so who had made the queue is not known.
            self._sharing.forget_queue()
            self._losses.restart(self._round.number)
            self._least_at = now
            if least > 2 * probe.least:
                # The path is another one by now, and what was measured does not count. It
                # carries the window of before, or growth would show only after that.
                self._rates.clear()
                self._window = max(self._window, probe.window)
                self.bandwidth = self._window * SECOND / least
                self._start_anew(now)
            else:
                self._confirmed = least >= _CONFIRMED * probe.least
                if not self._confirmed:
                    self._noise = _Noise()
                remembered = _REMEMBERED * probe.bandwidth
                if self.bandwidth < remembered:
                    self._set_bandwidth(remembered)
                self._cruise(now)

    def _size(self, sample: Sample, carried: float) -> None:
        """Set the window."""
        extra = self.bandwidth * _TURN / SECOND + 3 * self._mss
        scale = 1.0 / (1.0 - self._noise.share)
        floor = float(_FEWEST * self._mss)
        if self.phase is Phase.STARTUP:
            if self._window < _STARTUP_WINDOW * carried * scale + extra:
                self._window += sample.acked + sample.lost
            elif (
                self._round.number <= _FIRST_ROUNDS
                and self.least >= _FAR
                and not self._is_queue(sample.round_trip)
            ):
                self._window += sample.acked
        elif self.phase is Phase.PROBE_ROUND_TRIP:
            if not self._probe.least:
                self._window = max(min(self._window, carried * _MEASURING_SHARE), floor)
        else:
            gain = _WINDOW_GAIN
            if self.gain > 1.0:
                gain = max(gain, _PROBE_WINDOW * self._stretch)
            target = min(gain * carried * scale + extra, self._cap.window)
            self._window = max(min(self._window + sample.acked, target), floor)
