"""The same program on the simulated network gives the same trace."""

from __future__ import annotations

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing import Impairments, MemoryNetwork


class Greeting(Protocol):
    """Says something at once."""

    def connectionMade(self) -> None:
        self.transport.write(bytes(range(256)) * 20)


class TraceTests(SynchronousTestCase):
    """To the byte, without any argument for that."""

    def trace(self, transport: str, seed: int) -> list[tuple[float, bytes]]:
        network = MemoryNetwork(seed=seed)
        server, client = network.host("server"), network.host("client")
        network.impair(Impairments(delay=0.02, loss=0.05))
        cipher = ":crypt=aes:password=secret" if transport == "kcp" else ""
        listening = serverFromString(server.reactor, f"{transport}:4000{cipher}")
        listening.listen(Factory.forProtocol(Greeting))
        text = f"{transport}:host=server:port=4000{cipher}"
        network.run(
            clientFromString(client.reactor, text).connect(Factory.forProtocol(Greeting)), 30
        )
        network.runFor(2)
        return [(each.time, each.data) for each in network.trace]

    def test_same(self) -> None:
        """One seed, one trace; another seed, another."""
        for transport in ("kcp", "raknet", "qotp"):
            trace = self.trace(transport, 1)
            self.assertGreater(len(trace), 10)
            self.assertEqual(trace, self.trace(transport, 1))
            self.assertNotEqual(trace, self.trace(transport, 2))
