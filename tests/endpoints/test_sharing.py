"""Server endpoints as parts of several processes: what they have in common, and what not."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import SECOND, Drop, Reply
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetServerEndpoint
from twisted_rudp.net.udp.steering import Share, Steering, indexOfId, openGroup
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.extensions import StatelessReset
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.qotp.settings import Settings
from twisted_rudp.testing import MemoryNetwork

COUNT = 4
KEY = 99
ADDRESS = ("192.0.2.7", 4000)


def share(index: int, descriptor: int = -1) -> Share:
    return Share(index, COUNT, KEY, b"s" * 32, descriptor)


class CommonTests(SynchronousTestCase):
    """Secrets."""

    def setUp(self) -> None:
        self.reactor = MemoryNetwork(seed=1).host("one").reactor

    def test_guid(self) -> None:
        """A RakNet server has one GUID in all processes, and one of its own without others."""
        found = []
        for index in (0, 1, None):
            endpoint = RakNetServerEndpoint(self.reactor, 4000)
            if index is not None:
                endpoint.share(share(index))
            found.append(endpoint.guid)
        self.assertEqual(found[0], found[1])
        self.assertIsNotNone(found[0])
        self.assertIsNone(found[2])

    def test_identity(self) -> None:
        """A temporary identity of QOTP is that of all processes; one that was given stays."""
        one, two = (QOTPServerEndpoint(self.reactor, 4000) for _ in range(2))
        self.assertNotEqual(one.publicKey, two.publicKey)
        one.share(share(0))
        two.share(share(1))
        self.assertEqual(one.publicKey, two.publicKey)
        own = QOTPServerEndpoint(self.reactor, 4000, seed="mine")
        before = own.publicKey
        own.share(share(0))
        self.assertEqual(own.publicKey, before)

    def test_descriptor(self) -> None:
        """An endpoint with a socket of its own takes no other."""
        endpoint = KCPServerEndpoint(self.reactor, 4000, fd=5, crypt="null")
        self.assertRaises(ValueError, endpoint.share, share(0))


class Kept(Protocol):
    """Does nothing."""


class ListeningTests(SynchronousTestCase):
    """On real sockets, without a single datagram."""

    def test_listen(self) -> None:
        """A share listens on its socket, and does not dial from it."""
        from twisted.internet import reactor

        group = openGroup(Steering.ADDRESS, "127.0.0.1", 0, 2, KEY)
        for sock in group:
            self.addCleanup(sock.close)
        endpoint = KCPServerEndpoint(reactor, 0, crypt="null")
        endpoint.share(Share(1, 2, KEY, b"s" * 32, group[1].fileno()))
        factory: Any = Factory.forProtocol(Kept)
        port = self.successResultOf(endpoint.listen(factory))
        self.addCleanup(port.stopListening)
        self.assertEqual(port.getHost().port, group[0].getsockname()[1])
        self.assertRaises(ValueError, port.connect, factory, "127.0.0.1", 1)


class Table:
    """A table without sessions."""

    room = backlog_room = True

    def get(self, key: Any) -> None:
        return None


class ConnectionIdTests(SynchronousTestCase):
    """The connection ids of QOTP."""

    def setUp(self) -> None:
        self.identity = KeyPair.from_text("identity")
        self.count = 0
        self.demuxes = [
            QOTPDemultiplexer(Settings(self.entropy), self.identity, own=share(index).ownsId)
            for index in range(COUNT)
        ]

    def entropy(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")

    def test_reset(self) -> None:
        """
        A stateless reset comes from the process that an id belongs to; the others do not know
        whether the connection is there.
        """
        reset = StatelessReset(self.identity.derive(b"stateless reset"))
        for number in range(20):
            new = reset.new_id(number.to_bytes(5, "big"))
            datagram = b"\x80" + new.id + bytes(50)
            table: Any = Table()
            verdicts = [
                demux.unknown_peer(datagram, ADDRESS, SECOND, table) for demux in self.demuxes
            ]
            owner = indexOfId(new.id, COUNT, KEY)
            for index, verdict in enumerate(verdicts):
                self.assertIsInstance(verdict, Reply if index == owner else Drop)

    def test_given(self) -> None:
        """A dialler is given an id that comes to the process where its connection is."""
        for index, demux in enumerate(self.demuxes):
            for _ in range(5):
                new = demux.new_id()
                assert new is not None
                self.assertEqual(indexOfId(new.id, COUNT, KEY), index)
