"""Tests of what metrics and traces cost."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_rudp import stats

try:
    from prometheus_client import CollectorRegistry, generate_latest

    from tests.benchmarks.observing import MESSAGE, TRANSPORTS, Load, Talk, counted, scrape, work
    from twisted_rudp.service.metrics import RudpCollector
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

    def test_page(self) -> None:
        """
        The page with metrics of each session takes a third of the calls that prometheus-client's
        printing of the same takes.
        """
        for transport in TRANSPORTS:
            stats.ports = stats.Registry()
            talk = Talk(transport, 30)
            talk.carry(len(MESSAGE))
            collector = RudpCollector(perSession=True)
            registry = CollectorRegistry()
            registry.register(collector)
            collector.text(), generate_latest(registry)
            general = counted(lambda registry=registry: generate_latest(registry))  # type: ignore[misc]
            self.assertLess(counted(collector.text), general / 3, transport)
            talk.close()

    def test_scrape(self) -> None:
        """What a scrape costs is measured with as many sessions as asked for."""
        self.assertGreater(scrape("kcp", 3, perSession=True), 0)
