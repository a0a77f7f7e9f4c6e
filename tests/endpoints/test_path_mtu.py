"""A path that takes shorter datagrams than before, without a word; and longer ones again (F4)."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing import Impairments, MemoryNetwork

ENDPOINTS: dict[str, tuple[Any, Any]] = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint),
}
AMOUNT = 300_000
NARROW = 1200


class Collector(Protocol):
    """Keeps what comes, in either mode."""

    def __init__(self) -> None:
        self.got = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def messageReceived(self, message: Any) -> None:
        self.got += message.data


class PathMTUTests(SynchronousTestCase):
    """Each transport over a path that changes."""

    def connect(self, transport: str, **options: Any) -> tuple[MemoryNetwork, Any, Any]:
        """A network and the two ends of a connection."""
        self.network = network = MemoryNetwork(seed=1)
        self.ends = network.host("client"), network.host("server")
        network.impair(Impairments(delay=0.02), *self.ends)
        made: list[Collector] = []
        factory = Factory.forProtocol(Collector)
        factory.buildProtocol = lambda address: made.append(Collector()) or made[-1]  # type: ignore
        server, client = ENDPOINTS[transport]
        server(self.ends[1].reactor, 4000, **options).listen(factory)
        connecting = client(self.ends[0].reactor, "server", 4000, **options).connect(
            Factory.forProtocol(Collector)
        )
        network.run(lambda: connecting.called and made)
        network.runFor(1)
        return network, self.successResultOf(connecting), made[0]

    def narrow(self, transport: str, **options: Any) -> Any:
        """The path gets narrow, and all that was written arrives; answers the client's end."""
        network, client, server = self.connect(transport, **options)
        data = bytes(range(250)) * (AMOUNT // 250)
        network.impair(Impairments(delay=0.02, mtu=NARROW), *self.ends)
        if options.get("mode") == "messages":
            for start in range(0, AMOUNT, 5000):
                client.transport.send(data[start : start + 5000])
        else:
            client.transport.write(data)
        network.run(lambda: len(server.got) >= AMOUNT, 30)
        self.assertEqual(bytes(server.got), data)
        return client

    def check(self, transport: str, fact: str) -> None:
        client = self.narrow(transport)
        narrow = client.transport.facts()[fact]
        self.network.impair(Impairments(delay=0.02), *self.ends)
        self.network.runFor(240)
        client.transport.write(b"x")
        self.network.runFor(10)
        self.assertGreater(client.transport.facts()[fact], max(narrow, NARROW))

    def test_kcp(self) -> None:
        """KCP: what has a number goes in pieces; longer datagrams come back."""
        self.check("kcp", "mss")

    def test_raknet(self) -> None:
        """RakNet goes on with shorter datagrams; longer ones come back."""
        self.check("raknet", "mtu")

    def test_qotp(self) -> None:
        """QOTP goes on with shorter datagrams; longer ones come back."""
        self.check("qotp", "mtu")

    def test_kcpMessages(self) -> None:
        """KCP: the same with messages, encryption and FEC."""
        self.narrow(
            "kcp", mode="messages", password="x", crypt="aes", dataShards=5, parityShards=2
        )

    def test_narrower(self) -> None:
        """KCP: a path may get narrow twice."""
        client = self.narrow("kcp")
        self.network.impair(Impairments(delay=0.02, mtu=700), *self.ends)
        client.transport.write(bytes(50_000))
        self.network.runFor(10)
        self.assertEqual(client.transport.facts()["segments_unacknowledged"], 0)
        self.assertLess(client.transport.facts()["mss"], 700)
