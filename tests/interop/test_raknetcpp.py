"""
Our endpoints and the C++ original of RakNet, as a package of Node's carries it.

Numbers of rules are those of the RakNet specification.
"""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.error import ConnectionDone

from tests.interop.harness import Peer, raknetcpp
from tests.interop.ours import HOST, Accepting, MessageTalker
from tests.interop.pattern import digest, series
from tests.interop.test_goraknet import EXCHANGE, MEGABYTE, MESSAGES, GoRakNetTestCase, total
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint
from twisted_rudp.messages import Delivery
from twisted_rudp.service.link import Link
from twisted_rudp.testing.impairments import Impairments

LOSSES = (0.01, 0.05, 0.1)
"""Shares of the datagrams that a link between the two loses, each way."""

UPLOAD = 6000


class CppTestCase(GoRakNetTestCase):
    """As with go-raknet, but what is lost is lost on a link of ours."""

    def setUp(self) -> None:
        self.program = raknetcpp()

    def lossy(self, port: int, loss: float) -> int:
        """
        A link to a port that loses this share.

        @return: where it begins.
        """
        from twisted.internet import reactor

        link = Link(reactor, HOST, 0, HOST, port, Impairments(loss=loss, seed=1))  # type: ignore[arg-type]
        link.start()
        self.addCleanup(link.stop)
        return link.port


class ServerTests(CppTestCase):
    """Our client, its server."""

    async def test_bothWays(self) -> None:
        """A thousand messages of all lengths each way at the same time."""
        peer, port = await self.peerServer(*EXCHANGE)
        await self.exchange(peer, await self.connected(port))

    async def test_loss(self) -> None:
        """And with loss."""
        for loss in LOSSES:
            peer, port = await self.peerServer(*EXCHANGE)
            await self.exchange(peer, await self.connected(self.lossy(port, loss)))

    async def test_upload(self) -> None:
        """So much that our datagram numbers run past every gap, which is filled."""
        sent = list(series(2, UPLOAD, 1350))
        peer, port = await self.peerServer("-expect", str(UPLOAD))
        talker = await self.connected(self.lossy(port, 0.05))
        talker.pumpPieces(iter(sent))
        self.assertSame(await peer.expect("received"), sent)

    async def test_split(self) -> None:
        """Messages of a megabyte cross in fragments both ways."""
        for loss in (0.0, 0.05):
            sent, back = list(series(2, 3, MEGABYTE)), list(series(1, 3, MEGABYTE))
            flags = ("-send", "3", "-size", str(MEGABYTE), "-expect", "3")
            peer, port = await self.peerServer(*flags)
            talker = await self.connected(self.lossy(port, loss))
            talker.pumpPieces(iter(sent))
            self.assertSame(await peer.expect("received"), sent)
            await talker.until(total(back))
            self.assertEqual(talker.messages, back)

    async def test_deliveries(self) -> None:
        """
        It takes each of our deliveries, and gives us each of its own, on a channel
        that is not 0 (sections 6 and 7).
        """
        for delivery in list(Delivery)[:5]:
            peer, port = await self.peerServer(
                *("-send", "50", "-size", "100", "-reliability", str(int(delivery))),
                *("-expect", "51"),
            )
            talker = await self.connected(port)
            for message in series(2, 50, 100):
                talker.transport.send(message, delivery, channel=7)
            talker.transport.send(b"\xfelast")
            await talker.until(50 * 100)
            self.assertEqual(sorted(talker.messages), sorted(series(1, 50, 100)))
            self.assertEqual((await peer.expect("received"))["bytes"], 50 * 100 + 5)

    async def test_channels(self) -> None:
        """What it sends over several ordering channels is in order within each."""
        _, port = await self.peerServer("-send", str(MESSAGES), "-channels", "5")
        talker = await self.connected(self.lossy(port, 0.05))
        expected = list(series(1, MESSAGES))
        await talker.until(total(expected))
        for channel in range(5):
            mine = set(expected[channel::5])
            self.assertEqual([m for m in talker.messages if m in mine], expected[channel::5])

    async def test_weDisconnect(self) -> None:
        """What was sent before our close arrives, and it is told (11.3)."""
        sent = list(series(2, MESSAGES))
        peer, port = await self.peerServer()
        talker = await self.connected(port)
        await talker.pumpPieces(iter(sent)).done
        talker.transport.loseConnection()
        ended = await peer.expect("ended", session=1)
        self.assertEqual(ended["reason"], "disconnection")
        self.assertSame(await peer.ask("report", "report", session=1), sent)
        await talker.lost

    async def test_peerDisconnects(self) -> None:
        """Its notification ends our session in order."""
        peer, port = await self.peerServer("-send", "100")
        talker = await self.connected(port)
        await talker.until(total(list(series(1, 100))))
        peer.order("close", session=1)
        self.assertIsInstance(await talker.lost, ConnectionDone)

    async def test_ping(self) -> None:
        """It tells us what it is, without a session (2.1)."""
        from twisted.internet import reactor

        motd = "MCPE;hello;800;1.21;3;20;1;world;Survival;1;19132;19133;"
        _, port = await self.peerServer("-motd", motd)
        pong = await RakNetClientEndpoint(reactor, HOST, port).ping()
        self.assertEqual(pong.text, motd)

    async def test_protocol(self) -> None:
        """It may speak another version of the protocol than newer ones."""
        _, port = await self.peerServer("-protocol", "6", "-echo")
        talker = await self.connected(port, protocol=6)
        talker.transport.write(b"\xfehello")
        await talker.until(6)

    async def test_stream(self) -> None:
        """A byte stream comes back whole from a peer that returns our messages."""
        _, port = await self.peerServer("-echo")
        talker = await self.dial(port)
        talker.pump(4, MEGABYTE)
        await talker.until(MEGABYTE)
        self.assertEqual(talker.sha256, digest(4, MEGABYTE))


class ClientTests(CppTestCase):
    """Its client, our listener."""

    async def answering(self, *flags: str, **settings: Any) -> tuple[Peer, MessageTalker]:
        """A session that it has dialled."""
        factory = Accepting(talker=MessageTalker)
        peer = await self.peerClient(factory, *flags, mode="messages", **settings)
        talker = await factory.next()
        assert isinstance(talker, MessageTalker)
        return peer, talker

    async def test_bothWays(self) -> None:
        """
        A thousand messages of all lengths each way at the same time, with cookies and
        without.
        """
        for cookies in (True, False):
            await self.exchange(*await self.answering(*EXCHANGE, cookies=cookies))

    async def test_loss(self) -> None:
        """And with loss."""
        factory = Accepting(talker=MessageTalker)
        served = (await self.serve(factory, mode="messages")).getHost().port
        for loss in LOSSES:
            port = self.lossy(served, loss)
            peer = self.spawn(
                self.program, "-role", "client", "-addr", f"{HOST}:{port}", *EXCHANGE
            )
            talker = await factory.next()
            assert isinstance(talker, MessageTalker)
            await self.exchange(peer, talker)

    async def test_versions(self) -> None:
        """A listener takes several versions of the protocol."""
        for version in ("10", "11"):
            flags = ("-protocol", version, "-expect", "1")
            peer, talker = await self.answering(*flags, protocol=(10, 11))
            talker.transport.write(b"\xfehello")
            self.assertSame(await peer.expect("received"), [b"\xfehello"])

    async def test_weDisconnect(self) -> None:
        """What was sent before our close arrives, and it is told (11.3)."""
        sent = list(series(2, MESSAGES))
        peer, talker = await self.answering()
        await talker.pumpPieces(iter(sent)).done
        talker.transport.loseConnection()
        await peer.expect("ended", session=1)
        self.assertSame(await peer.ask("report", "report", session=1), sent)
        await talker.lost

    async def test_ping(self) -> None:
        """It hears what our listener is (2.1)."""
        factory = Accepting(talker=MessageTalker)
        peer = await self.peerClient(factory, mode="messages", motd="hello; world")
        pong = await peer.expect("pong")
        self.assertTrue(pong["data"].endswith("hello; world"))

    async def test_stream(self) -> None:
        """A byte stream of messages with our user id arrives at our listener."""
        count = 2000
        factory = Accepting()
        await self.peerClient(factory, "-send", str(count), "-size", "1001")
        talker = await factory.next()
        await talker.until(count * 1000)
        whole = b"".join(piece[1:] for piece in series(1, count, 1001))
        self.assertEqual(talker.sha256, hashlib.sha256(whole).hexdigest())
