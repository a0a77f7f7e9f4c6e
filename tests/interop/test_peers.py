"""
The peer programs themselves, one talking to another, so that a test that fails
with one of them on one side only is about us.
"""

from __future__ import annotations

from tests.interop.harness import Peer, PeerTestCase, goraknet, ikcp, kcpgo
from tests.interop.pattern import digest, framedDigest, messages, series

MEGABYTE = 1_000_000

ONE_SEGMENT = 1376
"""What the C original gives at least in one read, where kcp-go gives any part."""

CIPHERS = (
    "null", "none", "xor", "aes", "aes-128", "aes-192", "aes-128-gcm", "aes-192-gcm",
    "aes-256-gcm", "blowfish", "cast5", "3des", "salsa20", "sm4", "tea", "twofish", "xtea",
)  # fmt: skip


class PairTestCase(PeerTestCase):
    """A server and a client that are the same program."""

    program: tuple[str, ...]

    async def pair(self, server: list[str], client: list[str]) -> tuple[Peer, Peer]:
        serving = self.spawn(self.program, *server)
        address = f"127.0.0.1:{await serving.port()}"
        return serving, self.spawn(self.program, "-role", "client", "-addr", address, *client)


class CommonTests:
    """What every peer program can do."""

    async def test_pattern(self) -> None:
        """Both languages make the same bytes of a seed, over the edge of a block."""
        size = 3 * MEGABYTE + 17
        server, client = await self.pair(["-expect", str(size)], ["-send", str(size), "-seed", "5"])
        self.assertEqual((await client.expect("sent"))["sha256"], digest(5, size))
        self.assertEqual((await server.expect("received"))["sha256"], digest(5, size))

    async def test_echoUnderLoss(self) -> None:
        """Loss on the peer's own socket is repaired and shows in its counters."""
        size = MEGABYTE
        _, client = await self.pair(
            ["-echo", "-loss", "0.05", "-lossseed", "3"],
            ["-send", str(size), "-expect", str(size), "-loss", "0.05"],
        )
        self.assertEqual((await client.expect("received"))["sha256"], digest(1, size))
        self.assertGreater((await client.counters())[self.repeats], 0)

    async def test_messages(self) -> None:
        """In message mode the boundaries of a pattern are those of L{messages}."""
        size = 200_000
        mode = ["-mode", "messages"]
        server, _ = await self.pair(
            [*mode, "-expect", str(size)],
            [*mode, "-send", str(size), "-messagesize", "1376"],
        )
        received = await server.expect("received")
        self.assertEqual(received["framed"], framedDigest(messages(1, size, 1376)))

    async def test_bannerAndAnswer(self) -> None:
        """A server with a banner speaks as soon as it has accepted; orders write."""
        server, client = await self.pair(["-banner", "hello", "-expect", "1"], ["-expect", "5"])
        client.order("write", session=1, hex="00")
        await client.expect("received", session=1, bytes=5)
        # It may read that after it has spoken.
        await server.expect("received", session=1, bytes=1)

    async def test_stopAndResume(self) -> None:
        """A session that stops reading holds the sender up until it is told to read on."""
        size = 4 * MEGABYTE
        server, client = await self.pair(
            ["-stopafter", str(MEGABYTE), "-expect", str(size)], ["-send", str(size)]
        )
        await server.expect("stopped")
        self.assertEqual(await client.told("sent"), [])
        server.order("resume", session=1)
        self.assertEqual((await server.expect("received"))["sha256"], digest(1, size))

    async def test_closeAfter(self) -> None:
        """A server closes its session where it was told to."""
        server, _ = await self.pair(["-closeafter", "1000"], ["-send", "5000"])
        await server.expect("closed", session=1)
        report = await server.ask("report", "report", session=1)
        self.assertIn(report["bytes"], (1000, ONE_SEGMENT))

    async def test_endsWithItsInput(self) -> None:
        """A peer whose standard input ends says its counters and goes."""
        peer = self.spawn(self.program)
        await peer.port()
        await peer.stop()
        self.assertEqual(peer.heard[-1]["event"], "end")


class KCPGoTests(CommonTests, PairTestCase):
    """C{kcppeer} against itself."""

    repeats = "RetransSegs"

    def setUp(self) -> None:
        self.program = kcpgo()

    async def test_reconnectFromTheSamePort(self) -> None:
        """
        A client dials again from the port it had, with the conversation it is
        told; the listener makes it another session.
        """
        server, client = await self.pair(["-echo"], ["-conv", "7", "-send", "10", "-expect", "10"])
        first = await client.expect("dialled", session=1)
        await client.expect("received", session=1)
        await client.ask("close", "closed", session=1)
        second = await client.ask("dial", "dialled", conv=8)
        await client.expect("received", session=2)
        self.assertEqual((first["local"], first["conv"], second["conv"]), (second["local"], 7, 8))
        await server.expect("accepted", session=2, conv=8)

    async def test_manySessions(self) -> None:
        """A client opens as many sessions as it is asked for."""
        server, client = await self.pair(
            ["-echo"], ["-sessions", "50", "-send", "100", "-expect", "100"]
        )
        for session in range(1, 51):
            await client.expect("received", session=session)
        await server.expect("accepted", session=50)
        self.assertEqual(len(await server.told("accepted")), 50)

    async def test_ciphersAndParity(self) -> None:
        """Every cipher name works, alone and with forward error correction."""
        for name in CIPHERS:
            flags = ["-crypt", name, "-key", bytes(range(32)).hex()]
            flags += ["-datashard", "10", "-parityshard", "3"]
            server, client = await self.pair(
                [*flags, "-expect", "50000"], [*flags, "-send", "50000", "-loss", "0.05"]
            )
            self.assertEqual((await server.expect("received"))["sha256"], digest(1, 50000), name)
            await client.stop()
            await server.stop()


class IKCPTests(CommonTests, PairTestCase):
    """The C original against itself."""

    repeats = "Timeouts"

    def setUp(self) -> None:
        self.program = ikcp()


class GoRakNetTests(PairTestCase):
    """C{rakpeer} against itself."""

    def setUp(self) -> None:
        self.program = goraknet()

    async def test_series(self) -> None:
        """Both languages make the same messages of a seed, and an echo brings them back."""
        flags = ["-send", "500", "-seed", "5", "-expect", "500"]
        _, client = await self.pair(["-echo"], flags)
        received = await client.expect("received")
        self.assertEqual(received["framed"], framedDigest(series(5, 500)))

    async def test_loss(self) -> None:
        """Loss on the peer's own socket is repaired and counted."""
        server, client = await self.pair(
            ["-expect", "500", "-loss", "0.05"], ["-send", "500", "-size", "1000"]
        )
        received = await server.expect("received")
        self.assertEqual(received["framed"], framedDigest(series(1, 500, 1000)))
        self.assertGreater((await server.counters())["lost"], 0)
        self.assertEqual((await client.counters())["lost"], 0)

    async def test_pingAndClose(self) -> None:
        """It pings its like, and a close at one side ends the session at both."""
        server, client = await self.pair(["-motd", "hello"], [])
        port = await server.port()
        pong = await client.ask("ping", "pong", address=f"127.0.0.1:{port}")
        self.assertEqual(pong["data"], "hello")
        await client.ask("close", "closed", session=1)
        await client.expect("ended", session=1)
        await server.expect("ended", session=1)
