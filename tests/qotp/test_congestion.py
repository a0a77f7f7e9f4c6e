"""The release's congestion control (qotp.md 7)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.core.congestion import Controller, Sample
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.qotp.congestion import ReleaseController


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
