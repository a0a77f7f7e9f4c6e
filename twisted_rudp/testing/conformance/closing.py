# mypy: allow-untyped-calls
"""Closing: section 7 of the rules."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet import error

from .actors import HalfCloseRecorder, Puller, Pusher, Recorder, pattern
from .case import ConformanceCase, Pair
from .connecting import ApplicationError, explode
from .transport import Capability


class OrderlyClose(ConformanceCase):
    """C{loseConnection}."""

    async def test_flushesFirst(self) -> None:
        """
        CLOSE-1, CLOSE-4: what was written before arrives in full, then both sides
        see ConnectionDone.
        """
        near, far = await self.pair()
        data = pattern(self.stage.bulk)
        near.transport.write(data)
        near.call("loseConnection")
        await self.lost(near, far)
        self.assertTrue(far.received == data)
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_acceptedInTheMeantime(self) -> None:
        """CLOSE-1: writes after loseConnection go out while the flush goes on."""
        near, far = await self.pair()
        far.transport.pauseProducing()
        data = pattern(self.stage.bulk)
        near.transport.write(data)
        near.transport.loseConnection()
        near.transport.write(b"the end")
        await self.stage.settle()
        far.transport.resumeProducing()
        await self.lost(near, far)
        self.assertTrue(far.received == data + b"the end")

    async def test_nothingDeliveredAfterwards(self) -> None:
        """CLOSE-3: after loseConnection no more data is delivered."""
        near, far = await self.pair()
        far.transport.write(b"too late")
        near.call("loseConnection")
        await self.lost(near, far)
        self.assertEqual(near.received, b"")

    async def test_bothAtOnce(self) -> None:
        """CLOSE-8: when both sides close at the same time both see ConnectionDone."""
        ends = await self.pair()
        for end in ends:
            end.transport.write(b"bye")
            end.transport.loseConnection()
        await self.lost(*ends)
        for end in ends:
            self.assertLost(end, error.ConnectionDone)

    async def test_repeated(self) -> None:
        """CLOSE-8: closing twice is closing once."""
        near, far = await self.pair()
        near.call("loseConnection")
        near.call("loseConnection")
        await self.lost(near, far)
        self.assertLost(near, error.ConnectionDone)

    async def test_waitsForPullProducer(self) -> None:
        """CLOSE-2: with a pull producer registered the close waits for all it writes."""
        near, far = await self.pair()
        producer = Puller(near, self.stage, pattern(10_000), 50)
        producer.register()
        near.transport.loseConnection()
        await self.lost(near, far)
        self.assertEqual(len(far.received), 500_000)
        self.assertNotIn("stop", producer.calls)

    async def test_waitsForPausedPushProducer(self) -> None:
        """
        CLOSE-2: with a paused push producer registered the close waits for
        unregisterProducer (with TCP: until it is resumed and the buffer is empty).
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        pieces = 3 * self.stage.bulk // 65_536
        producer = Pusher(near, self.stage, pattern(65_536), pieces)
        producer.start()
        await self.stage.until(lambda: producer.paused)
        near.transport.loseConnection()
        far.transport.resumeProducing()
        await self.lost(near, far)
        self.assertEqual(len(far.received), producer.written)
        if self.transport.follows("CLOSE-2"):
            self.assertEqual(producer.written, pieces * 65_536)

    async def test_waitsForPushProducer(self) -> None:
        """CLOSE-2: the same for one that is not paused. (TCP stops it and closes.)"""
        near, far = await self.pair()
        producer = Pusher(near, self.stage, b"later", 1)
        producer.register()
        near.transport.loseConnection()
        await self.stage.settle()
        if self.transport.follows("CLOSE-2"):
            self.assertEqual(near.events, ["connectionMade"])
            near.transport.write(b"later")
            near.transport.unregisterProducer()
            await self.lost(near, far)
            self.assertEqual((far.received, producer.calls), (b"later", []))
        else:
            await self.lost(near, far)
            self.assertEqual((far.received, producer.calls), (b"", ["stop"]))


class Aborting(ConformanceCase):
    """C{abortConnection}."""

    def peerReasons(self) -> tuple[type[BaseException], ...]:
        """What an abort may look like from the other side."""
        return (error.ConnectionLost,)

    async def test_abort(self) -> None:
        """
        CLOSE-7: an abort is ConnectionAborted here, later and once, and
        ConnectionLost there; unsent bytes are dropped.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(pattern(self.stage.bulk))
        near.call("abortConnection")
        near.call("abortConnection")
        self.assertEqual(near.events, ["connectionMade"])
        await self.lost(near)
        self.assertLost(near, error.ConnectionAborted)
        far.transport.resumeProducing()
        await self.lost(far, limit=self.transport.deadPeerLimit)
        self.assertLost(far, *self.peerReasons())
        self.assertTrue(len(far.received) < self.stage.bulk)

    async def test_winsOverClosing(self) -> None:
        """CLOSE-7: an abort wins over a loseConnection that waits."""
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(pattern(self.stage.bulk))
        near.transport.loseConnection()
        await self.stage.settle()
        near.call("abortConnection")
        await self.lost(near)
        self.assertLost(near, error.ConnectionAborted)

    async def test_producer(self) -> None:
        """
        CLOSE-7, FLOW-5: a paused producer is stopped by an abort and never asked
        again, although the buffers are empty now.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        producer = Pusher(near, self.stage, pattern(65536), 1_000)
        producer.start()
        await self.stage.until(lambda: producer.paused)
        calls = len(producer.calls)
        near.call("abortConnection")
        await self.lost(near)
        self.assertEqual(producer.calls[calls:], ["stop"])

    async def test_winsInTheSameTurn(self) -> None:
        """CLOSE-7: loseConnection after abortConnection changes nothing."""
        near, _ = await self.pair()
        near.call("abortConnection")
        near.call("loseConnection")
        await self.lost(near)
        self.assertLost(near, error.ConnectionAborted)

    async def test_othersLive(self) -> None:
        """CLOSE-7: aborting one connection of a port leaves the others alone."""
        server = self.factory()
        near, far = await self.pair(server=server)
        other = await self.join(self.ports[0], server)
        far.transport.abortConnection()
        await self.lost(far, near, limit=self.transport.deadPeerLimit)
        other.client.transport.write(b"alive")
        await self.received(other.server, 5)


class ApplicationErrors(ConformanceCase):
    """FAC-5: exceptions in user code."""

    async def test_dataReceived(self) -> None:
        """
        FAC-5: an exception in dataReceived is logged and ends that connection with
        itself as the reason; others live.
        """
        server = self.factory()
        near, far = await self.pair(server=server)
        other = await self.join(self.ports[0], server)
        far.hooks["dataReceived"] = explode
        near.transport.write(b"boom")
        await self.lost(far, near, limit=self.transport.deadPeerLimit)
        self.assertLost(far, ApplicationError)
        self.assertLost(near, error.ConnectionLost, error.ConnectionDone)
        self.assertEqual(len(self.flushLoggedErrors(ApplicationError)), 1)
        other.client.transport.write(b"alive")
        await self.received(other.server, 5)

    async def test_connectionLost(self) -> None:
        """FAC-5: an exception in connectionLost is logged and hurts nobody else."""
        server = self.factory()
        near, far = await self.pair(server=server)
        other = await self.join(self.ports[0], server)
        far.hooks["connectionLost"] = explode
        far.transport.abortConnection()
        await self.lost(far)
        await self.stage.settle()
        self.assertEqual(len(self.flushLoggedErrors(ApplicationError)), 1)
        other.client.transport.write(b"alive")
        await self.received(other.server, 5)
        await self.lost(near, limit=self.transport.deadPeerLimit)


class HalfClose(ConformanceCase):
    """CLOSE-9, where the wire can do it."""

    needs = Capability.HALF_CLOSE

    async def halfCloseable(self) -> Pair:
        return await self.pair(self.factory(HalfCloseRecorder), self.factory(HalfCloseRecorder))

    async def until(self, recorder: Recorder, event: str) -> None:
        await self.stage.until(lambda: event in recorder.events)

    async def test_oneDirection(self) -> None:
        """
        CLOSE-9: loseWriteConnection flushes, ends that direction and tells both
        protocols; the other direction goes on.
        """
        near, far = await self.halfCloseable()
        data = pattern(self.stage.bulk)
        near.transport.write(data)
        near.call("loseWriteConnection")
        await self.until(far, "readConnectionLost")
        await self.until(near, "writeConnectionLost")
        self.assertTrue(far.received == data)
        self.assertEqual(far.events, ["connectionMade", "dataReceived", "readConnectionLost"])
        self.assertEqual(near.events, ["connectionMade", "writeConnectionLost"])
        far.transport.write(b"answer")
        await self.received(near, 6)
        far.transport.loseConnection()
        await self.lost(far)
        await self.until(near, "readConnectionLost")
        near.transport.loseConnection()
        await self.lost(near)
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_laterWritesAreDropped(self) -> None:
        """CLOSE-9: what is written after the end of stream is dropped without a word."""
        near, far = await self.halfCloseable()
        near.call("loseWriteConnection")
        await self.until(far, "readConnectionLost")
        await self.until(near, "writeConnectionLost")
        near.call("write", b"too late")
        await self.stage.settle()
        self.assertEqual((far.received, near.lost, far.lost), (b"", None, None))

    async def test_peerWithoutHalfClose(self) -> None:
        """
        CLOSE-9: for a protocol that is not half-closeable the peer's end of stream
        is the end of the connection, ConnectionDone.
        """
        near, far = await self.pair(self.factory(HalfCloseRecorder), self.factory())
        near.transport.loseWriteConnection()
        await self.lost(far)
        self.assertLost(far, error.ConnectionDone)
        await self.until(near, "readConnectionLost")
        near.transport.loseConnection()
        await self.lost(near)

    async def test_bothDirections(self) -> None:
        """
        CLOSE-9: with both directions closed there is no connectionLost until
        loseConnection; then it comes in a later turn (for TCP: at once).
        """
        near, far = await self.halfCloseable()
        for end in (near, far):
            end.call("loseWriteConnection")
        for end in (near, far):
            await self.until(end, "readConnectionLost")
            await self.until(end, "writeConnectionLost")
        await self.stage.settle()
        self.assertEqual([near.lost, far.lost], [None, None])
        for end in (near, far):
            if self.transport.follows("CLOSE-9"):
                end.call("loseConnection")
                self.assertIs(end.lost, None)
            else:
                end.transport.loseConnection()
        await self.lost(near, far)
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_closingBothHalves(self) -> None:
        """
        CLOSE-9: loseConnection of a half-closeable protocol closes both halves; the
        peer, told by readConnectionLost, does the same.
        """
        near, far = await self.halfCloseable()
        near.call("loseConnection")
        await self.until(far, "readConnectionLost")
        far.call("loseConnection")
        await self.lost(near, far)
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_callbackRaises(self) -> None:
        """FAC-5: an exception in readConnectionLost ends the connection with itself."""
        near, far = await self.halfCloseable()
        far.hooks["readConnectionLost"] = explode
        near.transport.loseWriteConnection()
        await self.lost(far)
        self.assertLost(far, ApplicationError)
        self.assertEqual(len(self.flushLoggedErrors(ApplicationError)), 1)


class Afterwards(ConformanceCase):
    """What is left of a connection."""

    async def test_everythingIsSilent(self) -> None:
        """TR-4: after connectionLost every method does nothing."""
        near, far = await self.pair()
        near.transport.loseConnection()
        await self.lost(near, far)
        for end in (near, far):
            for method, arguments in SILENT.items():
                if self.transport.follows(f"TR-4 {method}"):
                    end.call(method, *arguments)
        await self.stage.settle()
        self.assertEqual([near.events[1:], far.events[1:]], [["connectionLost"]] * 2)

    async def test_protocolsAreReleased(self) -> None:
        """CLOSE-10: once lost, a connection keeps neither its protocol nor its producer alive."""
        # What is there already is not looked through, which would take most of the time.
        gc.freeze()
        self.addCleanup(gc.unfreeze)
        for method in ("loseConnection", "abortConnection"):
            client, server = self.factory(), self.factory()
            near, far = await self.pair(client, server)
            producer = Pusher(near, self.stage, b"x", 1)
            producer.start()
            await self.received(far, 1)
            near.call(method)
            await self.lost(near, far, limit=self.transport.deadPeerLimit)
            transports = [near.transport, far.transport]
            watched: list[weakref.ref[Any]] = [weakref.ref(x) for x in (near, far, producer)]
            for factory in (client, server):
                factory.built.clear()
            del near, far, producer
            await self.stage.settle()
            gc.collect()
            self.assertEqual([watch() for watch in watched], [None] * 3, method)
            self.assertEqual(len(transports), 2)


SILENT: dict[str, tuple[object, ...]] = {
    "write": (b"x",),
    "writeSequence": ([b"x"],),
    "loseConnection": (),
    "loseWriteConnection": (),
    "abortConnection": (),
    "pauseProducing": (),
    "resumeProducing": (),
    "stopProducing": (),
    "unregisterProducer": (),
}
"""Methods that do nothing after the end, with arguments for them (TR-4)."""
