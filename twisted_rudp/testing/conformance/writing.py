# mypy: allow-untyped-calls
"""The transport object, and flow control towards the wire: sections 5 and 6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITLSTransport,
    ITransport,
)
from zope.interface.verify import verifyObject

from .actors import Puller, Pusher, pattern
from .case import ConformanceCase

MOST_BUFFERED = 50_000_000
"""Bytes that a sender with the kernel's buffers may take in for a peer that does not read."""


class TransportObject(ConformanceCase):
    """What a protocol finds in C{self.transport}."""

    async def test_interfaces(self) -> None:
        """
        TR-1: both ends declare and provide what other code asks for, and do not
        claim to be TLS.
        """
        for end in await self.pair():
            for interface in (ITransport, IConsumer, IPushProducer, ITCPTransport, ILoggingContext):
                verifyObject(interface, end.transport)
            self.assertFalse(ISSLTransport.providedBy(end.transport))
            if self.transport.follows("TR-1"):
                self.assertFalse(ITLSTransport.providedBy(end.transport))

    async def test_writeWantsBytes(self) -> None:
        """TR-2: everything but bytes raises TypeError and writes nothing."""
        near, far = await self.pair()
        for wrong in ("text", bytearray(b"x"), memoryview(b"x"), None):
            self.assertRaises(TypeError, near.transport.write, wrong)
            self.assertRaises(TypeError, near.transport.writeSequence, [b"no", wrong])
        near.transport.write(b"")
        near.transport.write(b"yes")
        await self.received(far, 3)
        self.assertEqual(far.received, b"yes")

    async def test_writeSequence(self) -> None:
        """TR-3: any iterable of bytes will do."""
        near, far = await self.pair()
        near.transport.writeSequence([b"a", b"", b"b"])
        near.transport.writeSequence((b"c",))
        await self.received(far, 3)

        def generate() -> Iterator[bytes]:
            yield b"d"
            yield b"e"

        near.transport.writeSequence(generate())
        near.transport.write(b".")
        expected = b"abcde." if self.transport.follows("TR-3") else b"abc."
        await self.received(far, len(expected))
        self.assertEqual(far.received, expected)

    async def test_attributes(self) -> None:
        """
        TR-5: connected, disconnected, disconnecting and protocol tell the truth, and
        disconnecting does so inside loseConnection.
        """
        near, far = await self.pair()
        transport = near.transport
        self.assertEqual([bool(transport.connected), bool(transport.disconnected)], [True, False])
        self.assertFalse(transport.disconnecting)
        self.assertIs(far.transport.protocol, far)
        if self.transport.follows("FAC-3"):
            self.assertIs(transport.protocol, near)
        near.call("loseConnection")
        self.assertTrue(transport.disconnecting)
        await self.lost(near)
        self.assertEqual([bool(transport.connected), bool(transport.disconnected)], [False, True])

    async def test_addressesForEver(self) -> None:
        """TR-6: getHost and getPeer are valid inside connectionLost and after."""
        seen: list[Any] = []
        client = self.factory(connectionLost=lambda r: seen.append(r.transport.getPeer()))
        near, _ = await self.pair(client)
        host, peer = near.transport.getHost(), near.transport.getPeer()
        near.transport.abortConnection()
        await self.lost(near)
        self.assertEqual([*seen, near.transport.getPeer()], [peer, peer])
        if self.transport.follows("TR-6"):
            self.assertEqual(near.transport.getHost(), host)
        else:
            self.assertRaises(AttributeError, near.transport.getHost)

    async def test_options(self) -> None:
        """TR-7: no-delay and keepalive can be set and read."""
        near, far = await self.pair()
        for enabled in (True, False):
            near.transport.setTcpNoDelay(enabled)
            near.transport.setTcpKeepAlive(enabled)
            self.assertEqual(bool(near.transport.getTcpNoDelay()), enabled)
            self.assertEqual(bool(near.transport.getTcpKeepAlive()), enabled)
        near.transport.setTcpNoDelay(True)
        near.transport.write(b"x")
        await self.received(far, 1)

    async def test_logPrefix(self) -> None:
        """TR-9: the log prefix names the protocol."""
        near, _ = await self.pair()
        self.assertIn("Recorder", near.transport.logPrefix())

    async def test_protocolIsReplaced(self) -> None:
        """FAC-4: what is assigned to transport.protocol gets the data from then on."""
        server = self.factory()
        near, far = await self.pair(server=server)
        near.transport.write(b"old")
        await self.received(far, 3)
        successor = self.factory().buildProtocol(None)
        successor.makeConnection(far.transport)
        far.transport.protocol = successor
        near.transport.write(b"new")
        await self.received(successor, 3)
        self.assertEqual((far.received, successor.received), (b"old", b"new"))
        near.transport.loseConnection()
        await self.lost(near, successor)
        self.assertIs(far.lost, None)
        server.built.remove(far)


class Consuming(ConformanceCase):
    """Producers that fill a connection."""

    def start(self, near: Any, pieces: int, size: int = 65_536) -> Pusher:
        producer = Pusher(near, self.stage, pattern(size), pieces)
        producer.start()
        return producer

    async def test_pushProducer(self) -> None:
        """
        FLOW-2: a push producer is paused when the peer does not read and resumed
        when it does; pauses and resumes take turns; nothing is lost.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        producer = self.start(near, self.stage.bulk * 2 // 65_536)
        await self.stage.until(lambda: producer.paused)
        far.transport.resumeProducing()
        await self.received(far, self.stage.bulk * 2 // 65_536 * 65_536)
        await self.stage.until(lambda: not producer.left)
        calls = producer.calls
        if not self.transport.follows("FLOW-2"):
            calls = [c for n, c in enumerate(calls) if calls[n - 1 : n] != [c]]
        self.assertTrue(len(calls) >= 2)
        self.assertEqual(
            calls, ["pause", "resume"] * (len(calls) // 2) + ["pause"] * (len(calls) % 2)
        )
        self.assertEqual(far.received, pattern(65_536) * (producer.written // 65_536))

    async def test_smallWritesDoNotPause(self) -> None:
        """FLOW-1: up to 64 KiB in one turn pause no one."""
        near, far = await self.pair()
        producer = self.start(near, 1)
        await self.received(far, 65_536)
        self.assertEqual(producer.calls, [])

    async def test_pausedProducerStaysPaused(self) -> None:
        """
        FLOW-8: while the peer is paused the sender's producer is, too, and after it
        has been paused nothing more is asked of it.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        producer = self.start(near, 1_000_000)
        written = -1
        while producer.written > written:
            written = producer.written
            self.assertLess(written, MOST_BUFFERED)
            await self.stage.until(lambda: producer.paused)
            await self.stage.settle()
        self.assertEqual(far.received, b"")
        producer.left = 1
        far.transport.resumeProducing()
        await self.stage.until(lambda: not producer.left)
        await self.received(far, producer.written)

    async def test_pullProducer(self) -> None:
        """
        FLOW-3: a pull producer is asked once inside registerProducer, then once per
        drain, never from inside its own write.
        """
        near, far = await self.pair()
        producer = Puller(near, self.stage, pattern(1000), 100)
        producer.register()
        self.assertEqual(producer.calls, ["resume"])
        await self.received(far, 100_000)
        self.assertEqual(producer.calls, ["resume"] * 100)
        self.assertEqual(producer.nested, 0)
        self.assertEqual(far.received, pattern(1000) * 100)

    async def test_oneProducer(self) -> None:
        """
        FLOW-4: a second producer is refused with RuntimeError; unregistering
        without one is harmless, and makes room for another.
        """
        near, _ = await self.pair()
        near.transport.unregisterProducer()
        first, second = (Pusher(near, self.stage, b"x", 1) for _ in range(2))
        first.register()
        self.assertRaises(RuntimeError, second.register)
        near.transport.unregisterProducer()
        second.register()
        near.transport.unregisterProducer()
        self.assertEqual(first.calls + second.calls, [])

    async def test_stoppedBeforeConnectionLost(self) -> None:
        """FLOW-5: a lost connection stops its producer once, and only then tells the protocol."""
        order: list[str] = []
        client = self.factory(connectionLost=lambda r: order.append("connectionLost"))
        near, far = await self.pair(client)
        producer = Pusher(near, self.stage, b"x", 1)
        producer.calls = order
        producer.register()
        far.transport.abortConnection()
        await self.lost(near)
        self.assertEqual(order, ["stop", "connectionLost"])
        self.assertLost(near, error.ConnectionLost, error.ConnectionDone)

    async def test_registeredTooLate(self) -> None:
        """TR-4: a producer registered after the end is stopped at once."""
        near, _ = await self.pair()
        near.transport.abortConnection()
        await self.lost(near)
        producer = Pusher(near, self.stage, b"x", 1)
        producer.register()
        self.assertEqual(producer.calls, ["stop"])
