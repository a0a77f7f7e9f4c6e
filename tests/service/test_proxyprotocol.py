"""Tests for L{twisted_rudp.service.proxyprotocol}."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.service.transports import ClientEndpoint, HalfTransport, ServerEndpoint
from twisted_rudp.endpoints.kcp import KCPClientEndpoint
from twisted_rudp.service.forward import ForwardService
from twisted_rudp.service.listening import Tally
from twisted_rudp.service.proxyprotocol import (
    HEADER_TIMEOUT,
    LONGEST_V1,
    LONGEST_V2,
    VERSIONS,
    Header,
    InvalidHeader,
    ProxiedFactory,
    ProxiedProtocol,
    decode,
    encode,
    versionNamed,
)

PEER = IPv4Address("UDP", "192.0.2.7", 51000)
OURS = IPv4Address("UDP", "198.51.100.1", 443)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

hosts4 = st.ip_addresses(v=4).map(str)
hosts6 = st.ip_addresses(v=6).filter(lambda host: host.ipv4_mapped is None).map(str)
ports = st.integers(0, 65535)


class EncodeTests(SynchronousTestCase):
    """What is written; Twisted's own parsers are the judges."""

    def test_examples(self) -> None:
        """The bytes of both versions, and of what is not known."""
        self.assertEqual(
            encode("v1", PEER, OURS), b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n"
        )
        self.assertEqual(
            encode("v2", PEER, OURS),
            SIGNATURE + b"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xc7\x38\x01\xbb",
        )
        for unknown in (None, UNIXAddress("/x"), IPv4Address("TCP", "localhost", 1)):
            self.assertEqual(encode("v1", unknown, OURS), b"PROXY UNKNOWN\r\n")
            self.assertEqual(encode("v2", PEER, unknown), SIGNATURE + b"\x20\0\0\0")

    def test_families(self) -> None:
        """A zone is left out; mapped addresses are IPv4; two families meet in IPv6."""
        zoned = IPv6Address("UDP", "fe80::1%eth0", 5)
        self.assertEqual(encode("v1", zoned, zoned), b"PROXY TCP6 fe80::1 fe80::1 5 5\r\n")
        mapped = IPv6Address("UDP", "::ffff:192.0.2.7", 51000)
        self.assertEqual(encode("v1", mapped, OURS), encode("v1", PEER, OURS))
        mixed = decode(encode("v2", zoned, OURS))
        assert mixed is not None and mixed.destination is not None
        self.assertIn(mixed.destination.host, ("::ffff:c633:6401", "::ffff:198.51.100.1"))

    @given(
        st.one_of(
            st.tuples(st.just(IPv4Address), hosts4, hosts4),
            st.tuples(st.just(IPv6Address), hosts6, hosts6),
        ),
        ports,
        ports,
        st.sampled_from(VERSIONS),
        st.binary(max_size=20),
    )
    def test_roundTrip(
        self, pair: Any, port: int, local: int, version: str, rest: bytes
    ) -> None:
        """Twisted's parser and ours read what was written, and leave what follows."""
        kind, host, own = pair
        header = encode(version, kind("UDP", host, port), kind("UDP", own, local))
        self.assertEqual(
            decode(header + rest),
            Header(kind("TCP", host, port), kind("TCP", own, local), len(header)),
        )
        for cut in range(len(header)):
            self.assertIsNone(decode(header[:cut]))
        parser: Any = V1Parser() if version == "v1" else V2Parser()
        info, left = parser.feed(header + rest)
        self.assertEqual(left or b"", rest)
        self.assertEqual((info.source.port, info.destination.port), (port, local))
        if kind is IPv4Address:
            theirs = info.source.host
            self.assertEqual(theirs.decode() if isinstance(theirs, bytes) else theirs, host)

    def test_versionNamed(self) -> None:
        """An option's value is one of both."""
        self.assertEqual(versionNamed("v2"), "v2")
        self.assertRaises(ValueError, versionNamed, "2")


class DecodeTests(SynchronousTestCase):
    """What is read is a header to the last byte, or refused."""

    def test_refused(self) -> None:
        """What the protocol does not allow."""
        v2 = encode("v2", PEER, OURS)
        for bad in (
            b"GET / HTTP/1.1\r\n",
            b"PROXX",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
            b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP6 fe80::1%\x1b[2J ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 \xff 1.2.3.4 1 2\r\n",
            b"PROXY UNKNOWN".ljust(LONGEST_V1, b" ") + b"\r\n",
            b"PROXY TCP4 ".ljust(LONGEST_V1, b"1"),
            SIGNATURE + b"\x11\x11\0\x0c" + v2[16:],
            SIGNATURE + b"\x22\x11\0\x0c" + v2[16:],
            SIGNATURE + b"\x21\x41\0\x0c" + v2[16:],
            SIGNATURE + b"\x21\x13\0\x0c" + v2[16:],
            SIGNATURE + b"\x21\x11\0\x0b" + v2[16:-1],
            SIGNATURE + b"\x21\x21\0\x0c" + v2[16:],
            SIGNATURE + b"\x21\x31\0\x0c" + v2[16:],
            SIGNATURE + b"\x21\x11\0\x0e" + v2[16:] + b"\x04\0",
            SIGNATURE + b"\x21\x11\0\x10" + v2[16:] + b"\x04\0\x02x",
            SIGNATURE + b"\x21\x11" + (LONGEST_V2 - 15).to_bytes(2, "big"),
        ):
            self.assertRaises(InvalidHeader, decode, bad)

    def test_unknown(self) -> None:
        """Headers without an address of IP leave the connection's own."""
        for good in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN ffff::1 what ever\r\n",
            SIGNATURE + b"\x20\0\0\x03abc",
            SIGNATURE + b"\x20\x11\0\0",
            SIGNATURE + b"\x21\0\0\0",
            SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
        ):
            self.assertEqual(decode(good + b"rest"), Header(None, None, len(good)))

    def test_extensions(self) -> None:
        """Extensions behind the addresses are passed over, and datagrams are named so."""
        header = SIGNATURE + b"\x21\x12\0\x10" + encode("v2", PEER, OURS)[16:] + b"\x04\0\x01x"
        self.assertEqual(decode(header), Header(PEER, OURS, len(header)))

    @given(st.binary(max_size=400), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE[:5]]))
    def test_anything(self, data: bytes, prefix: bytes) -> None:
        """Any bytes are a header, incomplete within the bounds, or refused with a reason."""
        received = prefix + data
        try:
            header = decode(received)
        except InvalidHeader as problem:
            self.assertTrue(str(problem))
            return
        if header is None:
            self.assertLess(len(received), LONGEST_V2)
        else:
            self.assertLessEqual(header.size, len(received))
            self.assertEqual(decode(received[: header.size]), header)


class ProxiedTests(SynchronousTestCase):
    """Connections that begin with a header."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[dict[str, Any]] = []
        self.tally = Tally("refused")
        self.built: list[Any] = []
        self.factory = ProxiedFactory(
            self.clock, Logger(observer=self.events.append), "here", 2, self.tally, self.build
        )

    def build(self, address: Any, header: Header) -> Any:
        self.built.append((address, header))
        return None

    def accept(self) -> tuple[Any, Any]:
        protocol, transport = self.factory.buildProtocol(PEER), HalfTransport()
        assert protocol is not None
        verifyObject(IHalfCloseableProtocol, protocol)
        protocol.makeConnection(transport)
        return protocol, transport

    def reasons(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def test_refused(self) -> None:
        """No header, none in time, or an end before it: refused, counted, said once."""
        first, transport = self.accept()
        first.dataReceived(b"GET / HTTP/1.0\r\n")
        first.dataReceived(b"more of it")
        self.assertTrue(transport.aborting)
        second, transport = self.accept()
        second.dataReceived(b"PROXY")
        self.clock.advance(HEADER_TIMEOUT)
        self.assertTrue(transport.aborting)
        third, transport = self.accept()
        third.readConnectionLost()
        self.assertTrue(transport.aborting)
        for each in (first, second, third):
            each.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.tally.counts["refused"], 3)
        [said] = self.reasons()
        self.assertIn("here: connection of 192.0.2.7:51000 refused: no header of the PROXY", said)
        self.assertEqual((self.factory.waiting, self.clock.getDelayedCalls()), (0, []))

    def test_limit(self) -> None:
        """Not more than so many wait for their header."""
        one, _ = self.accept()
        self.accept()
        self.assertIsNone(self.factory.buildProtocol(PEER))
        one.connectionLost(Failure(ConnectionDone()))
        self.assertIsInstance(self.factory.buildProtocol(PEER), ProxiedProtocol)

    def test_unwanted(self) -> None:
        """A connection that the factory behind does not want is aborted."""
        protocol, transport = self.accept()
        protocol.dataReceived(b"PROXY TCP4 203.0.113.9 10.0.0.1 5 6\r\nrest")
        self.assertTrue(transport.aborting)
        [(address, _)] = self.built
        self.assertEqual(address, IPv4Address("TCP", "203.0.113.9", 5))


class ForwardTests(SynchronousTestCase):
    """C{forward} with headers on either side."""

    def forward(self, **options: Any) -> tuple[ServerEndpoint, ClientEndpoint]:
        near, far = ServerEndpoint(), ClientEndpoint()
        service = ForwardService(Clock(), "forward", near, far, limit=2, drain=5, **options)
        service.startService()  # type: ignore[no-untyped-call]
        return near, far

    def test_header(self) -> None:
        """The far side gets the header in front of what the near side sends."""
        near, far = self.forward(proxyProtocol="v1")
        [factory] = near.factories
        side, transport = factory.buildProtocol(PEER), HalfTransport(peerAddress=PEER)
        transport.hostAddr = OURS
        side.makeConnection(transport)
        side.dataReceived(b"hello")
        there = HalfTransport()
        far.answer(there)
        side.dataReceived(b" world")
        self.assertEqual(
            there.value(), b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\nhello world"
        )

    def test_throughBoth(self) -> None:
        """Of a proxy in front, the address that it told reaches the far side; ends pass."""
        near, far = self.forward(proxyProtocol="v2", proxied=True)
        [factory] = near.factories
        side, transport = factory.buildProtocol(PEER), HalfTransport(peerAddress=PEER)
        side.makeConnection(transport)
        header = encode("v1", IPv4Address("TCP", "203.0.113.9", 5), OURS)
        for at in range(len(header)):
            self.assertEqual(far.attempts, [])
            side.dataReceived(header[at : at + 1])
        side.dataReceived(b"data")
        there = HalfTransport()
        answering = far.answer(there)
        self.assertEqual(
            there.value(), encode("v2", IPv4Address("TCP", "203.0.113.9", 5), OURS) + b"data"
        )
        answering.dataReceived(b"answer")
        self.assertEqual(transport.value(), b"answer")
        side.readConnectionLost()
        self.assertTrue(there.halfClosed)
        side.writeConnectionLost()
        side.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(there.disconnecting)


class Ending(Protocol):
    """Tells when it has lost its connection."""

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class TwistedTests(TestCase):
    """Twisted's C{haproxy:} in front of an endpoint of ours."""

    async def test_string(self) -> None:
        """Its protocol knows the address of the header."""
        arrived: Deferred[Any] = Deferred()

        class Asking(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                host = self.transport.getPeer().host
                # Twisted's parsers of the two versions differ in this, and so did releases.
                arrived.callback((data, host if isinstance(host, str) else host.decode()))

        endpoint = serverFromString(reactor, "haproxy:kcp:port=0:interface=127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Asking))
        client: Any = await KCPClientEndpoint(
            reactor, "127.0.0.1", port.getHost().port
        ).connect(Factory.forProtocol(Ending))
        client.transport.write(encode("v2", PEER, OURS) + b"hello")
        self.assertEqual(await arrived, (b"hello", "192.0.2.7"))
        lost = client.lost
        client.transport.loseConnection()
        await lost
        await maybeDeferred(port.stopListening)
