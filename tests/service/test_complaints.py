"""Tests for L{twisted_rudp.service.complaints}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.complaints import INTERVAL, Complaints


class ComplaintsTests(SynchronousTestCase):
    """Rate limits for what an unknown peer can cause to be logged (LOG-2)."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[dict[str, Any]] = []
        self.complaints = Complaints(self.clock, Logger(observer=self.events.append))

    def said(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def test_once(self) -> None:
        """The same complaint is logged once in an interval, then with a count."""
        for _ in range(5):
            self.complaints.complain("forward", "refused")
        self.assertEqual(self.said(), ["forward: refused"])
        self.clock.advance(INTERVAL)
        self.complaints.complain("forward", "refused")
        self.assertEqual(
            self.said()[1:], ["forward: refused (4 more times since it was last said)"]
        )
        self.clock.advance(INTERVAL)
        self.complaints.complain("forward", "refused")
        self.assertEqual(self.said()[2:], ["forward: refused"])

    def test_different(self) -> None:
        """Another reason is another complaint."""
        self.complaints.complain("forward", "refused")
        self.complaints.complain("forward", "timed out")
        self.assertEqual(self.said(), ["forward: refused", "forward: timed out"])

    def test_bounded(self) -> None:
        """Ever new reasons do not make it remember ever more."""
        for number in range(1000):
            self.complaints.complain("forward", str(number))
            self.complaints.complain("forward", str(number))
        self.assertLessEqual(len(self.complaints._quietUntil), 100)
        self.assertLessEqual(len(self.complaints._unsaid), 100)
