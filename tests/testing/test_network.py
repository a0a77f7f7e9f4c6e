"""Tests for the simulated network: L{twisted_rudp.testing.network} and C{host}."""

from __future__ import annotations

import errno

from twisted.internet import error
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from tests.decoding.talk import read
from twisted_rudp.testing import Fate, Impairments, MemoryHost, MemoryNetwork, MemoryUDPPort
from twisted_rudp.tracing.reading import Datagram


class Collector(DatagramProtocol):
    """Keeps what arrives."""

    noisy = False

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append((datagram, addr))


class NetworkTestCase(SynchronousTestCase):
    """Two hosts, a port on each."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=7, delay=0.01)
        self.left = self.network.host("left")
        self.right = self.network.host("right")

    def listen(
        self, host: MemoryHost, port: int = 0, interface: str = ""
    ) -> tuple[MemoryUDPPort, Collector]:
        protocol = Collector()
        return host.reactor.listenUDP(port, protocol, interface), protocol


class DeliveryTests(NetworkTestCase):
    """From one host to another."""

    def test_capture(self) -> None:
        """A capture has each datagram at the time it was sent, and why it did not arrive."""
        path = self.mktemp()
        capture = self.network.capture(path)
        sender, _ = self.listen(self.left, 1000)
        self.listen(self.right, 2000)
        self.network.runFor(0.5)
        sender.write(b"x", (self.right.address, 2000))
        sender.write(b"y", ("10.0.9.9", 2000))
        capture.close()
        there, nowhere = ((host, 2000) for host in (self.right.address, "10.0.9.9"))
        here = (self.left.address, 1000)
        self.assertEqual(
            read(path),
            [
                Datagram(500_000_000, here, there, b"x", 1),
                Datagram(500_000_000, here, nowhere, b"y", 1, "nobody"),
            ],
        )

    def test_afterTheDelay(self) -> None:
        """A datagram arrives when the link's delay is over, from the sender's address."""
        sender, _ = self.listen(self.left, 1000)
        _, receiver = self.listen(self.right, 2000)
        sender.write(b"x", (self.right.address, 2000))
        self.network.runFor(0.0099)
        self.assertEqual(receiver.received, [])
        self.network.run(lambda: receiver.received)
        self.assertEqual(receiver.received, [(b"x", (self.left.address, 1000))])
        self.assertAlmostEqual(self.network.clock.seconds(), 0.01)

    def test_IPv6(self) -> None:
        """IPv6 goes from IPv6 address to IPv6 address, however they are written."""
        sender, _ = self.listen(self.left, 1000, "::")
        _, receiver = self.listen(self.right, 2000, "fd00::2")
        sender.write(b"x", ("fd00:0::0:2", 2000))
        self.network.run(lambda: receiver.received)
        self.assertEqual(receiver.received, [(b"x", ("fd00::1", 1000))])

    def test_dualStack(self) -> None:
        """A port on C{::} hears IPv4 peers under mapped addresses and answers there (ADDR-2)."""
        four, hears = self.listen(self.left, 1000)
        both, receiver = self.listen(self.right, 2000, "::")
        four.write(b"x", (self.right.address, 2000))
        self.network.run(lambda: receiver.received)
        self.assertEqual(receiver.received[0][1], (f"::ffff:{self.left.address}", 1000))
        both.write(b"y", receiver.received[0][1])
        self.network.run(lambda: hears.received)
        self.assertEqual(hears.received, [(b"y", (self.right.address, 2000))])

    def test_loopback(self) -> None:
        """Each host has its own 127.0.0.1."""
        sender, _ = self.listen(self.left, 1000)
        _, here = self.listen(self.left, 2000, "127.0.0.1")
        _, there = self.listen(self.right, 2000, "127.0.0.1")
        sender.write(b"x", ("127.0.0.1", 2000))
        self.network.runFor(1)
        self.assertEqual(here.received, [(b"x", ("127.0.0.1", 1000))])
        self.assertEqual(there.received, [])

    def test_exactlyBoundFirst(self) -> None:
        """Of two addresses of one host each port gets what was sent to its own."""
        host = self.network.host("many", "10.9.0.1", "10.9.0.2")
        _, first = self.listen(host, 2000, "10.9.0.1")
        _, second = self.listen(host, 2000, "10.9.0.2")
        sender, _ = self.listen(self.left, 1000)
        sender.write(b"x", ("10.9.0.2", 2000))
        self.network.runFor(1)
        self.assertEqual([len(first.received), len(second.received)], [0, 1])

    def test_broadcast(self) -> None:
        """A broadcast reaches that port on all other hosts, once it is allowed."""
        third = self.network.host("third")
        sender, own = self.listen(self.left, 2000)
        others = [self.listen(host, 2000)[1] for host in (self.right, third)]
        refusal = self.assertRaises(OSError, sender.write, b"x", ("<broadcast>", 2000))
        self.assertEqual(refusal.errno, errno.EACCES)
        sender.setBroadcastAllowed(True)
        sender.write(b"x", ("<broadcast>", 2000))
        self.network.runFor(1)
        self.assertEqual([len(p.received) for p in (own, *others)], [0, 1, 1])

    def test_receiveBuffer(self) -> None:
        """What does not fit into the receive buffer is dropped and counted."""
        self.right.receiveBuffer = 250
        sender, _ = self.listen(self.left)
        port, receiver = self.listen(self.right, 2000)
        for _ in range(5):
            sender.write(bytes(100), (self.right.address, 2000))
        self.network.runFor(1)
        self.assertEqual((len(receiver.received), port.overflowed), (2, 3))

    def test_throughputPerTurn(self) -> None:
        """A port gives others a turn after 256 KiB (FLOW-11) and loses nothing by it."""
        sender, _ = self.listen(self.left)
        _, receiver = self.listen(self.right, 2000)
        receiver.transport.maxPacketSize = 65535  # type: ignore[union-attr]
        for _ in range(10):
            sender.write(bytes(50_000), (self.right.address, 2000))
        self.network.run(lambda: receiver.received)
        self.assertEqual(len(receiver.received), 6)
        self.network.runFor(0)
        self.assertEqual(len(receiver.received), 10)


class FailingTests(NetworkTestCase):
    """What can go wrong on purpose."""

    def test_interfaceMTU(self) -> None:
        """A datagram longer than the host's interface takes is refused to the writer."""
        self.left.mtu = 1400
        sender, _ = self.listen(self.left)
        sender.write(bytes(1400), (self.right.address, 9))
        self.assertRaises(
            error.MessageLengthError, sender.write, bytes(1401), (self.right.address, 9)
        )

    def test_writeErrors(self) -> None:
        """Writes to an address fail with the errno the test asks for (UDP-2)."""
        self.left.writeErrors[self.right.address] = errno.EPERM
        sender, _ = self.listen(self.left)
        failure = self.assertRaises(OSError, sender.write, b"x", (self.right.address, 9))
        self.assertEqual(failure.errno, errno.EPERM)
        self.left.writeErrors = {"*": errno.ENOBUFS}
        failure = self.assertRaises(OSError, sender.write, b"x", ("10.3.4.5", 9))
        self.assertEqual(failure.errno, errno.ENOBUFS)

    def test_noAddressOfThatFamily(self) -> None:
        """A host without IPv6 cannot send to IPv6."""
        host = self.network.host("old", "10.5.0.1")
        sender, _ = self.listen(host, 0, "::")
        failure = self.assertRaises(OSError, sender.write, b"x", ("fd00::1", 9))
        self.assertEqual(failure.errno, errno.ENETUNREACH)

    def test_nobody(self) -> None:
        """What is sent to an address that nobody has vanishes; the trace says so."""
        sender, _ = self.listen(self.left)
        sender.write(b"x", ("10.3.4.5", 9))
        self.assertEqual([t.fate for t in self.network.trace], [Fate.NOBODY])

    def test_cutAndMend(self) -> None:
        """Nothing crosses a cut wire in either direction; mending it helps."""
        one, hearsOne = self.listen(self.left, 1000)
        other, hearsOther = self.listen(self.right, 1000)
        self.network.cut(self.left, self.right)
        one.write(b"a", (self.right.address, 1000))
        other.write(b"b", (self.left.address, 1000))
        self.network.runFor(1)
        self.assertEqual(hearsOne.received + hearsOther.received, [])
        self.network.mend(self.right, self.left)
        one.write(b"c", (self.right.address, 1000))
        self.network.runFor(1)
        self.assertEqual([data for data, _ in hearsOther.received], [b"c"])
        self.assertEqual([t.fate for t in self.network.trace], ["cut", "cut", "delivered"])

    def test_rebind(self) -> None:
        """
        After a NAT rebinding the peer sees the new address and reaches it; what was
        under way to the old one is lost.
        """
        inner, hears = self.listen(self.left, 1000)
        outer, sees = self.listen(self.right, 2000)
        outer.write(b"late", (self.left.address, 1000))
        self.left.rebind((self.left.address, 1000), ("192.0.2.1", 7))
        inner.write(b"x", (self.right.address, 2000))
        self.network.runFor(1)
        self.assertEqual(hears.received, [])
        self.assertEqual(sees.received, [(b"x", ("192.0.2.1", 7))])
        outer.write(b"y", ("192.0.2.1", 7))
        self.network.runFor(1)
        self.assertEqual(hears.received, [(b"y", (self.right.address, 2000))])
        self.left.rebind((self.left.address, 1000), None)
        inner.write(b"z", (self.right.address, 2000))
        self.network.runFor(1)
        self.assertEqual(sees.received[-1], (b"z", (self.left.address, 1000)))

    def test_addressesAreUnique(self) -> None:
        """No two hosts share an address."""
        self.assertRaises(ValueError, self.network.host, "twin", self.left.address)


class LinkTests(NetworkTestCase):
    """Impairments per direction."""

    def test_directionsAreSeparate(self) -> None:
        """Losing everything one way leaves the way back alone."""
        one, hearsOne = self.listen(self.left, 1000)
        other, hearsOther = self.listen(self.right, 1000)
        self.network.link(self.left, self.right).loss = 1.0
        one.write(b"a", (self.right.address, 1000))
        other.write(b"b", (self.left.address, 1000))
        self.network.runFor(1)
        self.assertEqual((len(hearsOne.received), len(hearsOther.received)), (1, 0))

    def test_impairAll(self) -> None:
        """
        C{impair} without hosts acts on the links there are and on those to come,
        each with a seed of its own.
        """
        self.network.impair(Impairments(delay=0.5))
        late = self.network.host("late")
        links = [
            self.network.link(a, b)
            for a, b in [(self.left, self.right), (self.right, self.left), (late, self.left)]
        ]
        self.assertEqual([link.delay for link in links], [0.5] * 3)
        self.assertEqual(len({link.seed for link in links}), 3)

    def test_duplicates(self) -> None:
        """Both copies arrive and the trace has both times."""
        self.network.impair(Impairments(duplicate=1.0, delay=0.2), self.left, self.right)
        sender, _ = self.listen(self.left)
        _, receiver = self.listen(self.right, 2000)
        sender.write(b"x", (self.right.address, 2000))
        self.network.runFor(1)
        self.assertEqual(len(receiver.received), 2)
        self.assertEqual(self.network.trace[0].arrivals, (0.2, 0.2))

    def test_sameSeedSameTrace(self) -> None:
        """Two networks with one seed do the same, with another seed something else."""

        def trace(seed: int) -> list[object]:
            network = MemoryNetwork(seed=seed)
            one, other = network.host("one"), network.host("other")
            network.impair(Impairments(loss=0.3, jitter=0.1, duplicate=0.1, reorder=0.2))
            port = one.reactor.listenUDP(0, Collector())
            for n in range(100):
                port.write(bytes([n]), (other.address, 9))
            return list(network.trace)

        self.assertEqual(trace(1), trace(1))
        self.assertNotEqual(trace(1), trace(2))
