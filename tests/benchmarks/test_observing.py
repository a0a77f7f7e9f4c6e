"""Tests of what metrics and traces cost."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_rudp import stats

try:
    from tests.benchmarks.observing import TRANSPORTS, Load, scrape, work
except ImportError as problem:
    raise SkipTest("prometheus-client is not installed") from problem


class WorkTests(SynchronousTestCase):
    """Calls of functions, which are the same in each run."""

    def setUp(self) -> None:
        self.patch(stats, "ports", stats.Registry())

    def test_free(self) -> None:
        """
        With metrics on, and with traces that are off, a session makes not one call more. Traced
        ones do, so the count sees it.
        """
        for transport in TRANSPORTS:
            for load in (Load(1, 20_000), Load(10, 100)):
                # The first time fills caches of the process.
                work(transport, load, "nothing")
                calls = work(transport, load, "nothing")
                self.assertEqual(work(transport, load, "metrics on"), calls)
                self.assertEqual(work(transport, load, "traces off again"), calls)
                self.assertGreater(work(transport, load, "traced"), calls * 1.05)

    def test_scrape(self) -> None:
        """What a scrape costs is measured with as many sessions as asked for."""
        self.assertGreater(scrape("kcp", 3, perSession=True), 0)
