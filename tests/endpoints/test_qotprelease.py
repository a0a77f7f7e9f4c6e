"""QOTP endpoints and a model of the release as the other side."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.qotp.releaseconnection import Application, ReleaseConnection
from tests.qotp.releasepair import echo, sink
from tests.qotp.releasepeer import ReleasePeer
from twisted_rudp.core.engine import SECOND, Address
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.qotppeer import QOTPPeer
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.testing import MemoryHost, MemoryNetwork

PORT = 4000
PASS = 0.001


class ReleaseHost(DatagramProtocol):
    """The model on a host of the simulated network, in the place of the link that it expects."""

    def __init__(self, host: MemoryHost, application: Application) -> None:
        self.host = host
        self.random = random.Random(5)
        identity = KeyPair.from_text("the release")
        self.peer = ReleasePeer(self, "", (), identity, application)  # type: ignore[arg-type]
        host.reactor.listenUDP(PORT, self)
        host.reactor.callLater(PASS, self._pass)

    @property
    def now(self) -> int:
        return int(self.host.reactor.seconds() * SECOND) + SECOND

    def carry(self, source: object, datagram: bytes, address: Address) -> None:
        self.transport.write(datagram, address)

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        self.peer.arrive(datagram, addr)

    def _pass(self) -> None:
        self.host.reactor.callLater(PASS, self._pass)
        for connection in list(self.peer.engines.values()):
            connection.tick(self.now)
            self.peer.turn(connection)


class Hearing(Protocol):
    """Keeps what it hears."""

    def __init__(self, answer: bool = False) -> None:
        self.heard = b""
        self.reason: Failure | None = None
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self._answer:
            assert self.transport is not None
            self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class ReleaseCase(SynchronousTestCase):
    """One host is ours, on the other the model runs."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=4, delay=0.01)
        self.ours, self.theirs = self.network.host("ours"), self.network.host("theirs")
        for hosts in ((self.ours, self.theirs), (self.theirs, self.ours)):
            self.network.link(*hosts).loss = 0.02

    def until(self, condition: Any) -> None:
        self.network.run(lambda: condition(), limit=60)


class DiallingTests(ReleaseCase):
    """Our client."""

    def connect(self, application: Application) -> tuple[Hearing, ReleaseConnection]:
        release = ReleaseHost(self.theirs, application)
        endpoint = QOTPClientEndpoint(
            self.ours.reactor,
            "theirs",
            PORT,
            serverKey=release.peer.identity.public,
            entropy=self.network.random.randbytes,
        )
        connecting = endpoint.connect(Factory.forProtocol(Hearing))
        self.network.run(connecting)
        return self.successResultOf(connecting), release.peer.connection

    def test_weLeave(self) -> None:
        """C{loseConnection} delivers what was written and ends with C{ConnectionDone}."""
        protocol, connection = self.connect(sink)
        protocol.transport.write(b"x" * 20_000)
        protocol.transport.loseConnection()
        self.until(lambda: protocol.reason is not None)
        self.assertIsInstance(protocol.reason.value, ConnectionDone)
        self.assertEqual(bytes(connection.delivered[0]), b"x" * 20_000)

    def test_theyLeave(self) -> None:
        """The release's close ends the connection when all it wrote was delivered."""
        protocol, connection = self.connect(echo)
        protocol.transport.write(b"y" * 20_000)
        self.until(lambda: len(protocol.heard) == 20_000)
        connection.write(0, b"and good bye")
        connection.close(0)
        self.until(lambda: protocol.reason is not None)
        self.assertIsInstance(protocol.reason.value, ConnectionDone)
        self.assertTrue(protocol.heard.endswith(b"and good bye"))

    def test_streams(self) -> None:
        """Streams of our own go beside the connection and end by themselves."""
        protocol, _ = self.connect(echo)
        streams = [
            protocol.transport.openStream(Factory.forProtocol(Hearing)) for _ in range(5)
        ]
        for number, stream in enumerate(streams):
            stream.transport.write(b"%d" % number * 5000)
        self.until(lambda: all(len(stream.heard) == 5000 for stream in streams))
        self.assertEqual([stream.heard[:1] for stream in streams], [b"0", b"1", b"2", b"3", b"4"])
        streams[0].transport.loseConnection()
        self.until(lambda: streams[0].reason is not None)
        streams[1].transport.write(b"still here")
        self.until(lambda: streams[1].heard.endswith(b"still here"))
        self.assertIsNone(protocol.reason)


class ListeningTests(ReleaseCase):
    """Our server."""

    def serve(self, known: bool) -> ReleaseConnection:
        self.built: list[Hearing] = []
        factory = Factory()
        factory.buildProtocol = self.build  # type: ignore[method-assign]
        endpoint = QOTPServerEndpoint(self.ours.reactor, PORT, seed="ours")
        self.successResultOf(endpoint.listen(factory))
        release = ReleaseHost(self.theirs, sink)
        key = endpoint.publicKey if known else None
        return release.peer.dial((self.ours.address, PORT), key)

    def build(self, address: object) -> Hearing:
        self.built.append(Hearing(answer=True))
        return self.built[-1]

    def echo(self, known: bool) -> None:
        connection = self.serve(known)
        connection.write(0, b"z" * 20_000)
        self.until(lambda: len(connection.delivered.get(0, b"")) == 20_000)
        self.assertEqual(len(self.built), 1)
        connection.close(0)
        self.until(lambda: self.built[0].reason is not None)
        assert self.built[0].reason is not None
        self.assertIsInstance(self.built[0].reason.value, ConnectionDone)

    def test_known(self) -> None:
        """
        0-RTT: early data is refused and comes again; one protocol is built, answers,
        and hears of the end.
        """
        self.echo(known=True)

    def test_unknown(self) -> None:
        """In-band, the same."""
        self.echo(known=False)


class PunchingTests(ReleaseCase):
    """A peer of ours and the release dial each other at the same time."""

    def punch(self, smaller: bool) -> None:
        release = ReleaseHost(self.theirs, echo)
        theirs = release.peer.identity.public
        seeds = [f"seed {number}" for number in range(20)]
        seed = next(s for s in seeds if (KeyPair.from_text(s).public < theirs) == smaller)
        peer = QOTPPeer(self.ours.reactor, PORT, seed=seed)
        self.successResultOf(peer.listen(Factory.forProtocol(Hearing)))
        punched = peer.punch(Factory.forProtocol(Hearing), self.theirs.address, PORT, theirs)
        release.peer.dial((self.ours.address, PORT), peer.publicKey).stream(0)
        self.network.run(punched)
        protocol = self.successResultOf(punched)
        protocol.transport.write(b"through" * 1000)
        self.until(lambda: len(protocol.heard) == 7000)
        self.network.runFor(40)
        self.assertIsNone(protocol.reason)

    def test_ourConnection(self) -> None:
        """qotp.md 9.3, R9: the release survives it, and has our connection."""
        self.punch(smaller=True)

    def test_theirConnection(self) -> None:
        """Or we have its."""
        self.punch(smaller=False)
