"""Our endpoints and kcp-go, 5.6.72 and the newest."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from tests.interop import streams
from tests.interop.harness import NEWEST_KCPGO, kcpgo
from tests.interop.ours import HOST, Accepting
from tests.interop.pattern import digest
from tests.interop.streams import MEGABYTE, SETTLED_SECONDS


class KCPGoServerTests(streams.ClientTests):
    """Our client, kcp-go's listener."""

    version = ""

    def setUp(self) -> None:
        self.program = kcpgo(version=self.version)

    async def test_reconnectFromTheSamePort(self) -> None:
        """
        A new session from a port that had one replaces that at the listener
        (kcp-close.md section 7, rule 2), with a conversation of its own (rule 3).
        """
        peer, port = await self.peerServer("-echo")
        first = await self.dial(port)
        first.transport.write(b"first")
        await first.until(5)
        local = first.transport.getHost().port
        first.transport.loseConnection()
        await first.lost
        second = await self.dial(port, bindAddress=(HOST, local))
        second.transport.write(b"second")
        await second.until(6)
        accepted = await peer.told("accepted")
        self.assertEqual({event["remote"] for event in accepted}, {local})
        self.assertEqual(len({event["conv"] for event in accepted}), 2)

    async def test_forgotten(self) -> None:
        """
        When the listener has closed its session, our keepalive finds out: the
        session ends with an error, and has opened one new session there at most
        (kcp-close.md section 5, rule 5).
        """
        peer, port = await self.peerServer("-echo")
        talker = await self.dial(port, idleTimeout=8)
        talker.transport.write(b"remember me")
        await talker.until(11)
        await self.pause(SETTLED_SECONDS)
        await peer.ask("close", "closed", session=1)
        reason = await talker.lost
        self.assertIsInstance(reason, ConnectionLost)
        self.assertLessEqual(len(await peer.told("accepted")), 2)

    async def test_closedListener(self) -> None:
        """A listener that goes away with its socket ends our session with an error."""
        peer, port = await self.peerServer("-echo")
        talker = await self.dial(port, idleTimeout=2)
        talker.transport.write(b"hello")
        await talker.until(5)
        await peer.ask("close-listener", "listener-closed")
        talker.transport.write(b"anybody there?")
        self.assertIsInstance(await talker.lost, Exception)


class KCPGoClientTests(streams.ServerTests):
    """kcp-go's client, our listener."""

    version = ""

    def setUp(self) -> None:
        self.program = kcpgo(version=self.version)

    async def test_manySessions(self) -> None:
        """Fifty sessions at once are served side by side."""
        size = MEGABYTE // 10
        peer = await self.peerClient(
            Accepting(echo=True),
            *("-sessions", "50", "-send", str(size), "-expect", str(size)),
        )
        for session in range(1, 51):
            received = await peer.expect("received", session=session)
            self.assertEqual(received["sha256"], digest(1, size))

    async def test_otherConversationFromTheSamePort(self) -> None:
        """
        A client that dials again from its port with another conversation gets a
        session of its own.
        """
        factory = Accepting(echo=True)
        peer = await self.peerClient(
            factory, "-conv", "7", "-send", str(MEGABYTE), "-expect", str(MEGABYTE)
        )
        await peer.expect("received", session=1)
        await peer.ask("close", "closed", session=1)
        await peer.ask("dial", "dialled", conv=8)
        await peer.expect("received", session=2)
        self.assertEqual(len(factory.talkers), 2)

    async def test_sameConversationFromTheSamePort(self) -> None:
        """
        A client that comes back with the conversation it had, while that lives
        here, makes the old session neither deliver twice nor fail others
        (kcp-close.md section 7, rule 3).
        """
        factory = Accepting(echo=True)
        peer = await self.peerClient(factory, "-conv", "7", "-send", "5000", "-expect", "5000")
        await peer.expect("received", session=1)
        await peer.ask("close", "closed", session=1)
        await peer.ask("dial", "dialled", conv=7)
        await self.pause(SETTLED_SECONDS)
        self.assertEqual([talker.received for talker in factory.talkers], [5000])
        await peer.ask("close", "closed", session=2)
        await peer.ask("dial", "dialled", conv=8)
        await peer.expect("received", session=3)


class NewestServerTests(KCPGoServerTests):
    """The same with the newest kcp-go."""

    version = NEWEST_KCPGO


class NewestClientTests(KCPGoClientTests):
    """The same with the newest kcp-go."""

    version = NEWEST_KCPGO
