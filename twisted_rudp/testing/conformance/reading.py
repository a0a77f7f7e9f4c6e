# mypy: allow-untyped-calls
"""Flow control towards the application: the second half of section 6."""

from __future__ import annotations

from twisted.internet import error

from .actors import pattern
from .case import ConformanceCase


class Reading(ConformanceCase):
    """The transport as a push producer."""

    async def test_pauseInsideDataReceived(self) -> None:
        """FLOW-6: after pauseProducing returned, nothing more is delivered."""
        server = self.factory(dataReceived=lambda r: r.call("pauseProducing"))
        near, far = await self.pair(server=server)
        near.transport.write(pattern(self.stage.bulk))
        await self.stage.until(lambda: far.chunks)
        await self.stage.settle()
        self.assertEqual(len(far.chunks), 1)
        far.hooks.clear()
        far.transport.resumeProducing()
        await self.received(far, self.stage.bulk)
        self.assertEqual(far.received, pattern(self.stage.bulk))

    async def test_resumeDoesNotDeliver(self) -> None:
        """FLOW-7: resumeProducing delivers later, not before it returns."""
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(b"waiting")
        await self.stage.settle()
        far.call("resumeProducing")
        self.assertEqual(far.received, b"")
        await self.received(far, 7)

    async def test_pauseIsNoCounter(self) -> None:
        """FLOW-7: one resume undoes any number of pauses."""
        near, far = await self.pair()
        for _ in range(3):
            far.transport.pauseProducing()
        far.transport.resumeProducing()
        near.transport.write(b"x")
        await self.received(far, 1)

    async def test_alternating(self) -> None:
        """FLOW-6, FLOW-7: pausing and resuming at each delivery loses nothing."""

        def hesitate(recorder: object) -> None:
            far.call("pauseProducing")
            self.stage.serverReactor.callLater(0, far.transport.resumeProducing)

        near, far = await self.pair(server=self.factory(dataReceived=hesitate))
        size = self.stage.bulk // 4
        near.transport.write(pattern(size))
        await self.received(far, size)
        self.assertEqual(far.received, pattern(size))
        far.hooks.clear()
        await self.stage.settle()

    async def test_closeWaitsBehindUnreadBytes(self) -> None:
        """
        FLOW-9: a paused reader learns of the peer's orderly close after it has read
        what came before.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(b"last words")
        near.transport.loseConnection()
        await self.stage.settle()
        self.assertEqual(far.events, ["connectionMade"])
        far.transport.resumeProducing()
        await self.lost(near, far)
        self.assertEqual(far.received, b"last words")
        self.assertLost(far, error.ConnectionDone)

    async def test_abortDoesNotWait(self) -> None:
        """FLOW-9: a local abort of a paused connection takes effect."""
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(b"never read")
        await self.stage.settle()
        far.transport.abortConnection()
        await self.lost(far)
        self.assertEqual(far.received, b"")
        self.assertLost(far, error.ConnectionAborted)

    async def test_stopProducing(self) -> None:
        """FLOW-10: stopProducing on the transport means loseConnection."""
        near, far = await self.pair()
        near.transport.write(b"before")
        near.call("stopProducing")
        await self.lost(near, far)
        self.assertEqual(far.received, b"before")
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_pieces(self) -> None:
        """FLOW-11: data comes as bytes in pieces of at most 64 KiB."""
        near, far = await self.pair()
        near.transport.write(pattern(self.stage.bulk))
        await self.received(far, self.stage.bulk)
        self.assertTrue(max(far.chunks) <= 65_536, max(far.chunks))

    async def test_echo(self) -> None:
        """Item 6: a big echo comes back as it was."""
        server = self.factory()
        server.hooks["dataReceived"] = lambda r: r.transport.write(
            bytes(r.received[-r.chunks[-1] :])
        )
        near, _ = await self.pair(server=server)
        data = pattern(self.stage.bulk)
        near.transport.write(data)
        await self.received(near, len(data))
        self.assertTrue(near.received == data)
