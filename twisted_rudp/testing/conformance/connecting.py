# mypy: allow-untyped-calls
"""Connecting: sections 1, 3 and 4 of the rules."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred

from .actors import Hook, RecordingFactory
from .case import ConformanceCase
from .transport import Capability


class ApplicationError(Exception):
    """Raised by the test's own protocols and factories."""


def explode(*ignored: object) -> None:
    """A hook, or a factory's answer, that raises."""
    raise ApplicationError("on purpose")


def calling(method: str) -> Hook:
    """A hook that calls a method of the transport."""
    return lambda recorder: recorder.call(method)


class Success(ConformanceCase):
    """A connection comes about."""

    async def test_sequence(self) -> None:
        """
        CONN-1: doStart, buildProtocol, connectionMade, the Deferred, then data; also
        when the server speaks first.
        """
        server = self.factory(connectionMade=lambda r: r.transport.write(b"banner"))
        client = self.factory()
        order = client.events
        client.hooks["connectionMade"] = lambda r: order.append("connectionMade")
        client.hooks["dataReceived"] = lambda r: order.append("dataReceived")
        port = await self.listen(server)

        def fired(result: Any) -> None:
            order.append("fired")

        await self.stage.result(self.clientEndpoint(port).connect(client).addCallback(fired))
        await self.stage.until(lambda: "dataReceived" in order)
        self.assertEqual(
            order, ["doStart", "buildProtocol", "connectionMade", "fired", "dataReceived"]
        )
        self.assertEqual(client.built[0].received, b"banner")

    async def test_result(self) -> None:
        """EP-3: the Deferred's result is the very protocol that the factory built."""
        client = self.factory()
        result = await self.connect(await self.listen(self.factory()), client)
        self.assertIs(result, client.built[0])

    async def test_manyFromOneEndpoint(self) -> None:
        """EP-4: an endpoint may be connected many times at once."""
        server = self.factory(dataReceived=lambda r: r.transport.write(bytes(r.received)))
        endpoint = self.clientEndpoint(await self.listen(server))
        factories = [self.factory() for _ in range(5)]
        attempts = [endpoint.connect(factory) for factory in factories]
        clients: list[Any] = [await self.stage.result(attempt) for attempt in attempts]
        for number, client in enumerate(clients):
            client.transport.write(bytes([number]))
        await self.stage.until(lambda: all(client.received for client in clients))
        self.assertEqual([bytes(c.received) for c in clients], [bytes([n]) for n in range(5)])

    async def test_addresses(self) -> None:
        """
        ADDR-1, TR-6: both ends agree on who they are, buildProtocol is given the
        peer, and the addresses are of the transport's type.
        """
        client, server = self.factory(), self.factory()
        near, far = await self.pair(client, server)
        self.assertEqual(near.transport.getPeer(), far.transport.getHost())
        self.assertEqual(near.transport.getHost().port, far.transport.getPeer().port)
        self.assertEqual(far.transport.getPeer().host, self.stage.clientHost)
        self.assertEqual(client.addresses, [near.transport.getPeer()])
        self.assertEqual(server.addresses, [far.transport.getPeer()])
        types = {end.transport.getPeer().type for end in (near, far)}
        self.assertEqual(types, {self.transport.addressType})

    async def test_closingInConnectionMade(self) -> None:
        """CONN-2: closing inside connectionMade is no failure to connect."""
        for method in ("loseConnection", "abortConnection"):
            client = self.factory(connectionMade=calling(method))
            result = await self.connect(await self.listen(self.factory()), client)
            self.assertIs(result, client.built[0])
            await self.lost(result)
            self.assertEqual(result.events, ["connectionMade", "connectionLost"])
            self.assertLost(result, error.ConnectionDone, error.ConnectionAborted)

    async def test_startAndStop(self) -> None:
        """FAC-2: the client's doStart and doStop frame the connection."""
        client = self.factory()
        near, _ = await self.pair(client)
        self.assertEqual(client.events, ["doStart", "buildProtocol"])
        near.transport.loseConnection()
        await self.stage.until(lambda: "doStop" in client.events)
        self.assertEqual(client.events, ["doStart", "buildProtocol", "doStop"])


class Unwilling(ConformanceCase):
    """The client's own factory or protocol says no."""

    async def refuse(self, client: RecordingFactory, *kinds: type[Exception]) -> None:
        """Connecting with this factory fails in one of these ways."""
        connecting = self.clientEndpoint(await self.listen(self.factory())).connect(client)
        await self.assertFails(connecting, *kinds)
        await self.stage.until(lambda: "doStop" in client.events)
        self.assertEqual(client.events, ["doStart", "buildProtocol", "doStop"])

    async def test_None(self) -> None:
        """CONN-4: buildProtocol returning None is NoProtocol; doStop is called."""
        client = self.factory()
        client.answer = lambda: None
        await self.refuse(client, error.NoProtocol)

    async def test_raising(self) -> None:
        """CONN-4: an exception in buildProtocol is the failure; doStop is called."""
        client = self.factory()
        client.answer = explode
        await self.refuse(client, ApplicationError)

    async def test_connectionMadeRaising(self) -> None:
        """
        CONN-3: an exception in connectionMade fails the Deferred and is the reason
        of connectionLost.
        """
        client = self.factory(connectionMade=explode)
        results: list[Any] = []
        connecting = self.clientEndpoint(await self.listen(self.factory())).connect(client)
        connecting.addBoth(lambda result: results.append(result))
        await self.stage.until(lambda: client.built and client.built[0].lost)
        await self.stage.settle()
        self.assertLost(client.built[0], ApplicationError)
        self.assertEqual(len(self.flushLoggedErrors(ApplicationError)), 1)
        if self.transport.follows("CONN-3"):
            self.assertEqual(len(results), 1)
            self.assertTrue(results[0].check(ApplicationError))
        else:
            self.assertEqual(results, [])


class Cancelling(ConformanceCase):
    """CONN-5."""

    async def test_atOnce(self) -> None:
        """
        CONN-5: cancelling is ConnectingCancelledError; the factory is stopped and is
        not asked for a protocol any more. Cancelling again does nothing.
        """
        client = self.factory()
        connecting = self.clientEndpoint(await self.listen(self.factory())).connect(client)
        connecting.cancel()
        await self.assertFails(connecting, error.ConnectingCancelledError)
        connecting.cancel()
        await self.stage.settle()
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_afterSuccess(self) -> None:
        """CONN-5: cancelling after success leaves the connection alone."""
        client, server = self.factory(), self.factory()
        connecting = self.clientEndpoint(await self.listen(server)).connect(client)
        near: Any = await self.stage.result(connecting)
        connecting.cancel()
        near.transport.write(b"still here")
        await self.stage.until(lambda: server.made and len(server.made[0].received) == 10)
        self.assertIs(near.lost, None)

    async def test_othersGoOn(self) -> None:
        """CONN-5: cancelling one attempt leaves another of the same endpoint alone."""
        endpoint = self.clientEndpoint(await self.listen(self.factory()))
        one, other = self.factory(), self.factory()
        cancelled, staying = endpoint.connect(one), endpoint.connect(other)
        cancelled.cancel()
        await self.assertFails(cancelled, error.ConnectingCancelledError)
        self.assertIs(await self.stage.result(staying), other.built[0])

    async def test_insideCallback(self) -> None:
        """ORD-5: the Deferred's callback may at once connect again."""
        endpoint = self.clientEndpoint(await self.listen(self.factory()))
        first, second = self.factory(), self.factory()

        def again(ignored: object) -> Deferred[Any]:
            return endpoint.connect(second)

        connecting: Deferred[Any] = endpoint.connect(first).addErrback(again)
        connecting.cancel()
        self.assertIs(await self.stage.result(connecting), second.built[0])


class Failing(ConformanceCase):
    """CONN-6: failures that every transport has."""

    async def test_localAddressTaken(self) -> None:
        """CONN-6: a local address in use is ConnectBindError; doStop is called."""
        port = await self.listen(self.factory())
        host = self.stage.clientHost
        blocking = self.transport.server(self.stage.clientReactor, 0, host).listen(self.factory())
        self.ports.append(await self.stage.result(blocking))
        bindAddress = (host, self.numberOf(self.ports[-1]))
        client = self.factory()
        connecting = self.clientEndpoint(port, bindAddress=bindAddress).connect(client)
        await self.assertFails(connecting, error.ConnectBindError)
        await self.stage.until(lambda: "doStop" in client.events)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_bindAddress(self) -> None:
        """EP-5: a client can choose the port it comes from."""
        probe = await self.listen(self.factory())
        free = self.numberOf(probe)
        await self.stop(probe)
        server = self.factory()
        port = await self.listen(server)
        bindAddress = (self.stage.clientHost, free)
        await self.stage.result(
            self.clientEndpoint(port, bindAddress=bindAddress).connect(self.factory())
        )
        await self.stage.until(lambda: server.made)
        self.assertEqual(server.addresses[0].port, free)


class Refused(ConformanceCase):
    """Nobody listens, and the transport can tell."""

    needs = Capability.REFUSES

    async def test_nobodyListens(self) -> None:
        """
        CONN-6, FAC-2: dialling a closed port is ConnectionRefusedError; doStop is
        called, buildProtocol is not.
        """
        port = await self.listen(self.factory())
        endpoint = self.clientEndpoint(port)
        await self.stop(port)
        client = self.factory()
        await self.assertFails(endpoint.connect(client), error.ConnectionRefusedError)
        await self.stage.until(lambda: "doStop" in client.events)
        self.assertEqual(client.events, ["doStart", "doStop"])


class Unanswered(ConformanceCase):
    """Nobody listens, and silence is all there is to see."""

    lacks = Capability.REFUSES

    async def test_nobodyListens(self) -> None:
        """
        CONN-6, CONN-7, FAC-2: no answer within C{timeout} is TimeoutError; doStop is
        called, buildProtocol is not.
        """
        port = await self.listen(self.factory())
        endpoint = self.clientEndpoint(port, timeout=0.25)
        await self.stop(port)
        client = self.factory()
        await self.assertFails(endpoint.connect(client), error.TimeoutError)
        await self.stage.until(lambda: "doStop" in client.events)
        self.assertEqual(client.events, ["doStart", "doStop"])
