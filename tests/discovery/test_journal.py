"""Tests for L{twisted_rudp.discovery.journal}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.discovery.journal import Journal


class JournalTests(SynchronousTestCase):
    """The log that unknown peers cannot fill."""

    def setUp(self) -> None:
        self.events: list[str] = []

        def observe(event: dict[str, object]) -> None:
            if event["log_level"] in (LogLevel.warn, LogLevel.info) and "kind" in event:
                self.events.append(f"{event['kind']} {event.get('detail')} {event.get('unsaid')}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.clock = Clock()
        self.journal = Journal(self.clock, Logger(), "test")

    def test_oncePerMinute(self) -> None:
        """One line a minute of each kind, with how many were not said (5)."""
        for _ in range(100):
            self.journal.note("junk", "from a")
            self.journal.note("other", "from b")
            self.clock.advance(1)
        self.assertEqual(
            self.events,
            ["junk from a 0", "other from b 0", "junk from a 59", "other from b 59"],
        )

    def test_over(self) -> None:
        """What is over is said once, and what begins again is said at once."""
        self.journal.clear("down")
        self.journal.note("down", "x")
        self.journal.clear("down")
        self.journal.clear("down")
        self.journal.note("down", "y")
        self.assertEqual(self.events, ["down x 0", "down None None", "down y 0"])
