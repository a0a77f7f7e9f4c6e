"""Messages beside a stream, and links that are dead, as a program sees them."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.endpoints.support import Talk
from twisted_rudp.errors import PeerTimedOut
from twisted_rudp.interfaces import IOutOfBandProtocol
from twisted_rudp.testing import MemoryNetwork


@implementer(IOutOfBandProtocol)
class Listening(Talk):
    """Keeps what it hears beside its stream, too."""

    def __init__(self) -> None:
        super().__init__()
        self.aside: list[bytes] = []

    def outOfBandReceived(self, data: bytes) -> None:
        self.aside.append(data)


class Ends(Factory):
    """Keeps its protocols."""

    def __init__(self, kind: type[Talk]) -> None:
        self.kind = kind
        self.built: list[Any] = []

    def buildProtocol(self, addr: Any) -> Talk:
        self.built.append(self.kind())
        return self.built[-1]


class PublicCase(SynchronousTestCase):
    """A connection by endpoint strings."""

    def connect(self, transport: str, more: str = "", kind: type[Talk] = Listening) -> list[Any]:
        """
        @return: the protocols of both ends.
        """
        self.network = MemoryNetwork(seed=6, delay=0.01)
        self.hosts = [self.network.host("client"), self.network.host("server")]
        client, server = self.hosts
        ends = Ends(kind), Ends(kind)
        listening = serverFromString(server.reactor, f"{transport}:4000{more}")
        self.successResultOf(listening.listen(ends[1]))
        dialling = clientFromString(client.reactor, f"{transport}:server:4000{more}")
        connecting = dialling.connect(ends[0])
        self.network.run(connecting)
        self.network.runFor(0.5)
        return [factory.built[0] for factory in ends]


class OutOfBandTests(PublicCase):
    """C{sendOutOfBand} and C{outOfBandReceived}."""

    def test_both(self) -> None:
        """Both ways beside the stream, which is not disturbed; a pause holds them back."""
        for transport, more in (("kcp", ":crypt=null"), ("kcp", ":password=x"), ("qotp", "")):
            ends = self.connect(transport, more)
            for end, word in zip(ends, (b"there", b"back"), strict=True):
                end.transport.sendOutOfBand(word)
                end.transport.write(b"in the band")
            self.network.runFor(0.5)
            self.assertEqual((more, [end.aside for end in ends]), (more, [[b"back"], [b"there"]]))
            self.assertEqual([end.heard for end in ends], [b"in the band"] * 2)
            ends[1].transport.pauseProducing()
            ends[0].transport.sendOutOfBand(b"later")
            self.network.runFor(0.5)
            self.assertEqual(ends[1].aside, [b"there"])
            ends[1].transport.resumeProducing()
            self.network.runFor(0.5)
            self.assertEqual(ends[1].aside, [b"there", b"later"])
            ends[0].transport.loseConnection()
            self.network.runFor(5)
            for end in ends:
                end.transport.sendOutOfBand(b"too late")
            self.network.runFor(1)
            self.assertEqual(ends[1].aside, [b"there", b"later"])

    def test_streams(self) -> None:
        """Of a connection with several streams, stream 0 hears what comes beside them."""
        ends = self.connect("qotp")
        others = Ends(Listening), Ends(Listening)
        ends[1].transport.acceptStreams(others[1])
        ends[0].transport.openStream(others[0]).transport.write(b"open")
        self.network.runFor(0.5)
        (other,) = others[1].built
        ends[1].transport.pauseProducing()
        ends[0].transport.sendOutOfBand(b"aside")
        self.network.runFor(0.5)
        other.transport.pauseProducing()
        other.transport.resumeProducing()
        ends[1].transport.resumeProducing()
        self.network.runFor(0.5)
        self.assertEqual((ends[1].aside, other.aside, other.heard), ([b"aside"], [], b"open"))

    def test_nobody(self) -> None:
        """A protocol that does not want them is not asked."""
        ends = self.connect("kcp", ":crypt=null", Talk)
        ends[0].transport.sendOutOfBand(b"x")
        ends[0].transport.write(b"y")
        self.network.runFor(0.5)
        self.assertEqual((ends[1].heard, ends[1].lost), (b"y", None))

    def test_refused(self) -> None:
        """What is no bytes, too long, or on a wire that has none is refused, and harms nothing."""
        ends = self.connect("kcp", ":crypt=null")
        self.assertRaises(TypeError, ends[0].transport.sendOutOfBand, "text")
        self.assertRaises(ValueError, ends[0].transport.sendOutOfBand, bytes(100_000))
        ends[0].transport.write(b"goes on")
        self.network.runFor(0.5)
        self.assertEqual(ends[1].heard, b"goes on")


class DeadLinkTests(PublicCase):
    """C{Reason.DEAD_LINK}, as a protocol sees it."""

    def dead(self, transport: str, more: str) -> None:
        ends = self.connect(transport, more)
        for link in (self.network.link(*self.hosts), self.network.link(*self.hosts[::-1])):
            link.loss = 1.0
        ends[0].transport.write(bytes(5000))
        began = self.network.clock.seconds()
        self.network.run(lambda: ends[0].lost is not None, limit=60)
        self.assertIs(ends[0].lost.type, PeerTimedOut)
        self.assertIn("sent too often", ends[0].lost.getErrorMessage())
        self.assertLess(self.network.clock.seconds() - began, 25)

    def test_kcp(self) -> None:
        """KCP with C{deadLink}: after so many transmissions of a segment."""
        self.dead("kcp", ":crypt=null:deadLink=5:idleTimeout=60")
