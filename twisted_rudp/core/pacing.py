"""
How fast to send, for senders that count bytes and nanoseconds: a precise round-trip
estimator, and rate controllers that pace.

L{twisted_rudp.core.congestion.segments} has those that count segments and milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from twisted_rudp.core.congestion.segments import UNLIMITED


class Delivered(NamedTuple):
    """
    What one acknowledgement told a sender that counts bytes and nanoseconds.

    @ivar now: when it came.
    @ivar size: bytes it acknowledged for the first time.
    @ivar round_trip: of the newest of them; 0: not to be measured.
    @ivar before: bytes that had been acknowledged when that one was sent.
    @ivar since: when the last of those had been acknowledged.
    @ivar total: bytes acknowledged by now.
    @ivar limited: the application, not the network, was the bottleneck then.
    @ivar in_flight: bytes sent and not acknowledged, now.
    """

    now: int
    size: int
    round_trip: int
    before: int
    since: int
    total: int
    limited: bool
    in_flight: int


class RateController(Protocol):
    """
    Decides how much may be in flight and how fast it may leave, for senders that
    count bytes and nanoseconds.
    """

    def window(self) -> int:
        """How many bytes may be in flight now."""

    def pause(self, size: int) -> int:
        """Nanoseconds that C{size} bytes on the wire are to take."""

    def delivered(self, news: Delivered) -> None:
        """Something was acknowledged."""

    def duplicate(self) -> None:
        """An acknowledgement came of something that is not in flight."""

    def lost(self, size: int) -> None:
        """So many bytes were lost, or are about to be sent again."""


class PreciseRoundTrip:
    """
    Round-trip estimator of RFC 6298 in nanoseconds, with the QOTP release's limits
    (qotp.md 7).

    @ivar smoothed: mean; 0 before the first sample.
    @ivar variation: mean deviation.
    @ivar timeout: how long to wait for an acknowledgement.
    @ivar least: the smallest sample, or once it is ten seconds old the latest.
    """

    __slots__ = ("_least_at", "_minimum", "least", "smoothed", "timeout", "variation")

    INITIAL = 200_000_000
    MAXIMUM = 2_000_000_000
    USELESS = 30_000_000_000
    LEAST_AGE = 10_000_000_000

    def __init__(self, minimum: int = 100_000_000) -> None:
        """
        @param minimum: least C{timeout}.
        """
        self._minimum = minimum
        self.timeout = self.INITIAL
        self.smoothed = 0
        self.variation = 0
        self.least: int | None = None
        self._least_at = 0

    def sample(self, elapsed: int, now: int) -> bool:
        """
        Take in one measured round trip.

        @param now: above 0.
        @return: False if it was of no use.
        """
        if not 0 < elapsed <= self.USELESS or now <= 0:
            return False
        if self.smoothed:
            error = abs(elapsed - self.smoothed)
            self.variation = self.variation * 3 // 4 + error // 4
            self.smoothed = self.smoothed * 7 // 8 + elapsed // 8
        else:
            self.smoothed, self.variation = elapsed, elapsed // 2
        wanted = self.smoothed + 4 * self.variation
        if wanted < self._minimum:
            wanted = self._minimum
        self.timeout = wanted if wanted < self.MAXIMUM else self.MAXIMUM
        if self.least is None or elapsed < self.least or now - self._least_at >= self.LEAST_AGE:
            self.least, self._least_at = elapsed, now
        return True


class ReleasePacing:
    """
    What the QOTP release v0.2.19 does (qotp.md 7, C{congestion.json}): pacing by one
    packet per least round trip, no window. Slow; for comparison.

    @ivar bandwidth: the largest estimate, bytes per second.
    @ivar gain: percent of it that is sent.
    @ivar starting: the first phase is not over.
    """

    __slots__ = ("_flat", "_probed", "_round_trip", "bandwidth", "gain", "starting")

    STARTUP, NORMAL, PROBE, MILD, INFLATED = 277, 100, 125, 90, 75
    OVERHEAD = 42
    BLIND = 10_000_000
    PATIENCE = 3

    def __init__(self, round_trip: PreciseRoundTrip) -> None:
        """
        @param round_trip: the sender's, which has taken in the sample of an
            acknowledgement before C{delivered} is called.
        """
        self._round_trip = round_trip
        self._flat = 0
        self._probed = 0
        self.bandwidth = 0
        self.gain = self.STARTUP
        self.starting = True

    def window(self) -> int:
        return UNLIMITED

    def pause(self, size: int) -> int:
        if not self.bandwidth:
            return self._round_trip.smoothed // 10 or self.BLIND
        rate = self.bandwidth * self.gain // 100
        return size * 1_000_000_000 // rate if rate else self.BLIND

    def delivered(self, news: Delivered) -> None:
        least = self._round_trip.least
        if not least:
            return
        self._probed = self._probed or news.now
        estimate = (news.size + self.OVERHEAD) * 1_000_000_000 // least
        if estimate > self.bandwidth:
            self.bandwidth, self._flat = estimate, 0
        else:
            self._flat += 1
        if self.starting:
            if self._flat >= self.PATIENCE:
                self.starting, self.gain = False, self.NORMAL
            return
        inflation = self._round_trip.smoothed * 100 // least
        if inflation > 150:
            self.gain = self.INFLATED
        elif inflation > 125:
            self.gain = self.MILD
        elif news.now - self._probed > 8 * least:
            self._probed, self.gain = news.now, self.PROBE
        else:
            self.gain = self.NORMAL

    def duplicate(self) -> None:
        self.bandwidth = self.bandwidth * 98 // 100
        self.gain, self.starting = self.MILD, False

    def lost(self, size: int) -> None:
        self.bandwidth = self.bandwidth * 95 // 100
        self.gain, self.starting = self.NORMAL, False


class DeliveryRate:
    """
    Sends as fast as the network delivers: the bandwidth is the largest delivery rate
    of the last ten round trips, the window twice what that carries in the least
    round trip (after Cardwell et al., "BBR: Congestion-Based Congestion Control",
    2016). Losses that do not lower the delivery rate do not slow it down.

    There is no phase that empties the network to measure the round trip anew; the
    least one expires after ten seconds instead.
    """

    __slots__ = (
        "_best", "_cycle", "_cycle_at", "_full", "_mss", "_phase", "_rates", "_round",
        "_round_end", "_round_trip", "_stalled", "_window",
    )  # fmt: skip

    STARTUP = 2.885
    """2/ln 2: the least gain that doubles the rate each round trip."""

    CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    MEMORY = 10
    INITIAL_SEGMENTS = 32
    TURN = 10_000_000
    """The window has room for what is sent in so many nanoseconds beside it: peers
    acknowledge once in a turn of their reactor."""

    LARGEST_TURN = 4 << 20

    def __init__(self, round_trip: PreciseRoundTrip, mss: int) -> None:
        """
        @param round_trip: the sender's; it has taken in a sample before
            C{delivered} is told of it.
        @param mss: bytes of a full datagram.
        """
        self._round_trip = round_trip
        self._mss = mss
        self._window = self.INITIAL_SEGMENTS * mss
        self._phase = "startup"
        self._best = 0.0
        self._rates: dict[int, float] = {}
        self._round = 0
        self._round_end = 0
        self._full = 0.0
        self._stalled = 0
        self._cycle = 2
        self._cycle_at = 0

    @property
    def rate(self) -> float:
        """The bandwidth, in bytes per second; 0 while it is not known."""
        return self._best

    def window(self) -> int:
        return self._window

    def pause(self, size: int) -> int:
        # What may leave in a round trip whatever was measured: an estimate that was
        # taken over an outage must not make it last.
        segments = self.INITIAL_SEGMENTS if self._phase == "startup" else 4
        smoothed = self._round_trip.smoothed
        least = segments * self._mss * 1e9 / (smoothed if smoothed > 1_000_000 else 1_000_000)
        rate = self._best
        rate *= self.CYCLE[self._cycle] if self._phase == "probe" else self._gain()
        return int(size * 1e9 / (rate if rate > least else least))

    def delivered(self, news: Delivered) -> None:
        if news.limited and self._best and news.size < self._mss:
            # So little says nothing of the network.
            return
        if news.before >= self._round_end:
            self._round += 1
            self._round_end = news.total
            self._rates.pop(self._round - self.MEMORY, None)
            self._best = max(self._rates.values(), default=self._best)
            if self._phase == "startup" and not news.limited:
                self._judge_growth()
        interval = news.now - news.since
        if interval > 0 and news.round_trip:
            rate = (news.total - news.before) * 1e9 / interval
            if not news.limited or rate > self._best:
                self._rates[self._round] = max(rate, self._rates.get(self._round, 0.0))
                self._best = max(self._best, rate)
        self._adapt(news)

    def duplicate(self) -> None:
        pass

    def lost(self, size: int) -> None:
        pass

    def _gain(self) -> float:
        return self.STARTUP if self._phase == "startup" else 1 / self.STARTUP

    def _judge_growth(self) -> None:
        """Three rounds without a quarter more: the bandwidth is found."""
        if self._best >= self._full * 1.25:
            self._full, self._stalled = self._best, 0
            return
        self._stalled += 1
        if self._stalled >= 3:
            self._phase = "drain"

    def _adapt(self, news: Delivered) -> None:
        """
        Go on to the next phase if it is time, and set the window: what the network
        holds at this rate, with a gain, and beside it what moves at a time.
        """
        best, least = self._best, self._round_trip.least or 0
        carried = best * least / 1e9
        aggregate = int(best * self.TURN / 1e9)
        if aggregate > self.LARGEST_TURN:
            aggregate = self.LARGEST_TURN
        elif aggregate < self.INITIAL_SEGMENTS * self._mss:
            aggregate = self.INITIAL_SEGMENTS * self._mss
        if self._phase == "probe":
            if news.now - self._cycle_at > (least if least > 1_000_000 else 1_000_000):
                self._cycle = (self._cycle + 1) % len(self.CYCLE)
                self._cycle_at = news.now
        elif self._phase == "drain" and news.in_flight <= carried + aggregate:
            self._phase, self._cycle, self._cycle_at = "probe", 2, news.now
        grown = self._window + news.size
        if self._phase == "startup":
            # An estimate that is still growing must not hold back its own growth.
            target = int(self.STARTUP * carried) + aggregate
            window = max(self._window, min(grown, 2 * target))
        else:
            target = int(2.0 * carried) + aggregate
            window = grown if grown < target else target
        floor = 4 * self._mss
        self._window = window if window > floor else floor
