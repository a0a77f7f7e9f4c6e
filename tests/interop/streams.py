"""What must hold with every peer, whichever program it is."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectError

from tests.interop.harness import Peer
from tests.interop.ours import Accepting, MessageTalker, OursTestCase, Pump
from tests.interop.pattern import digest, framedDigest, messages

MEGABYTE = 1_000_000

MESSAGES = 300_000
"""Bytes of the message tests altogether."""

LONGEST = 1376
"""Message that fits a segment of the default MTU."""

QUIET_DATAGRAMS = 10
"""What a peer may still send in L{QUIET_SECONDS} after we have left in order: a
few window probes (kcp-close.md section 5: at most five in ten seconds)."""

QUIET_SECONDS = 3.0

QUIET_WITHIN = 5
"""Times L{QUIET_SECONDS} until it is quiet: on a loaded machine it may read our leaving late."""

SETTLED_SECONDS = 1.0
"""Time for what is on its way to arrive, where nothing may come of it."""


class StreamTestCase(OursTestCase):
    """
    @cvar bulk: how much the largest transfers carry.
    """

    bulk = 100 * MEGABYTE

    async def assertQuiet(self, peer: Peer) -> None:
        """A peer that we have left sends next to nothing."""
        await self.pause(SETTLED_SECONDS)
        sent = [(await peer.counters())["OutPkts"]]
        for _ in range(QUIET_WITHIN):
            await self.pause(QUIET_SECONDS)
            sent.append((await peer.counters())["OutPkts"])
            if sent[-1] - sent[-2] <= QUIET_DATAGRAMS:
                return
        self.fail(f"it goes on sending: {sent}")

    async def assertStuck(self, pump: Pump) -> None:
        """The transport has paused a pump, before it wrote all too much, and it stays paused."""
        written = -1
        while not pump.paused or pump.written > written:
            written = pump.written
            self.assertLess(written, 10 * MEGABYTE)
            await self.pause(SETTLED_SECONDS)


class RoundTripTests(StreamTestCase):
    """Bytes to the peer and back, whoever dials."""

    async def roundTrip(self, size: int, *flags: str, **settings: Any) -> None:
        """
        @param flags: for the peer; C{settings} are ours.
        """
        raise NotImplementedError

    async def test_everyPort(self) -> None:
        """Each kind of port carries the same bytes."""
        for kind in ("gso", "plain", "stock"):
            await self.roundTrip(5 * MEGABYTE, portKind=kind)

    async def test_loss(self) -> None:
        """Up to a tenth of the datagrams may be lost each way."""
        for loss in ("0.01", "0.05", "0.1"):
            await self.roundTrip(2 * MEGABYTE, "-loss", loss)

    async def test_smallWindow(self) -> None:
        """A peer with the window that kcp-go starts with is served, and not overrun for good."""
        windows = ("-sndwnd", "32", "-rcvwnd", "32")
        await self.roundTrip(2 * MEGABYTE, *windows)
        await self.roundTrip(MEGABYTE // 2, *windows, "-loss", "0.05")


class ClientTests(RoundTripTests):
    """Our client, the peer's server."""

    async def roundTrip(self, size: int, *flags: str, **settings: Any) -> None:
        _, port = await self.peerServer("-echo", *flags)
        talker = await self.dial(port, **settings)
        talker.pump(4, size)
        await talker.until(size)
        self.assertEqual(talker.received, size)
        self.assertEqual(talker.sha256, digest(4, size))

    async def test_upload(self) -> None:
        """A bulk of data to the peer arrives whole."""
        peer, port = await self.peerServer("-expect", str(self.bulk))
        (await self.dial(port)).pump(2, self.bulk)
        self.assertEqual((await peer.expect("received"))["sha256"], digest(2, self.bulk))

    async def test_download(self) -> None:
        """A bulk of data from the peer arrives whole."""
        _, port = await self.peerServer("-send", str(self.bulk), "-seed", "3")
        talker = await self.dial(port)
        await talker.until(self.bulk)
        self.assertEqual(talker.sha256, digest(3, self.bulk))

    async def test_otherMTU(self) -> None:
        """The two ends need not agree on the size of datagrams (kcp section 8.4)."""
        await self.roundTrip(MEGABYTE, "-mtu", "600")
        await self.roundTrip(MEGABYTE, mtu=600)

    async def test_serverSpeaksFirst(self) -> None:
        """
        The first word opens one session, is answered, and brings the greeting
        without a byte from us (kcp-close.md section 8).
        """
        peer, port = await self.peerServer("-banner", "hello", "-expect", "6")
        talker = await self.dial(port)
        await talker.until(5)
        talker.transport.write(b"thanks")
        await peer.expect("received", session=1, bytes=6)
        await self.pause(SETTLED_SECONDS)
        self.assertEqual((talker.received, len(await peer.told("accepted"))), (5, 1))
        self.assertEqual((await peer.counters())["KCPInErrors"], 0)

    async def test_nobodyThere(self) -> None:
        """Connecting to a port where nobody listens fails."""
        peer, port = await self.peerServer()
        await peer.stop()
        await self.assertFailure(self.dial(port, timeout=3), ConnectError)

    async def test_peerStopsReading(self) -> None:
        """A peer that does not read stops our producer, and its reading on starts it again."""
        size, mark = 30 * MEGABYTE, MEGABYTE
        peer, port = await self.peerServer("-stopafter", str(mark), "-expect", str(size))
        talker = await self.dial(port)
        pump = talker.pump(6, size)
        await peer.expect("stopped")
        await self.assertStuck(pump)
        peer.order("resume", session=1)
        self.assertEqual((await peer.expect("received"))["sha256"], digest(6, size))

    async def test_weStopReading(self) -> None:
        """Not reading holds the peer up, reading on frees it."""
        size = 30 * MEGABYTE
        peer, port = await self.peerServer("-send", str(size), "-seed", "7")
        talker = await self.dial(port)
        await talker.until(1)
        talker.transport.pauseProducing()
        before = talker.received
        await self.pause(SETTLED_SECONDS)
        self.assertEqual((talker.received, await peer.told("sent")), (before, []))
        talker.transport.resumeProducing()
        await talker.until(size)
        self.assertEqual(talker.sha256, digest(7, size))

    async def test_leaving(self) -> None:
        """
        A peer that was writing without end is quiet when we have left in order
        (kcp-close.md section 5).
        """
        peer, port = await self.peerServer("-send", str(1000 * MEGABYTE))
        talker = await self.dial(port)
        await talker.until(MEGABYTE)
        talker.transport.loseConnection()
        await talker.lost
        await self.assertQuiet(peer)

    async def test_closeDelivers(self) -> None:
        """What was written before C{loseConnection} arrives, also under loss."""
        size = MEGABYTE
        peer, port = await self.peerServer("-expect", str(size), "-loss", "0.05")
        talker = await self.dial(port)
        await talker.pump(8, size).done
        talker.transport.loseConnection()
        self.assertEqual((await peer.expect("received"))["sha256"], digest(8, size))
        await talker.lost

    async def test_messages(self) -> None:
        """
        In message mode the boundaries survive both ways, up to the longest
        message that is one segment (kcp section 1.4).
        """
        for loss in ("0", "0.05"):
            flags = ("-mode", "messages", "-loss", loss, "-expect", str(MESSAGES))
            peer, port = await self.peerServer("-echo", *flags)
            talker = await self.dial(port, MessageTalker, mode="messages")
            sent = list(messages(9, MESSAGES, LONGEST))
            talker.pumpPieces(iter(sent))
            received = await peer.expect("received")
            self.assertEqual(received["framed"], framedDigest(iter(sent)))
            await talker.until(MESSAGES)
            self.assertEqual(talker.messages, sent)


class ServerTests(RoundTripTests):
    """The peer's client, our server."""

    async def roundTrip(self, size: int, *flags: str, **settings: Any) -> None:
        peer = await self.peerClient(
            Accepting(echo=True), "-send", str(size), "-expect", str(size), *flags, **settings
        )
        self.assertEqual((await peer.expect("received"))["sha256"], digest(1, size))

    async def test_upload(self) -> None:
        """A bulk of data from the peer arrives whole."""
        factory = Accepting()
        await self.peerClient(factory, "-send", str(self.bulk))
        talker = await factory.next()
        await talker.until(self.bulk)
        self.assertEqual(talker.sha256, digest(1, self.bulk))

    async def test_download(self) -> None:
        """A bulk of data to the peer arrives whole."""
        factory = Accepting()
        peer = await self.peerClient(factory, "-banner", "go", "-expect", str(self.bulk))
        (await factory.next()).pump(2, self.bulk)
        self.assertEqual((await peer.expect("received"))["sha256"], digest(2, self.bulk))

    async def test_peerStopsReading(self) -> None:
        """A peer that does not read stops our producer, and its reading on starts it again."""
        size, mark = 30 * MEGABYTE, MEGABYTE
        factory = Accepting()
        peer = await self.peerClient(
            factory, "-banner", "go", "-stopafter", str(mark), "-expect", str(size)
        )
        pump = (await factory.next()).pump(6, size)
        await peer.expect("stopped")
        await self.assertStuck(pump)
        peer.order("resume", session=1)
        self.assertEqual((await peer.expect("received"))["sha256"], digest(6, size))

    async def test_leaving(self) -> None:
        """
        A peer that was writing without end is quiet when our server has closed
        its session in order, and that opens no other (kcp-close.md section 5).
        """
        factory = Accepting()
        peer = await self.peerClient(factory, "-send", str(1000 * MEGABYTE))
        talker = await factory.next()
        await talker.until(MEGABYTE)
        talker.transport.loseConnection()
        await talker.lost
        await self.assertQuiet(peer)
        self.assertEqual(len(factory.talkers), 1)

    async def test_closeDelivers(self) -> None:
        """What our server wrote before C{loseConnection} arrives, also under loss."""
        size = MEGABYTE
        factory = Accepting()
        peer = await self.peerClient(
            factory, "-banner", "go", "-expect", str(size), "-loss", "0.05"
        )
        talker = await factory.next()
        await talker.pump(8, size).done
        talker.transport.loseConnection()
        self.assertEqual((await peer.expect("received"))["sha256"], digest(8, size))
        await talker.lost

    async def test_peerVanishes(self) -> None:
        """A peer that is gone without a word is noticed after the idle timeout."""
        factory = Accepting()
        peer = await self.peerClient(factory, "-send", "1000", idleTimeout=2)
        talker = await factory.next()
        await talker.until(1000)
        await peer.stop()
        self.assertIsInstance(await talker.lost, Exception)

    async def test_messages(self) -> None:
        """
        In message mode the boundaries survive both ways, up to the longest
        message that is one segment (kcp section 1.4).
        """
        for loss in ("0", "0.05"):
            flags = ["-mode", "messages", "-messagesize", str(LONGEST), "-loss", loss]
            flags += ["-send", str(MESSAGES), "-expect", str(MESSAGES)]
            factory = Accepting(echo=True, talker=MessageTalker)
            peer = await self.peerClient(factory, *flags, mode="messages")
            sent = list(messages(1, MESSAGES, LONGEST))
            received = await peer.expect("received")
            self.assertEqual(received["framed"], framedDigest(iter(sent)))
            self.assertEqual(factory.talkers[0].messages, sent)
