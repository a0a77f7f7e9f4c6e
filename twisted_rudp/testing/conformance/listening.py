# mypy: allow-untyped-calls
"""Listening: sections 1 and 2 of the rules."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from zope.interface.verify import verifyObject

from .actors import RecordingFactory
from .case import ConformanceCase
from .connecting import ApplicationError, explode


class Listening(ConformanceCase):
    """Starting and stopping a port."""

    async def test_firedAtOnce(self) -> None:
        """
        EP-2: when binding needs no waiting the Deferred has fired on return, with an
        IListeningPort; FAC-2: the factory is started.
        """
        factory = self.factory()
        listening = self.serverEndpoint().listen(factory)
        port = self.successResultOf(listening)
        self.ports.append(port)
        verifyObject(IListeningPort, port)
        self.assertEqual(factory.events, ["doStart"])

    async def test_getHost(self) -> None:
        """PORT-4: getHost shows the number really bound."""
        host: Any = (await self.listen(self.factory())).getHost()
        self.assertEqual(
            (host.type, host.host), (self.transport.addressType, self.stage.serverHost)
        )
        self.assertTrue(host.port > 0)

    async def test_addressTaken(self) -> None:
        """
        EP-1, EP-2: a taken address fails the Deferred at once with
        CannotListenError; the factory's starts and stops stay even (FAC-2).
        """
        port = await self.listen(self.factory())
        factory = self.factory()
        listening = self.serverEndpoint(self.numberOf(port)).listen(factory)
        self.failureResultOf(listening, error.CannotListenError)
        self.assertEqual(factory.events.count("doStart"), factory.events.count("doStop"))

    async def test_stop(self) -> None:
        """PORT-2, FAC-2: stopping stops the factory once and frees the address."""
        factory = self.factory()
        port = await self.listen(factory)
        number = self.numberOf(port)
        await self.stop(port)
        self.assertEqual(factory.events, ["doStart", "doStop"])
        await self.listen(self.factory(), number)

    async def test_stopTwice(self) -> None:
        """
        PORT-2: every Deferred of repeated stopListening calls fires (with TCP the
        second call must not come before the first is done); the factory is stopped
        once.
        """
        factory = self.factory()
        port = await self.listen(factory)
        times = 3 if self.transport.follows("PORT-2") else 1
        for stopping in [maybeDeferred(port.stopListening) for _ in range(times)]:
            await self.stage.result(stopping)
        await self.stop(port)
        await self.stage.settle()
        self.assertEqual(factory.events.count("doStop"), 1)

    async def test_getHostAfterStop(self) -> None:
        """PORT-4: a stopped port still knows what it was bound to."""
        port = await self.listen(self.factory())
        before = port.getHost()
        await self.stop(port)
        if self.transport.follows("PORT-4"):
            self.assertEqual(port.getHost(), before)
        else:
            self.assertRaises(AttributeError, port.getHost)

    async def test_stopWithLiveConnections(self) -> None:
        """
        PORT-3: connections outlive stopListening; its Deferred fires when the last
        one is over (for TCP: at once). The factory is stopped at once.
        """
        server = self.factory()
        near, far = await self.pair(server=server)
        stopped: list[object] = []
        stopping = maybeDeferred(self.ports[0].stopListening)
        stopping.addCallback(stopped.append)
        near.transport.write(b"to the server")
        far.transport.write(b"to the client")
        await self.received(far, 13)
        await self.received(near, 13)
        self.assertEqual(server.events[-1], "doStop")
        self.assertEqual(stopped, [] if self.transport.follows("PORT-3") else [None])
        near.transport.loseConnection()
        await self.lost(near, far)
        await self.stage.result(stopping)

    async def test_stopInsideDataReceived(self) -> None:
        """
        PORT-3: a port may be stopped from inside a callback of one of its
        connections, which goes on.
        """
        server = self.factory()
        stopping: list[Any] = []

        def stop(recorder: Any) -> None:
            if not stopping:
                stopping.append(maybeDeferred(self.ports[0].stopListening))

        server.hooks["dataReceived"] = stop
        near, far = await self.pair(server=server)
        near.transport.write(b"one")
        await self.received(far, 3)
        near.transport.write(b"two")
        await self.received(far, 6)
        near.transport.loseConnection()
        await self.lost(near, far)
        await self.stage.result(stopping[0])
        self.assertLost(far, error.ConnectionDone)

    async def test_stopWhileConnecting(self) -> None:
        """
        PORT-3: a client that dials while the port stops is connected and lost, or
        fails; it does not hang.
        """
        port = await self.listen(self.factory())
        client = self.factory()
        results: list[object] = []
        connecting = self.clientEndpoint(port, timeout=1).connect(client)
        connecting.addBoth(results.append)
        connecting.addCallback(lambda ignored: self.stage.changed())
        stopping = maybeDeferred(port.stopListening)
        await self.stage.until(lambda: results)
        for recorder in client.made:
            recorder.transport.abortConnection()
        await self.lost(*client.made)
        await self.stage.result(stopping)


class Accepting(ConformanceCase):
    """PORT-6: factories that do not want a peer."""

    async def turnAway(self, server: RecordingFactory, told: bool = True) -> None:
        """
        A client that this factory does not want loses its connection or gets none;
        the next one is welcome.

        @param told: the client learns of it at once.
        """
        port = await self.listen(server)
        client = self.factory()
        failures: list[object] = []
        connecting = self.clientEndpoint(port, timeout=5).connect(client)
        connecting.addErrback(failures.append)
        connecting.addCallback(lambda ignored: self.stage.changed())
        if told:
            await self.stage.until(lambda: failures or [r for r in client.made if r.lost])
            for recorder in client.made:
                self.assertLost(recorder, error.ConnectionDone, error.ConnectionLost)
        else:
            await self.stage.until(lambda: client.made and "buildProtocol" in server.events)
        await self.stage.settle()
        self.assertEqual(server.events.count("buildProtocol"), 1)
        server.answer = None
        welcome = await self.join(port, server)
        welcome.client.transport.write(b"hello")
        await self.received(welcome.server, 5)

    async def test_None(self) -> None:
        """PORT-6: buildProtocol returning None turns one peer away, asked about once."""
        server = self.factory()
        server.answer = lambda: None
        await self.turnAway(server)

    async def test_raising(self) -> None:
        """PORT-6: an exception in buildProtocol is logged and costs that peer only."""
        server = self.factory()
        server.answer = explode
        await self.turnAway(server, self.transport.follows("PORT-6 raising"))
        self.assertEqual(len(self.flushLoggedErrors(ApplicationError)), 1)

    async def test_connectionMadeRaising(self) -> None:
        """
        FAC-5: an exception in a server's connectionMade is logged and ends that
        connection with itself (with TCP: does not end it); the port lives on.
        """
        server = self.factory(connectionMade=explode)
        port = await self.listen(server)
        client = self.factory()
        connecting = self.clientEndpoint(port, timeout=5).connect(client)
        connecting.addErrback(lambda failure: None)
        await self.stage.until(lambda: server.made)
        if self.transport.follows("FAC-5 connectionMade"):
            await self.lost(server.built[0])
            self.assertLost(server.built[0], ApplicationError)
        self.assertEqual(len(self.flushLoggedErrors(ApplicationError)), 1)
        await self.stage.settle()
        server.hooks.clear()
        await self.join(port, server)
