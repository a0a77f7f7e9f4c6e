"""Encryption and FEC with kcp-go 5.6.72 and the newest, in both directions."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import connectProtocol
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer

from tests.interop.harness import NEWEST_KCPGO, Peer, kcpgo
from tests.interop.ours import HOST, Accepting, OursTestCase, Talker
from tests.interop.pattern import digest
from tests.interop.streams import MEGABYTE, SETTLED_SECONDS
from twisted_rudp.endpoints.kcp import KCPClientEndpoint
from twisted_rudp.errors import PeerReset
from twisted_rudp.interfaces import IOutOfBandProtocol
from twisted_rudp.kcp.crypto import CIPHERS, WITHOUT_KEY

KEY = bytes(range(100, 132)).hex()

RACY = {"sm4"}
"""
kcp-go decrypts while it encrypts, and its SM4 has one scratch buffer for both,
so it spoils datagrams now and then, between two of its own kind too.
"""

BULK = 100 * MEGABYTE

LIGHT = MEGABYTE
"""For each of the many."""

SLOW = MEGABYTE // 10
"""For ciphers in Python."""


class ProtectionTestCase(OursTestCase):
    """Both ends alike."""

    version = ""

    def setUp(self) -> None:
        self.program = kcpgo(version=self.version)

    def both(self, crypt: str, data: int, parity: int) -> tuple[list[str], dict[str, Any]]:
        """The same settings for the peer and for us."""
        flags = ["-crypt", crypt, "-datashard", str(data), "-parityshard", str(parity)]
        ours: dict[str, Any] = {"crypt": crypt, "dataShards": data, "parityShards": parity}
        if crypt not in WITHOUT_KEY and crypt != "null":
            flags += ["-key", KEY]
            ours["key"] = KEY
        elif crypt == "none":
            flags += ["-key", "00"]
        return flags, ours

    async def dialled(
        self, size: int, crypt: str = "null", data: int = 0, parity: int = 0, *more: str
    ) -> tuple[Talker, dict[str, int]]:
        """
        Our client has its bytes sent back by the peer's server.

        @return: our side and the peer's counters.
        """
        flags, ours = self.both(crypt, data, parity)
        peer, port = await self.peerServer("-echo", *flags, *more)
        talker = await self.dial(port, **ours)
        talker.pump(5, size)
        await talker.until(size)
        self.assertEqual(talker.sha256, digest(5, size))
        theirs = await peer.counters()
        if crypt not in RACY:
            self.assertNoErrors(theirs)
        return talker, theirs

    async def served(
        self, size: int, crypt: str = "null", data: int = 0, parity: int = 0, *more: str
    ) -> tuple[Talker, dict[str, int]]:
        """The peer's client has its bytes sent back by our server."""
        flags, ours = self.both(crypt, data, parity)
        factory = Accepting(echo=True)
        sizes = ("-send", str(size), "-expect", str(size))
        peer: Peer = await self.peerClient(factory, *sizes, *flags, *more, **ours)
        self.assertEqual((await peer.expect("received"))["sha256"], digest(1, size))
        theirs = await peer.counters()
        if crypt not in RACY:
            self.assertNoErrors(theirs)
        return factory.talkers[0], theirs

    def assertNoErrors(self, counters: dict[str, int]) -> None:
        """Nothing that came was wrong."""
        wrong = {
            name: counters[name]
            for name in ("InErrs", "InCsumErrors", "KCPInErrors", "FECErrs")
            if counters[name]
        }
        self.assertEqual(wrong, {})


class CipherTests(ProtectionTestCase):
    """Every cipher."""

    async def test_ourClient(self) -> None:
        """Our client and the peer's server (kcp.md 4)."""
        for crypt, kind in CIPHERS.items():
            await self.dialled(SLOW if kind.slow else LIGHT, crypt)

    async def test_ourServer(self) -> None:
        """The peer's client and our server."""
        for crypt, kind in CIPHERS.items():
            await self.served(SLOW if kind.slow else LIGHT, crypt)

    async def test_bulk(self) -> None:
        """A hundred megabytes there and back through C{aes} and AES-GCM."""
        await self.dialled(BULK, "aes")
        await self.served(BULK, "aes-128-gcm")

    async def test_everyPort(self) -> None:
        """Runs or single datagrams: the wire is the same."""
        for kind in ("gso", "plain", "stock"):
            flags, ours = self.both("aes", 10, 3)
            _, port = await self.peerServer("-echo", *flags)
            talker = await self.dial(port, portKind=kind, **ours)
            talker.pump(5, LIGHT)
            await talker.until(LIGHT)
            self.assertEqual(talker.sha256, digest(5, LIGHT))

    async def test_otherKey(self) -> None:
        """A peer with another key is not answered, and the reason is named."""
        flags, ours = self.both("aes", 0, 0)
        flags[-1] = KEY[::-1]
        factory = Accepting()
        said: DeferredQueue[str] = DeferredQueue()

        def hear(event: LogEvent) -> None:
            if event.get("diagnosis"):
                said.put(event["diagnosis"])

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        await self.peerClient(factory, "-send", str(MEGABYTE), *flags, **ours)
        named = await said.get()
        await self.pause(3 * SETTLED_SECONDS)
        self.assertEqual((factory.talkers, said.pending), ([], []))
        self.assertIn("the peer uses a different key or cipher", named)


class FECTests(ProtectionTestCase):
    """FEC with loss, so that something is rebuilt."""

    settings = ((10, 3), (3, 2), (1, 1))

    async def test_ourClient(self) -> None:
        """
        Our client and the peer's server rebuild what the other sent, for each
        number of shards, bare and encrypted.
        """
        for data, parity in self.settings:
            for crypt in ("null", "aes", "aes-128-gcm"):
                talker, theirs = await self.dialled(
                    2 * MEGABYTE, crypt, data, parity, "-loss", "0.03"
                )
                self.assertRebuilt(talker, theirs)

    async def test_ourServer(self) -> None:
        """The same with the peer's client and our server."""
        for data, parity in self.settings:
            for crypt in ("null", "aes", "aes-128-gcm"):
                talker, theirs = await self.served(
                    2 * MEGABYTE, crypt, data, parity, "-loss", "0.03"
                )
                self.assertRebuilt(talker, theirs)

    def assertRebuilt(self, talker: Talker, theirs: dict[str, int]) -> None:
        """Both sides have rebuilt datagrams."""
        transport: Any = talker.transport
        ours = transport.counters()
        self.assertGreater(ours["FECRecovered"], 0)
        self.assertGreater(theirs["FECRecovered"], 0)
        self.assertEqual((ours["FECErrs"], ours["KCPInErrors"]), (0, 0))

    async def test_bulk(self) -> None:
        """A hundred megabytes there and back with FEC, bare and encrypted."""
        await self.dialled(BULK, "null", 10, 3)
        await self.served(BULK, "aes", 10, 3)

    async def test_oneSide(self) -> None:
        """FEC on one side only, or with other numbers, works all the same (kcp.md 2.2, 3.5)."""
        for ours, theirs in (((0, 0), (10, 3)), ((10, 3), (0, 0)), ((3, 2), (10, 3))):
            flags, _ = self.both("null", *theirs)
            _, port = await self.peerServer("-echo", *flags)
            talker = await self.dial(port, dataShards=ours[0], parityShards=ours[1])
            talker.pump(5, LIGHT)
            await talker.until(LIGHT)
            self.assertEqual(talker.sha256, digest(5, LIGHT))


@implementer(IOutOfBandProtocol)
class Listening(Talker):
    """Keeps the first thing that is said beside its stream."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Deferred[bytes] = Deferred()

    def outOfBandReceived(self, data: bytes) -> None:
        self.heard.callback(data)


class SessionTests(ProtectionTestCase):
    """What kcp-go has beside the stream."""

    async def test_outOfBand(self) -> None:
        """Out-of-band messages go both ways beside a stream (kcp.md 5.5)."""
        from twisted.internet import reactor

        flags, ours = self.both("aes", 3, 2)
        peer, port = await self.peerServer("-echo", *flags)
        protocol = Listening()
        await connectProtocol(KCPClientEndpoint(reactor, HOST, port, **ours), protocol)
        transport: Any = protocol.transport
        self.addCleanup(transport.abortConnection)
        transport.write(b"in the band")
        await protocol.until(11)
        transport.sendOutOfBand(b"beside it")
        said = await peer.expect("oob")
        self.assertEqual(bytes.fromhex(said["hex"]), b"beside it")
        peer.order("oob", session=1, hex=b"and back".hex())
        self.assertEqual(await protocol.heard, b"and back")
        self.assertEqual(transport.counters()["OOBPackets"], 1)
        self.assertEqual((await peer.counters())["OOBPackets"], 1)

    async def test_replaced(self) -> None:
        """
        With kcp-go's own rule a client that dials again from its port ends its
        old session, with ours beside it (kcp.md 5.3).
        """
        for rule, lost in (("replace", True), ("conversation", False)):
            factory = Accepting(echo=True)
            sizes = ("-conv", "7", "-send", "1000", "-expect", "1000")
            peer = await self.peerClient(factory, *sizes, sessions=rule)
            await peer.expect("received", session=1)
            await peer.ask("close", "closed", session=1)
            await peer.ask("dial", "dialled", conv=8)
            await peer.expect("received", session=2)
            if lost:
                # As soon as the peer's acknowledgement has validated its address.
                self.assertIsInstance(await factory.talkers[0].lost, PeerReset)
            else:
                await self.pause(SETTLED_SECONDS)
                self.assertFalse(factory.talkers[0].lost.called)

    async def test_configured(self) -> None:
        """Settings of a live transport change with the next datagram."""
        flags, ours = self.both("aes", 3, 2)
        _, port = await self.peerServer("-echo", *flags)
        talker = await self.dial(port, **ours)
        transport: Any = talker.transport
        transport.configure(mtu=700, sndwnd=64, rateLimit=1 << 30)
        talker.pump(5, LIGHT)
        await talker.until(LIGHT)
        self.assertEqual(talker.sha256, digest(5, LIGHT))
        self.assertEqual(transport.facts()["mss"], 700 - 20 - 8 - 24)
        self.assertRaises(ValueError, transport.configure, dataShards=4)
        self.assertRaises(ValueError, transport.configure, mtu=1)


class NewestCipherTests(CipherTests):
    """The same with the newest kcp-go."""

    version = NEWEST_KCPGO


class NewestFECTests(FECTests):
    """The same with the newest kcp-go."""

    version = NEWEST_KCPGO


class NewestSessionTests(SessionTests):
    """The same with the newest kcp-go."""

    version = NEWEST_KCPGO
