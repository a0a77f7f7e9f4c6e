"""
How fast to send: round-trip estimators and congestion controllers.

A sender asks its L{Controller} I{how much may be in flight now} and tells it
what became of what it sent. Units are segments; times are milliseconds of the
caller's clock.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from twisted_rudp.core.serial import MASK32

UNLIMITED = 1 << 32
"""
A window larger than any that fits a wire.
"""


class RoundTrip:
    """
    Round-trip estimator and retransmission timeout of kcp-go (kcp.md 1.8).

    C{smoothed} 0 means that nothing was measured yet, so a true round trip of
    0 ms keeps starting anew, as it does in kcp-go.

    @ivar smoothed: mean round trip.
    @ivar variation: mean deviation from it.
    @ivar timeout: how long to wait for an acknowledgement, C{minimum} ..
        L{MAXIMUM}; 200 before the first sample.
    """

    __slots__ = ("granularity", "minimum", "smoothed", "timeout", "variation")

    MAXIMUM = 60_000
    INITIAL = 200

    def __init__(self, minimum: int, granularity: int) -> None:
        """
        @param minimum: least timeout.
        @param granularity: how late the peer's timer may be; the timeout is
            never less than the round trip and this.
        """
        self.minimum = minimum
        self.granularity = granularity
        self.smoothed = 0
        self.variation = 0
        self.timeout = self.INITIAL

    def sample(self, elapsed: int) -> None:
        """
        Take in one measured round trip, 0 or more.
        """
        if self.smoothed == 0:
            self.smoothed = elapsed
            self.variation = elapsed >> 1
        else:
            error = elapsed - self.smoothed
            self.smoothed += error >> 3
            weight = 5 if elapsed < self.smoothed - self.variation else 2
            self.variation += (abs(error) - self.variation) >> weight
        wanted = self.smoothed + max(self.granularity, 4 * self.variation)
        self.timeout = min(max(wanted, self.minimum), self.MAXIMUM)


class Losses(NamedTuple):
    """
    What one flush found missing and sent again.

    @ivar skipped: because later segments had arrived.
    @ivar expired: because its timeout was over.
    @ivar in_flight: segments sent and not yet covered, after this flush.
    @ivar window: segments that were allowed in flight in this flush.
    """

    skipped: bool
    expired: bool
    in_flight: int
    window: int


class Controller(Protocol):
    """
    Decides how much may be in flight.
    """

    def window(self) -> int:
        """
        How many segments may be in flight now.
        """

    def advanced(self, size: int, peer_window: int) -> None:
        """
        The peer's cumulative acknowledgement moved on.

        @param size: payload bytes of a full segment.
        @param peer_window: segments the peer takes now.
        """

    def lost(self, size: int, losses: Losses) -> None:
        """
        A flush has sent something again.
        """

    def started(self, size: int) -> None:
        """
        The first flush is over.
        """


class FixedWindow:
    """
    No congestion control: the two ends' windows alone decide (kcp.md C{nc} 1).
    """

    __slots__ = ()

    def window(self) -> int:
        return UNLIMITED

    def advanced(self, size: int, peer_window: int) -> None:
        pass

    def lost(self, size: int, losses: Losses) -> None:
        pass

    def started(self, size: int) -> None:
        pass


class KCPWindow:
    """
    The congestion window of kcp-go 5.6.72 (kcp.md 1.10), C{nc} 0. It opens at
    the end of the first flush, so that flush sends no data.

    @ivar segments: the window (C{cwnd}).
    @ivar threshold: where slow start ends (C{ssthresh}).
    @ivar credit: the window in bytes (C{incr}).
    """

    __slots__ = ("_after_skip", "credit", "segments", "threshold")

    SMALLEST = 2

    def __init__(self, resend: int) -> None:
        """
        @param resend: the setting of that name; what the window keeps above the
            threshold after a fast retransmission.
        """
        self._after_skip = resend if resend > 0 else MASK32
        self.segments = 0
        self.threshold = self.SMALLEST
        self.credit = 0

    def window(self) -> int:
        return self.segments

    def advanced(self, size: int, peer_window: int) -> None:
        if self.segments >= peer_window:
            return
        if self.segments < self.threshold:
            self.segments += 1
            self.credit += size
        else:
            self.credit = max(self.credit, size)
            self.credit += size * size // self.credit + size // 16
            if (self.segments + 1) * size <= self.credit:
                self.segments = -(-self.credit // size)
        if self.segments > peer_window:
            self.segments = peer_window
            self.credit = peer_window * size

    def lost(self, size: int, losses: Losses) -> None:
        if losses.skipped:
            self.threshold = max(losses.in_flight // 2, self.SMALLEST)
            self.segments = (self.threshold + self._after_skip) & MASK32
            self.credit = (self.segments * size) & MASK32
        if losses.expired:
            self.threshold = max(losses.window // 2, self.SMALLEST)
            self.segments = 1
            self.credit = size

    def started(self, size: int) -> None:
        if self.segments < 1:
            self.segments = 1
            self.credit = size


class SmoothedRoundTrip:
    """
    Round-trip estimator of RFC 6298 from unambiguous samples, for wires whose
    repeats have numbers of their own. Times are integers of any one unit.

    @ivar smoothed: mean round trip; None before the first sample.
    @ivar variation: mean deviation from it.
    @ivar timeout: how long to wait for an acknowledgement.
    """

    __slots__ = ("_allowance", "_floor", "_maximum", "_minimum", "smoothed", "timeout", "variation")

    def __init__(
        self, first: int, minimum: int, maximum: int, floor: int, allowance: int
    ) -> None:
        """
        @param first: the timeout before there is a sample.
        @param minimum: least timeout.
        @param maximum: largest timeout.
        @param floor: what the deviation counts for at least.
        @param allowance: how long the peer may keep an acknowledgement back.
        """
        self._minimum = minimum
        self._maximum = maximum
        self._floor = floor
        self._allowance = allowance
        self.smoothed: int | None = None
        self.variation = 0
        self.timeout = first

    def sample(self, elapsed: int) -> None:
        """
        Take in one measured round trip, 0 or more.
        """
        if self.smoothed is None:
            self.smoothed = elapsed
            self.variation = elapsed >> 1
        else:
            error = elapsed - self.smoothed
            self.smoothed += error >> 3
            self.variation += (abs(error) - self.variation) >> 2
        wanted = self.smoothed + max(4 * self.variation, self._floor) + self._allowance
        self.timeout = min(max(wanted, self._minimum), self._maximum)

    def backed_off(self, repeats: int) -> int:
        """
        The timeout of what has expired C{repeats} times already.
        """
        if not repeats:
            return self.timeout
        return min(int(self.timeout * 1.5 ** min(repeats, 32)), self._maximum)


class ByteController(Protocol):
    """
    Decides how many bytes may be in flight, told of what became of them.

    @ivar window: bytes that may be in flight now.
    """

    window: int

    def acknowledged(self, size: int, limited: bool) -> None:
        """
        So many bytes have arrived.

        @param limited: the window, and not a lack of data, had held the sender
            back; otherwise nothing was learned that lets it grow.
        """

    def lost(self, sent: int, now: int) -> None:
        """
        Something sent at C{sent} is known to be missing from among what came later.
        """

    def expired(self, sent: int, now: int) -> None:
        """
        Nothing was heard of something sent at C{sent} for its whole timeout.
        """


class Unlimited:
    """
    No congestion control.
    """

    __slots__ = ("window",)

    def __init__(self) -> None:
        self.window = UNLIMITED

    def acknowledged(self, size: int, limited: bool) -> None:
        pass

    def lost(self, sent: int, now: int) -> None:
        pass

    def expired(self, sent: int, now: int) -> None:
        pass


class LossWindow:
    """
    Slow start and congestion avoidance with one reduction for each round trip
    (raknet.md 10): to seven tenths after a loss, to two datagrams after a timeout.

    @ivar threshold: where slow start ends; None before the first loss.
    """

    __slots__ = ("_credit", "_reduced", "_unit", "threshold", "window")

    INITIAL = 10
    SMALLEST = 2

    def __init__(self, unit: int) -> None:
        """
        @param unit: bytes of a full datagram.
        """
        self._unit = unit
        self._credit = 0
        self._reduced: int | None = None
        self.window = self.INITIAL * unit
        self.threshold: int | None = None

    def acknowledged(self, size: int, limited: bool) -> None:
        if not limited:
            return
        if self.threshold is None or self.window < self.threshold:
            self.window += size
            return
        self._credit += self._unit * size
        steps = self._credit // self.window
        self._credit -= steps * self.window
        self.window += steps

    def lost(self, sent: int, now: int) -> None:
        if self._is_news(sent):
            self._reduced = now
            self.window = max(self.window * 7 // 10, self.SMALLEST * self._unit)
            self.threshold = self.window

    def expired(self, sent: int, now: int) -> None:
        if self._is_news(sent):
            self._reduced = now
            self.threshold = max(self.window // 2, self.SMALLEST * self._unit)
            self.window = self.SMALLEST * self._unit

    def _is_news(self, sent: int) -> bool:
        """
        Whether the window has not been reduced since.
        """
        return self._reduced is None or sent >= self._reduced
