"""
Tests for L{twisted_rudp.service.forward}: through fakes where order matters,
and through real sockets where bytes do.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.service.transports import (
    ClientEndpoint,
    CountingTransport,
    HalfTransport,
    ServerEndpoint,
)
from twisted_rudp.service.forward import ForwardFactory, ForwardService
from twisted_rudp.service.listening import ListeningService


class ForwardTests(SynchronousTestCase):
    """Counting, complaining, refusing."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.near, self.far = ServerEndpoint(), ClientEndpoint()
        self.events: list[dict[str, Any]] = []
        self.life: list[dict[str, Any]] = []
        self.patch(ForwardFactory, "_log", Logger(observer=self.events.append))
        self.patch(ListeningService, "_log", Logger(observer=self.life.append))
        self.service = ForwardService(
            self.clock, "forward a -> b", self.near, self.far, limit=2, drain=5
        )
        self.service.startService()  # type: ignore[no-untyped-call]

    def accept(self, transport: Any) -> Any:
        [factory] = self.near.factories
        side = factory.buildProtocol(None)
        if side is not None:
            side.makeConnection(transport)
        return side

    def errors(self) -> list[str]:
        return [
            formatEvent(event) for event in self.events if event["log_level"].name == "error"
        ]

    def test_tally(self) -> None:
        """Bytes each way, ends, and what the sessions count are in the tally."""
        near = self.accept(HalfTransport())
        far = self.far.answer(CountingTransport())
        near.dataReceived(b"12345")
        far.dataReceived(b"123")
        near.connectionLost(Failure(ConnectionLost()))
        far.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(
            self.service.tally.line(),
            "connections=1 refused=0 unreachable=0 broken=1 forth=5 back=3 retrans_segs=3"
            " round_trip_ms=31.5",
        )

    def test_unreachable(self) -> None:
        """A far side that cannot be reached is said once, not once for each connection (LOG-2)."""
        for _ in range(3):
            near = self.accept(HalfTransport())
            self.far.attempts.pop()[1].errback(ConnectionRefusedError("nobody there"))
            near.connectionLost(Failure(ConnectionLost()))
        [said] = self.errors()
        self.assertTrue(said.startswith("forward a -> b: cannot reach the far side: "), said)
        self.assertIn("nobody there", said)
        self.assertEqual(self.service.tally.counts["unreachable"], 3)

    def test_limit(self) -> None:
        """Above the limit connections are refused (PORT-6), until one has ended."""
        first = self.accept(HalfTransport())
        self.accept(HalfTransport())
        self.assertIsNone(self.accept(HalfTransport()))
        self.assertEqual(len(self.errors()), 1)
        first.connectionLost(Failure(ConnectionDone()))
        self.assertIsNotNone(self.accept(HalfTransport()))
        self.assertEqual(self.service.tally.counts["refused"], 1)

    def test_stop(self) -> None:
        """
        Stopping closes both sides of every relay in order, and aborts what has
        not ended in time (SVC-5).
        """
        transports = HalfTransport(), HalfTransport()
        near = self.accept(transports[0])
        far = self.far.answer(transports[1])
        near.dataReceived(b"last")
        stopped = self.service.stopService()
        stopping = self.near.ports[0].stopping
        assert stopping is not None
        stopping.callback(None)
        for transport in transports:
            self.assertTrue(transport.disconnecting)
            self.assertFalse(transport.aborting)
        self.clock.advance(5)
        for side, transport in zip((near, far), transports, strict=True):
            self.assertTrue(transport.aborting)
            self.assertNoResult(stopped)
            side.connectionLost(Failure(ConnectionLost()))
        self.successResultOf(stopped)
        self.assertEqual(
            formatEvent(self.life[-1]),
            "forward a -> b: stopped:"
            " connections=1 refused=0 unreachable=0 broken=1 forth=4 back=0",
        )


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """An end of a real connection that collects, half closes and closes."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.arrived: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.arrived.called:
            self.arrived.callback(None)

    def readConnectionLost(self) -> None:
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class Server(Factory):
    """Hands out its one peer when it connects."""

    noisy = False

    def __init__(self) -> None:
        self.accepted: Deferred[Peer] = Deferred()

    def buildProtocol(self, addr: Any) -> Peer:
        peer = Peer()
        peer.connectionMade = lambda: self.accepted.callback(peer)  # type: ignore[method-assign]
        return peer


class RealForwardTests(TestCase):
    """TCP to TCP, over loopback: C{forward} is any to any."""

    async def connect(self) -> tuple[Peer, Peer]:
        """
        @return: a client and the server that it has reached through a forwarder.
        """
        server = Server()
        far = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(server)
        self.addCleanup(far.stopListening)
        self.service = ForwardService(
            reactor,  # type: ignore[arg-type]
            "forward",
            self.remembering(serverFromString(reactor, "tcp:0:interface=127.0.0.1")),
            clientFromString(reactor, f"tcp:127.0.0.1:{far.getHost().port}"),
            limit=10,
            drain=5,
        )
        self.service.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(self.service.stopService)
        client = await clientFromString(
            reactor, f"tcp:127.0.0.1:{self.port.getHost().port}"
        ).connect(Factory.forProtocol(Peer))
        return client, await server.accepted  # type: ignore[return-value]

    def remembering(self, endpoint: Any) -> Any:
        listen = endpoint.listen

        def remember(port: Any) -> Any:
            self.port = port
            return port

        endpoint.listen = lambda factory: listen(factory).addCallback(remember)
        return endpoint

    async def test_bothDirections(self) -> None:
        """Megabytes both ways arrive whole, with each direction's end (CLOSE-9)."""
        client, server = await self.connect()
        forth, back = Random(1).randbytes(3_000_000), Random(2).randbytes(2_000_000)
        client.transport.write(forth)
        client.transport.loseWriteConnection()
        await server.ended
        self.assertEqual(bytes(server.received), forth)
        server.transport.write(back)
        server.transport.loseConnection()
        await client.ended
        client.transport.loseConnection()
        await client.lost
        self.assertEqual(bytes(client.received), back)

    async def test_slowReader(self) -> None:
        """
        A far side that does not read makes the near side's writer stop; nothing
        piles up in between (FLOW-2).
        """
        client, server = await self.connect()
        server.transport.pauseProducing()
        writer = _Writer(client.transport)
        await writer.stuck
        relay = next(iter(self.service._sessions._live))
        queued = sum(
            len(side.transport.dataBuffer) + sum(map(len, side.transport._tempDataBuffer))
            for side in (relay.near, relay.far)  # type: ignore[attr-defined]
        )
        self.assertLess(queued, 1_000_000)
        writer.finish()
        server.transport.resumeProducing()
        await server.ended
        self.assertEqual(len(server.received), writer.written)
        server.transport.loseConnection()
        await client.ended
        client.transport.loseConnection()
        await client.lost

    async def test_stopDelivers(self) -> None:
        """What a forwarder has taken in when it is stopped is delivered (SVC-5)."""
        client, server = await self.connect()
        client.transport.write(b"last words")
        await server.arrived
        await self.service.stopService()
        await server.ended
        self.assertEqual(bytes(server.received), b"last words")
        server.transport.loseConnection()
        await server.lost
        client.transport.loseConnection()
        await client.lost


class UnknownPeersTests(TestCase):
    """KCP in front: who has not proved his address reaches nobody behind."""

    async def test_forgedProbe(self) -> None:
        """
        A probe, which anyone can send from any address, is answered with at most
        three times its length and opens no far connection (design 5, PORT-7).
        """
        far = ClientEndpoint()
        near = serverFromString(reactor, "kcp:0:interface=127.0.0.1")
        ports: list[Any] = []
        listen = near.listen
        near.listen = lambda factory: listen(factory).addCallback(  # type: ignore[method-assign]
            lambda port: ports.append(port) or port  # type: ignore[func-returns-value]
        )
        service = ForwardService(
            reactor,  # type: ignore[arg-type]
            "forward",
            near,
            far,
            limit=10,
            drain=0,
        )
        service.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(service.stopService)
        probe = struct.pack("<IBBHIIII", 7, 83, 0xE5, 1024, 0, 0, 0, 0)
        unknown_peer = Stranger(probe, ports[0].getHost().port)
        port = reactor.listenUDP(0, unknown_peer, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        answer = await unknown_peer.answered
        self.assertLessEqual(len(answer), 3 * len(probe))
        self.assertEqual(far.attempts, [])
        self.assertEqual(service.tally.counts["connections"], 0)


class Stranger(DatagramProtocol):
    """Sends one datagram and waits for an answer."""

    noisy = False

    def __init__(self, datagram: bytes, port: int) -> None:
        self.answered: Deferred[bytes] = Deferred()
        self._datagram = datagram
        self._port = port

    def startProtocol(self) -> None:
        assert self.transport is not None
        self.transport.write(self._datagram, ("127.0.0.1", self._port))

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self.answered.called:
            self.answered.callback(datagram)


class _Writer:
    """A push producer that writes until it has been paused for many turns."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.written = 0
        self.stuck: Deferred[None] = Deferred()
        self._paused = False
        self._calm = 0
        transport.registerProducer(self, True)
        self._write()

    def _write(self) -> None:
        if self._paused:
            self._calm += 1
            if self._calm == 200:
                self.stuck.callback(None)
                return
        else:
            self._calm = 0
            self.transport.write(bytes(100_000))
            self.written += 100_000
        reactor.callLater(0, self._write)  # type: ignore[attr-defined]

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self._paused = True

    def finish(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()
