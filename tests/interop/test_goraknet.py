"""
Our endpoints and go-raknet, v1.15.2 of July 2026.

Numbers of rules are those of the RakNet specification.
"""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.error import ConnectionDone

from tests.interop.harness import Peer, goraknet
from tests.interop.ours import HOST, Accepting, MessageTalker, OursTestCase, Talker
from tests.interop.pattern import digest, framedDigest, series
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint

MEGABYTE = 1_000_000

MESSAGES = 1000

UPLOAD = 6000
"""Three times what the listener lets run ahead (section 13)."""

LOSSES = ("0", "0.01", "0.05", "0.1")
"""Shares of the datagrams that go-raknet's side loses, each way."""

MEASUREMENTS = 10
"""Of a round trip, until one is of a moment when the machine had time for it."""

MOST_TO_LISTENER = 700_000
"""What fits the 512 fragments that its listener takes (section 13)."""


EXCHANGE = ("-send", str(MESSAGES), "-expect", str(MESSAGES))


class GoRakNetTestCase(OursTestCase):
    """Our RakNet endpoints, with messages unless a test says otherwise."""

    serverEndpoint = RakNetServerEndpoint
    clientEndpoint = RakNetClientEndpoint

    def setUp(self) -> None:
        self.program = goraknet()

    async def connected(self, port: int, **settings: Any) -> MessageTalker:
        """A session of ours with messages."""
        talker = await self.dial(port, MessageTalker, mode="messages", **settings)
        assert isinstance(talker, MessageTalker)
        return talker

    def assertSame(self, received: dict[str, Any], sent: list[bytes]) -> None:
        """The peer got exactly these messages in this order."""
        self.assertEqual(received["messages"], len(sent))
        self.assertEqual(received["framed"], framedDigest(iter(sent)))

    async def exchange(self, peer: Peer, talker: MessageTalker) -> None:
        """A thousand messages each way at the same time, with a peer started so."""
        sent, back = list(series(2, MESSAGES)), list(series(1, MESSAGES))
        talker.pumpPieces(iter(sent))
        self.assertSame(await peer.expect("received"), sent)
        await talker.until(total(back))
        self.assertEqual(talker.messages, back)
        talker.transport.abortConnection()
        await talker.lost


def total(pieces: list[bytes]) -> int:
    return sum(len(piece) for piece in pieces)


class ServerTests(GoRakNetTestCase):
    """Our client, go-raknet's listener."""

    async def bothWays(self, *flags: str) -> None:
        peer, port = await self.peerServer(*EXCHANGE, *flags)
        talker = await self.connected(port)
        await self.exchange(peer, talker)

    async def test_everyGuid(self) -> None:
        """
        Its listener refuses a client whose GUID is not negative, and then its
        host for ten seconds: ours never has such a one, unless it is told to.
        """
        _, port = await self.peerServer("-echo")
        for _ in range(8):
            talker = await self.connected(port)
            talker.transport.abortConnection()
            await talker.lost

    async def test_bothWays(self) -> None:
        """A thousand messages of all lengths each way at the same time, with and without loss."""
        for loss in LOSSES:
            await self.bothWays("-loss", loss)

    async def test_withoutCookies(self) -> None:
        """A listener with its cookies off takes us (2.4)."""
        await self.bothWays("-cookies=false")

    async def test_otherMTU(self) -> None:
        """We keep to the MTU that the listener caps (section 3)."""
        await self.bothWays("-mtu", "700")

    async def test_split(self) -> None:
        """
        Long messages cross in fragments both ways: as many as the listener takes
        (section 13), and whole megabytes back.
        """
        for loss in ("0", "0.05"):
            sent = list(series(2, 3, MOST_TO_LISTENER))
            back = list(series(1, 3, MEGABYTE))
            flags = ("-send", "3", "-size", str(MEGABYTE), "-expect", "3", "-loss", loss)
            peer, port = await self.peerServer(*flags)
            talker = await self.connected(port)
            talker.pumpPieces(iter(sent))
            self.assertSame(await peer.expect("received"), sent)
            await talker.until(total(back))
            self.assertEqual(talker.messages, back)

    async def test_upload(self) -> None:
        """
        More than its window of datagrams arrives whatever is lost: it closes a session
        that runs too far ahead of a datagram it misses (section 13).
        """
        for loss in ("0.01", "0.1"):
            sent = list(series(2, UPLOAD, 1350))
            peer, port = await self.peerServer("-expect", str(UPLOAD), "-loss", loss)
            talker = await self.connected(port)
            talker.pumpPieces(iter(sent))
            self.assertSame(await peer.expect("received"), sent)
            talker.transport.abortConnection()
            await talker.lost

    async def test_tooManyFragments(self) -> None:
        """
        A message beyond the listener's 512 fragments makes it end the session
        (section 13), of which we are told.
        """
        peer, port = await self.peerServer()
        talker = await self.connected(port)
        talker.transport.write(next(series(1, 1, MEGABYTE)))
        await peer.expect("ended", session=1)
        self.assertIsInstance(await talker.lost, ConnectionDone)

    async def test_weDisconnect(self) -> None:
        """What was sent before our close arrives, and the listener is told (11.3)."""
        for loss in ("0", "0.1"):
            sent = list(series(2, MESSAGES))
            peer, port = await self.peerServer("-loss", loss)
            talker = await self.connected(port)
            await talker.pumpPieces(iter(sent)).done
            talker.transport.loseConnection()
            await peer.expect("ended", session=1)
            self.assertSame(await peer.ask("report", "report", session=1), sent)
            await talker.lost

    async def test_peerDisconnects(self) -> None:
        """Its notification ends our session in order, after all that came before it."""
        back = list(series(1, MESSAGES))
        peer, port = await self.peerServer("-send", str(MESSAGES))
        talker = await self.connected(port)
        await peer.expect("sent")
        peer.order("close", session=1)
        self.assertIsInstance(await talker.lost, ConnectionDone)
        self.assertEqual(talker.messages, back)

    async def test_ping(self) -> None:
        """It tells us what it is, without a session and beside one (2.1)."""
        motd = "MCPE;hello;800;1.21;3;20;1;world;Survival;1;19132;19133;"
        _, port = await self.peerServer("-motd", motd)
        pong = await self.ping(port)
        self.assertEqual(pong.text, motd)
        self.assertEqual(pong.fields["players"], "3")
        await self.connected(port)
        self.assertEqual((await self.ping(port)).text, motd)

    async def ping(self, port: int) -> Any:
        from twisted.internet import reactor

        return await RakNetClientEndpoint(reactor, HOST, port).ping()

    async def test_stream(self) -> None:
        """A byte stream comes back whole from a peer that returns our messages."""
        for loss, size in (("0", 20 * MEGABYTE), ("0.05", 2 * MEGABYTE)):
            _, port = await self.peerServer("-echo", "-loss", loss)
            talker = await self.dial(port)
            talker.pump(4, size)
            await talker.until(size)
            self.assertEqual(talker.sha256, digest(4, size))

    async def test_everyPort(self) -> None:
        """Each kind of port carries the same bytes."""
        for kind in ("gso", "plain", "stock"):
            _, port = await self.peerServer("-echo")
            talker = await self.dial(port, portKind=kind)
            talker.pump(4, MEGABYTE)
            await talker.until(MEGABYTE)
            self.assertEqual(talker.sha256, digest(4, MEGABYTE))

    async def test_keptAlive(self) -> None:
        """
        A session that says nothing outlives the listener's timeout of five seconds
        (11.2), and its pings get pongs that it takes.
        """
        peer, port = await self.peerServer("-echo")
        talker = await self.connected(port)
        await self.pause(7)
        talker.transport.write(b"\xfestill here")
        await talker.until(11)
        self.assertEqual(await peer.told("ended"), [])


class ClientTests(GoRakNetTestCase):
    """go-raknet's dialler, our listener."""

    async def answering(self, *flags: str, **settings: Any) -> tuple[Peer, MessageTalker]:
        """A session that it has dialled."""
        factory = Accepting(talker=MessageTalker)
        peer = await self.peerClient(factory, *flags, mode="messages", **settings)
        talker: Talker = await factory.next()
        assert isinstance(talker, MessageTalker)
        return peer, talker

    async def bothWays(self, *flags: str, **settings: Any) -> None:
        peer, talker = await self.answering(*EXCHANGE, *flags, **settings)
        await self.exchange(peer, talker)

    async def test_bothWays(self) -> None:
        """A thousand messages of all lengths each way at the same time, with and without loss."""
        for loss in LOSSES:
            await self.bothWays("-loss", loss)

    async def test_withoutCookies(self) -> None:
        """It connects to a listener that asks for no cookie (2.4)."""
        await self.bothWays(cookies=False)

    async def test_otherMTU(self) -> None:
        """The smaller MTU holds, whoever has it (section 3)."""
        await self.bothWays("-mtu", "700")
        await self.bothWays(mtu=700)

    async def test_split(self) -> None:
        """Messages of a megabyte cross in fragments both ways."""
        for loss in ("0", "0.05"):
            sent, back = list(series(2, 3, MEGABYTE)), list(series(1, 3, MEGABYTE))
            peer, talker = await self.answering(
                *("-send", "3", "-size", str(MEGABYTE), "-expect", "3", "-loss", loss)
            )
            talker.pumpPieces(iter(sent))
            self.assertSame(await peer.expect("received"), sent)
            await talker.until(total(back))
            self.assertEqual(talker.messages, back)

    async def test_weDisconnect(self) -> None:
        """What was sent before our close arrives, and it is told (11.3)."""
        for loss in ("0", "0.1"):
            sent = list(series(2, MESSAGES))
            peer, talker = await self.answering("-loss", loss)
            await talker.pumpPieces(iter(sent)).done
            talker.transport.loseConnection()
            await peer.expect("ended", session=1)
            self.assertSame(await peer.ask("report", "report", session=1), sent)
            await talker.lost

    async def test_peerDisconnects(self) -> None:
        """Its notification ends our session in order, after all that came before it."""
        back = list(series(1, MESSAGES))
        peer, talker = await self.answering("-send", str(MESSAGES))
        await peer.expect("sent")
        peer.order("close", session=1)
        self.assertIsInstance(await talker.lost, ConnectionDone)
        self.assertEqual(talker.messages, back)

    async def test_ping(self) -> None:
        """It hears what our listener is (2.1)."""
        port = (await self.serve(Accepting(), motd="hello; world")).getHost().port
        peer, _ = await self.peerServer()
        pong = await peer.ask("ping", "pong", address=f"{HOST}:{port}")
        self.assertEqual(pong["data"], "hello; world")

    async def test_latency(self) -> None:
        """
        Its own estimate of the round trip is that of a loopback and our delayed
        acknowledgements, not of resent messages (section 9).
        """
        peer, talker = await self.answering("-send", "100")
        amount = total(list(series(1, 100)))
        seen = []
        for times in range(1, MEASUREMENTS + 1):
            await talker.until(times * amount)
            await self.pause(1)
            seen.append((await peer.ask("latency", "latency", session=1))["seconds"])
            if seen[-1] < 0.1:
                return
            peer.order("send", session=1, seed=1, count=100)
        self.fail(f"it measures {seen}")

    async def test_stream(self) -> None:
        """
        A byte stream of messages with our user id arrives at our listener, and one
        of ours at it.
        """
        count = 5000
        factory = Accepting(echo=True)
        peer = await self.peerClient(
            factory, "-send", str(count), "-size", "1001", "-expect", str(count)
        )
        talker = await factory.next()
        await talker.until(count * 1000)
        pieces = series(1, count, 1001)
        self.assertEqual(talker.received, count * 1000)
        self.assertEqual(talker.sha256, hashlib.sha256(b"".join(p[1:] for p in pieces)).hexdigest())
        self.assertEqual(await peer.told("ended"), [])

    async def test_manySessions(self) -> None:
        """Fifty sessions at once are served side by side."""
        flags = ("-sessions", "50", "-send", "100", "-expect", "100")
        factory = Accepting(echo=True, talker=MessageTalker)
        peer = await self.peerClient(factory, *flags, mode="messages")
        expected = list(series(1, 100))
        for session in range(1, 51):
            self.assertSame(await peer.expect("received", session=session), expected)
