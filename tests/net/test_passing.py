"""Tests for L{twisted_rudp.net.passing}: messages, and two owners of a real socket."""

from __future__ import annotations

import sys
from socket import AF_INET, SOCK_DGRAM, socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.net.support import SuccessorLog
from twisted_rudp import stats
from twisted_rudp.core.engine import PathError
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.net.listen import ListeningPort
from twisted_rudp.net.passing import (
    KNOWN_INTERVAL,
    LONGEST_MESSAGE,
    MessageError,
    PassedOn,
    PassedSocket,
    PassingSuccessor,
    channel,
    packKnown,
    packMessage,
    unpackKnown,
    unpackMessage,
)

ADDRESSES = st.sampled_from(
    [("192.0.2.1", 1), ("0.0.0.0", 65535), ("2001:db8::1", 7, 0, 0), ("fe80::1", 9, 5, 3)]
)


class MessageTests(SynchronousTestCase):
    """One message for each datagram, or run of datagrams."""

    @given(st.integers(1, 65535), ADDRESSES, st.binary(max_size=16), st.binary(min_size=1))
    def test_run(self, size: int, address: Any, local: bytes, run: bytes) -> None:
        """What was packed comes out."""
        message = packMessage(0, size, address, local, run)
        self.assertEqual(unpackMessage(message), (0, size, address, local, run))

    @given(st.binary(max_size=64))
    def test_anything(self, message: bytes) -> None:
        """Nothing else but the one error is raised for what is no message."""
        try:
            kind, size, _, _, run = unpackMessage(message)
        except MessageError:
            return
        self.assertTrue(kind or (size and run))

    def test_malformed(self) -> None:
        """Messages that are cut, have no datagram, or no address, are refused."""
        whole = packMessage(0, 5, ("192.0.2.1", 1), b"1234", b"datagram")
        for message in (
            b"",
            whole[:10],
            whole[:20],
            packMessage(99, 5, ("192.0.2.1", 1), b"", b"x"),
            packMessage(0, 0, ("192.0.2.1", 1), b"", b"x"),
            packMessage(0, 1, ("192.0.2.1", 1), b"", b""),
            packMessage(0, 1, ("\xe9", 1), b"", b"x"),
        ):
            self.assertRaises(MessageError, unpackMessage, message)


    @given(st.lists(ADDRESSES, max_size=20))
    def test_known(self, addresses: list[Any]) -> None:
        """Addresses come out as they were."""
        *_, run = unpackMessage(packKnown(addresses))
        self.assertEqual(unpackKnown(run), addresses)

    def test_knownBounded(self) -> None:
        """Of very many addresses as many are told as fit into a message."""
        addresses = [("2001:db8:1234:5678:9abc:def0:1234:5678", 65535, 0, 0)] * 5000
        message = packKnown(addresses)
        self.assertLess(len(message), LONGEST_MESSAGE)
        self.assertGreater(len(unpackKnown(unpackMessage(message)[4])), 1000)

    def test_knownMalformed(self) -> None:
        """What are no addresses is refused."""
        for run in (b"192.0.2.1", b"host 1", b"192.0.2.1 x", b"192.0.2.1 1 2", b"\xff 1", b"\n"):
            self.assertRaises(MessageError, unpackKnown, run)


class SuccessorTests(SynchronousTestCase):
    """What the first owner sends."""

    def setUp(self) -> None:
        self.here, self.there = channel()
        self.addCleanup(self.here.close)
        self.addCleanup(self.there.close)
        self.successor = PassingSuccessor(self.here)

    def test_pathError(self) -> None:
        """A path error keeps its kind, size and address."""
        for error in PathError:
            self.successor.pathError(error, 1200, ("192.0.2.1", 1))
            kind, size, address, _, _ = unpackMessage(self.there.recv(1000))
            self.assertEqual(list(PathError)[kind - 1], error)
            self.assertEqual((size, address), (1200, ("192.0.2.1", 1)))

    def test_full(self) -> None:
        """Nobody waits for a successor that does not read: the rest is dropped and counted."""
        for _ in range(2000):
            self.successor.runPassedOn(bytes(60_000), 1000, ("192.0.2.1", 1), b"")
        self.assertGreater(self.successor.counts["passed"], 0)
        self.assertEqual(sum(self.successor.counts.values()), 2000)

    def test_addresses(self) -> None:
        """After many datagrams the successor is told where the peers of our sessions are."""
        ours = [("192.0.2.1", 1)]
        successor = PassingSuccessor(self.here, lambda: ours)
        for _ in range(KNOWN_INTERVAL):
            successor.runPassedOn(b"x", 1, ("192.0.2.9", 9), b"")
            successor.turnEnded()
            if self.there.recv(1000)[0]:
                self.fail("too early")
        run = unpackMessage(self.there.recv(1000))[4]
        self.assertEqual(unpackKnown(run), ours)
        self.assertRaises(BlockingIOError, self.there.recv, 1000)

    def test_gone(self) -> None:
        """If the successor ends, what would be its is dropped, and that is said once."""
        self.there.close()
        for _ in range(3):
            self.successor.runPassedOn(b"x", 1, ("192.0.2.1", 1), b"")
        self.assertEqual(self.successor.counts["dropped"], 3)


class PassedOnTests(SynchronousTestCase):
    """L{PassedOn}: the successor's end of the channel."""

    def test_nonsense(self) -> None:
        """A message that makes no sense is logged and passed over; those after it count."""
        here, there = channel()
        self.addCleanup(here.close)
        self.addCleanup(there.close)
        successor = SuccessorLog()
        reactor: Any = None
        port: Any = None
        passed = PassedOn(reactor, there, successor, port)
        events: list[Any] = []
        self.patch(PassedOn, "_log", Logger(observer=events.append))
        here.send(b"\xff nonsense")
        PassingSuccessor(here).runPassedOn(b"abc", 3, ("192.0.2.1", 1), b"")
        passed.doRead()
        self.assertEqual(successor.told, [(b"abc", 3, b""), "turn"])
        self.assertIn("makes no sense", formatEvent(events[0]))
        self.assertEqual(len(events), 1)


class Echo(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Heard(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.enough = Deferred[None]()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.data.endswith(b"."):
            self.enough.callback(None)
            self.enough = Deferred()


class SocketTests(TestCase):
    """Two owners of a socket of the system, as in two processes."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    def listen(self, after: Any = None) -> Any:
        factory: Any = Factory.forProtocol(Echo)
        factory.noisy = False
        endpoint = KCPServerEndpoint(self.reactor, 0, interface="127.0.0.1", crypt="null")
        if after is None:
            return endpoint.listen(factory)
        return endpoint.listenAfter(after, factory)

    def dial(self, port: ListeningPort) -> Any:
        factory: Any = Factory.forProtocol(Heard)
        factory.noisy = False
        number = port.getHost().port
        return KCPClientEndpoint(self.reactor, "127.0.0.1", number, crypt="null").connect(factory)

    @inlineCallbacks
    def talk(self, protocol: Any, text: bytes) -> Any:
        heard = protocol.enough
        protocol.transport.write(text)
        yield heard
        self.assertTrue(protocol.data.endswith(text))

    @inlineCallbacks
    def test_both(self) -> Any:
        """Each serves its sessions; after the first has ended the second reads by itself."""
        first = yield self.listen()
        old = yield self.dial(first)
        yield self.talk(old, b"before.")
        here, there = channel()
        second = yield self.listen(PassedSocket(first.fileno(), there))
        first.handOver(PassingSuccessor(here))
        new = yield self.dial(second)
        yield self.talk(old, b"old.")
        yield self.talk(new, b"new.")
        yield first.stopListening()
        yield self.talk(new, b"alone.")
        self.assertEqual(first.fileno(), -1)
        newest = yield self.dial(second)
        yield self.talk(newest, b"newest.")
        for each in (new, newest):
            each.transport.abortConnection()
        yield second.stopListening()
        yield deferLater(self.reactor, 0.1, lambda: None)

    @inlineCallbacks
    def test_flood(self) -> Any:
        """A flood is thinned by the kernel, which lets the sessions of both through."""
        first = yield self.listen()
        old = yield self.dial(first)
        yield self.talk(old, b"before.")
        here, there = channel()
        second = yield self.listen(PassedSocket(first.fileno(), there))
        first.handOver(PassingSuccessor(here, first.addresses))
        new = yield self.dial(second)
        with socket(AF_INET, SOCK_DGRAM) as stranger:
            stranger.connect(("127.0.0.1", second.getHost().port))
            for _ in range(200):
                for _ in range(300):
                    stranger.send(b"nothing that is of any use to a server")
                yield deferLater(self.reactor, 0.001, lambda: None)
                if any(each.snapshot().counters.get("floods") for each in stats.ports.sources()):
                    break
            else:
                self.assertFalse(sys.platform.startswith("linux"), "it was not thinned")
        yield self.talk(old, b"old.")
        yield self.talk(new, b"new.")
        yield first.stopListening()
        yield self.talk(new, b"alone.")
        new.transport.abortConnection()
        yield second.stopListening()
        yield deferLater(self.reactor, 0.1, lambda: None)

    @inlineCallbacks
    def test_firstBreaks(self) -> Any:
        """If the first owner vanishes without a word, the second goes on."""
        first = yield self.listen()
        here, there = channel()
        second = yield self.listen(PassedSocket(first.fileno(), there))
        yield first.stopListening()
        here.close()
        new = yield self.dial(second)
        yield self.talk(new, b"new.")
        new.transport.abortConnection()
        yield second.stopListening()
        yield deferLater(self.reactor, 0.1, lambda: None)
        self.assertEqual(there.fileno(), -1)
