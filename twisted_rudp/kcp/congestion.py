"""
How fast to send, as kcp-go does it: its round-trip estimator and congestion controllers.

A sender asks its L{Controller} I{how much may be in flight now} and tells it
what became of what it sent. Units are segments; times are milliseconds of the
caller's clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from twisted_rudp.core.serial import MASK32

UNLIMITED: Final = 1 << 32
"""A window larger than any that fits a wire."""


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

    MAXIMUM: Final = 60_000
    INITIAL: Final = 200

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
        """Take in one measured round trip, 0 or more."""
        if self.smoothed == 0:
            self.smoothed = elapsed
            self.variation = elapsed >> 1
        else:
            error = elapsed - self.smoothed
            self.smoothed += error >> 3
            weight = 5 if elapsed < self.smoothed - self.variation else 2
            self.variation += (abs(error) - self.variation) >> weight
        slack = 4 * self.variation
        wanted = self.smoothed + (slack if slack > self.granularity else self.granularity)
        if wanted < self.minimum:
            wanted = self.minimum
        self.timeout = wanted if wanted < self.MAXIMUM else self.MAXIMUM


class Losses(NamedTuple):
    """
    What one flush found missing and sent again.

    @ivar skipped: because later segments had arrived.
    @ivar expired: because its timeout was over.
    @ivar in_flight: segments sent and not yet covered, after this flush.
    @ivar window: segments that were allowed in flight in this flush.
    @ivar repeated: how many segments were sent again.
    """

    skipped: bool
    expired: bool
    in_flight: int
    window: int
    repeated: int = 1


class Controller(Protocol):
    """Decides how much may be in flight."""

    @property
    def selective(self) -> bool:
        """
        What was acknowledged one by one is in flight no more, and the sender paces, repeats and
        waits as suits such a window. Otherwise it does as kcp-go does, where everything counts
        that no cumulative acknowledgement covers.
        """

    def window(self) -> int:
        """How many segments may be in flight now."""

    def advanced(self, size: int, peer_window: int, covered: int, in_flight: int) -> None:
        """
        The peer's cumulative acknowledgement moved on.

        @param size: payload bytes of a full segment.
        @param peer_window: segments the peer takes now.
        @param covered: segments that are in flight no more.
        @param in_flight: segments that are.
        """

    def sampled(self, elapsed: int) -> None:
        """A round trip was measured, in milliseconds."""

    def lost(self, size: int, losses: Losses) -> None:
        """A flush has sent something again."""

    def started(self, size: int) -> None:
        """The first flush is over."""


class FixedWindow:
    """No congestion control: the two ends' windows alone decide (kcp.md C{nc} 1)."""

    __slots__ = ("selective",)

    def __init__(self, selective: bool = False) -> None:
        self.selective = selective

    def window(self) -> int:
        return UNLIMITED

    def advanced(self, size: int, peer_window: int, covered: int, in_flight: int) -> None:
        pass

    def lost(self, size: int, losses: Losses) -> None:
        pass

    def sampled(self, elapsed: int) -> None:
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
    @ivar resend: the setting of that name; what the window keeps above the
        threshold after a fast retransmission. May be set.
    """

    __slots__ = ("credit", "resend", "segments", "threshold")

    SMALLEST: Final = 2
    selective: Final = False

    def __init__(self, resend: int) -> None:
        self.resend = resend
        self.segments = 0
        self.threshold = self.SMALLEST
        self.credit = 0

    def window(self) -> int:
        return self.segments

    def advanced(self, size: int, peer_window: int, covered: int, in_flight: int) -> None:
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
            kept = self.resend if self.resend > 0 else MASK32
            self.segments = (self.threshold + kept) & MASK32
            self.credit = (self.segments * size) & MASK32
        if losses.expired:
            self.threshold = max(losses.window // 2, self.SMALLEST)
            self.segments = 1
            self.credit = size

    def sampled(self, elapsed: int) -> None:
        pass

    def started(self, size: int) -> None:
        if self.segments < 1:
            self.segments = 1
            self.credit = size
