"""Tests for L{twisted_rudp.net.udp.stock} on a simulated C{listenUDP}."""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import OTHER, PEER, Recorder, refusal
from twisted_rudp.core.engine import PathError
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import PortKind, SocketOptions
from twisted_rudp.net.udp.sending import RETRY
from twisted_rudp.net.udp.stock import StockPort


class FakeUDP(Clock):
    """A reactor without descriptors, and its only port."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[int, str, int]] = []
        self.sent: list[tuple[Any, Any]] = []
        self.failures: deque[Exception | None] = deque()
        self.stops = 0
        self.stopping: Deferred[None] = Deferred()
        self.protocol: Any = None

    def listenUDP(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192
    ) -> FakeUDP:
        self.opened.append((port, interface, maxPacketSize))
        self.protocol = protocol
        protocol.makeConnection(self)
        return self

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "10.0.0.1", 4000)

    def write(self, datagram: bytes, address: Any) -> None:
        failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            raise failure
        self.sent.append((datagram, address))

    def stopListening(self) -> Deferred[None]:
        self.stops += 1
        return self.stopping

    def lose(self) -> None:
        """What the stock port does when it is closed, whoever closed it."""
        self.protocol.doStop()
        if self.stops:
            self.stopping.callback(None)


class StockPortTests(SynchronousTestCase):
    """L{StockPort}."""

    def setUp(self) -> None:
        self.reactor = FakeUDP()
        self.receiver = Recorder()
        self.port: Any = openPort(self.reactor, self.receiver, "10.0.0.1", 4000)  # type: ignore[arg-type]

    def test_chosen(self) -> None:
        """A reactor that watches no descriptors gets this port (UDP-10, UDP-1)."""
        self.assertIsInstance(self.port, StockPort)
        self.assertEqual(self.reactor.opened, [(4000, "10.0.0.1", 65535)])
        self.assertEqual(self.port.getHost(), IPv4Address("UDP", "10.0.0.1", 4000))
        for kind in ("gso", "plain"):
            self.assertRaises(
                error.CannotListenError,
                openPort,
                self.reactor,
                self.receiver,
                "10.0.0.1",
                4000,
                kind=kind,
            )

    def test_facts(self) -> None:
        """What cannot be asked is not made up."""
        facts = self.port.facts()
        self.assertEqual(facts.kind, PortKind.STOCK)
        self.assertEqual(facts.receiveBufferAsked, SocketOptions().receiveBuffer)
        self.assertIsNone(facts.receiveBuffer)
        self.assertIsNone(facts.dscp)

    def test_turn(self) -> None:
        """Datagrams of one read turn are joined; a zero-delay call ends the turn."""
        for data, address in ((b"aa", PEER), (b"bb", PEER), (b"c", PEER), (b"d", OTHER)):
            self.reactor.protocol.datagramReceived(data, address)
        self.reactor.advance(0)
        self.assertEqual(
            self.receiver.log,
            [("run", b"aabbc", 2, PEER), ("run", b"d", 1, OTHER), ("turn",)],
        )
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_ipv6(self) -> None:
        """The pair that the stock port gives is made a raw IPv6 address again (ADDR-3)."""
        self.reactor.protocol.datagramReceived(b"a", ("2001:db8::1", 7))
        self.reactor.advance(0)
        self.assertEqual(self.receiver.log[0], ("run", b"a", 1, ("2001:db8::1", 7, 0, 0)))

    def test_send(self) -> None:
        """A run leaves datagram by datagram, as bytes of its own."""
        buffer = bytearray(b"aabbc")
        self.assertTrue(self.port.send(memoryview(buffer), 2, PEER))
        buffer[:] = b"xxxxx"
        self.assertEqual(self.reactor.sent, [(b"aa", PEER), (b"bb", PEER), (b"c", PEER)])
        self.assertEqual(self.port.counters.datagramsOut, 3)

    def test_full(self) -> None:
        """A full socket is tried again after a while, for nothing tells (UDP-2)."""
        for code in (errno.EAGAIN, errno.ENOBUFS):
            self.reactor.sent.clear()
            self.receiver.log.clear()
            self.reactor.failures += [None, refusal(code), refusal(code)]
            self.assertFalse(self.port.send(b"aabbc", 2, PEER))
            self.assertFalse(self.port.send(b"dd", 2, PEER))
            self.reactor.advance(RETRY)
            self.assertEqual(self.receiver.log, [])
            self.reactor.advance(RETRY)
            self.assertEqual([data for data, _ in self.reactor.sent], [b"aa", b"bb", b"c", b"dd"])
            self.assertEqual(self.receiver.log, [("writable",)])

    def test_errors(self) -> None:
        """All that C{write} raises becomes a path error or a lost datagram (UDP-2)."""
        for problem, kind in (
            (error.MessageLengthError("too long"), PathError.TOO_BIG),
            (error.InvalidAddressError("::1", "wrong family"), PathError.UNREACHABLE),
            (refusal(errno.ENETUNREACH), PathError.UNREACHABLE),
            (refusal(errno.EPERM), PathError.FORBIDDEN),
            (refusal(errno.EPIPE), None),
        ):
            self.receiver.log.clear()
            self.reactor.failures.append(problem)
            self.assertTrue(self.port.send(b"aab", 2, PEER))
            self.assertEqual(self.receiver.log, [])
            self.reactor.advance(0)
            told = [] if kind is None else [("error", kind, 2, PEER), ("turn",)]
            self.assertEqual(self.receiver.log, told)
        self.assertEqual(self.port.counters.dropped, 5)

    def test_stopOnce(self) -> None:
        """The stock port, which breaks when asked twice, is asked once (PORT-2)."""
        first, second, third = (self.port.stopListening() for _ in range(3))
        self.assertIs(first, second)
        self.assertIs(second, third)
        self.assertNoResult(first)
        self.reactor.lose()
        self.assertIsNone(self.successResultOf(first))
        self.assertEqual(self.reactor.stops, 1)
        self.assertEqual(self.receiver.log, [])
        self.assertEqual(self.port.getHost(), IPv4Address("UDP", "10.0.0.1", 4000))

    def test_stopInTurn(self) -> None:
        """
        What the read loop still brings after C{stopListening} goes nowhere (UDP-3), and
        no timer stays.
        """
        self.receiver.hook = lambda entry: self.port.stopListening()
        self.reactor.protocol.datagramReceived(b"a", PEER)
        self.reactor.protocol.datagramReceived(b"b", OTHER)
        self.reactor.protocol.datagramReceived(b"c", PEER)
        self.assertEqual(self.receiver.log, [("run", b"a", 1, PEER)])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(self.port.send(b"x", 1, PEER))
        self.assertEqual(self.reactor.sent, [])

    def test_lost(self) -> None:
        """C{stopProtocol} unasked is a lost port (PORT-5, UDP-4)."""
        self.reactor.failures.append(refusal(errno.EAGAIN))
        self.port.send(b"x", 1, PEER)
        self.reactor.protocol.datagramReceived(b"a", PEER)
        self.reactor.lose()
        self.assertEqual(self.receiver.log, [("lost", error.ConnectionLost)])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.successResultOf(self.port.stopListening())
        self.assertEqual(self.reactor.stops, 0)
