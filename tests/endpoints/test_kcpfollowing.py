"""A KCP listener follows a peer of ours whose NAT has given it another port."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.kcp.wire import (
    HEADER_SIZE,
    MARK,
    PUSH,
    QUESTION,
    WASK,
    WINS,
    pack_header,
    unpack_header,
)
from twisted_rudp.testing import Impairments, MemoryNetwork

SERVER, CLIENT, STRANGER = "192.0.2.51", "192.0.2.52", "192.0.2.66"
PORT = 4100
CONV = 7


class Echo(Protocol):
    """Says back what it hears."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Keeping(Factory):
    """Keeps its protocols."""

    noisy = False

    def __init__(self) -> None:
        self.built: list[Echo] = []

    def buildProtocol(self, address: Any) -> Echo:
        self.built.append(Echo())
        return self.built[-1]


class Hearing(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Collecting(DatagramProtocol):
    """Keeps the datagrams that come."""

    noisy = False

    def __init__(self) -> None:
        self.came: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.came.append(datagram)


class FollowingTestCase(SynchronousTestCase):
    """A listener and a client behind a NAT."""

    named: dict[str, Any] = {"crypt": "null"}

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self.server = self.network.host("server", SERVER)
        self.client = self.network.host("client", CLIENT)
        self.network.impair(Impairments(delay=0.02), self.client, self.server)
        self.factory = Keeping()
        listening = KCPServerEndpoint(
            self.server.reactor, PORT, interface=SERVER, entropy=Random(1).randbytes, **self.named
        )
        self.port = self.successResultOf(listening.listen(self.factory))
        self.addCleanup(self.port.stopListening)

    def connect(self, **named: Any) -> Any:
        protocol = self.greeted(**named)
        protocol.transport.write(b"hello")
        self.network.run(lambda: protocol.heard == b"hello")
        self.network.runFor(0.5)
        return protocol

    def greeted(self, **named: Any) -> Any:
        """A client whose handshake is over, and that is all."""
        endpoint = KCPClientEndpoint(
            self.client.reactor,
            SERVER,
            PORT,
            bindAddress=(CLIENT, 5000),
            entropy=Random(2).randbytes,
            conv=CONV,
            **{**self.named, **named},
        )
        connecting = endpoint.connect(Factory.forProtocol(Hearing))
        self.network.run(lambda: connecting.called)
        protocol = self.successResultOf(connecting)
        self.network.runFor(0.5)
        return protocol

    def rebind(self, number: int) -> None:
        """The NAT forgets its mapping: the client's port is another one from now on."""
        self.client.rebind((CLIENT, 5000), (CLIENT, number))

    def assertFollowed(self, number: int) -> None:
        """There is one session, and it is at the new port."""
        (protocol,) = self.factory.built
        self.assertEqual(protocol.transport.getPeer().port, number)


class ShapeTests(FollowingTestCase):
    """FEC groups that change."""

    named = {"crypt": "null", "profile": "interactive"}

    def test_changes(self) -> None:
        """They change before and after the port does, and what comes fits."""
        protocol = self.connect()
        transport = protocol.transport
        used = 0
        for number, delay in ((6000, 0.1), (6001, 0.02)):
            self.network.impair(Impairments(delay=delay, loss=0.03), self.client, self.server)
            self.rebind(number)
            for _ in range(300):
                transport.write(bytes(100))
                self.network.runFor(0.02)
            self.assertFollowed(number)
            self.assertGreater(transport.counters()["fec_shapes_used"], used)
            used = transport.counters()["fec_shapes_used"]
        self.network.runFor(5)
        self.assertEqual(len(protocol.heard), 5 + 600 * 100)
        server = self.factory.built[0].transport
        for counters in (transport.counters(), server.counters()):
            self.assertEqual((counters["fec_misfits"], counters["fec_shapes_refused"]), (0, 0))


class FollowingTests(FollowingTestCase):
    """What a client of ours meets."""

    def test_speaks(self) -> None:
        """A client that says something is answered at its new port, again and again."""
        protocol = self.connect()
        expected = b"hello"
        for number in range(6000, 6004):
            self.rebind(number)
            protocol.transport.write(b"here I am")
            expected += b"here I am"
            self.network.runFor(3)
            self.assertEqual(protocol.heard, expected)
            self.assertFollowed(number)
        protocol.transport.loseConnection()
        self.network.runFor(10)
        self.assertEqual(len(self.factory.built), 1)

    def test_silent(self) -> None:
        """A client that says nothing is followed as soon as its keepalive comes."""
        protocol = self.connect(keepAlive=5)
        self.rebind(6000)
        self.network.runFor(8)
        self.assertFollowed(6000)
        self.factory.built[0].transport.write(b"news")
        self.network.runFor(1)
        self.assertEqual(protocol.heard, b"hellonews")

    def test_nothingExchanged(self) -> None:
        """
        Neither does it need to have sent or received anything: what the server says first
        comes at the new port.
        """
        protocol = self.greeted(keepAlive=5)
        self.rebind(6000)
        self.factory.built[0].transport.write(b"welcome")
        self.network.runFor(10)
        self.assertEqual(protocol.heard, b"welcome")
        self.assertIsNone(protocol.lost)
        self.assertFollowed(6000)

    def test_transfer(self) -> None:
        """A transfer in both directions goes on, with loss."""
        self.network.impair(Impairments(delay=0.02, loss=0.05), self.client, self.server)
        protocol = self.connect()
        protocol.transport.write(bytes(2_000_000))
        self.network.runFor(0.3)
        self.assertLess(len(protocol.heard), 2_000_000)
        self.rebind(6000)
        self.network.run(lambda: len(protocol.heard) == 2_000_005)
        self.assertFollowed(6000)

    def test_closing(self) -> None:
        """So does one that the server has closed behind what is still on its way."""
        self.network.impair(Impairments(delay=0.1, rate=50_000), self.client, self.server)
        protocol = self.connect()
        transport = self.factory.built[0].transport
        transport.write(bytes(20_000))
        transport.loseConnection()
        self.network.runFor(0.3)
        self.assertLess(len(protocol.heard), 15_000)
        self.assertEqual(transport.facts()["state"], "FIN_WAIT")
        self.rebind(6000)
        self.network.run(lambda: protocol.lost)
        self.assertEqual(len(protocol.heard), 20_005)
        self.assertIs(protocol.lost.type, ConnectionDone)

    def test_otherAddress(self) -> None:
        """The address may be another one, too."""
        protocol = self.connect()
        self.client.rebind((CLIENT, 5000), ("203.0.113.5", 99))
        protocol.transport.write(b"moved")
        self.network.runFor(3)
        self.assertEqual(protocol.heard, b"hellomoved")
        self.assertEqual(self.factory.built[0].transport.getPeer().host, "203.0.113.5")


    def test_path(self) -> None:
        """What was learnt of the path is forgotten with the address, and kept with the port."""
        protocol = self.connect()
        transport = self.factory.built[0].transport
        for address, forgotten in (((CLIENT, 6000), False), (("203.0.113.5", 99), True)):
            before = transport.facts()["round_trip"]
            self.assertGreater(before, 0)
            self.client.rebind((CLIENT, 5000), address)
            protocol.transport.write(b"moved")
            for _ in range(500):
                if transport.getPeer().port == address[1]:
                    break
                self.network.runFor(0.01)
            self.assertEqual(transport.facts()["round_trip"] == 0, forgotten)
            self.network.runFor(1)


class NotFollowingTests(FollowingTestCase):
    """With C{roaming=no}."""

    named: dict[str, Any] = {"crypt": "null"}

    def setUp(self) -> None:
        super().setUp()
        listening = KCPServerEndpoint(
            self.server.reactor, PORT + 1, interface=SERVER, crypt="null", roaming=False
        )
        self.other = self.successResultOf(listening.listen(self.factory))
        self.addCleanup(self.other.stopListening)

    def test_told(self) -> None:
        """The peer is told that nobody knows it there, and its application is."""
        endpoint = KCPClientEndpoint(
            self.client.reactor, SERVER, PORT + 1, crypt="null", bindAddress=(CLIENT, 5000)
        )
        connecting = endpoint.connect(Factory.forProtocol(Hearing))
        self.network.run(lambda: connecting.called)
        protocol = self.successResultOf(connecting)
        protocol.transport.write(b"hello")
        self.network.run(lambda: protocol.heard == b"hello")
        self.rebind(6000)
        protocol.transport.write(b"here I am")
        self.network.run(lambda: protocol.lost is not None)
        self.assertFalse(protocol.lost.check(ConnectionDone))


class EncryptedTests(FollowingTests):
    """The same with a cipher and FEC."""

    named = {"password": "sesame", "dataShards": 3, "parityShards": 1}


class StolenTests(FollowingTestCase):
    """What a stranger can do who knows the conversation."""

    def setUp(self) -> None:
        super().setUp()
        self.stranger = self.network.host("stranger", STRANGER)
        self.protocol = Collecting()
        self.stranger.reactor.listenUDP(666, self.protocol, STRANGER)

    def say(self, cmd: int, ts: int, sn: int, una: int, payload: bytes = b"") -> list[bytes]:
        """One segment; what is answered."""
        assert self.protocol.transport is not None
        self.protocol.came.clear()
        frg = 0 if cmd == PUSH else MARK
        segment = pack_header(CONV, cmd, frg, 32, ts, sn, una, len(payload)) + payload
        self.protocol.transport.write(segment, (SERVER, PORT))
        self.network.runFor(0.1)
        return list(self.protocol.came)

    def test_otherNumbers(self) -> None:
        """
        Who does not know where the conversation stands does not get it, though the
        address is validated; the session does not notice.
        """
        protocol = self.connect()
        self.network.runFor(2)
        for guess in (1, 5, 1 << 20, 0xFFFFFFFF):
            (question,) = self.say(PUSH, 0, guess, guess, b"x")
            self.assertEqual(len(question), HEADER_SIZE)
            _, cmd, frg, _, cookie, sn, una, _ = unpack_header(question, 0)
            # The question tells nothing of the session.
            self.assertEqual((cmd, frg, sn, una), (WASK, MARK, QUESTION, 0))
            self.say(WINS, cookie, (guess + 7) & 0xFFFFFFFF, (guess + 9) & 0xFFFFFFFF)
        self.assertEqual(self.factory.built[0].transport.getPeer().host, CLIENT)
        protocol.transport.write(b"still mine")
        self.network.runFor(1)
        self.assertEqual(protocol.heard, b"hellostill mine")
        self.assertEqual(len(self.factory.built), 1)

    def test_nothingExchanged(self) -> None:
        """
        Where nothing was sent or received yet the numbers are no secret. Who cannot show the
        cookie of the peer's beginning does not get the conversation either.
        """
        protocol = self.greeted()
        self.network.runFor(2)
        for guess in (0, 1, 0xFFFFFFFF):
            # As to somebody new: a cookie for the address.
            (answer,) = self.say(WASK, guess, 0, 0)
            _, cmd, frg, _, cookie, sn, una, _ = unpack_header(answer, 0)
            self.assertEqual((cmd, frg, sn, una), (WINS, MARK, 0, 0))
            self.say(WINS, cookie, 0, 0)
        self.assertEqual(self.factory.built[0].transport.getPeer().host, CLIENT)
        self.factory.built[0].transport.write(b"welcome")
        self.network.runFor(1)
        self.assertEqual(protocol.heard, b"welcome")

    def test_livesElsewhere(self) -> None:
        """Even with the right numbers: a peer that is heard at its address is not moved."""
        protocol = self.connect()
        for _ in range(5):
            (question,) = self.say(PUSH, 0, 1, 1, b"x")
            cookie = unpack_header(question, 0)[4]
            protocol.transport.write(b"a")
            self.network.runFor(0.05)
            self.say(WINS, cookie, len(protocol.heard) - 4, len(protocol.heard) - 4)
        self.network.runFor(1)
        self.assertEqual(self.factory.built[0].transport.getPeer().host, CLIENT)
        self.assertEqual(protocol.heard, b"helloaaaaa")
