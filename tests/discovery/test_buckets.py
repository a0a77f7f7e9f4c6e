"""
Tests for L{twisted_rudp.discovery.buckets} and L{twisted_rudp.discovery.journal}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.discovery.buckets import TokenBuckets
from twisted_rudp.discovery.journal import Journal


class BucketTests(SynchronousTestCase):
    """
    Rates of strangers.
    """

    def test_burstAndRate(self) -> None:
        """
        As many at once as fit, then by the rate, never more than fit.
        """
        buckets = TokenBuckets(3, 0.5, 10)
        self.assertEqual([buckets.take("a", 0) for _ in range(5)], [True] * 3 + [False] * 2)
        self.assertTrue(buckets.take("b", 0))
        self.assertEqual([buckets.take("a", 2) for _ in range(2)], [True, False])
        self.assertEqual([buckets.take("a", 1000) for _ in range(4)], [True] * 3 + [False])

    def test_welcome(self) -> None:
        """
        The first events of a new key may be free (discovery.md 1.5).
        """
        buckets = TokenBuckets(1, 0.1, 10, welcome=1)
        self.assertEqual([buckets.take("a", 0) for _ in range(3)], [True, True, False])

    def test_clockBack(self) -> None:
        """
        A clock that is set back neither gives nor takes tokens.
        """
        buckets = TokenBuckets(1, 1, 10)
        buckets.take("a", 100)
        self.assertFalse(buckets.take("a", 50))
        self.assertTrue(buckets.take("a", 51))

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 5)), max_size=200))
    def test_bounds(self, events: list[tuple[int, float]]) -> None:
        """
        Never more keys than there may be, and a key that stays gets no more than its due.
        """
        buckets = TokenBuckets(4, 1, 5)
        now = 0.0
        allowed = 0
        for key, pause in events:
            now += pause
            buckets.take(key, now)
            allowed += buckets.take("always", now)
            self.assertLessEqual(len(buckets), 5)
        self.assertLessEqual(allowed, 4 + now)


class JournalTests(SynchronousTestCase):
    """
    The log that strangers cannot fill.
    """

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
        """
        One line a minute of each kind, with how many were not said (5).
        """
        for _ in range(100):
            self.journal.note("junk", "from a")
            self.journal.note("other", "from b")
            self.clock.advance(1)
        self.assertEqual(
            self.events,
            ["junk from a 0", "other from b 0", "junk from a 59", "other from b 59"],
        )

    def test_over(self) -> None:
        """
        What is over is said once, and what begins again is said at once.
        """
        self.journal.clear("down")
        self.journal.note("down", "x")
        self.journal.clear("down")
        self.journal.clear("down")
        self.journal.note("down", "y")
        self.assertEqual(self.events, ["down x 0", "down None None", "down y 0"])
