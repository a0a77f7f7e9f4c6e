"""Loss and congestion of kcp-go: L{SegmentPacer}; the rest is in the tests of the ARQ."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.kcpgo import LEAST_BURST, SegmentPacer

START = -123_456_789
"""Clocks begin anywhere."""


class SegmentPacerTests(SynchronousTestCase):
    """With a window of 320 over 80 ms, 8 segments a millisecond and 20 together."""

    def setUp(self) -> None:
        self.pacer = SegmentPacer()
        self.number = 7

    def admit(self, now: int, room: int = 300) -> int:
        allowed = self.pacer.admit(room, self.number, START + now, 320, 80)
        self.number += allowed
        return allowed

    def test_first(self) -> None:
        """
        The first few leave together, whatever the clock shows; the rest may go a
        millisecond later.
        """
        self.assertEqual(self.admit(0), LEAST_BURST)
        self.assertEqual(self.pacer.due, START + 1)

    def test_pace(self) -> None:
        """Two windows leave in a round trip."""
        self.admit(0)
        self.assertEqual([self.admit(now) for now in (1, 2, 3)], [8, 8, 8])
        self.assertEqual(sum(self.admit(now) for now in range(4, 84)), 640)

    def test_pause(self) -> None:
        """However long nothing was sent, no more than a sixteenth of the window leaves together."""
        self.admit(0)
        self.assertEqual(self.admit(5_000), 20)

    def test_little(self) -> None:
        """What the window does not admit is not waited for."""
        self.assertEqual(self.admit(0, room=5), 5)
        self.assertEqual(self.admit(0, room=5), 5)
        self.assertEqual(self.pacer.due, NEVER)

    def test_unpaced(self) -> None:
        """What has left meanwhile without being asked about is not held against what follows."""
        self.admit(0)
        self.number += 100_000
        self.assertEqual(self.admit(10), 20)
