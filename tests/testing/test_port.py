"""
The fake UDP port does what the stock one does: every test of L{PortMixin} runs
against both (TEST-4).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_rudp.testing import MemoryNetwork, MemoryUDPPort


class Recorder(DatagramProtocol):
    """Writes down what is called, and wakes whoever waits for more."""

    noisy = False

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.events: list[object] = []
        self.received: list[bytes] = []
        self.react: Callable[[bytes], None] = lambda datagram: None

    def note(self, event: object) -> None:
        self.events.append(event)
        self.changed()

    def startProtocol(self) -> None:
        self.note("start")

    def stopProtocol(self) -> None:
        self.note(("stop", self.transport))

    def connectionRefused(self) -> None:
        self.note("refused")

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append(datagram)
        self.note(addr)
        self.react(datagram)


class PortMixin:
    """Needs C{reactor}, and C{until(condition)} that returns an awaitable."""

    reactor: Any
    until: Any

    def changed(self) -> None:
        """Something was called."""

    def close(self, port: Any, protocol: Recorder) -> Any:
        """Stop a port that the test has left open."""
        return port.stopListening() if protocol.transport is port else None

    def listen(self, *args: Any, **kwargs: Any) -> tuple[Any, Recorder]:
        protocol = Recorder(self.changed)
        options = {"interface": "127.0.0.1"} | kwargs
        port = self.reactor.listenUDP(*(args or (0,)), protocol, **options)
        self.addCleanup(self.close, port, protocol)  # type: ignore[attr-defined]
        return port, protocol

    async def test_startAndAddresses(self: Any) -> None:
        """The protocol starts inside listenUDP; port 0 becomes a real number."""
        port, protocol = self.listen()
        self.assertEqual(protocol.events, ["start"])
        self.assertIs(protocol.transport, port)
        host = port.getHost()
        self.assertEqual((host.type, host.host), ("UDP", "127.0.0.1"))
        self.assertTrue(host.port > 0)
        _, other = self.listen(interface="::1")
        self.assertEqual(other.transport.getHost().host, "::1")

    async def test_exchange(self: Any) -> None:
        """Datagrams come with the sender's address; an empty one is one (UDP-6)."""
        one, _ = self.listen()
        other, protocol = self.listen()
        there = ("127.0.0.1", other.getHost().port)
        one.write(b"", there)
        one.writeSequence([b"a", b"b"], there)
        await self.until(lambda: len(protocol.received) == 2)
        self.assertEqual(protocol.received, [b"", b"ab"])
        self.assertEqual(protocol.events[1], ("127.0.0.1", one.getHost().port))

    async def test_truncation(self: Any) -> None:
        """Longer datagrams than maxPacketSize are cut short without a word (UDP-1)."""
        one, _ = self.listen()
        other, protocol = self.listen()
        short, shortProtocol = self.listen(maxPacketSize=10)
        one.write(bytes(9000), ("127.0.0.1", other.getHost().port))
        one.write(bytes(11), ("127.0.0.1", short.getHost().port))
        await self.until(lambda: protocol.received and shortProtocol.received)
        self.assertEqual(len(protocol.received[0]), 8192)
        self.assertEqual(len(shortProtocol.received[0]), 10)

    async def test_tooLong(self: Any) -> None:
        """What UDP cannot carry raises MessageLengthError."""
        one, _ = self.listen()
        there = ("127.0.0.1", one.getHost().port)
        one.write(bytes(65507), there)
        self.assertRaises(error.MessageLengthError, one.write, bytes(65508), there)

    async def test_addressTaken(self: Any) -> None:
        """A taken address, by the same or by all interfaces, is CannotListenError."""
        port, _ = self.listen()
        number = port.getHost().port
        for interface in ("127.0.0.1", "", "::"):
            self.assertRaises(error.CannotListenError, self.listen, number, interface=interface)
        self.listen(number, interface="::1")

    async def test_foreignAddress(self: Any) -> None:
        """An address of another machine is CannotListenError, a name is InvalidAddressError."""
        self.assertRaises(error.CannotListenError, self.listen, interface="192.0.2.1")
        self.assertRaises(error.InvalidAddressError, self.listen, interface="localhost")

    async def test_addressFamilies(self: Any) -> None:
        """Names and addresses of the other family cannot be written to."""
        four, _ = self.listen()
        six, _ = self.listen(interface="::1")
        self.assertRaises(error.InvalidAddressError, four.write, b"", ("localhost", 9))
        self.assertRaises(error.InvalidAddressError, four.write, b"", ("::1", 9))
        self.assertRaises(error.InvalidAddressError, six.write, b"", ("127.0.0.1", 9))
        self.assertEqual([four.addressFamily, six.addressFamily], [socket.AF_INET, socket.AF_INET6])

    async def test_dualStack(self: Any) -> None:
        """On C{::} IPv4 peers have mapped addresses that can be answered (ADDR-2)."""
        four, hears = self.listen()
        both, protocol = self.listen(interface="::")
        four.write(b"x", ("127.0.0.1", both.getHost().port))
        await self.until(lambda: protocol.received)
        peer = protocol.events[1]
        self.assertEqual(peer, ("::ffff:127.0.0.1", four.getHost().port))
        both.write(b"y", peer)
        await self.until(lambda: hears.received)

    async def test_stop(self: Any) -> None:
        """
        The Deferred fires after stopProtocol, when transport is None; the number is
        free again; later calls fail as they do.
        """
        port, protocol = self.listen()
        number = port.getHost().port
        stopped: list[object] = []
        stopping = port.stopListening()
        self.assertEqual(protocol.events, ["start"])
        stopping.addCallback(lambda result: stopped.append((result, protocol.events[-1])))
        await self.until(lambda: protocol.events[-1] == ("stop", None))
        self.assertEqual(stopped, [(None, ("stop", None))])
        self.assertIs(port.stopListening(), None)
        self.assertRaises(AttributeError, port.getHost)
        self.assertRaises(AttributeError, port.write, b"x", ("127.0.0.1", 9))
        self.listen(number)

    async def test_stopInsideDatagramReceived(self: Any) -> None:
        """What waits in the turn of stopListening still arrives (UDP-3)."""
        one, _ = self.listen()
        other, protocol = self.listen()
        stopping: list[object] = []
        protocol.react = lambda _: stopping or stopping.append(other.stopListening())
        for n in range(3):
            one.write(bytes([n]), ("127.0.0.1", other.getHost().port))
        await self.until(lambda: protocol.events[-1] == ("stop", None))
        self.assertEqual(protocol.received, [b"\0", b"\1", b"\2"])

    async def test_raisingProtocol(self: Any) -> None:
        """An exception of the protocol is logged, the port lives on (FAC-5)."""
        one, _ = self.listen()
        other, protocol = self.listen()
        protocol.react = lambda datagram: 1 // len(datagram)
        for datagram in (b"", b"x"):
            one.write(datagram, ("127.0.0.1", other.getHost().port))
        await self.until(lambda: len(protocol.received) == 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_connected(self: Any) -> None:
        """A connected port hears its peer only and writes without an address."""
        one, hears = self.listen()
        peer, _ = self.listen()
        unknown_peer, _ = self.listen()
        self.assertRaises(error.InvalidAddressError, one.connect, "localhost", 9)
        one.connect("127.0.0.1", peer.getHost().port)
        self.assertRaises(RuntimeError, one.connect, "127.0.0.1", 9)
        here = ("127.0.0.1", one.getHost().port)
        unknown_peer.write(b"stranger", here)
        peer.write(b"peer", here)
        one.write(b"x")
        await self.until(lambda: hears.received)
        self.assertEqual(hears.received, [b"peer"])

    async def test_broadcastFlag(self: Any) -> None:
        """Whether broadcasts are allowed is remembered; by default they are not."""
        port, _ = self.listen(interface="")
        self.assertFalse(port.getBroadcastAllowed())
        self.assertRaises(PermissionError, port.write, b"x", ("255.255.255.255", 9))
        port.setBroadcastAllowed(True)
        self.assertTrue(port.getBroadcastAllowed())


class StockPortTests(PortMixin, TestCase):
    """Twisted's own port, on real sockets."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        self.waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def until(self, condition: Callable[[], object]) -> Deferred[None]:
        fired: Deferred[None] = Deferred()
        self.waiting.append((condition, fired))
        self.changed()
        return fired

    def changed(self) -> None:
        for entry in list(self.waiting):
            condition, fired = entry
            if condition():
                self.waiting.remove(entry)
                self.reactor.callLater(0, fired.callback, None)


class MemoryPortTests(PortMixin, TestCase):
    """The fake port."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.reactor = self.network.host("here").reactor

    def until(self, condition: Callable[[], object]) -> Deferred[None]:
        self.network.run(condition)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def close(self, port: Any, protocol: Recorder) -> Any:
        closed = maybeDeferred(super().close, port, protocol)
        self.network.run(closed)
        return closed


class OnlyHereTests(SynchronousTestCase):
    """What the fake makes louder than the stock port, or easier to see."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.host = self.network.host("here")
        self.protocol = Recorder(lambda: None)

    def test_stoppingTwice(self) -> None:
        """
        A second stopListening while the first goes on breaks the stock port
        (PORT-2); here it raises.
        """
        port = self.host.reactor.listenUDP(0, self.protocol)
        stopping = maybeDeferred(port.stopListening)
        self.assertRaises(AssertionError, port.stopListening)
        self.network.runFor(0)
        self.successResultOf(stopping)

    def test_refused(self) -> None:
        """A connected port hears that nobody listens; others do not (UDP-5)."""
        connected = self.host.reactor.listenUDP(0, self.protocol)
        connected.connect("127.0.0.1", 9)
        connected.write(b"x")
        other = Recorder(lambda: None)
        self.host.reactor.listenUDP(0, other).write(b"x", ("127.0.0.1", 9))
        self.network.runFor(1)
        self.assertEqual(self.protocol.events, ["start", "refused"])
        self.assertEqual(other.events, ["start"])

    def test_ephemeralNumbersRunOut(self) -> None:
        """When no number is free, port 0 is CannotListenError."""
        from twisted_rudp.testing import host

        self.patch(host, "EPHEMERAL", range(49152, 49154))
        ports = [self.host.reactor.listenUDP(0, Recorder(lambda: None)) for _ in range(2)]
        self.assertEqual([port.port for port in ports], [49152, 49153])
        self.assertRaises(
            error.CannotListenError, self.host.reactor.listenUDP, 0, Recorder(lambda: None)
        )
        self.assertIsInstance(ports[0], MemoryUDPPort)
