"""A process that ends tells its peers, over links that lose a tenth of everything too."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing import Impairments, MemoryHost, MemoryNetwork

HOSTS = 4
PEERS = 100
PORT = 4000


class Told(Protocol):
    """Remembers when it was told of the end."""

    def connectionMade(self) -> None:
        self.factory.made.append(self)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure | None = None) -> None:
        network: MemoryNetwork = self.factory.network  # type: ignore[union-attr]
        self.factory.times.append(network.clock.seconds())  # type: ignore[union-attr]


class ShutdownTests(SynchronousTestCase):
    """A hundred connections to one server."""

    def connect(self, transport: str) -> tuple[MemoryHost, list[MemoryHost]]:
        """The server's machine, and those of the peers."""
        self.network = network = MemoryNetwork(seed=11)
        link = Impairments(delay=0.02, loss=0.1)
        server = network.host("server")
        peers = [network.host(f"peer {number}") for number in range(HOSTS)]
        self.ours: Any = Factory.forProtocol(Told)
        self.theirs: Any = Factory.forProtocol(Told)
        for factory in (self.ours, self.theirs):
            factory.noisy = False
            factory.made, factory.times, factory.network = [], [], network
        self.successResultOf(
            serverFromString(server.reactor, f"{transport}:{PORT}").listen(self.ours)
        )
        for peer in peers:
            network.impair(link, server, peer)
            description = f"{transport}:{server.addresses[0]}:{PORT}:timeout=60"
            endpoint = clientFromString(peer.reactor, description)
            for _ in range(PEERS // HOSTS):
                endpoint.connect(self.theirs)
        network.run(lambda: len(self.ours.made) == len(self.theirs.made) == PEERS)
        network.runFor(2)
        self.began = network.clock.seconds()
        return server, peers

    def told(self, factory: Any, reactors: list[Any]) -> None:
        """
        All of them hear of it, nearly all within a second; nobody stays for long to tell them.
        """
        for reactor in reactors:
            reactor.stop()
        self.network.run(lambda: len(factory.times) == PEERS)
        times = sorted(each - self.began for each in factory.times)
        self.assertLess(times[PEERS * 95 // 100], 1)
        self.assertLess(times[-1], 2.5)
        self.network.run(lambda: not any(reactor.running for reactor in reactors))
        self.assertLess(self.network.clock.seconds() - self.began, 2.5)

    def server(self, transport: str) -> None:
        server, _ = self.connect(transport)
        self.told(self.theirs, [server.reactor])

    def clients(self, transport: str) -> None:
        _, peers = self.connect(transport)
        self.told(self.ours, [peer.reactor for peer in peers])

    def test_serverKCP(self) -> None:
        """KCP: the server's process ends."""
        self.server("kcp")

    def test_serverRakNet(self) -> None:
        """RakNet: the server's process ends."""
        self.server("raknet")

    def test_serverQOTP(self) -> None:
        """QOTP: the server's process ends."""
        self.server("qotp")

    def test_clientsKCP(self) -> None:
        """KCP: the processes of clients end."""
        self.clients("kcp")

    def test_clientsRakNet(self) -> None:
        """RakNet: the processes of clients end."""
        self.clients("raknet")

    def test_clientsQOTP(self) -> None:
        """QOTP: the processes of clients end."""
        self.clients("qotp")
