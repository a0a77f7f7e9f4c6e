"""
Metrics for Prometheus: a collector for programs that export metrics already, and the page
that C{twist rudp ... --metrics ENDPOINT} serves.

Needs the package prometheus-client: C{pip install 'twisted_rudp[metrics]'}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Histogram,
    generate_latest,
)
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
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
        for each in self._all():
            yield each.metric() if isinstance(each, _Family) else each

    def text(self) -> bytes:
        """
        All metrics now, as C{generate_latest} prints them. Where there are many sessions, most of
        its time goes to the labels, which are the same for all metrics of one.
        """
        return b"".join(
            each.text().encode() if isinstance(each, _Family) else generate_latest(_Alone(each))
            for each in self._all()
        )

    def _all(self) -> Iterator[_Family | Metric]:
        process = self._snapshot()
        yield InfoMetricFamily(
            "rudp_build",
            "Version and kernels of twisted_rudp.",
            {"version": __version__, "kernels": process.kernels},
        )
        yield from _ofPorts(process.ports)
        yield _ofSessions(process.ports)
        yield _ofStreams(process.ports)
        yield from _ofServices(process.services)
        self._observe(process.ports)
        yield from self._own.collect()
        if self._perSession:
            yield from _eachSession(process.ports)

    def _observe(self, ports: Iterable[stats.PortStats]) -> None:
        seen, present = self._seen, set()
        roundTrips: dict[str, Histogram] = {}
        for port in ports:
            where = _address(port)
            for session in port.sessions:
                transport = _transport(session)
                roundTrip = session.facts.get("round_trip")
                if roundTrip is not None:
                    if transport not in roundTrips:
                        roundTrips[transport] = self._roundTrips.labels(transport)
                    roundTrips[transport].observe(roundTrip)
                if session.handshake is not None:
                    key = (where, session.number, session.peer)
                    present.add(key)
                    if key not in seen:
                        self._handshakes.labels(transport).observe(session.handshake)
        self._seen = present


class _Labels:
    """
    Values of labels, for all samples that have them.

    @ivar text: as they are printed, in the order of their names.
    """

    __slots__ = ("text", "values")

    def __init__(self, **values: str) -> None:
        self.values = values
        shown = [f'{name}="{_escaped(values[name])}"' for name in sorted(values)]
        self.text = f"{{{','.join(shown)}}}"


class _Family:
    """A counter or gauge with its samples, for a registry or as text."""

    __slots__ = ("_help", "_kind", "_name", "add", "samples")

    def __init__(self, kind: str, name: str, help: str) -> None:
        self._kind = kind
        self._name = name
        self._help = help
        self.samples: list[tuple[_Labels, float]] = []
        self.add: Callable[[tuple[_Labels, float]], None] = self.samples.append

    @property
    def _full(self) -> str:
        return f"{self._name}_total" if self._kind == "counter" else self._name

    def metric(self) -> Metric:
        """For a registry."""
        metric = Metric(self._name, self._help, self._kind)
        for labels, value in self.samples:
            metric.add_sample(self._full, labels.values, value)
        return metric

    def text(self) -> str:
        """As C{generate_latest} prints it."""
        name = self._full
        # Numbers that Go prints otherwise than Python are left to prometheus_client.
        lines = [
            f"{name}{labels.text} {float(value) if 0 <= value < 1_000_000 else _long(value)}\n"
            for labels, value in self.samples
        ]
        return f"# HELP {name} {self._help}\n# TYPE {name} {self._kind}\n{''.join(lines)}"


class _Alone(Collector):
    """One metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _long(value: float) -> str:
    shown: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return shown


@cache
def _portFamily(counter: str) -> tuple[str, str | None] | None:
    """The family of a counter of a port, and the reason in its name."""
    if counter in _PORT_COUNTERS:
        return _PORT_COUNTERS[counter][0], None
    for prefix, (name, _) in _REASONS.items():
        if counter.startswith(prefix):
            return name, counter.removeprefix(prefix)
    return None


def _ofPorts(ports: Iterable[stats.PortStats]) -> Iterable[_Family]:
    families = {
        name: _Family("counter", f"rudp_port_{name}", help)
        for name, help in (*_PORT_COUNTERS.values(), *_REASONS.values())
    }
    for port in ports:
        where = _address(port)
        labels = _Labels(port=where)
        for counter, value in port.counters.items():
            found = _portFamily(counter)
            if found is not None:
                name, reason = found
                whole = labels if reason is None else _Labels(port=where, reason=reason)
                families[name].add((whole, value))
    return families.values()


def _ofSessions(ports: Iterable[stats.PortStats]) -> _Family:
    family = _Family("gauge", "rudp_sessions", "Open sessions.")
    numbers: dict[tuple[str, str, str], int] = {}
    for port in ports:
        where = _address(port)
        for session in port.sessions:
            key = (where, _transport(session), session.state)
            numbers[key] = numbers.get(key, 0) + 1
    for (where, transport, state), number in numbers.items():
        labels = _Labels(port=where, transport=transport, state=state.lower())
        family.add((labels, number))
    return family


def _ofStreams(ports: Iterable[stats.PortStats]) -> _Family:
    family = _Family("gauge", "rudp_streams", "Open streams of sessions that carry several.")
    numbers: dict[tuple[str, str], int] = {}
    for port in ports:
        where = _address(port)
        for session in port.sessions:
            if "streams" in session.facts:
                key = (where, _transport(session))
                numbers[key] = numbers.get(key, 0) + session.facts["streams"]
    for (where, transport), number in numbers.items():
        family.add((_Labels(port=where, transport=transport), number))
    return family


def _ofServices(services: Iterable[stats.ServiceStats]) -> Iterable[_Family]:
    """Counters and facts of services, under their own names."""
    counters = _Family("counter", "rudp_service_events", "What services have counted.")
    gauges = _Family(
        "gauge", "rudp_service_associations", "Open associations of UDP forwarding."
    )
    for service in services:
        for name, value in service.counters.items():
            counters.add((_Labels(service=service.description, event=name), value))
        if "associations" in service.facts:
            labels = _Labels(service=service.description)
            gauges.add((labels, service.facts["associations"]))
    return counters, gauges


def _eachSession(ports: Iterable[stats.PortStats]) -> Iterable[_Family]:
    families = {
        name: _Family(kind, f"rudp_{name}", help)
        for kind, known in (("gauge", _SESSION_GAUGES), ("counter", _SESSION_COUNTERS))
        for name, help in known.values()
    }
    gauges, counters = (
        [(each, families[name].add) for each, (name, _) in known.items()]
        for known in (_SESSION_GAUGES, _SESSION_COUNTERS)
    )
    for port in ports:
        where = _address(port)
        for session in port.sessions:
            labels = _Labels(
                port=where, peer=peerText(session.peer), transport=_transport(session)
            )
            for wanted, values in ((gauges, session.facts), (counters, session.counters)):
                for each, add in wanted:
                    value = values.get(each)
                    if value is not None:
                        add((labels, value))
    return families.values()


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
        self._collector = RudpCollector(perSession, snapshot)

    def render_GET(self, request: Any) -> bytes | int:
        """Scrape."""
        request.setHeader(b"Content-Type", CONTENT_TYPE_LATEST.encode())
        if self._workers is None:
            return self._collector.text()
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(state: dict[str, Any]) -> None:
            self._gathered = processStats(state)
            page = self._collector.text()
            if not gone:
                request.write(page)
                request.finish()

        self._workers.status().addCallback(answer)
        return NOT_DONE_YET


class _QuietSite(Site):
    """Without a line in the log for each request: whoever can connect could fill the disk."""

    noisy = False

    def log(self, request: object) -> None:
        """Requests are not logged."""


def metricsSite(perSession: bool = False, workers: GatheredControl | None = None) -> Site:
    """
    A web site with the metrics at C{/metrics}.

    @param workers: those whose metrics these are; None: this process.
    """
    root: Any = Resource()  # type: ignore[no-untyped-call]
    root.putChild(b"metrics", _Page(perSession, workers))
    return _QuietSite(root)  # type: ignore[no-untyped-call]
