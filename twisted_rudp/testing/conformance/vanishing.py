# mypy: allow-untyped-calls
"""
Ends that nobody asked for, on the simulated network: items 12 and 17 of the
conformance list, and the draining of ports.
"""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.defer import maybeDeferred

from .actors import Pusher, Recorder, pattern
from .simulated import SimulatedCase


class Vanishing(SimulatedCase):
    """Item 12: the peer is gone, without a word."""

    async def gone(self, *ends: Recorder) -> None:
        """These ends notice within bounds."""
        began = self.now
        await self.lost(*ends, limit=self.transport.deadPeerLimit + 1)
        self.assertTrue(self.now - began <= self.transport.deadPeerLimit)
        for end in ends:
            self.assertLost(end, error.ConnectionLost)

    async def test_whileIdle(self) -> None:
        """CLOSE-5, CLOSE-8: both sides of an idle connection notice: ConnectionLost."""
        ends = await self.pair()
        self.cut()
        await self.gone(*ends)

    async def test_whileSending(self) -> None:
        """CLOSE-5: so does a side that sends; its producer is stopped (FLOW-5)."""
        near, far = await self.pair()
        producer = Pusher(near, self.stage, pattern(65_536), 1_000_000)
        producer.start()
        await self.received(far, 1)
        self.cut()
        await self.gone(near, far)
        self.assertEqual(producer.calls[-1], "stop")

    async def test_whileClosing(self) -> None:
        """CLOSE-5: a close that cannot be acknowledged ends with ConnectionLost."""
        near, far = await self.pair()
        near.transport.write(pattern(self.stage.bulk))
        self.cut()
        near.call("loseConnection")
        await self.gone(near, far)

    async def test_whilePaused(self) -> None:
        """FLOW-9: a paused reader notices as well."""
        near, far = await self.pair()
        far.transport.pauseProducing()
        near.transport.write(b"unread")
        await self.stage.settle()
        self.cut()
        await self.gone(near, far)
        self.assertEqual(far.received, b"")

    async def test_shortOutage(self) -> None:
        """An outage of two seconds is survived, with all the bytes."""
        near, far = await self.pair()
        data = pattern(100_000)
        self.cut()
        near.transport.write(data)
        self.stage.network.runFor(2)
        self.stage.network.mend(self.stage.client, self.stage.server)
        await self.received(far, len(data))
        self.assertTrue(far.received == data)

    async def test_serverRestarted(self) -> None:
        """CLOSE-8: a peer that has lost its memory is ConnectionLost within bounds."""
        near, _ = await self.pair()
        number = self.numberOf(self.ports.pop())
        self.cut()
        self.stage.serverReactor.disconnectAll()
        self.stage.network.mend(self.stage.client, self.stage.server)
        await self.listen(self.factory(), number)
        near.transport.write(b"do you know me?")
        await self.gone(near)


class Shutdown(SimulatedCase):
    """Item 17: the reactor stops (PORT-5, CLOSE-6)."""

    async def test_server(self) -> None:
        """PORT-5: all connections of a port are lost once, with ConnectionLost."""
        server = self.factory()
        first = await self.pair(server=server)
        second = await self.join(self.ports[0], server)
        self.stage.serverReactor.stop()
        ends = (first.server, second.server)
        await self.lost(*ends)
        for end in ends:
            self.assertLost(end, error.ConnectionLost)
        await self.stage.until(lambda: not self.stage.serverReactor.running, 2)
        self.assertEqual(self.stage.server.ports, [])

    async def test_client(self) -> None:
        """PORT-5: the same for a client."""
        near, _ = await self.pair()
        self.stage.clientReactor.stop()
        await self.lost(near)
        self.assertLost(near, error.ConnectionLost)
        self.assertEqual(self.stage.client.ports, [])

    async def test_whileConnecting(self) -> None:
        """PORT-5: an attempt under way fails once."""
        port = await self.listen(self.factory())
        self.cut()
        client = self.factory()
        connecting = self.clientEndpoint(port).connect(client)
        self.stage.network.runFor(1)
        self.stage.clientReactor.stop()
        await self.assertFails(connecting, error.ConnectError, error.ConnectionLost)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_closingIsFinished(self) -> None:
        """CLOSE-6: stopping right after loseConnection does not lose the tail."""
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
        """CLOSE-6: a peer that has vanished holds the reactor up for a bounded time."""
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
    """PORT-3: a port that stops while it has connections."""

    async def test_bounded(self) -> None:
        """PORT-3: connections that do not end are aborted after a while."""
        near, far = await self.pair()
        await self.stage.result(maybeDeferred(self.ports[0].stopListening), limit=120)
        self.assertLost(far, error.ConnectionLost)
        self.assertEqual(self.stage.server.ports, [])
        await self.lost(near, limit=self.transport.deadPeerLimit)

    async def test_newPeersAreRefused(self) -> None:
        """PORT-3: while it drains, a port takes no new peers."""
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
