"""
Round-trip estimator and congestion controllers (kcp.md 1.8 and 1.10). The
recorded traces check them step by step; here are the rules one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.congestion.bbr import BBR
from twisted_rudp.core.congestion.controller import Sample
from twisted_rudp.core.congestion.segments import (
    UNLIMITED,
    FixedWindow,
    KCPWindow,
    Losses,
    RoundTrip,
    TolerantWindow,
)
from twisted_rudp.core.engine import MILLISECOND


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


class TolerantWindowTests(SynchronousTestCase):
    """L{TolerantWindow}: a round is driven by hand, its losses given."""

    def setUp(self) -> None:
        self.controller = TolerantWindow()

    def round(self, share: float = 0.0, peer: int = 4096) -> int:
        """
        Have a whole window acknowledged, after a share of it was sent again.

        @return: the window then.
        """
        window = self.controller.window()
        repeated = int(share * window)
        if repeated:
            self.controller.lost(1376, Losses(True, False, window, window, repeated))
        for _ in range(window // 8):
            self.controller.advanced(1376, peer, 8, window - 8)
        return self.controller.window()

    def grown(self) -> int:
        """The window after some rounds without loss."""
        for _ in range(4):
            self.round()
        return self.controller.window()

    def test_doubles(self) -> None:
        """Without loss the window doubles each round, up to the peer's."""
        self.assertEqual([self.round() for _ in range(3)], [64, 128, 256])
        for _ in range(4):
            self.round(peer=1000)
        self.assertEqual(self.controller.window(), 1000)

    def test_noise(self) -> None:
        """Loss below the tolerance does not make it smaller, however long it lasts."""
        before = self.grown()
        for _ in range(20):
            self.round(0.1, before)
        self.assertEqual(self.controller.window(), before)

    def test_congestion(self) -> None:
        """
        More than that shrinks it to about what got through, once for what was in
        flight together, and ends the doubling.
        """
        before = self.grown()
        after = self.round(0.4)
        self.assertLess(after, 2 * before * 0.8)
        self.assertGreater(after, before * 0.6)
        again = self.round(0.4)
        self.assertGreaterEqual(again, after)
        self.assertLess(again, 1.2 * after)

    def test_silence(self) -> None:
        """When most of what is in flight expires it is halved, once."""
        before = self.grown()
        for _ in range(5):
            self.controller.lost(1376, Losses(False, True, before, before, before))
        self.assertEqual(self.controller.window(), before // 2)

    def test_floor(self) -> None:
        """It never falls below the smallest window."""
        for _ in range(50):
            window = self.controller.window()
            self.controller.lost(1376, Losses(False, True, window, window, window))
            self.round(0.9)
        self.assertGreaterEqual(self.controller.window(), TolerantWindow.SMALLEST)

    def test_queue(self) -> None:
        """Round trips that have grown end the doubling; a single one does not."""
        self.controller.sampled(40)
        self.controller.sampled(90)
        self.controller.sampled(41)
        before = self.controller.window()
        self.assertEqual(self.round(), 2 * before)
        for _ in range(TolerantWindow.QUEUED):
            self.controller.sampled(60)
        before = self.controller.window()
        self.assertLess(self.round(), 1.3 * before)

    def test_slowBesideQueue(self) -> None:
        """While there is a queue the window hardly grows."""
        self.grown()
        self.controller.sampled(40)
        for _ in range(TolerantWindow.QUEUED):
            self.controller.sampled(60)
        before = self.controller.window()
        self.round()
        self.assertLess(self.controller.window(), before * 1.03)

    def judged(self, trips: Sequence[int], share: float) -> float:
        """By what the window changes in a round with these round trips and losses."""
        for trip in trips:
            self.controller.sampled(trip)
        before = self.controller.window()
        return self.round(share) / before

    def test_lossWithQueue(self) -> None:
        """
        Loss in a round trip that had a queue all the time shrinks the window to what
        the path holds without one, and a little below, so that the queue empties.
        """
        self.grown()
        self.judged([40], 0)
        self.round()
        self.assertApproximates(self.judged([60] * 9, 0.03), 7 / 8 * 40 / 60, 0.03)

    def test_lossWithoutQueue(self) -> None:
        """The same loss does not, if the queue was empty for a moment."""
        self.grown()
        self.judged([40], 0)
        self.round()
        self.assertGreaterEqual(self.judged([60] * 8 + [41], 0.03), 1)

    def test_otherPath(self) -> None:
        """If the round trip is still long after that, it is the path's: losses are noise again."""
        self.grown()
        self.judged([40], 0)
        self.round()
        self.judged([60] * 9, 0.03)
        self.judged([60] * 9, 0.03)
        for _ in range(3):
            self.assertGreaterEqual(self.judged([60] * 9, 0.03), 1)

    def test_afterSilence(self) -> None:
        """
        After silence it doubles again up to where it was, because silence tells
        nothing of what the path holds.
        """
        before = self.grown()
        self.controller.lost(1376, Losses(False, True, before, before, before))
        self.assertEqual(self.controller.window(), before // 2)
        self.assertGreaterEqual([self.round() for _ in range(2)][-1], before)

    def test_idle(self) -> None:
        """A window that is not used does not grow."""
        before = self.controller.window()
        for _ in range(100):
            self.controller.advanced(1376, 4096, 1, 0)
        self.assertEqual(self.controller.window(), before)


class PersistentCongestionTests(SynchronousTestCase):
    """L{BBR} when for several round trips only losses are told."""

    def test_collapse(self) -> None:
        """Window and rate fall to little, again and again, and recover with acknowledgements."""
        controller = BBR(1000)
        now = 0
        for turn in range(200):
            now += 10 * MILLISECOND
            controller.on_turn(
                Sample(now, acked=50_000, delivered=50_000 * turn, before=50_000 * (turn - 2),
                       round_trip=20 * MILLISECOND, rate=5e6, in_flight=50_000)
            )
        before = controller.pacing_rate
        self.assertGreater(before, 3e6)
        rates = []
        for _ in range(3):
            for _ in range(20):
                now += 10 * MILLISECOND
                controller.on_turn(Sample(now, lost=50_000))
            rates.append(controller.pacing_rate)
        self.assertLessEqual(controller.window, 4000)
        self.assertLess(rates[0], 0.05 * before)
        self.assertLess(rates[2], rates[0] + 1)
        for turn in range(100):
            now += 10 * MILLISECOND
            controller.on_turn(
                Sample(now, acked=20_000, delivered=10**8 + 20_000 * turn,
                       before=10**8 + 20_000 * (turn - 2), round_trip=20 * MILLISECOND, rate=2e6)
            )
        self.assertGreater(controller.pacing_rate, 1e6)

    def test_fewLosses(self) -> None:
        """Losses without an acknowledgement in a short time are ordinary."""
        controller = BBR(1000)
        controller.on_turn(Sample(1, acked=1000, round_trip=20 * MILLISECOND, rate=5e6, before=0))
        window = controller.window
        for turn in range(5):
            controller.on_turn(Sample(turn * 10 * MILLISECOND, lost=1000))
        self.assertGreaterEqual(controller.window, window)
