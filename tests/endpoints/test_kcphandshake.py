"""A KCP connection is made whatever is lost of its first datagrams."""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.testing import MemoryNetwork
from twisted_rudp.testing.impairments import Impairments

FIRST = 5
"""Datagrams each way whose loss is tried."""


class Greeting(Protocol):
    """A client that speaks first."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


class Hearing(Factory):
    """Servers that keep what they hear."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def buildProtocol(self, address: object) -> Protocol:
        protocol = Protocol()
        protocol.dataReceived = self.heard.append  # type: ignore[method-assign]
        return protocol


def lost(bits: int) -> Impairments:
    """A link that loses those of the first datagrams whose bits are set."""
    indices = {index for index in range(FIRST) if bits >> index & 1}
    return Impairments(delay=0.02, drop_indices=indices)


class LossPatternTests(SynchronousTestCase):
    """All 1024 patterns of the first five datagrams each way."""

    def test_clientSpeaks(self) -> None:
        """The server's factory is asked, and hears what the client said at once."""
        for bits in range(1 << 2 * FIRST):
            network = MemoryNetwork(seed=1)
            server, client = network.host("server"), network.host("client")
            factory = Hearing()
            self.successResultOf(KCPServerEndpoint(server.reactor, 4000).listen(factory))
            network.setLink(client, server, lost(bits & (1 << FIRST) - 1))
            network.setLink(server, client, lost(bits >> FIRST))
            endpoint = KCPClientEndpoint(client.reactor, server.address, 4000, timeout=60)
            connected = endpoint.connect(Factory.forProtocol(Greeting))
            for _ in range(60):
                network.runFor(0.5)
                if factory.heard:
                    break
            self.successResultOf(connected)
            self.assertEqual(factory.heard, [b"hello"], f"{bits:010b}")
