"""Tests for the limits that an application sets: a rate, and how long nothing may move."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.engine import RATE_BURST, RateLimit
from twisted_rudp.kcp.keepalive import TimeLimits
from twisted_rudp.kcp.settings import SessionOptions


class RateLimitTests(SynchronousTestCase):
    """L{RateLimit}."""

    def test_rate(self) -> None:
        """Over any time the burst and the rate leave, no matter how often it is asked."""
        limit = RateLimit(1_000_000, 0)
        sent = now = 0
        while now < 10 * SECOND:
            allowance = limit.allowance(now)
            if allowance > 0:
                limit.spend(min(allowance, 1400))
                sent += min(allowance, 1400)
            now += 333_333
        self.assertTrue(abs(sent - RATE_BURST - 10_000_000) < 5000, sent)

    def test_ready(self) -> None:
        """It says when a datagram may leave."""
        limit = RateLimit(100_000, 0)
        limit.spend(RATE_BURST + 500)
        self.assertLess(limit.allowance(0), 0)
        ready = limit.ready(0)
        self.assertEqual(ready, 20_000_001)
        self.assertGreaterEqual(limit.allowance(ready), 1500)
        self.assertEqual(limit.ready(ready), ready)


class TimeLimitsTests(SynchronousTestCase):
    """L{TimeLimits}."""

    BOTH = SessionOptions(read_timeout=3 * SECOND, write_timeout=2 * SECOND)

    def test_none(self) -> None:
        """Without limits nothing is waited for."""
        limits = TimeLimits()
        limits.came(5)
        self.assertTrue(limits.waits(True, 5))
        self.assertEqual(limits.deadline(SessionOptions(), 5), NEVER)
        self.assertIsNone(limits.reached(SessionOptions(), 5, NEVER - 1))

    def test_read(self) -> None:
        """What comes puts the limit off."""
        limits = TimeLimits()
        self.assertEqual(limits.deadline(self.BOTH, 0), NEVER)
        limits.came(SECOND)
        self.assertEqual(limits.deadline(self.BOTH, 0), 4 * SECOND)
        limits.came(2 * SECOND)
        self.assertIsNone(limits.reached(self.BOTH, 0, 5 * SECOND - 1))
        self.assertEqual(
            limits.reached(self.BOTH, 0, 5 * SECOND), "nothing came for 3 seconds"
        )

    def test_written(self) -> None:
        """An acknowledgement of anything puts the limit off; without something written is none."""
        limits = TimeLimits()
        self.assertFalse(limits.waits(False, 0))
        self.assertTrue(limits.waits(True, SECOND))
        self.assertFalse(limits.waits(True, 2 * SECOND))
        self.assertEqual(limits.deadline(self.BOTH, 0), 3 * SECOND)
        self.assertEqual(limits.deadline(self.BOTH, 2 * SECOND), 4 * SECOND)
        self.assertEqual(
            limits.reached(self.BOTH, 0, 3 * SECOND),
            "nothing of what was written was acknowledged for 2 seconds",
        )
        limits.waits(False, 3 * SECOND)
        self.assertEqual(limits.deadline(self.BOTH, 0), NEVER)
