"""Congestion controllers, driven by hand. L{tests.core.test_congestion_paths} has them on paths."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.congestion.bbr import BBR, Phase
from twisted_rudp.core.congestion.controller import LEAST_DATAGRAMS, UNLIMITED, Sample
from twisted_rudp.core.congestion.cubic import Cubic
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


class HopelessTests(SynchronousTestCase):
    """L{BBR} whose peer acknowledges little of what it gets, but goes on doing so."""

    def test_falls(self) -> None:
        """
        The peer's window is what limits this flow, and that is no reason to send a window for each
        acknowledgement of one datagram for ever.
        """
        controller = BBR(1000)
        now = delivered = 0
        for _ in range(100):
            now += 10 * MILLISECOND
            delivered += 500_000
            controller.on_turn(
                Sample(now, acked=500_000, delivered=delivered, before=delivered - 500_000,
                       round_trip=10 * MILLISECOND, rate=23e9, in_flight=500_000,
                       app_limited=True)
            )
        self.assertGreater(controller.window, 10**7)
        sent = 0
        for _ in range(100):
            now += 10 * MILLISECOND
            flight = min(controller.window, 500_000)
            sent += flight
            delivered += 1000
            controller.on_turn(
                Sample(now, acked=1000, lost=flight - 1000, delivered=delivered,
                       before=delivered - 1000, round_trip=10 * MILLISECOND,
                       in_flight=min(controller.window, 500_000), app_limited=True)
            )
        self.assertLess(controller.window, 10_000)
        self.assertLess(sent, 100 * 500_000 / 4)


class OwnQueueTests(SynchronousTestCase):
    """
    L{BBR} on a path of 1 MB/s and 200 ms that loses one in twenty, whose queue the flow has filled
    for a moment: it was held back by the peer's window, so no whole round met a queue.
    """

    def noise(self, queue: int) -> float:
        """
        @param queue: milliseconds, for half of the second round.
        @return: what the controller takes for noise after ten rounds more.
        """
        controller = BBR(1000)
        now = delivered = 0
        for turn in range(480):
            now += 5 * MILLISECOND
            delivered += 5000
            late = queue if 60 <= turn < 80 else 0
            lost = 1000 if turn % 4 == 0 else 0
            controller.on_turn(
                Sample(now, acked=5000, lost=lost, delivered=delivered,
                       before=delivered - 200_000, round_trip=(200 + late) * MILLISECOND,
                       rate=1e6, in_flight=200_000, settled=5000 + lost, settled_lost=lost)
            )
        return controller.noise

    def test_withinRound(self) -> None:
        """The queue has gone when less was sent, so the loss that stayed is the path's."""
        self.assertTrue(0.03 < self.noise(120) < 0.07)

    def test_short(self) -> None:
        """One so short would not be noticed when others make it: it proves nothing."""
        self.assertEqual(self.noise(60), 0.0)


class LongerPathTests(SynchronousTestCase):
    """
    A flow that does not fill its path, which takes 20 ms until 1 s. Then the first answer
    comes after 500 ms, and a timeout was told meanwhile.
    """

    def answered(
        self, controller: BBR | Cubic, sent: int, app_limited: bool = True
    ) -> tuple[int, int]:
        """
        @param sent: milliseconds; when that left which is acknowledged first after the timeout.
        @return: the window before and after.
        """
        thin = {"acked": 1000, "rate": 50_000.0, "app_limited": app_limited}
        for turn in range(50):
            now = turn * 20 * MILLISECOND
            controller.on_turn(
                Sample(now, delivered=1000 * turn, before=1000 * (turn - 1),
                       round_trip=20 * MILLISECOND, **thin)
            )
        before = controller.window
        for at in (1060, 1200):
            controller.on_timeout(at * MILLISECOND)
        self.assertLess(controller.window, before)
        controller.on_turn(
            Sample(1500 * MILLISECOND, delivered=51_000, before=49_000,
                   round_trip=(1500 - sent) * MILLISECOND, **thin)
        )
        return before, controller.window

    def test_earlier(self) -> None:
        """It is for what was sent before the timeout: nothing was lost, so all is as before."""
        for controller in (BBR(1000), Cubic(1000)):
            before, after = self.answered(controller, 1000)
            self.assertGreaterEqual(after, before)

    def test_later(self) -> None:
        """It is for what was sent after the timeout: what was sent before may be lost."""
        for controller in (BBR(1000), Cubic(1000)):
            before, after = self.answered(controller, 1100)
            self.assertLess(after, before / 2)

    def test_full(self) -> None:
        """A flow that fills the path may have made it longer."""
        for controller in (BBR(1000), Cubic(1000)):
            _, after = self.answered(controller, 1000, app_limited=False)
            self.assertLessEqual(after, (LEAST_DATAGRAMS + 1) * 1000)

    def test_first(self) -> None:
        """
        A first window that was sent into the unknown is not sent again, though the first round
        trip proves to be longer than the first timeout: nothing says that the path carries it.
        """
        for controller in (BBR(1000), Cubic(1000)):
            controller.on_timeout(500 * MILLISECOND)
            small = controller.window
            controller.on_turn(
                Sample(900 * MILLISECOND, acked=1000, delivered=1000, before=0,
                       round_trip=900 * MILLISECOND, rate=1100.0, app_limited=True)
            )
            self.assertLessEqual(controller.window, small + 1000)

    def test_withoutTimeout(self) -> None:
        """The round trip of the longer path is believed after a round, and lets more out."""
        for app_limited in (True, False):
            controller = BBR(1000)
            delivered = 0
            for turn in range(400):
                trip = 20 * MILLISECOND if turn < 50 else 1000 * MILLISECOND
                delivered += 1000
                controller.on_turn(
                    Sample(turn * 20 * MILLISECOND, acked=1000, delivered=delivered,
                           before=delivered - 1000 * (trip // (20 * MILLISECOND)),
                           round_trip=trip, rate=50_000.0, app_limited=app_limited)
                )
                if turn == 110:
                    self.assertEqual(controller.least == trip, app_limited)


class EmptyQueueTests(SynchronousTestCase):
    """
    A sender whose queue is empty at times, so that all samples are marked as limited by the
    application. The path delivers 10 MB/s, and takes 20 ms while it is empty.
    """

    def run_flow(
        self, controller: BBR | Cubic, most: int, rounds: int = 40, each: int = 100
    ) -> None:
        """
        @param most: bytes that the application lets be in flight.
        @param each: nanoseconds that the path takes for a byte.
        """
        now = delivered = flying = 0
        for _ in range(rounds):
            # What the first of a round meets is what was sent in the one before.
            trip = max(20 * MILLISECOND, flying * each)
            flying = min(controller.window // 1000 * 1000, most)
            span = max(20 * MILLISECOND, flying * each)
            before = delivered
            for left in range(flying - 1000, -1000, -1000):
                now += span * 1000 // flying
                delivered += 1000
                # What has arrived was replaced, but for a pause now and then.
                in_flight = flying - 1000 if left % 10_000 else flying - 5000
                controller.on_turn(
                    Sample(now, acked=1000, delivered=delivered, in_flight=in_flight,
                           before=before, round_trip=trip, app_limited=True,
                           rate=flying * 1e9 / span)
                )  # fmt: skip

    def test_full(self) -> None:
        """It fills its window and makes a queue: start-up ends, and the path is not longer."""
        controller = BBR(1000)
        self.run_flow(controller, UNLIMITED)
        self.assertIsNot(controller.phase, Phase.STARTUP)
        self.assertEqual(controller.least, 20 * MILLISECOND)

    def test_slow(self) -> None:
        """The same where the first window makes a queue of two round trips."""
        controller = BBR(1000)
        self.run_flow(controller, UNLIMITED, each=2000)
        self.assertIsNot(controller.phase, Phase.STARTUP)
        self.assertEqual(controller.least, 20 * MILLISECOND)

    def test_notFull(self) -> None:
        """It does not: it stays in start-up, so that more can be found at once."""
        controller = BBR(1000)
        self.run_flow(controller, 15_000)
        self.assertIs(controller.phase, Phase.STARTUP)

    def test_cubic(self) -> None:
        """The window of L{Cubic} grows where it is filled, and only there."""
        for most, grows in ((UNLIMITED, True), (15_000, False)):
            controller = Cubic(1000)
            before = controller.window
            self.run_flow(controller, most, rounds=5)
            self.assertEqual(controller.window > before, grows, most)
