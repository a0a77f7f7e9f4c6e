"""The page on counters and facts names what connections and sockets tell, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.wire import Echo
from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing import Impairments, MemoryNetwork

PAGE = (CHECKOUT / "docs" / "statistics.rst").read_text(encoding="utf-8")

ENDPOINTS: Mapping[str, tuple[Any, Any, Mapping[str, Any]]] = {
    "KCP": (KCPServerEndpoint, KCPClientEndpoint, {"dataShards": 3, "parityShards": 1}),
    "RakNet": (RakNetServerEndpoint, RakNetClientEndpoint, {}),
    "QOTP": (QOTPServerEndpoint, QOTPClientEndpoint, {}),
}


def rows(beginning: str) -> Iterator[list[str]]:
    """The cells of the first table behind this text, row by row, but for its header."""
    text = PAGE[PAGE.index(beginning) :]
    table = text[text.index(".. list-table::") :]
    table = re.split(r"\n(?=\S)", table, maxsplit=1)[0]
    for row in table.split("   * - ")[2:]:
        yield [" ".join(cell.split()) for cell in row.split("\n     - ")]


def names(cell: str) -> set[str]:
    """The names in a cell."""
    return set(re.findall(r"``([^`]+)``", cell))


def connected(transport: str) -> tuple[Any, stats.ProcessStats]:
    """A transport that has sent something over a link with losses, and the process then."""
    network = MemoryNetwork(seed=1)
    client, server = network.host("client"), network.host("server")
    network.impair(Impairments(delay=0.02, loss=0.05), client, server)
    serverEndpoint, clientEndpoint, options = ENDPOINTS[transport]
    serverEndpoint(server.reactor, 4000, **options).listen(Factory.forProtocol(Echo))
    endpoint = clientEndpoint(client.reactor, "server", 4000, **options)
    connecting = endpoint.connect(Factory.forProtocol(Protocol))
    network.run(connecting)
    protocol = connecting.result
    protocol.transport.write(bytes(50_000))
    network.runFor(2.0)
    return protocol.transport, stats.ports.snapshot()


class StatisticsPageTests(SynchronousTestCase):
    """C{docs/statistics.rst}."""

    def told(self, transport: str) -> tuple[Any, stats.PortStats]:
        """A transport and the socket of one of its ends."""
        found, process = connected(transport)
        port = next(port for port in process.ports if port.sessions)
        return found, port

    def test_facts(self) -> None:
        """Each fact has its row, with the transports that tell it."""
        page: dict[str, set[str]] = {}
        for name, transports, _ in rows("Facts of a connection"):
            (fact,) = names(name)
            page[fact] = set(ENDPOINTS) if transports == "all" else set(transports.split(", "))
        there: dict[str, set[str]] = {}
        for transport in ENDPOINTS:
            for fact in self.told(transport)[0].facts():
                there.setdefault(fact, set()).add(transport)
        self.assertEqual(page, there)

    def test_counters(self) -> None:
        """Each counter of a connection has its row."""
        for transport in ENDPOINTS:
            begins = "KCP uses the names" if transport == "KCP" else f"\n{transport}"
            page = set().union(*(names(row[0]) for row in rows(begins)))
            self.assertLessEqual(set(self.told(transport)[0].counters()), page, transport)

    def test_sockets(self) -> None:
        """Each counter and fact of a socket has its row."""
        page = set().union(*(names(row[0]) for row in rows("Sessions and unknown peers")))
        page |= {f"port.{n}" for row in rows("The socket itself") for n in names(row[0])}
        facts = set().union(*(names(row[0]) for row in rows("``PortStats.facts``")))
        for transport in ENDPOINTS:
            port = self.told(transport)[1]
            self.assertEqual(set(port.facts), facts)
            there = {name for name in port.counters if not name.startswith("demux.")}
            self.assertLessEqual(there, page)
