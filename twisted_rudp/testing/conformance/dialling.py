# mypy: allow-untyped-calls
"""Connecting where losses, time and names are in the test's hand (CONN-5 to CONN-8)."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import error

from ..impairments import Impairments
from .simulated import SimulatedCase
from .transport import Capability


class Attempts(SimulatedCase):
    """Connecting against the odds (CONN-5 to CONN-8)."""

    async def test_timeout(self) -> None:
        """CONN-6, CONN-7: no answer is TimeoutError when C{timeout} is over, not before."""
        port = await self.listen(self.factory())
        self.cut()
        client = self.factory()
        connecting = self.clientEndpoint(port, timeout=3.5).connect(client)
        await self.assertFails(connecting, error.TimeoutError)
        self.assertAlmostEqual(self.now, 3.5, delta=0.2)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_lateAnswer(self) -> None:
        """CONN-7: an answer after the timeout changes nothing."""
        self.impair(Impairments(delay=2.0))
        port = await self.listen(self.factory())
        client = self.factory()
        connecting = self.clientEndpoint(port, timeout=1.0).connect(client)
        await self.assertFails(connecting, error.TimeoutError)
        self.stage.network.runFor(20)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_cancelledDuringHandshake(self) -> None:
        """CONN-5: cancelling while datagrams are under way; the late answer is ignored."""
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
        """CONN-6: no route is NoRouteError."""
        port = await self.listen(self.factory())
        self.stage.client.writeErrors["*"] = errno.ENETUNREACH
        client = self.factory()
        await self.assertFails(self.clientEndpoint(port).connect(client), error.NoRouteError)
        self.assertEqual(client.events, ["doStart", "doStop"])

    async def test_fullSocket(self) -> None:
        """UDP-2: a socket buffer that is full for a while is ordinary loss."""
        near, far = await self.pair()
        self.stage.client.writeErrors["*"] = errno.EAGAIN
        near.transport.write(b"patience")
        self.stage.network.runFor(0.5)
        self.stage.client.writeErrors.clear()
        await self.received(far, 8)

    async def test_lossyHandshake(self) -> None:
        """CONN-1: a handshake half of whose datagrams are lost comes about."""
        self.impair(Impairments(delay=0.02, loss=0.5))
        near, far = await self.pair()
        self.assertEqual([near.events, far.events], [["connectionMade"]] * 2)
        self.impair(Impairments(delay=0.02))


class Names(SimulatedCase):
    """Host names (NAME-1 to NAME-5, CONN-5, CONN-8)."""

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
        """NAME-2: IP literals do not go to the resolver."""
        await self.pair()
        self.assertEqual(self.stage.network.resolver.resolutions, [])

    async def test_unknown(self) -> None:
        """CONN-6: a name without addresses is DNSLookupError."""
        connecting = self.clientEndpoint(4000, host="nowhere.example").connect(self.factory())
        await self.assertFails(connecting, error.DNSLookupError)

    async def test_illegal(self) -> None:
        """CONN-6, NAME-5: what is no name fails with ValueError when connecting."""
        endpoint = self.clientEndpoint(4000, host="no..name")
        await self.assertFails(endpoint.connect(self.factory()), ValueError)

    async def test_cancelledDuringLookup(self) -> None:
        """CONN-5, NAME-4: cancelling before the resolver answers; the answer is ignored."""
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
        """CONN-8: when all addresses fail the last failure is reported."""
        self.stage.network.resolver.register("dead", "10.99.0.1", "10.99.0.2")
        client = self.factory()
        connecting = self.clientEndpoint(4000, host="dead", timeout=2).connect(client)
        await self.assertFails(connecting, error.TimeoutError)
        self.assertEqual(client.events, ["doStart", "doStop"])
