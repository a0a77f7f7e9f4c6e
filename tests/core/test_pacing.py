"""The controllers that count bytes and nanoseconds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.core.pacing import (
    Delivered,
    DeliveryRate,
    PreciseRoundTrip,
    ReleasePacing,
)

MS = 1_000_000


class ReleaseTests(SynchronousTestCase):
    """L{ReleasePacing} against the QOTP release (qotp.md 7)."""

    def test_runs(self) -> None:
        """The full state after each event of each recorded run."""
        for run in load("qotp", "congestion")["runs"]:
            trip = PreciseRoundTrip()
            control = ReleasePacing(trip)
            for step in run["steps"]:
                if step["op"] == "ack":
                    now = step["now_ns"]
                    size = step["acked_bytes"]
                    if trip.sample(step["rtt_ns"], now):
                        control.delivered(
                            Delivered(now, size, step["rtt_ns"], 0, 0, size, False, 0)
                        )
                elif step["op"] == "dup_ack":
                    control.duplicate()
                elif step["op"] == "loss":
                    control.lost(0)
                state = {
                    "bw_max": control.bandwidth,
                    "gain_pct": control.gain,
                    "pacing_1400_ns": control.pause(1400),
                    "pacing_42_ns": control.pause(42),
                    "rto_ns": trip.timeout,
                    "rtt_min_ns": trip.least,
                    "rttvar_ns": trip.variation,
                    "srtt_ns": trip.smoothed,
                    "startup": control.starting,
                }
                self.assertEqual(state, step["state"], (run["name"], step))


class DeliveryRateTests(SynchronousTestCase):
    """L{DeliveryRate} on a bottleneck."""

    def play(self, rate: int, delay: int, seconds: float, loss: int = 0) -> DeliveryRate:
        """
        A sender with always something to send, before a bottleneck.

        @param rate: bytes per second.
        @param delay: milliseconds there and back.
        @param loss: every so many-th datagram is lost.
        """
        trip = PreciseRoundTrip()
        control = DeliveryRate(trip, 1400)
        now = idle_from = total = in_flight = sent = 0
        free_at = 0
        since = 0
        queue: list[tuple[int, int, int, int, bool]] = []
        while now < seconds * 1e9:
            while in_flight + 1400 <= control.window() and free_at <= now:
                idle_from = max(idle_from, now) + 1400 * 10**9 // rate
                sent += 1
                dropped = bool(loss) and sent % loss == 0
                queue.append((idle_from + delay * MS, now, total, since, dropped))
                in_flight += 1400
                free_at = max(free_at, now) + control.pause(1400)
            if queue and (in_flight + 1400 > control.window() or queue[0][0] <= free_at):
                now, at, before, then, dropped = queue.pop(0)
                in_flight -= 1400
                if dropped:
                    control.lost(1400)
                    continue
                total += 1400
                trip.sample(now - at, now)
                control.delivered(
                    Delivered(now, 1400, now - at, before, then or at, total, False, in_flight)
                )
                since = now
            else:
                now = free_at
        self.goodput = total / seconds
        return control

    def test_bottleneck(self) -> None:
        """It finds the rate of a bottleneck and fills it without a long queue."""
        control = self.play(rate=2_000_000, delay=40, seconds=6)
        self.assertTrue(1_800_000 < control.rate < 2_600_000, control.rate)
        self.assertTrue(self.goodput > 1_700_000, self.goodput)

    def test_losses(self) -> None:
        """One datagram in twenty lost costs little more than itself."""
        self.play(rate=2_000_000, delay=40, seconds=6, loss=20)
        self.assertTrue(self.goodput > 1_500_000, self.goodput)

    def test_smallTalk(self) -> None:
        """An exchange of little messages changes nothing of what is known."""
        control = self.play(rate=2_000_000, delay=40, seconds=6)
        known = control.rate, control.window(), control.pause(1400)
        for number in range(10_000):
            now = 7_000_000_000 + number * 200 * MS
            control.delivered(
                Delivered(now, 64, 40 * MS, number * 64, now - 40 * MS, number * 64, True, 0)
            )
        self.assertEqual((control.rate, control.window(), control.pause(1400)), known)

    def test_start(self) -> None:
        """The window opens at once and never closes altogether."""
        control = DeliveryRate(PreciseRoundTrip(), 1400)
        self.assertEqual(control.window(), 32 * 1400)
        self.assertTrue(control.pause(1400) > 0)
