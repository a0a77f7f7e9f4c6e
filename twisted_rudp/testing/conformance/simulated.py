# mypy: allow-untyped-calls
"""
What can only be shown where losses and time are in the test's hand: items 6, 8, 12
and 17 of the conformance list.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import error
from twisted.internet.defer import maybeDeferred

from ..impairments import BurstLoss, Impairments
from .actors import Pusher, Recorder, pattern
from .case import ConformanceCase
from .stages import Simulation
from .transport import Capability


class SimulatedCase(ConformanceCase):
    """
    A topic on the simulated network.
    """

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
    """
    Item 6: bytes survive whatever the path does.
    """

    async def echo(self, impairments: Impairments, size: int) -> None:
        """
        Connect over such a path, have so many bytes echoed, and close.
        """
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
        """
        Item 6: one datagram in ten is lost.
        """
        await self.echo(Impairments(delay=0.02, loss=0.1), 200_000)

    async def test_bursts(self) -> None:
        """
        Item 6: losses come in bursts.
        """
        await self.echo(Impairments(delay=0.02, burst=BurstLoss(0.02, 0.3)), 200_000)

    async def test_reordering(self) -> None:
        """
        Item 6: one datagram in five is overtaken by others.
        """
        await self.echo(
            Impairments(delay=0.02, jitter=0.01, reorder=0.2, reorder_delay=0.03), 200_000
        )

    async def test_duplication(self) -> None:
        """
        Item 6: one datagram in three arrives twice.
        """
        await self.echo(Impairments(delay=0.02, duplicate=0.33), 200_000)

    async def test_everythingAtOnce(self) -> None:
        """
        Item 6: loss, reordering, duplication and jitter together.
        """
        await self.echo(
            Impairments(delay=0.05, jitter=0.05, loss=0.05, reorder=0.1, duplicate=0.1), 200_000
        )

    async def test_bottleneck(self) -> None:
        """
        Item 6: a slow link with a short queue before it.
        """
        await self.echo(Impairments(delay=0.02, rate=250_000, queue=30_000), 200_000)


class FlowOverTime(SimulatedCase):
    """
    Item 8, and what else of flow control shows in time or on the wire.
    """

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
        """
        FLOW-9: a connection whose reader is paused for long stays alive.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(pattern(self.stage.bulk))
        self.stage.network.runFor(10 * self.transport.deadPeerLimit)
        self.assertEqual([near.lost, far.lost], [None, None])
        far.transport.resumeProducing()
        await self.received(far, self.stage.bulk)

    async def test_longSilence(self) -> None:
        """
        CLOSE-5: a connection on which nobody speaks stays alive as long as both ends
        do.
        """
        near, far = await self.pair()
        self.stage.network.runFor(10 * self.transport.deadPeerLimit)
        self.assertEqual([near.lost, far.lost], [None, None])
        near.transport.write(b"still here")
        await self.received(far, 10)

    async def test_boundedMemory(self) -> None:
        """
        FLOW-1: what a producer writes onto a path that delivers nothing is bounded.
        """
        near, _ = await self.pair()
        self.cut()
        producer = Pusher(near, self.stage, pattern(65_536), 1_000_000)
        producer.start()
        await self.stage.until(lambda: producer.paused)
        self.stage.network.runFor(1)
        self.assertTrue(producer.paused)
        self.assertTrue(producer.written < 8_000_000, producer.written)


class Packing(SimulatedCase):
    """
    What goes on the wire.
    """

    needs = Capability.COUNTS_DATAGRAMS

    async def test_oneTurnOneDatagram(self) -> None:
        """
        TR-8: small writes of one turn go out together.
        """
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


class Vanishing(SimulatedCase):
    """
    Item 12: the peer is gone, without a word.
    """

    async def gone(self, *ends: Recorder) -> None:
        """
        These ends notice within bounds.
        """
        began = self.now
        await self.lost(*ends, limit=self.transport.deadPeerLimit + 1)
        self.assertTrue(self.now - began <= self.transport.deadPeerLimit)
        for end in ends:
            self.assertLost(end, error.ConnectionLost)

    async def test_whileIdle(self) -> None:
        """
        CLOSE-5, CLOSE-8: both sides of an idle connection notice: ConnectionLost.
        """
        ends = await self.pair()
        self.cut()
        await self.gone(*ends)

    async def test_whileSending(self) -> None:
        """
        CLOSE-5: so does a side that sends; its producer is stopped (FLOW-5).
        """
        near, far = await self.pair()
        producer = Pusher(near, self.stage, pattern(65_536), 1_000_000)
        producer.start()
        await self.received(far, 1)
        self.cut()
        await self.gone(near, far)
        self.assertEqual(producer.calls[-1], "stop")

    async def test_whileClosing(self) -> None:
        """
        CLOSE-5: a close that cannot be acknowledged ends with ConnectionLost.
        """
        near, far = await self.pair()
        near.transport.write(pattern(self.stage.bulk))
        self.cut()
        near.call("loseConnection")
        await self.gone(near, far)

    async def test_whilePaused(self) -> None:
        """
        FLOW-9: a paused reader notices as well.
        """
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(b"unread")
        await self.stage.settle()
        self.cut()
        await self.gone(near, far)
        self.assertEqual(far.received, b"")

    async def test_shortOutage(self) -> None:
        """
        An outage of two seconds is survived, with all the bytes.
        """
        near, far = await self.pair()
        data = pattern(100_000)
        self.cut()
        near.transport.write(data)
        self.stage.network.runFor(2)
        self.stage.network.mend(self.stage.client, self.stage.server)
        await self.received(far, len(data))
        self.assertTrue(far.received == data)

    async def test_serverRestarted(self) -> None:
        """
        CLOSE-8: a peer that has lost its memory is ConnectionLost within bounds.
        """
        near, _ = await self.pair()
        number = self.numberOf(self.ports.pop())
        self.cut()
        self.stage.serverReactor.disconnectAll()
        self.stage.network.mend(self.stage.client, self.stage.server)
        await self.listen(self.factory(), number)
        near.transport.write(b"do you know me?")
        await self.gone(near)


class Attempts(SimulatedCase):
    """
    Connecting against the odds (CONN-5 to CONN-8).
    """

    async def test_timeout(self) -> None:
        """
        CONN-6, CONN-7: no answer is TimeoutError when C{timeout} is over, not before.
        """
        port = await self.listen(self.factory())
        self.cut()
        client = self.factory()
        connecting = self.clientEndpoint(port, timeout=3.5).connect(client)
        await self.assertFails(connecting, error.TimeoutError)
        self.assertAlmostEqual(self.now, 3.5, delta=0.2)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_lateAnswer(self) -> None:
        """
        CONN-7: an answer after the timeout changes nothing.
        """
        self.impair(Impairments(delay=2.0))
        port = await self.listen(self.factory())
        client = self.factory()
        connecting = self.clientEndpoint(port, timeout=1.0).connect(client)
        await self.assertFails(connecting, error.TimeoutError)
        self.stage.network.runFor(20)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_cancelledDuringHandshake(self) -> None:
        """
        CONN-5: cancelling while datagrams are under way; the late answer is ignored.
        """
        self.impair(Impairments(delay=1.0))
        port = await self.listen(self.factory())
        client = self.factory()
        connecting = self.clientEndpoint(port).connect(client)
        self.stage.network.runFor(1.5)
        connecting.cancel()
        await self.assertFails(connecting, error.ConnectingCancelledError)
        connecting.cancel()
        self.stage.network.runFor(20)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_unreachable(self) -> None:
        """
        CONN-6: no route is NoRouteError.
        """
        port = await self.listen(self.factory())
        self.stage.client.writeErrors["*"] = errno.ENETUNREACH
        client = self.factory()
        await self.assertFails(self.clientEndpoint(port).connect(client), error.NoRouteError)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_fullSocket(self) -> None:
        """
        UDP-2: a socket buffer that is full for a while is ordinary loss.
        """
        near, far = await self.pair()
        self.stage.client.writeErrors["*"] = errno.EAGAIN
        near.transport.write(b"patience")
        self.stage.network.runFor(0.5)
        self.stage.client.writeErrors.clear()
        await self.received(far, 8)

    async def test_lossyHandshake(self) -> None:
        """
        CONN-1: a handshake half of whose datagrams are lost comes about.
        """
        self.impair(Impairments(delay=0.02, loss=0.5))
        near, far = await self.pair()
        self.assertEqual([near.events, far.events], [["connectionMade"]] * 2)
        self.impair(Impairments(delay=0.02))


class Names(SimulatedCase):
    """
    Host names (NAME-1 to NAME-5, CONN-5, CONN-8).
    """

    needs = Capability.NAMES

    async def test_known(self) -> None:
        """
        NAME-1, NAME-3: a name is looked up with the reactor's resolver, whether it
        answers at once or later.
        """
        resolver = self.stage.network.resolver
        for delay in (None, 0.0, 1.0):
            resolver.delay = delay
            server = self.factory()
            port = await self.listen(server)
            client = self.factory()
            await self.stage.result(self.clientEndpoint(port, host="server").connect(client))
            await self.stage.until(lambda server=server: server.made)  # type: ignore[misc]
        self.assertEqual([r.name for r in resolver.resolutions], ["server"] * 3)
        self.assertEqual({r.transportSemantics for r in resolver.resolutions}, {"UDP"})

    async def test_literal(self) -> None:
        """
        NAME-2: IP literals do not go to the resolver.
        """
        await self.pair()
        self.assertEqual(self.stage.network.resolver.resolutions, [])

    async def test_unknown(self) -> None:
        """
        CONN-6: a name without addresses is DNSLookupError.
        """
        connecting = self.clientEndpoint(4000, host="nowhere.example").connect(self.factory())
        await self.assertFails(connecting, error.DNSLookupError)

    async def test_illegal(self) -> None:
        """
        CONN-6, NAME-5: what is no name fails with ValueError when connecting.
        """
        endpoint = self.clientEndpoint(4000, host="no..name")
        await self.assertFails(endpoint.connect(self.factory()), ValueError)

    async def test_cancelledDuringLookup(self) -> None:
        """
        CONN-5, NAME-4: cancelling before the resolver answers; the answer is ignored.
        """
        resolver = self.stage.network.resolver
        resolver.hold("server")
        port = await self.listen(self.factory())
        client = self.factory()
        connecting = self.clientEndpoint(port, host="server").connect(client)
        self.stage.network.runFor(1)
        connecting.cancel()
        await self.assertFails(connecting, error.ConnectingCancelledError)
        resolver.release("server")
        self.stage.network.runFor(5)
        self.assertNotIn("buildProtocol", client.events)
        self.assertEqual(client.events.count("doStart"), client.events.count("doStop"))

    async def test_secondAddress(self) -> None:
        """
        CONN-8: a dead address is no obstacle when another one lives; one doStart and
        one doStop, whatever the number of attempts.
        """
        self.stage.network.resolver.register("both", "10.99.0.1", self.stage.serverHost)
        port = await self.listen(self.factory())
        client = self.factory()
        near: Any = await self.stage.result(
            self.clientEndpoint(port, host="both", timeout=5).connect(client)
        )
        self.assertTrue(self.now < 5, self.now)
        near.transport.loseConnection()
        await self.stage.until(lambda: "doStop" in client.events)
        self.assertEqual(client.events, ["doStart", "buildProtocol", "doStop"])

    async def test_allAddressesDead(self) -> None:
        """
        CONN-8: when all addresses fail the last failure is reported.
        """
        self.stage.network.resolver.register("dead", "10.99.0.1", "10.99.0.2")
        client = self.factory()
        connecting = self.clientEndpoint(4000, host="dead", timeout=2).connect(client)
        await self.assertFails(connecting, error.TimeoutError)
        self.assertEqual(client.events, ["doStart", "doStop"])


class Shutdown(SimulatedCase):
    """
    Item 17: the reactor stops (PORT-5, CLOSE-6).
    """

    async def test_server(self) -> None:
        """
        PORT-5: all connections of a port are lost once, with ConnectionLost.
        """
        server = self.factory()
        first = await self.pair(server=server)
        second = await self.join(self.ports[0], server)
        self.stage.serverReactor.stop()
        ends = (first.server, second.server)
        await self.lost(*ends)
        for end in ends:
            self.assertLost(end, error.ConnectionLost)
        self.assertEqual(self.stage.server.ports, [])

    async def test_client(self) -> None:
        """
        PORT-5: the same for a client.
        """
        near, _ = await self.pair()
        self.stage.clientReactor.stop()
        await self.lost(near)
        self.assertLost(near, error.ConnectionLost)
        self.assertEqual(self.stage.client.ports, [])

    async def test_whileConnecting(self) -> None:
        """
        PORT-5: an attempt under way fails once.
        """
        port = await self.listen(self.factory())
        self.cut()
        client = self.factory()
        connecting = self.clientEndpoint(port).connect(client)
        self.stage.network.runFor(1)
        self.stage.clientReactor.stop()
        await self.assertFails(connecting, error.ConnectError, error.ConnectionLost)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_closingIsFinished(self) -> None:
        """
        CLOSE-6: stopping right after loseConnection does not lose the tail.
        """
        near, far = await self.pair()
        data = pattern(self.stage.bulk)
        near.transport.write(data)
        near.transport.loseConnection()
        self.stage.clientReactor.stop()
        await self.lost(near, far)
        self.assertTrue(far.received == data)
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_closingIsBounded(self) -> None:
        """
        CLOSE-6: a peer that has vanished holds the reactor up for a bounded time.
        """
        near, _ = await self.pair()
        near.transport.write(b"nobody will acknowledge this")
        self.cut()
        near.transport.loseConnection()
        self.stage.clientReactor.stop()
        self.assertTrue(self.stage.clientReactor.running)
        reactor = self.stage.clientReactor
        await self.stage.until(lambda: not reactor.running, self.transport.deadPeerLimit)
        self.assertLost(near, error.ConnectionLost)


class Draining(SimulatedCase):
    """
    PORT-3: a port that stops while it has connections.
    """

    async def test_bounded(self) -> None:
        """
        PORT-3: connections that do not end are aborted after a while.
        """
        near, far = await self.pair()
        await self.stage.result(maybeDeferred(self.ports[0].stopListening), limit=120)
        self.assertLost(far, error.ConnectionLost)
        self.assertEqual(self.stage.server.ports, [])
        await self.lost(near, limit=self.transport.deadPeerLimit)

    async def test_newPeersAreRefused(self) -> None:
        """
        PORT-3: while it drains, a port takes no new peers.
        """
        server = self.factory()
        near, far = await self.pair(server=server)
        port = self.ports[0]
        endpoint = self.clientEndpoint(port, timeout=1.0)
        stopping = maybeDeferred(port.stopListening)
        await self.assertFails(
            endpoint.connect(self.factory()), error.TimeoutError, error.ConnectionRefusedError
        )
        self.assertEqual(len(server.built), 1)
        near.transport.loseConnection()
        await self.lost(near, far)
        await self.stage.result(stopping)


TOPICS: tuple[type[ConformanceCase], ...] = (
    BadLinks,
    FlowOverTime,
    Packing,
    Vanishing,
    Attempts,
    Names,
    Shutdown,
    Draining,
)
