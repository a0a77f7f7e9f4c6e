"""Congestion controllers, driven by hand. L{tests.core.test_congestion_paths} has them on paths."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.congestion.bbr import BBR
from twisted_rudp.core.congestion.controller import Sample
from twisted_rudp.core.engine import MILLISECOND


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
