"""
Congestion control and round trips for wires that count bytes in flight and give
every transmission a number of its own. The windows of L{twisted_rudp.core.congestion.segments}
count segments.
"""

from __future__ import annotations

from typing import Protocol

from twisted_rudp.core.congestion.segments import UNLIMITED, Losses, TolerantWindow

MILLISECOND = 1_000_000


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
        """Take in one measured round trip, 0 or more."""
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
        """The timeout of what has expired C{repeats} times already."""
        if not repeats:
            return self.timeout
        return min(int(self.timeout * 1.5 ** min(repeats, 32)), self._maximum)


class ByteController(Protocol):
    """
    Decides how many bytes may be in flight, told of what became of them.

    @ivar window: bytes that may be in flight now.
    """

    window: int

    def acknowledged(self, size: int, limited: bool, in_flight: int, elapsed: int) -> None:
        """
        So many bytes have arrived.

        @param limited: the window, and not a lack of data, had held the sender
            back; otherwise nothing was learned that lets it grow.
        @param in_flight: bytes that are in flight still.
        @param elapsed: nanoseconds since the newest of them was sent.
        """

    def lost(self, sent: int, now: int, size: int) -> None:
        """C{size} bytes sent at C{sent} are known to be missing from among what came later."""

    def expired(self, sent: int, now: int, size: int, in_flight: int) -> None:
        """
        Nothing was heard of C{size} bytes, the last of them sent at C{sent}, for their
        whole timeout.

        @param in_flight: bytes that are in flight beside them.
        """


class Unlimited:
    """No congestion control."""

    __slots__ = ("window",)

    def __init__(self) -> None:
        self.window = UNLIMITED

    def acknowledged(self, size: int, limited: bool, in_flight: int, elapsed: int) -> None:
        pass

    def lost(self, sent: int, now: int, size: int) -> None:
        pass

    def expired(self, sent: int, now: int, size: int, in_flight: int) -> None:
        pass


class TolerantBytes:
    """L{TolerantWindow}, which counts segments, for wires that count bytes."""

    __slots__ = ("_most", "_segments", "_unit", "window")

    def __init__(self, unit: int, most: int, delay: int) -> None:
        """
        @param unit: bytes of a full datagram.
        @param most: datagrams that the wire allows in flight anyway.
        @param delay: milliseconds for which peers may keep acknowledgements back.
        """
        self._unit = unit
        self._most = most
        self._segments = TolerantWindow(delay)
        self._look()

    def acknowledged(self, size: int, limited: bool, in_flight: int, elapsed: int) -> None:
        unit = self._unit
        self._segments.sampled(elapsed // MILLISECOND)
        self._segments.advanced(unit, self._most, -(-size // unit), in_flight // unit)
        self._look()

    def lost(self, sent: int, now: int, size: int) -> None:
        self._lost(size, 0, False)

    def expired(self, sent: int, now: int, size: int, in_flight: int) -> None:
        self._lost(size, in_flight, True)

    def _lost(self, size: int, in_flight: int, expired: bool) -> None:
        unit = self._unit
        segments = -(-size // unit)
        window = int(self._segments.segments)
        losses = Losses(not expired, expired, segments + in_flight // unit, window, segments)
        self._segments.lost(unit, losses)
        self._look()

    def _look(self) -> None:
        self.window = int(self._segments.segments * self._unit)


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

    def acknowledged(self, size: int, limited: bool, in_flight: int, elapsed: int) -> None:
        if not limited:
            return
        if self.threshold is None or self.window < self.threshold:
            self.window += size
            return
        self._credit += self._unit * size
        steps = self._credit // self.window
        self._credit -= steps * self.window
        self.window += steps

    def lost(self, sent: int, now: int, size: int) -> None:
        if self._is_news(sent):
            self._reduced = now
            self.window = max(self.window * 7 // 10, self.SMALLEST * self._unit)
            self.threshold = self.window

    def expired(self, sent: int, now: int, size: int, in_flight: int) -> None:
        if self._is_news(sent):
            self._reduced = now
            self.threshold = max(self.window // 2, self.SMALLEST * self._unit)
            self.window = self.SMALLEST * self._unit

    def _is_news(self, sent: int) -> bool:
        """Whether the window has not been reduced since."""
        return self._reduced is None or sent >= self._reduced
