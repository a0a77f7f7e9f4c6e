"""
Round-trip estimator and congestion controllers (kcp.md 1.8 and 1.10). The
recorded traces check them step by step; here are the rules one by one.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.kcp.congestion import (
    UNLIMITED,
    FixedWindow,
    KCPWindow,
    Losses,
    RoundTrip,
)


class RoundTripTests(SynchronousTestCase):
    """L{RoundTrip}."""

    def values(self, estimate: RoundTrip) -> tuple[int, int, int]:
        return estimate.smoothed, estimate.variation, estimate.timeout

    def test_initial(self) -> None:
        """Before a sample the timeout is 200."""
        self.assertEqual(self.values(RoundTrip(30, 10)), (0, 0, 200))

    def test_first(self) -> None:
        """The first sample is taken whole, its half is the variation."""
        estimate = RoundTrip(30, 10)
        estimate.sample(59)
        self.assertEqual(self.values(estimate), (59, 29, 59 + 4 * 29))

    def test_later(self) -> None:
        """Later ones count an eighth and a quarter, rounded down."""
        estimate = RoundTrip(30, 10)
        estimate.sample(80)
        estimate.sample(100)
        self.assertEqual(self.values(estimate), (82, 35, 82 + 140))

    def test_suddenlyShort(self) -> None:
        """A sample far below the mean moves the variation by a thirty-second only."""
        estimate = RoundTrip(30, 10)
        estimate.sample(800)
        estimate.sample(10)
        self.assertEqual(self.values(estimate)[:2], (701, 400 + (790 - 400 >> 5)))

    def test_bounds(self) -> None:
        """
        The timeout is at least the minimum and the round trip plus the
        granularity, and at most 60 s.
        """
        estimate = RoundTrip(100, 40)
        estimate.sample(1)
        self.assertEqual(estimate.timeout, 100)
        estimate = RoundTrip(30, 4000)
        estimate.sample(1)
        self.assertEqual(estimate.timeout, 4001)
        estimate.sample(1 << 20)
        self.assertEqual(estimate.timeout, 60_000)

    def test_zero(self) -> None:
        """A round trip of 0 starts anew."""
        estimate = RoundTrip(30, 10)
        estimate.sample(0)
        estimate.sample(40)
        self.assertEqual(self.values(estimate)[:2], (40, 20))


class FixedWindowTests(SynchronousTestCase):
    """L{FixedWindow}."""

    def test_unlimited(self) -> None:
        """It allows everything, whatever happens."""
        controller = FixedWindow()
        controller.sampled(5)
        controller.started(10)
        controller.advanced(10, 10, 1, 1)
        controller.lost(10, Losses(True, True, 1, 1))
        self.assertEqual(controller.window(), UNLIMITED)


class KCPWindowTests(SynchronousTestCase):
    """L{KCPWindow}."""

    def started(self, resend: int = 2) -> KCPWindow:
        controller = KCPWindow(resend)
        controller.started(160)
        return controller

    def test_closedAtFirst(self) -> None:
        """Nothing may be sent before the first flush is over, then one segment."""
        self.assertEqual(KCPWindow(2).window(), 0)
        self.assertEqual(self.started().window(), 1)

    def test_slowStart(self) -> None:
        """Below the threshold each advance opens it by one."""
        controller = self.started()
        controller.advanced(160, 99, 1, 1)
        self.assertEqual((controller.window(), controller.credit), (2, 320))

    def test_avoidance(self) -> None:
        """From the threshold on the credit grows by mss^2/credit + mss/16."""
        controller = self.started()
        controller.advanced(160, 99, 1, 1)
        controller.advanced(160, 99, 1, 1)
        self.assertEqual((controller.window(), controller.credit), (2, 320 + 80 + 10))
        controller.advanced(160, 99, 1, 1)
        self.assertEqual((controller.window(), controller.credit), (4, 410 + 62 + 10))

    def test_peerWindow(self) -> None:
        """It does not grow at the peer's window and is cut to it."""
        controller = self.started()
        controller.advanced(160, 1, 1, 1)
        self.assertEqual(controller.window(), 1)
        controller.segments, controller.threshold, controller.credit = 4, 2, 5 * 160
        controller.advanced(160, 5, 1, 1)
        self.assertEqual((controller.window(), controller.credit), (5, 800))

    def test_skipped(self) -> None:
        """A fast retransmission halves what is in flight and adds C{resend}."""
        controller = self.started()
        controller.lost(160, Losses(True, False, 20, 32))
        self.assertEqual(
            (controller.threshold, controller.window(), controller.credit), (10, 12, 12 * 160)
        )

    def test_skippedWithoutResend(self) -> None:
        """With C{resend} 0 the sum wraps to one less than the threshold."""
        controller = self.started(0)
        controller.lost(160, Losses(True, False, 20, 32))
        self.assertEqual(controller.window(), 9)

    def test_expired(self) -> None:
        """A timeout closes it to one segment, whatever else was lost."""
        controller = self.started()
        controller.lost(160, Losses(True, True, 20, 32))
        self.assertEqual(
            (controller.threshold, controller.window(), controller.credit), (16, 1, 160)
        )
