"""Tests for L{twisted_rudp.service.metrics} and the dashboard that shows them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any
from urllib.request import urlopen

from twisted.trial.unittest import SkipTest, SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from tests.interpreter import CHECKOUT
from tests.service.programs import TWIST, Program
from tests.service.test_control import Counting, SessionCase

try:
    from prometheus_client import CollectorRegistry, generate_latest
except ImportError as problem:
    raise SkipTest("prometheus-client is not installed") from problem

from twisted_rudp import stats
from twisted_rudp.service.metrics import RudpCollector, metricsSite


class Awkward:
    """A service whose name needs escapes, and whose counters are short and long."""

    def snapshot(self) -> stats.ServiceStats:
        counts = (0, 999_999, 1_000_000, 12_345_678, 1 << 60)
        counters = {f"to {count}": count for count in counts}
        return stats.ServiceStats('to "C:\\tmp"\nand on', {"associations": 0}, counters)


def _dateless(page: str) -> str:
    """Without the times at which histograms were made."""
    return re.sub(r"(_created\S*) \S+", r"\1", page)


class MetricsTests(SessionCase):
    """What is exported of three sessions."""

    def scrape(self, perSession: bool = False) -> str:
        registry = CollectorRegistry()
        registry.register(RudpCollector(perSession))
        return generate_latest(registry).decode()

    def test_always(self) -> None:
        """Per port and transport, without labels that grow with the number of sessions."""
        shown = self.scrape()
        for line in (
            'rudp_sessions{port="0.0.0.0:4000",state="established",transport="kcp"} 1.0',
            'rudp_streams{port="0.0.0.0:4001",transport="qotp"} 1.0',
            'rudp_port_admitted_sessions_total{port="0.0.0.0:4001"} 1.0',
            'rudp_round_trip_seconds_count{transport="raknet"} 2.0',
            'rudp_handshake_seconds_count{transport="qotp"} 2.0',
        ):
            self.assertIn(line, shown)
        self.assertNotIn("peer=", shown)

    def test_handshakesOnce(self) -> None:
        """A handshake is counted once, a round trip at each scrape."""
        registry = CollectorRegistry()
        registry.register(RudpCollector())
        generate_latest(registry)
        shown = generate_latest(registry).decode()
        self.assertIn('rudp_handshake_seconds_count{transport="kcp"} 2.0', shown)
        self.assertIn('rudp_round_trip_seconds_count{transport="kcp"} 4.0', shown)

    def test_services(self) -> None:
        """Services with counters of their own."""
        service = Counting()
        self.patch(stats, "services", stats.ServiceRegistry())
        stats.services.add(service)
        shown = self.scrape()
        for line in (
            'rudp_service_events_total{event="forth",service="forward"} 7.0',
            'rudp_service_associations{service="forward"} 2.0',
        ):
            self.assertIn(line, shown)

    def test_perSession(self) -> None:
        """On request each session, in the same words for all transports."""
        shown = self.scrape(perSession=True)
        for transport in ("kcp", "qotp", "raknet"):
            for name in ("session_round_trip_seconds", "session_sent_datagrams_total"):
                self.assertRegex(shown, rf'rudp_{name}{{peer="[^"]+",.*transport="{transport}"}}')

    def test_text(self) -> None:
        """
        The page is what prometheus-client prints of the collector: ports, sessions, services with
        names that need escapes, and numbers of all sizes.
        """
        service = Awkward()
        self.patch(stats, "services", stats.ServiceRegistry())
        stats.services.add(service)
        for perSession in (False, True):
            collector = RudpCollector(perSession)
            page = collector.text().decode()
            self.assertEqual(_dateless(page), _dateless(self.scrape(perSession)))
            self.assertEqual("session_sent_datagrams" in page, perSession)

    def test_conventions(self) -> None:
        """Prometheus's own tool finds nothing wrong with the names."""
        promtool = shutil.which("promtool")
        if promtool is None:
            raise SkipTest("promtool is not installed")
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=self.scrape(perSession=True),
            capture_output=True,
            text=True,
        )
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_page(self) -> None:
        """The site has them as text, with the type that Prometheus asks for."""
        site = metricsSite(perSession=True)
        request = DummyRequest([b"metrics"])
        page = site.getResourceFor(request)
        text = page.render(request)
        self.assertIn(b"# TYPE rudp_", text)
        (kind,) = request.responseHeaders.getRawHeaders(b"content-type")
        self.assertIn(b"text/plain", kind if isinstance(kind, bytes) else kind.encode())

    def test_dashboard(self) -> None:
        """Each metric of the dashboard exists."""
        path = CHECKOUT / "examples" / "deploy" / "grafana-dashboard.json"
        dashboard: Any = json.loads(path.read_text(encoding="utf-8"))
        shown = self.scrape(perSession=True)
        there = set(re.findall(r"^# TYPE (\w+)", shown, re.MULTILINE))
        expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
        self.assertGreater(len(expressions), 10)
        for expression in expressions:
            for name in re.findall(r"\brudp_\w+", expression):
                self.assertIn(name.removesuffix("_bucket"), there)


class ServedTests(SynchronousTestCase):
    """C{--metrics} of a real program."""

    def test_quiet(self) -> None:
        """Whoever asks gets the metrics, and cannot fill the log by asking."""
        program = Program(
            *(*TWIST, "rudp", "echo", "--listen", "kcp:0:interface=127.0.0.1"),
            *("--metrics", "tcp:0:interface=127.0.0.1"),
        )
        self.addCleanup(program.kill)
        address = program.expect(r"metrics: listening on (127\.0\.0\.1:\d+)")[1]
        program.expect("Starting reactor")
        for _ in range(2):
            with urlopen(f"http://{address}/metrics") as page:
                self.assertIn(b"rudp_build_info{", page.read())
        program.interrupt()
        program.end()
        self.assertNotIn("/metrics", program.output)
