"""A socket that changes its owner while sessions are open on it, with every transport."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.net.handover import OPENINGS
from twisted_rudp.net.listen import ListeningPredecessor
from twisted_rudp.testing import Impairments, MemoryNetwork

SIZE = 30_000

Server = Callable[[Any], Any]
Client = Callable[[Any, str], Any]

TRANSPORTS: dict[str, tuple[Server, Client]] = {
    "kcp": (
        lambda reactor: KCPServerEndpoint(reactor, 4000, password="one"),
        lambda reactor, host: KCPClientEndpoint(reactor, host, 4000, password="one"),
    ),
    "kcp with FEC": (
        lambda reactor: KCPServerEndpoint(reactor, 4000, dataShards=4, parityShards=2),
        lambda reactor, host: KCPClientEndpoint(reactor, host, 4000, dataShards=4, parityShards=2),
    ),
    "qotp": (
        lambda reactor: QOTPServerEndpoint(reactor, 4000, seed="server"),
        lambda reactor, host: QOTPClientEndpoint(reactor, host, 4000),
    ),
    "raknet": (
        lambda reactor: RakNetServerEndpoint(reactor, 4000),
        lambda reactor, host: RakNetClientEndpoint(reactor, host, 4000),
    ),
}


class Echo(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost.append(reason)  # type: ignore[union-attr]


class Client_(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason


def factoryOf(kind: type[Protocol]) -> Any:
    factory = Factory.forProtocol(kind)
    factory.noisy = False
    factory.lost = []  # type: ignore[attr-defined]
    return factory


class HandoverCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=3)
        self.server = self.network.host("server")
        self.client = self.network.host("client")
        self.network.impair(Impairments(delay=0.02, loss=0.05), self.client, self.server)
        self.random = Random(4)

    def use(self, name: str) -> None:
        self.makeServer, self.makeClient = TRANSPORTS[name]

    def listen(self, after: Any = None, endpoint: Any = None) -> tuple[Any, Any]:
        """
        @return: the port, and its factory.
        """
        factory = factoryOf(Echo)
        endpoint = endpoint or self.makeServer(self.server.reactor)
        if after is None:
            return self.successResultOf(endpoint.listen(factory)), factory
        predecessor = ListeningPredecessor(after)
        return self.successResultOf(endpoint.listenAfter(predecessor, factory)), factory

    def dial(self) -> Any:
        endpoint = self.makeClient(self.client.reactor, self.server.address)
        return endpoint.connect(factoryOf(Client_))

    def connected(self) -> Any:
        dialling = self.dial()
        self.network.run(dialling)
        return self.successResultOf(dialling)

    def begin(self, protocol: Any) -> bytes:
        """Send something that is not answered before the caller goes on."""
        data = self.random.randbytes(SIZE)
        protocol.transport.write(data)
        return data

    def finish(self, protocol: Any, data: bytes) -> None:
        """All of it comes back."""
        self.network.run(lambda: len(protocol.received) >= len(data) or protocol.reason)
        self.assertEqual(sha256(protocol.received).digest(), sha256(data).digest())
        protocol.received.clear()


class HandoverTests(HandoverCase):
    """Sessions of both owners are served, and nothing is lost between them."""

    def check(self, name: str) -> None:
        self.use(name)
        first, firstFactory = self.listen()
        old = self.connected()
        sent = self.begin(old)
        self.network.runFor(0.03)
        second, secondFactory = self.listen(after=first)
        new = self.connected()
        alsoSent = self.begin(new)
        self.finish(old, sent)
        self.finish(new, alsoSent)
        self.network.runFor(OPENINGS + 1)
        self.finish(old, self.begin(old))
        old.transport.loseConnection()
        self.network.run(lambda: firstFactory.lost and old.reason)
        gone: list[object] = []
        # Stopping it tells when it is done, and does no harm by then.
        self.network.runFor(120)
        first.stopListening().addCallback(gone.append)
        self.assertEqual(gone, [None])
        self.finish(new, self.begin(new))
        third = self.connected()
        self.finish(third, self.begin(third))
        self.assertEqual(secondFactory.lost, [])
        self.assertEqual(first.getHost(), second.getHost())
        self.network.run(second.stopListening())

    def test_kcp(self) -> None:
        """KCP."""
        self.check("kcp")

    def test_fec(self) -> None:
        """KCP with FEC, whose parity names no session."""
        self.check("kcp with FEC")

    def test_qotp(self) -> None:
        """QOTP."""
        self.check("qotp")

    def test_raknet(self) -> None:
        """RakNet."""
        self.check("raknet")


class OpeningTests(HandoverCase):
    """Whoever is in the middle of its handshake becomes a session of one of the two."""

    def check(self, name: str) -> None:
        self.use(name)
        self.network.impair(Impairments(delay=0.02), self.client, self.server)
        port, factory = self.listen()
        factories = [factory]
        dialling = []
        for _ in range(12):
            # A handshake takes two round trips or so: some are in each of its steps.
            dialling.append(self.dial())
            self.network.runFor(0.011)
            if len(dialling) == 6:
                began = self.network.clock.seconds()
                _, factory = self.listen(after=port)
                factories.append(factory)
        self.network.run(lambda: all(each.called for each in dialling))
        # Nobody had to begin anew after a time-out.
        self.assertLess(self.network.clock.seconds() - began, 0.3)
        for each in dialling:
            protocol = self.successResultOf(each)
            self.finish(protocol, self.begin(protocol))
        self.assertEqual([each.lost for each in factories], [[], []])

    def test_kcp(self) -> None:
        """KCP, whose cookies are the first owner's."""
        self.check("kcp")

    def test_qotp(self) -> None:
        """QOTP, whose half-open connections are the first owner's."""
        self.check("qotp")

    def test_raknet(self) -> None:
        """RakNet, whose cookies are the first owner's."""
        self.check("raknet")


class MovingTests(HandoverCase):
    """A peer of the first owner has another address after the handover."""

    def check(self, name: str) -> None:
        self.use(name)
        first, factory = self.listen()
        old = self.connected()
        self.finish(old, self.begin(old))
        _, other = self.listen(after=first)
        self.network.runFor(1)
        host = self.client.address
        self.client.rebind((host, old.transport.getHost().port), (host, 9999))
        self.finish(old, self.begin(old))
        self.assertEqual((factory.lost, other.lost), ([], []))

    def test_kcp(self) -> None:
        """KCP asks who is there."""
        self.check("kcp")

    def test_qotp(self) -> None:
        """QOTP finds the connection by its id."""
        self.check("qotp")


class GenerationTests(HandoverCase):
    """A socket is handed over again, and owners end in any order."""

    def setUp(self) -> None:
        super().setUp()
        self.use("qotp")
        self.ports: list[Any] = []
        self.factories: list[Any] = []
        self.peers: list[Any] = []
        for _ in range(3):
            port, factory = self.listen(after=self.ports[-1] if self.ports else None)
            self.ports.append(port)
            self.factories.append(factory)
            self.peers.append(self.connected())
        self.network.runFor(OPENINGS + 1)

    def leave(self, number: int) -> None:
        """The peer of one owner ends its session."""
        self.peers[number].transport.loseConnection()
        self.network.run(lambda: self.factories[number].lost)
        self.network.runFor(120)
        self.peers[number] = None
        self.ports[number] = None

    def served(self) -> None:
        """The sessions of all owners that are left go on, and new ones come."""
        for peer in self.peers:
            if peer is not None:
                self.finish(peer, self.begin(peer))
        newest = self.connected()
        self.finish(newest, self.begin(newest))

    def test_inOrder(self) -> None:
        """The oldest ends first."""
        self.served()
        self.leave(0)
        self.served()
        self.leave(1)
        self.served()

    def test_middleFirst(self) -> None:
        """The one in the middle ends, and goes on passing on."""
        self.leave(1)
        self.served()
        self.leave(0)
        self.served()

    def test_newestStops(self) -> None:
        """The newest is stopped: the sessions of the others go on."""
        self.network.run(self.ports[2].stopListening())
        self.peers[2] = None
        for peer in self.peers[:2]:
            self.finish(peer, self.begin(peer))
        for port in self.ports[:2]:
            self.network.run(port.stopListening())
        self.listen()

    def test_bound(self) -> None:
        """Stopping an owner that was handed over ends its sessions, and no others."""
        self.network.run(self.ports[0].stopListening())
        self.assertEqual([len(each.lost) for each in self.factories], [1, 0, 0])
        self.peers[0] = None
        self.served()


class EdgeTests(HandoverCase):
    def test_notListening(self) -> None:
        """A port that was stopped, or handed over, has no socket to give."""
        self.use("kcp")
        first, _ = self.listen()
        second, _ = self.listen(after=first)
        endpoint = self.makeServer(self.server.reactor)
        again = endpoint.listenAfter(ListeningPredecessor(first), factoryOf(Echo))
        self.failureResultOf(again, CannotListenError)
        self.network.run(first.stopListening())
        self.network.run(second.stopListening())

    def test_retired(self) -> None:
        """
        A port that is to close when its sessions have ended lets nobody in; its socket can
        still be handed over.
        """
        self.use("qotp")
        first, factory = self.listen()
        old = self.connected()
        self.finish(old, self.begin(old))
        first.retire()
        dialling = self.dial()
        self.network.runFor(OPENINGS)
        self.assertNoResult(dialling)
        self.listen(after=first)
        first.takeBack()
        self.network.runFor(OPENINGS)
        self.assertNoResult(dialling)
        self.listen(after=first)
        self.network.run(dialling)
        self.finish(old, self.begin(old))
        self.assertEqual(factory.lost, [])

    def test_retiredEmpty(self) -> None:
        """Without sessions it closes after a moment."""
        self.use("kcp")
        first, _ = self.listen()
        self.network.run(first.retire())
        self.listen()

    def test_takenBack(self) -> None:
        """A successor that does not come after all leaves everything as it was."""
        self.use("kcp")
        first, factory = self.listen()
        old = self.connected()
        self.listen(after=first)
        first.takeBack()
        new = self.connected()
        self.finish(old, self.begin(old))
        self.finish(new, self.begin(new))
        self.network.runFor(OPENINGS + 1)
        self.connected()
        self.assertEqual(factory.lost, [])
