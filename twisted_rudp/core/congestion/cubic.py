"""CUBIC (RFC 9438), with a slow start that ends at the first sign of a queue (RFC 9406)."""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.congestion.controller import (
    INITIAL_DATAGRAMS,
    LEAST_DATAGRAMS,
    UNLIMITED,
    Sample,
    WindowUse,
)

_C: Final = 0.4
"""Datagrams by which the window grows in a second to the third power (RFC 9438 4.1)."""

_BETA: Final = 0.7
"""What a loss leaves of the window (RFC 9438 4.6)."""

_ALPHA: Final = 3 * (1 - _BETA) / (1 + _BETA)
"""Datagrams by which Reno of the same mean would grow in a round trip (RFC 9438 4.3)."""

_QUEUE_LEAST: Final = 4_000_000
_QUEUE_MOST: Final = 16_000_000
"""Nanoseconds between which an eighth of the round trip counts as a queue (RFC 9406 4.2)."""

_ROUND_SAMPLES: Final = 8
"""Round trips measured in a round before its least is believed (RFC 9406 4.2)."""

_SECOND: Final = 1e9


class Cubic:
    """
    A window that falls to seven tenths at a loss and grows along a cubic curve back to
    where it was and beyond. It fills the bottleneck's queue, and takes every loss for
    congestion.

    @ivar window: see L{Controller.window
        <twisted_rudp.core.congestion.controller.Controller.window>}; C{pacing_rate} and
        C{draining} see there too. They change with L{on_turn} and L{on_timeout} only.
    @ivar threshold: bytes; slow start ends there.
    """

    __slots__ = (
        "_before",
        "_epoch",
        "_k",
        "_mss",
        "_recovery_end",
        "_reno",
        "_round_end",
        "_round_least",
        "_round_samples",
        "_silent_at",
        "_smoothed",
        "_start",
        "_top",
        "_use",
        "_window",
        "draining",
        "pacing_rate",
        "threshold",
        "window",
    )

    def __init__(self, mss: int) -> None:
        """
        @param mss: bytes of a full datagram.
        """
        self._mss = mss
        self._window = float(INITIAL_DATAGRAMS * mss)
        self.threshold = float(UNLIMITED)
        self.draining = False
        self._epoch = 0
        self._k = 0.0
        self._start = 0.0
        self._top = 0.0
        self._reno = 0.0
        self._recovery_end = -1
        self._smoothed = 0
        self._round_end = 0
        self._round_least = (0, 0)
        self._round_samples = 0
        # What the latest silence has cost: window, threshold and top of before.
        self._before: tuple[float, float, float] | None = None
        self._silent_at = 0
        self._use = WindowUse()
        self._update_control()

    def _update_control(self) -> None:
        """Set what senders read, which they do more often than they report something."""
        self.window = int(self._window)
        self.pacing_rate = 0.0
        if self._smoothed:
            # Twice while the window doubles, a quarter more than needed afterwards, so that
            # the pace never is what limits (RFC 9002 section 7.7).
            gain = 2.0 if self._window < self.threshold else 1.25
            self.pacing_rate = gain * self._window * _SECOND / self._smoothed

    def on_turn(self, sample: Sample) -> None:
        filled = self._use.filled(sample, self.window, self._mss)
        if sample.acked and self._before is not None:
            known = self._smoothed > 0
            if known and sample.app_limited and sample.sent_before(self._silent_at):
                # An acknowledgement of what was sent before the timeout: nothing was lost, the
                # path has become longer (RFC 9438 4.9.2), and not by this flow.
                self._window, self.threshold, self._top = self._before
            self._before = None
        if sample.round_trip:
            self._measured(sample)
        if sample.lost:
            self._lost(sample)
        recovering = sample.before >= 0 and sample.before < self._recovery_end
        limited = sample.app_limited and not filled
        if sample.acked and not limited and not recovering:
            self._grow(sample)
        self._update_control()

    def on_timeout(self, now: int) -> None:
        if self._before is None:
            self._before = self._window, self.threshold, self._top
            self._silent_at = now
        self.threshold = max(self._window * _BETA, float(LEAST_DATAGRAMS * self._mss))
        self._window = float(LEAST_DATAGRAMS * self._mss)
        self._epoch = 0
        self._update_control()

    def _measured(self, sample: Sample) -> None:
        """Follow the round trip, and end slow start when it grows from round to round."""
        elapsed = sample.round_trip
        self._smoothed = self._smoothed * 7 // 8 + elapsed // 8 if self._smoothed else elapsed
        if sample.before >= self._round_end:
            self._round_end = sample.delivered + sample.in_flight
            self._round_least = (self._round_least[1], elapsed)
            self._round_samples = 0
        before, least = self._round_least
        if elapsed < least:
            least = elapsed
            self._round_least = (before, least)
        self._round_samples += 1
        if before and self._round_samples >= _ROUND_SAMPLES and self._window < self.threshold:
            queue = min(max(before // 8, _QUEUE_LEAST), _QUEUE_MOST)
            if least >= before + queue:
                self.threshold = self._window

    def _lost(self, sample: Sample) -> None:
        """One reduction for all that was lost of one round trip."""
        if 0 <= sample.before < self._recovery_end:
            return
        self._recovery_end = sample.delivered + sample.in_flight
        # Fast convergence: who did not get back to the top leaves room for others.
        fast = (1 + _BETA) / 2 if self._window < self._top else 1.0
        self._top = self._window * fast
        self._window = max(self._window * _BETA, float(LEAST_DATAGRAMS * self._mss))
        self.threshold = self._window
        self._epoch = 0

    def _grow(self, sample: Sample) -> None:
        mss = self._mss
        if self._window < self.threshold:
            self._window += sample.acked
            return
        if not self._epoch:
            self._epoch = sample.now
            self._start = self._reno = self._window
            short = max(self._top - self._window, 0.0) / mss
            self._k = (short / _C) ** (1 / 3)
        since = (sample.now - self._epoch + self._smoothed) / _SECOND
        target = self._start + (_C * (since - self._k) ** 3 + _C * self._k**3) * mss
        share = sample.acked / self._window
        self._reno += _ALPHA * mss * share
        if target < self._reno:
            target = self._reno
        if target > 1.5 * self._window:
            target = 1.5 * self._window
        if target > self._window:
            self._window += (target - self._window) * min(share, 1.0)
