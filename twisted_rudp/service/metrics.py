"""
Metrics for Prometheus: a collector for programs that export metrics already, and the page
that C{twist rudp ... --metrics ENDPOINT} serves.

Needs the package prometheus-client: C{pip install 'twisted_rudp[metrics]'}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Histogram,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twisted_rudp import __version__, stats
from twisted_rudp.service.connectionlog import addressText
from twisted_rudp.service.control import peerText
from twisted_rudp.service.gathered import GatheredControl, processStats

ROUND_TRIP_BUCKETS: Final = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
HANDSHAKE_BUCKETS: Final = (0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

_PORT_COUNTERS: Mapping[str, tuple[str, str]] = {
    "port.datagramsIn": ("received_datagrams", "Datagrams received."),
    "port.datagramsOut": ("sent_datagrams", "Datagrams sent."),
    "port.bytesIn": ("received_bytes", "Bytes of UDP payload received."),
    "port.bytesOut": ("sent_bytes", "Bytes of UDP payload sent."),
    "port.sendErrors": ("send_errors", "Datagrams that the system did not send."),
    "port.dropped": ("dropped_datagrams", "Datagrams dropped because the socket was full."),
    "port.full": ("full", "Times that the socket took no more."),
    "port.icmp": ("icmp_errors", "ICMP errors."),
    "port.truncated": ("truncated_datagrams", "Datagrams longer than the receive buffer."),
    "admitted": ("admitted_sessions", "Sessions admitted."),
    "ended": ("ended_sessions", "Established sessions that have ended."),
    "neverConnected": ("failed_handshakes", "Sessions that ended in their handshake."),
    "replied": ("replies", "Replies to unknown peers."),
    "demux.InCsumErrors": ("checksum_errors", "Datagrams with a wrong checksum or key (KCP)."),
    "demux.RetransSegs": ("retransmitted_segments", "Segments retransmitted (KCP)."),
    "demux.FECRecovered": ("fec_recovered_packets", "Packets recovered by FEC (KCP)."),
}
"""Counters of a port, with their names after Prometheus's conventions."""

_REASONS: Mapping[str, tuple[str, str]] = {
    "refused.": ("refused_sessions", "Sessions refused, by reason."),
    "dropped.": ("ignored_datagrams", "Datagrams of unknown peers ignored, by reason."),
    "demux.mismatch.": ("mismatches", "Datagrams that show different settings, by setting."),
}
"""Counters of a port whose names end with a reason."""

_SESSION_GAUGES: Mapping[str, tuple[str, str]] = {
    "round_trip": ("session_round_trip_seconds", "Smoothed round trip."),
    "retransmission_timeout": (
        "session_retransmission_timeout_seconds",
        "Retransmission timeout.",
    ),
    "congestion_window": ("session_congestion_window_bytes", "Congestion window."),
    "bytes_in_flight": ("session_in_flight_bytes", "Bytes sent and not acknowledged."),
    "bytes_unsent": ("session_unsent_bytes", "Bytes waiting to be sent."),
}

_SESSION_COUNTERS: Mapping[str, tuple[str, str]] = {
    "retransmitted": ("session_retransmissions", "Retransmissions."),
    "RetransSegs": ("session_retransmissions", "Retransmissions."),
    "lost": ("session_lost", "Datagrams or segments lost."),
    "LostSegs": ("session_lost", "Datagrams or segments lost."),
    "datagrams_in": ("session_received_datagrams", "Datagrams received."),
    "InPkts": ("session_received_datagrams", "Datagrams received."),
    "datagrams_out": ("session_sent_datagrams", "Datagrams sent."),
    "OutPkts": ("session_sent_datagrams", "Datagrams sent."),
    "bytes_in": ("session_received_bytes", "Bytes received."),
    "InBytes": ("session_received_bytes", "Bytes received."),
    "bytes_out": ("session_sent_bytes", "Bytes sent."),
    "OutBytes": ("session_sent_bytes", "Bytes sent."),
}


class RudpCollector(Collector):
    """
    Collects the ports and sessions of this process: C{registry.register(RudpCollector())}.

    Each scrape adds the present round trip of each session to the histogram of its
    transport, and the duration of its handshake once.
    """

    def __init__(
        self,
        perSession: bool = False,
        snapshot: Callable[[], stats.ProcessStats] | None = None,
    ) -> None:
        """
        @param snapshot: what to export; None: this process.
        @param perSession: also metrics of each session, labelled with its peer. They are as
            many as there are sessions.
        """
        self._perSession = perSession
        self._snapshot = snapshot or stats.ports.snapshot
        self._own = CollectorRegistry()
        self._roundTrips = Histogram(
            "rudp_round_trip_seconds",
            "Smoothed round trips of open sessions, one sample for each at each scrape.",
            ["transport"],
            buckets=ROUND_TRIP_BUCKETS,
            registry=self._own,
        )
        self._handshakes = Histogram(
            "rudp_handshake_seconds",
            "Durations of handshakes.",
            ["transport"],
            buckets=HANDSHAKE_BUCKETS,
            registry=self._own,
        )
        self._seen: set[tuple[str, int, tuple[Any, ...]]] = set()

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register it must not count as a scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics now."""
        process = self._snapshot()
        yield InfoMetricFamily(
            "rudp_build",
            "Version and kernels of twisted_rudp.",
            {"version": __version__, "kernels": process.kernels},
        )
        yield from self._ofPorts(process.ports)
        yield self._ofSessions(process.ports)
        yield self._ofStreams(process.ports)
        yield from _ofServices(process.services)
        self._observe(process.ports)
        yield from self._own.collect()
        if self._perSession:
            yield from _eachSession(process.ports)

    @staticmethod
    def _ofPorts(ports: Iterable[stats.PortStats]) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily] = {
            name: CounterMetricFamily(f"rudp_port_{name}", help, labels=["port"])
            for name, help in _PORT_COUNTERS.values()
        }
        for name, help in _REASONS.values():
            families[name] = CounterMetricFamily(
                f"rudp_port_{name}", help, labels=["port", "reason"]
            )
        for port in ports:
            where = _address(port)
            for counter, value in port.counters.items():
                if counter in _PORT_COUNTERS:
                    families[_PORT_COUNTERS[counter][0]].add_metric([where], value)
                for prefix, (name, _) in _REASONS.items():
                    if counter.startswith(prefix):
                        families[name].add_metric([where, counter.removeprefix(prefix)], value)
        yield from families.values()

    @staticmethod
    def _ofSessions(ports: Iterable[stats.PortStats]) -> Metric:
        family = GaugeMetricFamily(
            "rudp_sessions", "Open sessions.", labels=["port", "transport", "state"]
        )
        numbers: dict[tuple[str, str, str], int] = {}
        for port in ports:
            for session in port.sessions:
                key = (_address(port), _transport(session), session.state.lower())
                numbers[key] = numbers.get(key, 0) + 1
        for key, number in numbers.items():
            family.add_metric(list(key), number)
        return family

    @staticmethod
    def _ofStreams(ports: Iterable[stats.PortStats]) -> Metric:
        family = GaugeMetricFamily(
            "rudp_streams", "Open streams of sessions that carry several.",
            labels=["port", "transport"],
        )  # fmt: skip
        numbers: dict[tuple[str, str], int] = {}
        for port in ports:
            for session in port.sessions:
                if "streams" in session.facts:
                    key = (_address(port), _transport(session))
                    numbers[key] = numbers.get(key, 0) + session.facts["streams"]
        for key, number in numbers.items():
            family.add_metric(list(key), number)
        return family

    def _observe(self, ports: Iterable[stats.PortStats]) -> None:
        present = set()
        for port in ports:
            for session in port.sessions:
                key = (_address(port), session.number, session.peer)
                transport = _transport(session)
                roundTrip = session.facts.get("round_trip")
                if roundTrip is not None:
                    self._roundTrips.labels(transport).observe(roundTrip)
                if session.handshake is not None:
                    present.add(key)
                    if key not in self._seen:
                        self._handshakes.labels(transport).observe(session.handshake)
        self._seen = present


def _ofServices(services: Iterable[stats.ServiceStats]) -> Iterator[Metric]:
    """Counters and facts of services, under their own names."""
    counters = CounterMetricFamily(
        "rudp_service_events", "What services have counted.", labels=["service", "event"]
    )
    gauges = GaugeMetricFamily(
        "rudp_service_associations", "Open associations of UDP forwarding.", labels=["service"]
    )
    for service in services:
        for name, value in service.counters.items():
            counters.add_metric([service.description, name], value)
        if "associations" in service.facts:
            gauges.add_metric([service.description], service.facts["associations"])
    yield counters
    yield gauges


def _eachSession(ports: Iterable[stats.PortStats]) -> Iterator[Metric]:
    labels = ["port", "peer", "transport"]
    families: dict[str, Any] = {}
    for name, help in _SESSION_GAUGES.values():
        families[name] = GaugeMetricFamily(f"rudp_{name}", help, labels=labels)
    for name, help in _SESSION_COUNTERS.values():
        families[name] = CounterMetricFamily(f"rudp_{name}", help, labels=labels)
    for port in ports:
        for session in port.sessions:
            where = [_address(port), peerText(session.peer), _transport(session)]
            for known, values in (
                (_SESSION_GAUGES, session.facts),
                (_SESSION_COUNTERS, session.counters),
            ):
                for each, (name, _) in known.items():
                    if values.get(each) is not None:
                        families[name].add_metric(where, values[each])
    yield from families.values()


def _address(port: stats.PortStats) -> str:
    return "none" if port.host is None else addressText(port.host)


def _transport(session: stats.SessionStats) -> str:
    transport: str = session.facts.get("transport", "unknown")
    return transport


class _Page(Resource):
    """The metrics as text. The resource of prometheus_client would import the reactor."""

    isLeaf = True

    def __init__(self, perSession: bool, workers: GatheredControl | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._workers = workers
        self._gathered = stats.ProcessStats("", ())
        snapshot = None if workers is None else lambda: self._gathered
        self._registry = CollectorRegistry()
        self._registry.register(RudpCollector(perSession, snapshot))

    def render_GET(self, request: Any) -> bytes | int:
        """Scrape."""
        request.setHeader(b"Content-Type", CONTENT_TYPE_LATEST.encode())
        if self._workers is None:
            return generate_latest(self._registry)
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(state: dict[str, Any]) -> None:
            self._gathered = processStats(state)
            page = generate_latest(self._registry)
            if not gone:
                request.write(page)
                request.finish()

        self._workers.status().addCallback(answer)
        return NOT_DONE_YET


def metricsSite(perSession: bool = False, workers: GatheredControl | None = None) -> Site:
    """
    A web site with the metrics at C{/metrics}.

    @param workers: those whose metrics these are; None: this process.
    """
    root: Any = Resource()  # type: ignore[no-untyped-call]
    root.putChild(b"metrics", _Page(perSession, workers))
    return Site(root)  # type: ignore[no-untyped-call]
