"""
One flow over time, on the simulated network, as a picture of the manual::

    python -m tests.benchmarks.flow docs/benchmarks-flow.svg

It is the same on every machine. Needs matplotlib.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.benchmarks.jobs import Flooding
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing.impairments import Impairments
from twisted_rudp.testing.network import MemoryNetwork

RATE, ROUND_TRIP, LOSS = 2_500_000.0, 0.1, 0.01
"""Bytes a second, seconds, and share of the datagrams. The queue holds one product of these."""

SECONDS, STEP = 12.0, 0.05

MEAN = 10
"""Steps over which the goodput is averaged: what waits behind a lost datagram comes at once."""

RIVAL = (5.0, 9.0)
"""When a second flow of the same transport comes and goes."""

Point = Mapping[str, float]


class _Sink(Protocol):
    """Counts what arrives."""

    def __init__(self) -> None:
        self.received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)


class _Source(Protocol):
    """Sends as much as it may."""

    def connectionMade(self) -> None:
        Flooding(self.transport, bytes(65536)).start()


class Ends(NamedTuple):
    """Who makes both ends of a connection."""

    name: str
    server: Any
    client: Any


TRANSPORTS = (
    Ends("KCP", KCPServerEndpoint, KCPClientEndpoint),
    Ends("RakNet", RakNetServerEndpoint, RakNetClientEndpoint),
    Ends("QOTP", QOTPServerEndpoint, QOTPClientEndpoint),
)


def window(facts: Mapping[str, Any]) -> float:
    """The congestion window in bytes; KCP's is in segments."""
    if "congestion_window" in facts:
        return float(facts["congestion_window"])
    return float(facts["send_window"] * facts["mss"])


def flow(ends: Ends) -> Sequence[Point]:
    """
    A flow that meets another one for a while.

    @return: for each L{STEP} what both had arrive, in MB/s, and what the sender of the first
        says: window and bytes in flight in KB, round trip in ms.
    """
    network = MemoryNetwork(seed=1)
    near, far = network.host("near"), network.host("far")
    for seed, (start, end) in enumerate(((near, far), (far, near)), 1):
        queue = int(RATE * ROUND_TRIP)
        link = Impairments(seed=seed, rate=RATE, delay=ROUND_TRIP / 2, queue=queue, loss=LOSS)
        network.setLink(start, end, link)
    sinks, sources = (_Sink(), _Sink()), (_Source(), _Source())
    for number, (sink, source) in enumerate(zip(sinks, sources, strict=True)):
        server: IStreamServerEndpoint = ends.server(far.reactor, 4000 + number)
        client: IStreamClientEndpoint = ends.client(near.reactor, far.address, 4000 + number)
        server.listen(Factory.forProtocol(lambda sink=sink: sink))
        near.reactor.callLater(
            RIVAL[0] * number,
            lambda client=client, source=source: client.connect(
                Factory.forProtocol(lambda: source)
            ),
        )
    near.reactor.callLater(RIVAL[1], lambda: sources[1].transport.abortConnection())
    points: list[Point] = []
    before = [0, 0]
    for _ in range(int(SECONDS / STEP)):
        network.runFor(STEP)
        rates = [
            (sink.received - old) / STEP / 1e6 for sink, old in zip(sinks, before, strict=True)
        ]
        before = [sink.received for sink in sinks]
        facts: Mapping[str, Any] = {}
        if sources[0].transport is not None:
            facts = sources[0].transport.facts()
        points.append(
            {
                "first": rates[0],
                "second": rates[1],
                "window": window(facts) / 1e3 if facts else 0.0,
                "flight": facts.get("bytes_in_flight", 0) / 1e3,
                "trip": facts.get("round_trip", 0.0) * 1e3,
            }
        )
    return points


PANELS = (
    ("goodput, MB/s", {"first": "a flow", "second": "another, from 5 to 9 s"}),
    ("KB", {"window": "window", "flight": "in flight"}),
    ("round trip, ms", {"trip": "smoothed"}),
)


def draw(flows: Mapping[str, Sequence[Point]], target: Path) -> None:
    """A column for each transport."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    figure, grid = pyplot.subplots(
        len(PANELS), len(flows), figsize=(9, 6), sharex=True, sharey="row", layout="constrained"
    )
    for column, (name, points) in enumerate(flows.items()):
        times = [STEP * number for number in range(1, len(points) + 1)]
        grid[0, column].set_title(name, fontsize=9, loc="left")
        for row, (title, lines) in enumerate(PANELS):
            ax = grid[row, column]
            for key, label in lines.items():
                values = [point[key] for point in points]
                if not row:
                    values = [
                        sum(values[max(at - MEAN, 0) : at]) / MEAN
                        for at in range(1, len(values) + 1)
                    ]
                ax.plot(times, values, linewidth=0.9, label=label)
            if not column:
                ax.set_ylabel(title, fontsize=8)
                ax.legend(fontsize=7, frameon=False)
            ax.set_ylim(bottom=0)
            ax.tick_params(labelsize=7)
            ax.spines[["top", "right"]].set_visible(False)
        grid[-1, column].set_xlabel("seconds", fontsize=8)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    draw({ends.name: flow(ends) for ends in TRANSPORTS}, Path(sys.argv[1]))
