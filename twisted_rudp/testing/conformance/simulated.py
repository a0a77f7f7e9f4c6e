# mypy: allow-untyped-calls
"""Transfers where losses and time are in the test's hand: items 6 and 8 of the conformance list."""

from __future__ import annotations

from twisted.internet import error

from ..impairments import BurstLoss, Impairments
from .actors import Pusher, Recorder, pattern
from .case import ConformanceCase
from .stages import Simulation
from .transport import Capability


class SimulatedCase(ConformanceCase):
    """A topic on the simulated network."""

    simulated = True
    stage: Simulation

    def cut(self) -> None:
        self.stage.network.cut(self.stage.client, self.stage.server)

    def impair(self, impairments: Impairments) -> None:
        self.stage.network.impair(impairments, self.stage.client, self.stage.server)

    @property
    def now(self) -> float:
        return self.stage.network.clock.seconds()


class BadLinks(SimulatedCase):
    """Item 6: bytes survive whatever the path does."""

    async def echo(self, impairments: Impairments, size: int) -> None:
        """Connect over such a path, have so many bytes echoed, and close."""
        self.impair(impairments)

        def answer(recorder: Recorder) -> None:
            recorder.transport.write(bytes(recorder.received[-recorder.chunks[-1] :]))

        near, far = await self.pair(server=self.factory(dataReceived=answer))
        data = pattern(size)
        near.transport.write(data)
        await self.stage.until(lambda: len(near.received) >= size, limit=600)
        self.assertTrue(near.received == data)
        near.transport.loseConnection()
        await self.lost(near, far, limit=self.transport.deadPeerLimit)
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_loss(self) -> None:
        """Item 6: one datagram in ten is lost."""
        await self.echo(Impairments(delay=0.02, loss=0.1), 200_000)

    async def test_bursts(self) -> None:
        """Item 6: losses come in bursts."""
        await self.echo(Impairments(delay=0.02, burst=BurstLoss(0.02, 0.3)), 200_000)

    async def test_reordering(self) -> None:
        """Item 6: one datagram in five is overtaken by others."""
        await self.echo(
            Impairments(delay=0.02, jitter=0.01, reorder=0.2, reorder_delay=0.03), 200_000
        )

    async def test_duplication(self) -> None:
        """Item 6: one datagram in three arrives twice."""
        await self.echo(Impairments(delay=0.02, duplicate=0.33), 200_000)

    async def test_everythingAtOnce(self) -> None:
        """Item 6: loss, reordering, duplication and jitter together."""
        await self.echo(
            Impairments(delay=0.05, jitter=0.05, loss=0.05, reorder=0.1, duplicate=0.1), 200_000
        )

    async def test_bottleneck(self) -> None:
        """Item 6: a slow link with a short queue before it."""
        await self.echo(Impairments(delay=0.02, rate=250_000, queue=30_000), 200_000)


class FlowOverTime(SimulatedCase):
    """Item 8, and what else of flow control shows in time or on the wire."""

    async def test_resumeWithoutProbeDelay(self) -> None:
        """
        FLOW-8: a reader that resumes gets data at once and the sender goes on within
        a few round trips, not when a probe timer says so.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        producer = Pusher(near, self.stage, pattern(65_536), 1_000_000)
        producer.start()
        await self.stage.until(lambda: producer.paused)
        self.stage.network.runFor(20)
        written = producer.written
        resumed = self.now
        far.transport.resumeProducing()
        await self.stage.until(lambda: len(far.received) > written)
        self.assertTrue(self.now - resumed < 0.5, self.now - resumed)
        producer.left = 1
        await self.received(far, written + 65_536)
        near.transport.abortConnection()
        await self.lost(near)

    async def test_longPause(self) -> None:
        """FLOW-9: a connection whose reader is paused for long stays alive."""
        # Five times as long as a vanished peer may last, which no time-out outlives.
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(pattern(self.stage.bulk))
        self.stage.network.runFor(5 * self.transport.deadPeerLimit)
        self.assertEqual([near.lost, far.lost], [None, None])
        far.transport.resumeProducing()
        await self.received(far, self.stage.bulk)

    async def test_longSilence(self) -> None:
        """CLOSE-5: a connection on which nobody speaks stays alive as long as both ends do."""
        near, far = await self.pair()
        self.stage.network.runFor(10 * self.transport.deadPeerLimit)
        self.assertEqual([near.lost, far.lost], [None, None])
        near.transport.write(b"still here")
        await self.received(far, 10)

    async def test_boundedMemory(self) -> None:
        """FLOW-1: what a producer writes onto a path that delivers nothing is bounded."""
        near, _ = await self.pair()
        self.cut()
        producer = Pusher(near, self.stage, pattern(65_536), 1_000_000)
        producer.start()
        await self.stage.until(lambda: producer.paused)
        self.stage.network.runFor(1)
        self.assertTrue(producer.paused)
        self.assertTrue(producer.written < 8_000_000, producer.written)


class Packing(SimulatedCase):
    """What goes on the wire."""

    needs = Capability.COUNTS_DATAGRAMS

    async def test_oneTurnOneDatagram(self) -> None:
        """TR-8: small writes of one turn go out together."""
        near, far = await self.pair()
        await self.stage.settle()
        trace = self.stage.network.trace
        costs = []
        for pieces in ([b"xyz"], [b"x", b"y", b"z"]):
            before = len(trace)
            wanted = len(far.received) + 3
            for piece in pieces:
                near.transport.write(piece)
            await self.received(far, wanted)
            source = (self.stage.clientHost, near.transport.getHost().port)
            sent = [t for t in list(trace)[before:] if t.source == source]
            costs.append(len(sent))
            await self.stage.settle()
        self.assertEqual(costs, [1, 1])
