"""
Tests for L{twisted_rudp.service.forward}: through fakes where order matters,
and through real sockets where bytes do.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

from tests.service.transports import (
    ClientEndpoint,
    CountingTransport,
    HalfTransport,
    ServerEndpoint,
    Transport,
)
from twisted_rudp.service.forward import (
    EARLY_LIMIT,
    ForwardFactory,
    ForwardService,
    Reading,
    Relay,
    canHalfClose,
)
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

    def test_log(self) -> None:
        """The start and the end of a connection are logged, with both sides."""
        near = self.accept(HalfTransport())
        far = self.far.answer(CountingTransport())
        near.dataReceived(b"12345")
        self.clock.advance(3)
        near.connectionLost(Failure(ConnectionLost()))
        far.connectionLost(Failure(ConnectionLost()))
        opened, closed = (formatEvent(event) for event in self.events)
        self.assertIn("forward a -> b: connection 1 opened: ", opened)
        self.assertIn("closed after 3.0 s: 5 bytes to the far side, 0 bytes back", closed)
        self.assertIn("(udp)", closed)

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


DONE = Failure(ConnectionDone())
LOST = Failure(ConnectionLost())


class RelayTestCase(SynchronousTestCase):
    """A relay between two remembered transports."""

    def setUp(self) -> None:
        self.endpoint = ClientEndpoint()
        self.unreachable: list[Failure] = []
        self.over: list[Failure] = []
        self.relay = Relay(
            self.endpoint,
            self.unreachable.append,
            lambda relay, reason: self.over.append(reason),
        )
        self.near: Any = HalfTransport()
        self.far: Any = HalfTransport()

    def accept(self) -> None:
        self.relay.near.makeConnection(self.near)

    def join(self) -> None:
        self.accept()
        self.endpoint.answer(self.far)


class DiallingTests(RelayTestCase):
    """Before the far side is there."""

    def test_notRead(self) -> None:
        """The near side is paused until the far side is there."""
        self.accept()
        self.assertEqual(self.near.producerState, "paused")
        self.endpoint.answer(self.far)
        self.assertEqual(self.near.producerState, "producing")

    def test_earlyBytes(self) -> None:
        """What a transport still delivers while paused is passed on first."""
        self.accept()
        self.relay.near.dataReceived(b"a")
        self.relay.near.dataReceived(b"b")
        self.endpoint.answer(self.far)
        self.relay.near.dataReceived(b"c")
        self.assertEqual(self.far.value(), b"abc")

    def test_earlyBytesBounded(self) -> None:
        """A near side that does not respect the pause is aborted at the limit."""
        self.accept()
        self.relay.near.dataReceived(bytes(EARLY_LIMIT))
        self.assertFalse(self.near.aborting)
        self.relay.near.dataReceived(b"x")
        self.assertTrue(self.near.aborting)

    def test_refused(self) -> None:
        """
        A far side that cannot be reached is reported once and the near side
        aborted: its peer must not take this for an empty answer.
        """
        self.accept()
        _, attempt = self.endpoint.attempts.pop()
        attempt.errback(ConnectionRefusedError())
        [failure] = self.unreachable
        failure.trap(ConnectionRefusedError)
        self.assertTrue(self.near.aborting)
        self.relay.near.connectionLost(LOST)
        self.assertEqual(self.over, [LOST])

    def test_nearGone(self) -> None:
        """
        The near side going away cancels the attempt, and nothing is reported as
        unreachable (CONN-5).
        """
        self.accept()
        self.relay.near.connectionLost(DONE)
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.unreachable, [])
        self.assertEqual(self.over, [DONE])

    def test_nearEnded(self) -> None:
        """
        An end of stream that came before the far side was there is carried
        over to it behind the early bytes.
        """
        self.accept()
        self.relay.near.dataReceived(b"all")
        self.relay.near.readConnectionLost()
        self.endpoint.answer(self.far)
        self.assertEqual(self.far.value(), b"all")
        self.assertTrue(self.far.halfClosed)
        self.relay.far.dataReceived(b"answer")
        self.assertEqual(self.near.value(), b"answer")

    def test_finish(self) -> None:
        """Stopping while dialling closes the near side and cancels the rest."""
        self.accept()
        self.relay.finish()
        self.assertTrue(self.near.disconnecting)
        self.relay.near.connectionLost(DONE)
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.over, [DONE])


class FlowTests(RelayTestCase):
    """Bytes and back-pressure."""

    def test_interfaces(self) -> None:
        """A side asks for half closes and is a push producer."""
        verifyObject(IHalfCloseableProtocol, self.relay.near)
        verifyObject(IPushProducer, self.relay.near)

    def test_bothWays(self) -> None:
        """Each side's bytes reach the other, and are counted."""
        self.join()
        self.relay.near.dataReceived(b"question")
        self.relay.far.dataReceived(b"the answer")
        self.assertEqual(self.far.value(), b"question")
        self.assertEqual(self.near.value(), b"the answer")
        self.assertEqual((self.relay.near.received, self.relay.far.received), (8, 10))

    def test_backPressure(self) -> None:
        """A full transport pauses the reading of the other side, both ways (FLOW-2)."""
        self.join()
        for full, source in [(self.near, self.far), (self.far, self.near)]:
            self.assertTrue(full.streaming)
            full.producer.pauseProducing()
            self.assertEqual(source.producerState, "paused")
            full.producer.resumeProducing()
            self.assertEqual(source.producerState, "producing")


class ClosingTests(RelayTestCase):
    """Ends, carried over."""

    def test_halfClose(self) -> None:
        """
        The end of one direction is told to the other side, whose own direction
        goes on until its end closes both (CLOSE-9).
        """
        for first, second in [("near", "far"), ("far", "near")]:
            self.setUp()
            self.join()
            sides: dict[str, Any] = {"near": self.relay.near, "far": self.relay.far}
            transports = {"near": self.near, "far": self.far}
            sides[first].readConnectionLost()
            self.assertTrue(transports[second].halfClosed)
            self.assertIsNone(transports[second].producer)
            self.assertFalse(transports[first].disconnecting)
            sides[second].dataReceived(b"still")
            self.assertEqual(transports[first].value(), b"still")
            sides[second].readConnectionLost()
            self.assertTrue(transports[first].disconnecting)
            self.assertTrue(transports[second].disconnecting)

    def test_withoutHalfClose(self) -> None:
        """
        Where the end of a direction cannot be told it ends the connection,
        after what was before it.
        """
        self.far = Transport()
        self.join()
        self.relay.near.dataReceived(b"last")
        self.relay.near.readConnectionLost()
        self.assertEqual(self.far.value(), b"last")
        self.assertTrue(self.far.disconnecting)
        self.assertTrue(self.near.disconnecting)

    def test_tlsHasNoHalfClose(self) -> None:
        """TLS offers the method of the transport below and must not be asked."""
        transport = HalfTransport()
        self.assertTrue(canHalfClose(transport))
        directlyProvides(transport, ISSLTransport)
        self.assertFalse(canHalfClose(transport))

    def test_doneFollows(self) -> None:
        """One side closing in order closes the other in order."""
        self.join()
        self.relay.far.connectionLost(DONE)
        self.assertTrue(self.near.disconnecting)
        self.assertIsNone(self.near.producer)
        self.assertFalse(self.near.aborting)
        self.assertEqual(self.over, [])
        self.relay.near.connectionLost(DONE)
        self.assertEqual(self.over, [DONE])

    def test_errorFollows(self) -> None:
        """One side breaking aborts the other, and the first reason is the one reported."""
        self.join()
        self.relay.near.connectionLost(LOST)
        self.assertTrue(self.far.aborting)
        self.relay.far.connectionLost(DONE)
        self.assertEqual(self.over, [LOST])

    def test_finishAndAbort(self) -> None:
        """Stopping closes both in order, impatience aborts both."""
        self.join()
        self.relay.finish()
        self.assertTrue(self.near.disconnecting and self.far.disconnecting)
        self.assertIsNone(self.near.producer)
        self.assertIsNone(self.far.producer)
        self.relay.abort()
        self.assertTrue(self.near.aborting and self.far.aborting)


class RelayMachine(RuleBasedStateMachine):
    """
    Whatever order things happen in: each side gets exactly the other's bytes,
    and the relay is over once, when both sides are gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = ClientEndpoint()
        self.over = 0
        self.relay = Relay(self.endpoint, lambda failure: None, self._isOver)
        self.transports: dict[str, Any] = {"near": HalfTransport(), "far": HalfTransport()}
        self.sent = {"near": b"", "far": b""}
        self.relay.near.makeConnection(self.transports["near"])

    def _isOver(self, relay: Relay, reason: Failure) -> None:
        self.over += 1

    def _side(self, name: str) -> Any:
        return self.relay.near if name == "near" else self.relay.far

    def _reading(self, name: str) -> Reading | None:
        side = self._side(name)
        return side.reading if side.transport is not None else None

    @precondition(lambda self: self.endpoint.attempts and not self.endpoint.cancelled)
    @rule(works=st.booleans())
    def dialled(self, works: bool) -> None:
        if works:
            self.endpoint.answer(self.transports["far"])
        else:
            self.endpoint.attempts.pop()[1].errback(ConnectionRefusedError())

    @rule(name=st.sampled_from(["near", "far"]), data=st.binary(max_size=5))
    def data(self, name: str, data: bytes) -> None:
        closing = any(each.disconnecting or each.aborting for each in self.transports.values())
        if self._reading(name) is Reading.OPEN and not closing:
            self._side(name).dataReceived(data)
            self.sent[name] += data

    @rule(name=st.sampled_from(["near", "far"]))
    def ended(self, name: str) -> None:
        if self._reading(name) is Reading.OPEN and not self.transports[name].disconnecting:
            self._side(name).readConnectionLost()

    @rule(name=st.sampled_from(["near", "far"]), reason=st.sampled_from([DONE, LOST]))
    def lost(self, name: str, reason: Failure) -> None:
        if self._reading(name) in (Reading.OPEN, Reading.ENDED):
            self._side(name).connectionLost(reason)

    @rule()
    def finish(self) -> None:
        self.relay.finish()

    def teardown(self) -> None:
        for name, other in (("near", "far"), ("far", "near")):
            arrived = self.transports[other].value()
            assert self.sent[name].startswith(arrived)
            if self._side(other).transport is not None:
                assert arrived == self.sent[name]
        for name in ("near", "far"):
            self.lost(name, LOST)
        assert self.over == 1


class MachineTests(SynchronousTestCase):
    """L{RelayMachine}, run by trial."""

    def test_anyOrder(self) -> None:
        """Sides that speak, end and break in any order (ORD-1)."""
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            RelayMachine,
            settings=settings(
                max_examples=100, stateful_step_count=12, deadline=None, derandomize=True
            ),
        )
