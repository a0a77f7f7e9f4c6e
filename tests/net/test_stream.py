from __future__ import annotations

import gc
import weakref
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITransport,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.net.support import HalfRecorder, Pair, Recorder
from tests.toys.conversations import WINDOW, CipherDemultiplexer, Conversation
from twisted_rudp.core.engine import Capability, Reason
from twisted_rudp.errors import PeerReset, PeerTimedOut
from twisted_rudp.interfaces import IRUDPTransport
from twisted_rudp.net.states import DISCONNECTING, READING, WRITING, Cause, State, after
from twisted_rudp.net.transport import HIGH_WATER


@implementer(IPushProducer)
class Push:
    """Writes until it is told to stop, at most C{total} bytes."""

    def __init__(self, transport: Any, total: int, chunk: int = 20_000) -> None:
        self.transport = transport
        self.left = total
        self.chunk = chunk
        self.told: list[str] = []
        self.flowing = False

    def resumeProducing(self) -> None:
        self.told.append("resume")
        self.flowing = True
        self.produce()

    def produce(self) -> None:
        while self.flowing and self.left:
            count = min(self.left, self.chunk)
            self.left -= count
            self.transport.write(b"p" * count)
        if not self.left:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.told.append("pause")
        self.flowing = False

    def stopProducing(self) -> None:
        self.told.append("stop")
        self.flowing = False


@implementer(IPullProducer)
class Pull:
    """Writes one chunk each time."""

    def __init__(self, transport: Any, chunks: int, turn: Any = None) -> None:
        self.transport = transport
        self.chunks = chunks
        self.told: list[Any] = []
        self.turn = turn

    def resumeProducing(self) -> None:
        self.told.append("resume" if self.turn is None else self.turn())
        if self.chunks:
            self.chunks -= 1
            self.transport.write(b"q" * 1000)
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.told.append("stop")


class StreamCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()

    def connect(self, kind: Any = Recorder) -> None:
        self.pair.serverFactory.kind = self.pair.clientFactory.kind = kind
        self.client, self.server = self.pair.connected()
        self.transport = self.client.transport

    def turn(self) -> None:
        """What is due now, and nothing later."""
        self.pair.network.runFor(0)

    def close(self) -> None:
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)


class InterfaceTests(StreamCase):
    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_interfaces(self) -> None:
        """The transport provides what TR-1 lists and not what it excludes."""
        for interface in (
            ITransport,
            IConsumer,
            IPushProducer,
            ITCPTransport,
            ILoggingContext,
            IRUDPTransport,
        ):
            self.assertTrue(verifyObject(interface, self.transport))
        self.assertFalse(ISSLTransport.providedBy(self.transport))

    def test_types(self) -> None:
        """Only C{bytes} can be written (TR-2)."""
        wrong: list[Any] = ["text", bytearray(b"x"), memoryview(b"x"), None]
        for data in wrong:
            self.assertRaises(TypeError, self.transport.write, data)
            self.assertRaises(TypeError, self.transport.writeSequence, [b"good", data])
        self.turn()
        self.pair.network.runFor(1)
        self.assertEqual(self.server.data, b"")

    def test_sequence(self) -> None:
        """Any iterable can be written, a generator too (TR-3)."""
        self.transport.writeSequence(piece for piece in (b"a", b"b", b"c"))
        self.pair.run(lambda: self.server.data == b"abc")

    def test_coalesced(self) -> None:
        """Two small writes of one turn leave in one datagram (TR-8)."""
        before = self.transport.session.host.output.port.counters.datagramsOut
        self.transport.write(b"x")
        self.transport.write(b"y")
        self.turn()
        self.assertEqual(self.transport.session.host.output.port.counters.datagramsOut, before + 1)
        self.pair.run(lambda: self.server.data == b"xy")

    def test_attributes(self) -> None:
        """C{connected}, C{disconnecting} and C{disconnected} tell the truth (TR-5)."""
        transport = self.transport

        def seen() -> tuple[bool, bool, bool]:
            return (transport.connected, transport.disconnecting, transport.disconnected)

        self.assertEqual(seen(), (True, False, False))
        transport.loseConnection()
        self.assertEqual(seen(), (True, True, False))
        self.pair.lost(self.client)
        self.assertEqual(seen(), (False, False, True))

    def test_addresses(self) -> None:
        """Both addresses are UDP's and stay after the end (TR-6, ADDR-1)."""
        host, peer = self.transport.getHost(), self.transport.getPeer()
        self.assertEqual((peer.type, peer.host, peer.port), ("UDP", "10.0.0.2", 4000))
        self.assertEqual(host.type, "UDP")
        self.assertEqual(self.server.transport.getPeer().port, host.port)
        self.close()
        self.assertEqual((self.transport.getHost(), self.transport.getPeer()), (host, peer))

    def test_options(self) -> None:
        """TCP's options are remembered (TR-7)."""
        self.assertFalse(self.transport.getTcpNoDelay())
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(1)
        self.assertTrue(self.transport.getTcpNoDelay())
        self.assertTrue(self.transport.getTcpKeepAlive())

    def test_logPrefix(self) -> None:
        """The prefix names protocol, session and peer (TR-9)."""
        self.assertEqual(self.transport.logPrefix(), "Recorder,1,10.0.0.2:4000")

    def test_facts(self) -> None:
        """Counters and facts are there during and after the connection (TR-10)."""
        self.assertGreater(self.transport.counters()["received"], 0)
        self.close()
        self.assertIn("address", self.transport.facts())
        self.assertGreater(self.transport.counters()["received"], 0)

    def test_afterTheEnd(self) -> None:
        """After the end every method is silent (TR-4)."""
        self.close()
        told = list(self.client.told)
        transport = self.transport
        for method in (
            transport.loseConnection,
            transport.loseWriteConnection,
            transport.abortConnection,
            transport.pauseProducing,
            transport.resumeProducing,
            transport.stopProducing,
            transport.unregisterProducer,
        ):
            self.assertIsNone(method())
        transport.write(b"x")
        transport.writeSequence([b"x"])
        producer = Push(transport, 10)
        transport.registerProducer(producer, True)
        self.assertEqual(producer.told, ["stop"])
        self.pair.network.runFor(10)
        self.assertEqual(self.client.told, told)

    def test_switch(self) -> None:
        """A protocol put in another's place is given the rest (FAC-4)."""
        other = Recorder()
        self.server.transport.protocol = other
        self.transport.write(b"x")
        self.pair.run(lambda: other.data == b"x")
        self.close_(other)

    def close_(self, other: Recorder) -> None:
        self.transport.loseConnection()
        self.pair.lost(self.client, other)
        self.assertEqual(self.server.told, ["made"])


class ReadingTests(StreamCase):
    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_pauseNow(self) -> None:
        """A pause takes effect in the middle of a batch (FLOW-6)."""
        self.server.onData = lambda data: self.server.transport.pauseProducing()
        self.transport.write(b"x" * 60_000)
        self.pair.network.runFor(1)
        self.assertEqual(self.server.told.count("data"), 1)
        got = len(self.server.data)
        self.transport.write(b"y" * 60_000)
        self.pair.network.runFor(1)
        self.assertEqual(len(self.server.data), got)

    def test_resumeLater(self) -> None:
        """Resuming delivers in a later turn, and once suffices (FLOW-7)."""
        transport = self.server.transport
        transport.pauseProducing()
        transport.pauseProducing()
        self.transport.write(b"x" * 100)
        self.pair.network.runFor(1)
        transport.resumeProducing()
        self.assertEqual(self.server.data, b"")
        self.turn()
        self.assertEqual(self.server.data, b"x" * 100)

    def test_pausedAgain(self) -> None:
        """Who resumes and pauses in one turn is paused."""
        transport = self.server.transport
        transport.pauseProducing()
        self.transport.write(b"x")
        self.pair.network.runFor(1)
        transport.resumeProducing()
        transport.pauseProducing()
        self.pair.network.runFor(1)
        self.assertEqual(self.server.data, b"")

    def test_window(self) -> None:
        """A paused reader stops the peer, which goes on at once when it resumes (FLOW-8)."""
        self.server.transport.pauseProducing()
        self.transport.write(b"x" * (3 * WINDOW))
        self.pair.network.runFor(5)
        engine = self.transport.session.engine
        self.assertEqual(engine.unsent(0), 2 * WINDOW)
        self.assertLessEqual(self.server.transport.session.engine.unread(0), WINDOW)
        self.server.transport.resumeProducing()
        self.pair.network.runFor(0.2)
        self.assertEqual(len(self.server.data), 3 * WINDOW)

    def test_bounded(self) -> None:
        """What has piled up is delivered in pieces and in several turns (FLOW-11)."""
        engine = self.server.transport.session.engine
        engine.inbox += bytes(400_000)
        self.server.transport.pauseProducing()
        self.server.transport.resumeProducing()
        sizes: list[int] = []
        self.server.onData = lambda data: sizes.append(len(data))
        self.pair.network.step()
        self.assertEqual(sizes, [65536] * 4)
        self.turn()
        self.assertEqual(sum(sizes), 400_000)

    def test_endWaits(self) -> None:
        """The peer's end waits behind unread bytes and behind the pause (FLOW-9)."""
        self.server.transport.pauseProducing()
        self.transport.write(b"x")
        self.transport.loseConnection()
        self.pair.network.runFor(1)
        self.assertEqual(self.server.told, ["made"])
        self.server.transport.resumeProducing()
        self.pair.lost(self.server)
        self.assertEqual(self.server.told, ["made", "data", "lost"])

    def test_endWaitsEmpty(self) -> None:
        """The peer's end waits for the resume also when nothing is unread, as on TCP."""
        self.server.transport.pauseProducing()
        self.transport.loseConnection()
        self.pair.network.runFor(1)
        self.assertEqual(self.server.told, ["made"])
        self.server.transport.resumeProducing()
        self.pair.lost(self.server)

    def test_deadWhilePaused(self) -> None:
        """A pause does not hide a peer that is gone (FLOW-9)."""
        self.server.transport.pauseProducing()
        self.pair.network.cut(self.pair.client, self.pair.server)
        self.pair.lost(self.server)
        self.assertIsInstance(self.server.reason.value, PeerTimedOut)

    def test_stop(self) -> None:
        """C{stopProducing} is C{loseConnection} (FLOW-10)."""
        self.transport.stopProducing()
        self.assertTrue(self.transport.disconnecting)
        self.pair.lost(self.client, self.server)


class WritingTests(StreamCase):
    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_push(self) -> None:
        """A push producer is paused and resumed in turn, and everything arrives (FLOW-2)."""
        producer = Push(self.transport, 3_000_000)
        self.transport.registerProducer(producer, True)
        producer.resumeProducing()
        highest = 0

        def done() -> bool:
            nonlocal highest
            highest = max(highest, self.transport.session.engine.unsent(0))
            return len(self.server.data) == 3_000_000

        self.pair.run(done)
        self.assertGreater(len(producer.told), 6)
        pairs = producer.told[1:]
        self.assertEqual(pairs, (["pause", "resume"] * len(pairs))[: len(pairs)])
        self.assertLessEqual(highest, HIGH_WATER + producer.chunk)

    def test_mark(self) -> None:
        """Exactly the mark does not pause, one byte more does (FLOW-1)."""
        producer = Push(self.transport, 0)
        self.transport.registerProducer(producer, True)
        self.transport.write(bytes(HIGH_WATER))
        self.assertEqual(producer.told, [])
        self.transport.write(b"x")
        self.transport.write(b"x")
        self.assertEqual(producer.told, ["pause"])

    def test_inFlight(self) -> None:
        """What is in flight does not count (FLOW-1)."""
        self.transport.write(bytes(WINDOW))
        self.turn()
        producer = Push(self.transport, 0)
        self.transport.registerProducer(producer, True)
        self.transport.write(bytes(HIGH_WATER))
        self.assertEqual(producer.told, [])
        self.assertEqual(self.transport.session.engine.in_flight, WINDOW)

    def test_pull(self) -> None:
        """A pull producer is asked at once, then once a drain, each in its own turn (FLOW-3)."""
        schedule = self.transport.session.host.schedule
        producer = Pull(self.transport, 20, lambda: schedule.turn)
        self.transport.registerProducer(producer, False)
        self.assertEqual(len(producer.told), 1)
        self.pair.run(lambda: len(self.server.data) == 20_000)
        self.assertEqual(len(producer.told), 21)
        self.assertEqual(len(set(producer.told)), 21)

    def test_pullNothing(self) -> None:
        """A pull producer that writes nothing is asked again each turn, not in a loop (FLOW-3)."""
        producer = Pull(self.transport, 0)
        producer.resumeProducing = lambda: producer.told.append("asked")  # type: ignore[method-assign]
        self.transport.registerProducer(producer, False)
        for _ in range(5):
            self.pair.network.step()
        self.assertIn(len(producer.told), range(3, 7))
        self.transport.unregisterProducer()
        self.turn()

    def test_second(self) -> None:
        """A second producer is refused, one that is gone is no matter (FLOW-4)."""
        self.transport.unregisterProducer()
        producer = Push(self.transport, 0)
        self.transport.registerProducer(producer, True)
        self.assertIs(self.transport.producer, producer)
        self.assertRaises(RuntimeError, self.transport.registerProducer, producer, True)
        self.transport.unregisterProducer()
        self.assertIsNone(self.transport.producer)

    def test_lost(self) -> None:
        """On loss the producer is stopped once, before the protocol hears of it (FLOW-5)."""
        producer = Push(self.transport, 0)
        self.transport.registerProducer(producer, True)
        order: list[str] = []
        producer.stopProducing = lambda: order.append("stop")  # type: ignore[method-assign]
        self.client.onLost = lambda: order.append("lost")
        self.transport.abortConnection()
        self.pair.lost(self.client)
        self.assertEqual(order, ["stop", "lost"])

    def test_failingProducer(self) -> None:
        """A producer that raises ends its connection with that (FAC-5)."""
        producer = Push(self.transport, 0)
        producer.pauseProducing = lambda: 1 / 0  # type: ignore[method-assign,return-value,assignment]
        self.transport.registerProducer(producer, True)
        self.transport.write(bytes(HIGH_WATER + 1))
        self.pair.lost(self.client, self.server)
        self.assertIsInstance(self.client.reason.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ClosingTests(StreamCase):
    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_flushes(self) -> None:
        """All that was written arrives, then both are told ConnectionDone (CLOSE-1, CLOSE-4)."""
        self.transport.write(b"x" * 1_000_000)
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)
        self.assertEqual(len(self.server.data), 1_000_000)
        for each in (self.client, self.server):
            self.assertIs(type(each.reason.value), ConnectionDone)

    def test_writesWhileFlushing(self) -> None:
        """What is written while the flush goes on is sent too (CLOSE-1)."""
        self.transport.write(b"x" * 200_000)
        self.transport.loseConnection()
        self.transport.write(b"y" * 10)
        self.turn()
        self.transport.write(b"z" * 10)
        self.pair.lost(self.client, self.server)
        self.assertEqual(self.server.data[-20:], b"y" * 10 + b"z" * 10)

    def test_waitsForProducer(self) -> None:
        """The close waits for the producer, also an unpaused one that is silent (CLOSE-2)."""
        producer = Push(self.transport, 0)
        self.transport.registerProducer(producer, True)
        self.transport.loseConnection()
        self.pair.network.runFor(10)
        self.assertEqual((self.client.reason, producer.told), (None, []))
        self.transport.write(b"late")
        self.transport.unregisterProducer()
        self.pair.lost(self.client, self.server)
        self.assertEqual((self.server.data, producer.told), (b"late", []))

    def test_noDataAfter(self) -> None:
        """After C{loseConnection} nothing is delivered, and the peer is not stuck (CLOSE-3)."""
        producer = Push(self.transport, 0)
        self.transport.registerProducer(producer, True)
        self.transport.loseConnection()
        self.server.transport.write(b"x" * (4 * WINDOW))
        self.pair.network.runFor(5)
        self.assertEqual(self.client.told, ["made"])
        self.assertEqual(self.server.transport.session.engine.unsent(0), 0)

    def test_pausedThenLost(self) -> None:
        """A paused reader that closes does not keep its peer from closing."""
        self.transport.pauseProducing()
        self.server.transport.write(b"x" * (2 * WINDOW))
        self.pair.network.runFor(1)
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)

    def test_bounded(self) -> None:
        """A peer that is gone ends the wait with C{ConnectionLost} (CLOSE-5)."""
        self.pair.network.cut(self.pair.client, self.pair.server)
        self.transport.write(b"x")
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)
        self.assertIsInstance(self.client.reason.value, ConnectionLost)

    def test_abort(self) -> None:
        """An abort is told in a later turn, once, and the peer is told too (CLOSE-7)."""
        self.transport.abortConnection()
        self.transport.abortConnection()
        self.assertEqual(self.client.told, ["made"])
        self.pair.lost(self.client, self.server)
        self.assertEqual(self.client.told, ["made", "lost"])
        self.assertIs(type(self.client.reason.value), ConnectionAborted)
        self.assertIs(type(self.server.reason.value), PeerReset)

    def test_abortInTurn(self) -> None:
        """An abort from inside C{dataReceived} is told in a later turn than that (CLOSE-7)."""
        turns: list[int] = []
        schedule = self.transport.session.host.schedule

        def data(_: bytes) -> None:
            self.transport.abortConnection()
            turns.append(schedule.turn + 1)

        self.client.onData = data
        self.client.onLost = lambda: turns.append(schedule.turn)
        self.server.transport.write(b"x")
        self.pair.lost(self.client)
        self.assertGreater(turns[1], turns[0])
        self.assertEqual(self.client.told, ["made", "data", "lost"])

    def test_abortWins(self) -> None:
        """An abort wins over a close that is under way (CLOSE-7)."""
        self.transport.write(b"x" * 500_000)
        self.transport.loseConnection()
        self.turn()
        self.transport.abortConnection()
        self.pair.lost(self.client)
        self.assertIs(type(self.client.reason.value), ConnectionAborted)

    def test_abortWinsOverPeer(self) -> None:
        """An abort wins over an end that comes between it and its turn (CLOSE-7)."""
        self.transport.abortConnection()
        self.transport.session.end(Reason.DONE, None)
        self.pair.lost(self.client)
        self.assertIs(type(self.client.reason.value), ConnectionAborted)

    def test_shutdown(self) -> None:
        """A shutdown waits for what is closing, and no trigger stays behind (CLOSE-6)."""
        reactor = self.pair.client.reactor
        self.assertEqual(reactor.triggers, 1)
        self.transport.write(b"x" * 300_000)
        self.transport.loseConnection()
        self.assertEqual(reactor.triggers, 1)
        reactor.stop()
        self.pair.run(lambda: not reactor.running)
        self.assertIs(type(self.client.reason.value), ConnectionDone)
        self.assertEqual(len(self.server.data), 300_000)
        self.assertEqual(reactor.triggers, 0)

    def test_shutdownBounded(self) -> None:
        """A shutdown does not wait for ever (CLOSE-6)."""
        reactor = self.pair.client.reactor
        self.pair.network.cut(self.pair.client, self.pair.server)
        self.transport.write(b"x")
        self.transport.loseConnection()
        before = self.pair.network.clock.seconds()
        reactor.stop()
        self.pair.run(lambda: not reactor.running)
        self.assertLessEqual(self.pair.network.clock.seconds() - before, 5.1)
        self.assertIsInstance(self.client.reason.value, ConnectionLost)

    def test_socketLost(self) -> None:
        """What is said of a lost socket is said once."""
        self.pair.server.reactor.disconnectAll()
        said = str(self.server.reason.value)
        self.assertEqual(said.count("Connection"), 1, said)

    def test_shutdownOpen(self) -> None:
        """At a shutdown open connections are lost, once (PORT-5)."""
        self.pair.server.reactor.stop()
        self.pair.lost(self.server)
        self.assertEqual(self.server.told, ["made", "lost"])
        self.assertIsInstance(self.server.reason.value, ConnectionLost)

    def test_exception(self) -> None:
        """An exception in C{dataReceived} ends that connection with it (FAC-5)."""
        other, otherServer = self.pair.connected()
        self.server.onData = lambda data: 1 / 0
        self.transport.write(b"x")
        self.pair.lost(self.client, self.server)
        self.assertIsInstance(self.server.reason.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        other.transport.write(b"alive")
        self.pair.run(lambda: otherServer.data == b"alive")

    def test_exceptionInLost(self) -> None:
        """An exception in C{connectionLost} is logged and changes nothing."""
        self.client.onLost = lambda: 1 / 0
        self.close()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.pair.client.ports, [])

    def test_garbage(self) -> None:
        """After the end nobody keeps the protocol, and nothing is scheduled (CLOSE-10)."""
        transport = self.transport
        producer = Push(transport, 0)
        transport.registerProducer(producer, True)
        transport.abortConnection()
        self.pair.lost(self.client, self.server)
        seen = [weakref.ref(self.client), weakref.ref(self.server), weakref.ref(producer)]
        self.pair.network.runFor(10)
        self.pair.clientFactory.built.clear()
        self.pair.serverFactory.built.clear()
        del self.client, self.server, producer
        gc.collect()
        self.assertEqual([ref() for ref in seen], [None] * 3)
        self.assertIsNone(transport.protocol)
        self.assertEqual(self.pair.network.clock.getDelayedCalls(), [])

    def test_everywhere(self) -> None:
        """Every method from inside every callback: no recursion, one end (ORD-1, ORD-2)."""
        methods = (
            "loseConnection",
            "abortConnection",
            "loseWriteConnection",
            "pauseProducing",
            "resumeProducing",
            "stopProducing",
            "unregisterProducer",
        )
        for where in ("onMade", "onData", "onLost"):
            for method in methods:
                pair = Pair()
                depth: list[str] = []

                def prepare(
                    protocol: Any,
                    where: str = where,
                    method: str = method,
                    depth: list[str] = depth,
                ) -> None:
                    def act(*_: Any) -> None:
                        before = len(protocol.told)
                        protocol.transport.write(b"echo")
                        getattr(protocol.transport, method)()
                        if len(protocol.told) != before:
                            depth.append(method)

                    setattr(protocol, where, act)

                pair.serverFactory.prepare = prepare
                pair.dial()
                pair.network.runFor(1)
                if pair.clientFactory.built and pair.clientFactory.built[0].reason is None:
                    pair.clientFactory.built[0].transport.write(b"go")
                pair.network.runFor(1)
                for protocol in pair.clientFactory.built:
                    if protocol.reason is None:
                        protocol.transport.abortConnection()
                pair.network.runFor(10)
                server = pair.serverFactory.built[0]
                self.assertEqual(depth, [], (where, method))
                self.assertEqual(server.told[0], "made")
                self.assertEqual(server.told.count("lost"), 1, (where, method))
                self.assertEqual(server.told[-1], "lost")


class HalfCloseTests(StreamCase):
    def test_writeHalf(self) -> None:
        """Our half ends after what is written; reading goes on (CLOSE-9)."""
        self.connect(HalfRecorder)
        self.transport.write(b"x" * 100_000)
        self.transport.loseWriteConnection()
        self.transport.write(b"y")
        self.pair.run(lambda: "readLost" in self.server.told)
        self.assertEqual(len(self.server.data), 100_001)
        self.assertIn("writeLost", self.client.told)
        self.transport.write(b"dropped")
        self.server.transport.write(b"answer")
        self.pair.run(lambda: self.client.data == b"answer")
        self.assertEqual(len(self.server.data), 100_001)
        self.server.transport.loseConnection()
        self.pair.run(lambda: "readLost" in self.client.told)
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)
        self.assertEqual(self.client.told, ["made", "writeLost", "data", "readLost", "lost"])
        for each in (self.client, self.server):
            self.assertIs(type(each.reason.value), ConnectionDone)

    def test_bothHalves(self) -> None:
        """With both halves closed it is the protocol's duty to close (CLOSE-9)."""
        self.connect(HalfRecorder)
        self.transport.loseWriteConnection()
        self.server.transport.loseWriteConnection()
        self.pair.network.runFor(5)
        for each in (self.client, self.server):
            self.assertEqual(set(each.told), {"made", "readLost", "writeLost"})
            self.assertTrue(each.transport.connected)
            each.transport.loseConnection()
            self.assertNotIn("lost", each.told)
        self.pair.lost(self.client, self.server)

    def test_notHalfCloseable(self) -> None:
        """For any other protocol the peer's end is the end (CLOSE-9)."""
        self.connect()
        self.transport.loseWriteConnection()
        self.pair.lost(self.client, self.server)
        self.assertIs(type(self.server.reason.value), ConnectionDone)
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.server))

    def test_producerStopped(self) -> None:
        """A producer towards a peer that has ended is stopped (FLOW-5)."""
        self.connect()
        producer = Push(self.server.transport, 0)
        self.server.transport.registerProducer(producer, True)
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)
        self.assertEqual(producer.told, ["stop"])

    def test_waitsForProducer(self) -> None:
        """The end of our half waits for the producer too."""
        self.connect(HalfRecorder)
        producer = Push(self.transport, 0)
        self.transport.registerProducer(producer, True)
        self.transport.loseWriteConnection()
        self.pair.network.runFor(1)
        self.assertEqual(self.server.told, ["made"])
        self.transport.unregisterProducer()
        self.pair.run(lambda: "readLost" in self.server.told)
        late = Push(self.transport, 10)
        self.transport.registerProducer(late, True)
        self.assertEqual(late.told, ["stop"])

    def test_withoutCapability(self) -> None:
        """Where the wire has no half close only this side ends writing."""
        self.patch(Conversation, "capabilities", Capability.BYTES | Capability.ORDERLY_CLOSE)
        self.connect(HalfRecorder)
        self.transport.loseWriteConnection()
        self.pair.network.runFor(1)
        self.transport.write(b"dropped")
        self.pair.network.runFor(1)
        self.assertEqual(self.client.told, ["made", "writeLost"])
        self.assertEqual((self.server.told, self.server.data), (["made"], b""))
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)
        self.assertNotIn("readLost", self.server.told)

    def test_failing(self) -> None:
        """An exception in C{readConnectionLost} ends the connection with it (FAC-5)."""
        self.connect(HalfRecorder)
        self.server.readConnectionLost = lambda: 1 / 0
        self.transport.loseWriteConnection()
        self.pair.lost(self.client, self.server)
        self.assertIsInstance(self.server.reason.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class CipherTests(StreamCase):
    def test_sealed(self) -> None:
        """Nothing leaves the socket but through the demultiplexer."""
        self.connect()
        self.transport.write(b"plain words")
        self.pair.run(lambda: self.server.data != b"")
        table = self.pair.serverDemux.table
        for traced in self.pair.network.trace:
            self.assertNotIn(b"plain words", traced.data)
            self.assertEqual(traced.data.translate(table)[:1], b"\x5a")

    def test_wrongSecret(self) -> None:
        """With another secret nobody is there, and nothing is built."""
        self.pair.makeDemux = lambda: CipherDemultiplexer(0x44, Random(1))
        self.failureResultOfLater()

    def failureResultOfLater(self) -> None:
        dialling = self.pair.dial(timeout=3)
        failures: list[Any] = []
        dialling.addErrback(failures.append)
        self.pair.run(lambda: failures)
        self.assertEqual(self.pair.serverFactory.asked, [])


class StateTests(SynchronousTestCase):
    def test_lost(self) -> None:
        """Nothing leads out of LOST, everything else leads there (ORD-1)."""
        for cause in Cause:
            self.assertIsNone(after(State.LOST, cause))
        for state in set(State) - {State.LOST}:
            self.assertIs(after(state, Cause.OVER), State.LOST)

    def test_abortWins(self) -> None:
        """An abort is possible until the end and nothing but the end follows (CLOSE-7)."""
        for state in set(State) - {State.LOST, State.ABORTING}:
            self.assertIs(after(state, Cause.ABORT), State.ABORTING)
        for cause in set(Cause) - {Cause.OVER}:
            self.assertIsNone(after(State.ABORTING, cause))

    def test_disconnecting(self) -> None:
        """Who is disconnecting reads no more, and never stops disconnecting (CLOSE-3)."""
        for state in DISCONNECTING:
            self.assertNotIn(state, READING)
            for cause in set(Cause) - {Cause.OVER}:
                self.assertIn(after(state, cause), DISCONNECTING | {None})

    def test_writing(self) -> None:
        """A half that has ended is never written to again."""
        for state in set(State) - WRITING - {State.CONNECTING}:
            for cause in Cause:
                self.assertNotIn(after(state, cause), WRITING)


class Life(RuleBasedStateMachine):
    """Two half-closeable peers doing anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.pair.serverFactory.kind = self.pair.clientFactory.kind = HalfRecorder
        self.both = self.pair.connected()
        self.written = [b"", b""]

    def side(self, which: bool) -> Any:
        return self.both[which].transport

    @rule(which=st.booleans(), count=st.integers(1, 100_000))
    def write(self, which: bool, count: int) -> None:
        transport = self.both[which].transport
        if transport is not None and transport._state in WRITING:
            self.written[which] += bytes([65 + which]) * count
            transport.write(bytes([65 + which]) * count)

    @rule(which=st.booleans())
    def pause(self, which: bool) -> None:
        self.side(which).pauseProducing()

    @rule(which=st.booleans())
    def resume(self, which: bool) -> None:
        self.side(which).resumeProducing()

    @rule(which=st.booleans())
    def loseWrite(self, which: bool) -> None:
        self.side(which).loseWriteConnection()

    @rule(which=st.booleans())
    def lose(self, which: bool) -> None:
        self.side(which).loseConnection()

    @precondition(lambda self: len(self.written[0]) > 200_000)
    @rule(which=st.booleans())
    def abort(self, which: bool) -> None:
        self.side(which).abortConnection()

    @rule(seconds=st.floats(0, 0.05))
    def run_(self, seconds: float) -> None:
        self.pair.network.runFor(seconds)

    @invariant()
    def ordered(self) -> None:
        for which, protocol in enumerate(self.both):
            assert self.written[not which].startswith(protocol.data)
            told = protocol.told
            assert told[0] == "made"
            for once in ("made", "lost", "readLost", "writeLost"):
                assert told.count(once) <= 1
            if "lost" in told:
                assert told[-1] == "lost"
            if "readLost" in told:
                assert "data" not in told[told.index("readLost") :]

    def teardown(self) -> None:
        for protocol in self.both:
            protocol.transport.resumeProducing()
            protocol.transport.loseConnection()
        self.pair.network.runFor(60)
        for protocol in self.both:
            assert protocol.reason is not None
        self.pair.network.run(self.pair.listening.stopListening())
        assert self.pair.network.clock.getDelayedCalls() == []


class LifeTests(Life.TestCase):  # type: ignore[misc, valid-type, name-defined]
    settings = settings(max_examples=40, stateful_step_count=20, deadline=None, derandomize=True)

    def test_life(self) -> None:
        """Whatever both do, in whatever order: bytes in order, one end, nothing left (ORD-1)."""
        self.runTest()
