"""The release's congestion control (qotp.md 7)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.core.congestion import Controller, Sample
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.qotp.congestion import ReleaseController, WindowEvidence


def round_trip() -> RoundTrip:
    """With the release's limits."""
    return RoundTrip(200 * MILLISECOND, 100 * MILLISECOND, 2 * SECOND)


class VectorTests(SynchronousTestCase):
    """Against the release."""

    def test_runs(self) -> None:
        """The full state after each event of each recorded run."""
        for run in load("qotp", "congestion")["runs"]:
            trip = round_trip()
            control = ReleaseController(trip, 1400)
            for step in run["steps"]:
                if step["op"] == "ack":
                    # At time 0 the release takes no sample; no clock of ours is there.
                    if step["now_ns"] and trip.sample(step["rtt_ns"], step["now_ns"]):
                        control.acknowledged(step["acked_bytes"], step["now_ns"])
                elif step["op"] == "dup_ack":
                    control.duplicate()
                elif step["op"] == "loss":
                    control.lost()
                state = {
                    "bw_max": control.bandwidth,
                    "gain_pct": control.gain,
                    "pacing_1400_ns": control.pause(1400),
                    "pacing_42_ns": control.pause(42),
                    "rto_ns": trip.timeout,
                    "rtt_min_ns": trip.least or None,
                    "rttvar_ns": trip.variation,
                    "srtt_ns": trip.smoothed,
                    "startup": control.starting,
                }
                self.assertEqual(state, step["state"], (run["name"], step))


class InterfaceTests(SynchronousTestCase):
    """As one of the controllers."""

    def test_turns(self) -> None:
        """A turn counts as one acknowledged segment, its losses as one, a time-out too."""
        trip = round_trip()
        release = ReleaseController(trip, 1400)
        control: Controller = release
        self.assertEqual(control.pacing_rate, 140_000.0)
        trip.sample(20 * MILLISECOND, SECOND)
        control.on_turn(Sample(SECOND, acked=14_000))
        self.assertEqual(release.bandwidth, 72_100)
        control.on_turn(Sample(2 * SECOND, lost=1400))
        self.assertEqual(release.bandwidth, 68_495)
        control.on_timeout(3 * SECOND)
        self.assertEqual((release.bandwidth, release.gain), (65_070, 100))


class WindowEvidenceTests(SynchronousTestCase):
    """What the window of a peer of the release shows: ten packets of 1000 bytes in each ms."""

    WHOLE = 1 << 20
    TRIP = 3 * MILLISECOND

    def setUp(self) -> None:
        self.evidence = WindowEvidence(self.WHOLE)
        for number in range(20):
            self.evidence.on_sent(10_000, 10 * number, number * MILLISECOND)

    def told(self, window: int, now: int) -> bool:
        return self.evidence.on_window(window, now * MILLISECOND, self.TRIP, 200)

    def test_whole(self) -> None:
        """What was sent a round trip ago has arrived, but for the last packets of that."""
        self.assertEqual(self.evidence.doubtful, 200_000)
        self.assertFalse(self.told(self.WHOLE, 20))
        self.assertEqual(self.evidence.doubtful, 30_000)
        self.assertFalse(self.told(self.WHOLE, 100))
        self.assertEqual(self.evidence.doubtful, 10_000)

    def test_missing(self) -> None:
        """
        All from there on is sent again, once, and nothing new before; then half as much may be
        doubtful. What was told before it could have arrived says nothing.
        """
        self.told(self.WHOLE, 10)
        self.assertTrue(self.told(self.WHOLE - 1, 21))
        self.assertEqual(self.evidence.repeat(200), (70, 200))
        self.assertTrue(self.evidence.missing)
        self.assertFalse(self.told(self.WHOLE - 1, 25))
        self.evidence.on_repeated(30 * MILLISECOND, self.TRIP)
        self.assertFalse(self.told(self.WHOLE - 1, 32))
        self.assertTrue(self.told(self.WHOLE - 1, 33))
        self.assertEqual(self.evidence.room, 65_000 - 130_000)
        self.told(self.WHOLE, 34)
        self.assertFalse(self.evidence.missing)

    def test_notRead(self) -> None:
        """An application that does not read is sent little again, and less and less often."""
        waits = []
        for _ in range(12):
            found = self.evidence.repeat(200)
            self.evidence.on_repeated(SECOND, 0)
            now = SECOND
            while not self.evidence.on_window(0, now, 0, 200):
                now += MILLISECOND
            waits.append((now - SECOND) // MILLISECOND)
        self.assertEqual(found, (0, 32))
        self.assertEqual(waits, [0, 0, 0, 20, 40, 80, 160, 320, 640, 1280, 1280, 1280])
