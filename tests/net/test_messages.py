from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, ILoggingContext, IPushProducer, ITransport
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.net.support import PORT, Pair, Recorder
from tests.net.test_stream import Push
from tests.toys.parcels import PING, ParcelDemultiplexer
from twisted_rudp.core.engine import Event
from twisted_rudp.errors import PeerFull
from twisted_rudp.interfaces import IMessageTransport
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.net.table import Limits


class MessageCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair(demux=ParcelDemultiplexer, mode="messages")
        self.client, self.server = self.pair.connected()
        self.transport = self.client.transport

    def messages(self, protocol: Recorder) -> list[Message]:
        return [each for each in protocol.told if isinstance(each, Message)]


class MessageTests(MessageCase):
    def test_interfaces(self) -> None:
        """A message transport is a transport, a producer and a consumer."""
        for interface in (
            ITransport,
            IConsumer,
            IPushProducer,
            ILoggingContext,
            IMessageTransport,
        ):
            self.assertTrue(verifyObject(interface, self.transport))

    def test_send(self) -> None:
        """Messages arrive one by one with their delivery and channel."""
        self.transport.send(b"one", Delivery.UNRELIABLE, 3)
        self.transport.write(b"two")
        self.transport.writeSequence(iter([b"th", b"ree"]))
        self.pair.network.runFor(1)
        expected = [
            Message(b"one", Delivery.UNRELIABLE, 3),
            Message(b"two"),
            Message(b"three"),
        ]
        self.assertEqual(self.messages(self.server), expected)

    def test_wrong(self) -> None:
        """What the wire cannot carry raises, and leaves the connection alone."""
        self.assertRaises(TypeError, self.transport.send, "text")
        self.assertRaises(ValueError, self.transport.send, b"")
        self.assertRaises(ValueError, self.transport.send, b"x", Delivery.OUT_OF_BAND)
        self.transport.send(b"fine")
        self.pair.network.runFor(1)
        self.assertEqual(self.messages(self.server), [Message(b"fine")])

    def test_receipt(self) -> None:
        """A receipt tells that the peer has it."""
        told = self.transport.send(b"x", receipt=True)
        self.assertNoResult(told)
        self.pair.network.runFor(1)
        self.assertIs(self.successResultOf(told), True)
        self.assertIsNone(self.transport.send(b"x"))

    def test_receiptLost(self) -> None:
        """A receipt tells that the message was given up."""
        self.pair.network.cut(self.pair.client, self.pair.server)
        told = self.transport.send(b"x", receipt=True)
        self.pair.network.runFor(3)
        self.assertIs(self.successResultOf(told), False)

    def test_receiptAtTheEnd(self) -> None:
        """A receipt does not outlive its connection, nor begin after it."""
        self.pair.network.cut(self.pair.client, self.pair.server)
        told = self.transport.send(b"x", receipt=True)
        self.transport.abortConnection()
        self.pair.lost(self.client)
        self.assertIs(self.successResultOf(told), False)
        after = self.transport.send(b"x", receipt=True)
        self.assertIs(self.successResultOf(after), False)

    def test_pause(self) -> None:
        """A paused protocol is given nothing until it resumes (FLOW-6, FLOW-7)."""
        self.server.transport.pauseProducing()
        self.transport.send(b"x")
        self.pair.network.runFor(1)
        self.server.transport.resumeProducing()
        self.assertEqual(self.messages(self.server), [])
        self.pair.network.runFor(1)
        self.assertEqual(self.messages(self.server), [Message(b"x")])

    def test_bounded(self) -> None:
        """What has piled up is delivered in several turns (FLOW-11)."""
        self.server.transport.pauseProducing()
        for _ in range(600):
            self.transport.send(b"x")
        self.pair.network.runFor(1)
        self.server.transport.resumeProducing()
        self.pair.network.step()
        self.assertEqual(len(self.messages(self.server)), 256)
        self.pair.network.runFor(1)
        self.assertEqual(len(self.messages(self.server)), 600)

    def test_producer(self) -> None:
        """A producer can write messages."""
        producer = Push(self.transport, 30_000, 1000)
        self.transport.registerProducer(producer, True)
        producer.resumeProducing()
        self.pair.network.runFor(1)
        self.assertEqual(len(self.messages(self.server)), 30)

    def test_lose(self) -> None:
        """All messages arrive before the end, which both are told (CLOSE-1)."""
        for _ in range(10):
            self.transport.send(b"x")
        self.transport.loseConnection()
        self.pair.lost(self.client, self.server)
        self.assertEqual(len(self.messages(self.server)), 10)
        for each in (self.client, self.server):
            self.assertIs(type(each.reason.value), ConnectionDone)

    def test_abort(self) -> None:
        """An abort is told in a later turn (CLOSE-7)."""
        self.transport.abortConnection()
        self.assertEqual(self.client.told, ["made"])
        self.pair.lost(self.client, self.server)
        self.assertIs(type(self.client.reason.value), ConnectionAborted)

    def test_exception(self) -> None:
        """An exception in C{messageReceived} ends that connection with it (FAC-5)."""
        self.server.messageReceived = lambda message: 1 / 0
        self.transport.send(b"x")
        self.pair.lost(self.client, self.server)
        self.assertIsInstance(self.server.reason.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_noStreams(self) -> None:
        """A stream that the peer opens on a connection of messages is reset."""
        reset: list[int] = []
        engine = self.server.transport.session.engine
        engine.reset_stream = reset.append
        engine.say(Event.STREAM_OPENED, 5)
        self.transport.send(b"x")
        self.pair.network.runFor(1)
        self.assertEqual(reset, [5])


class Answers(DatagramProtocol):
    noisy = False

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self.heard = heard

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard(datagram)


class OfflineTests(MessageCase):
    def test_ping(self) -> None:
        """A ping needs no session and makes none."""
        heard: list[bytes] = []
        unknown_peer = self.pair.network.host("unknown_peer")
        port = unknown_peer.reactor.listenUDP(0, Answers(heard.append))
        port.write(bytes([PING]) + bytes(2), (self.pair.server.address, PORT))
        self.pair.network.runFor(1)
        self.assertEqual(heard, [b"\x01toy"])
        self.assertEqual(self.pair.hub().snapshot().counters["alive"], 1)

    def test_full(self) -> None:
        """A server that is full says so, and the dialler is told (CONN-6)."""
        pair = Pair(demux=ParcelDemultiplexer, mode="messages", limits=Limits(maxSessions=1))
        pair.connected()
        failures: list[Any] = []
        pair.dial().addErrback(failures.append)
        pair.run(lambda: failures)
        self.assertIs(type(failures[0].value), PeerFull)

    def test_wrongMode(self) -> None:
        """A mode that the engine cannot serve fails the connect (EP-3)."""
        self.pair.mode = "stream"
        failures: list[Any] = []
        self.pair.dial().addErrback(failures.append)
        self.pair.run(lambda: failures)
        self.assertIsInstance(failures[0].value, ValueError)
