"""Tests for L{twisted_rudp.net.udp.receive} and for the port that uses it."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.net.udp.fakes import (
    OTHER,
    PEER,
    FakeReactor,
    FakeSocket,
    Recorder,
    errorEntry,
    refusal,
)
from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.net.udp.own import READ_BYTES, READ_CALLS, OwnPort
from twisted_rudp.net.udp.port import SocketOptions
from twisted_rudp.net.udp.receive import ADDRESSES, DATAGRAMS, Batch, packed, unpacked

try:
    from twisted_rudp.kernels import _native
except ImportError:
    _native = None  # type: ignore[assignment]

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


class AddressTests(SynchronousTestCase):
    """L{packed} and L{unpacked}."""

    @PROPERTY
    @given(st.ip_addresses(v=4), st.integers(0, 65_535))
    def test_four(self, host: Any, port: int) -> None:
        """IPv4 addresses survive both ways."""
        self.assertEqual(unpacked(packed((str(host), port))), (str(host), port))

    @PROPERTY
    @given(st.binary(min_size=16, max_size=16), st.integers(0, 65_535), st.integers(0, 9))
    def test_six(self, host: bytes, port: int, scope: int) -> None:
        """IPv6 addresses survive both ways."""
        address = (socket.inet_ntop(socket.AF_INET6, host), port, 0, scope)
        self.assertEqual(unpacked(packed(address)), address)

    def exchange(self, family: int, host: str) -> None:
        """What the kernels give and take is what C{recvfrom} and C{sendto} do."""
        if not hasattr(_native, "send_batch"):
            raise SkipTest("the extension is not built, or this system has no sendmmsg")
        one, other = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        one.bind((host, 0))
        other.bind((host, 0))
        batch = Batch(one, _native.send_batch, _native.receive_batch)
        self.assertEqual(batch.send(b"abc", 2, other.getsockname(), b""), 3)
        self.assertEqual(other.recvfrom(9), (b"ab", one.getsockname()))
        other.sendto(b"yes", one.getsockname())
        arrival = (b"yes", 3, other.getsockname(), -1, b"")
        self.assertEqual(batch.receive(), ([arrival], 1, 0))

    def test_loopback(self) -> None:
        """Over IPv4."""
        self.exchange(socket.AF_INET, "127.0.0.1")

    def test_loopbackSix(self) -> None:
        """Over IPv6."""
        if not socket.has_ipv6:
            raise SkipTest("no IPv6 here")
        self.exchange(socket.AF_INET6, "::1")

    def test_bounded(self) -> None:
        """However many addresses there are, a bounded number is kept."""
        sent: list[bytes] = []
        peers = [(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 9) for i in range(2 * ADDRESSES)]
        arrivals = deque(map(packed, peers))

        def send(fd: int, run: Any, size: int, address: bytes, source: bytes) -> int:
            sent.append(address)
            return len(run)

        def receive(fd: int, most: int) -> Any:
            return [(b"x", 1, arrivals.popleft(), -1, b"") for _ in range(most)], most, 0

        batch = Batch(cast(Any, FakeSocket()), send, receive)
        for peer in peers:
            batch.send(b"x", 1, peer, b"")
            self.assertLessEqual(len(batch._packed), ADDRESSES)
        self.assertEqual(len(set(sent)), len(peers))
        while len(arrivals) >= DATAGRAMS:
            batch.receive()
            self.assertLessEqual(len(batch._unpacked), ADDRESSES + DATAGRAMS)


class FakeCalls:
    """
    The two calls of the kernel.

    @ivar takes: for each next call of C{send} how many bytes leave, or an errno that
        is negative. Then everything does.
    @ivar incoming: what each call of C{receive} gives, or an errno.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int, Address]] = []
        self.takes: deque[int] = deque()
        self.incoming: deque[Any] = deque()
        self.reads = 0

    def send(self, fd: int, run: Any, size: int, address: bytes, source: bytes) -> int:
        takes = self.takes.popleft() if self.takes else len(run)
        if takes < 0:
            raise refusal(-takes)
        self.sent.append((bytes(run[:takes]), size, unpacked(address)))
        return takes

    def receive(self, fd: int, most: int) -> Any:
        self.reads += 1
        item = self.incoming.popleft() if self.incoming else errno.EAGAIN
        if isinstance(item, int):
            raise refusal(item)
        runs, more = item
        arrivals = [(run, size, packed(address), -1, b"") for run, size, address in runs]
        return arrivals, most if more else len(runs), 0


class PortTests(SynchronousTestCase):
    """A port that has a batch."""

    def setUp(self) -> None:
        self.reactor, self.socket, self.receiver = FakeReactor(), FakeSocket(), Recorder()
        self.calls = FakeCalls()
        self.port = OwnPort(
            self.reactor,  # type: ignore[arg-type]
            self.receiver,
            cast(Any, self.socket),
            SocketOptions(),
            batch=Batch(cast(Any, self.socket), self.calls.send, self.calls.receive),
        )
        self.port.startReading()

    def test_oneCallForARun(self) -> None:
        """A run that the kernel does not cut leaves in one call."""
        self.assertTrue(self.port.send(b"a" * 250, 100, PEER))
        self.assertEqual(self.calls.sent, [(b"a" * 250, 100, PEER)])
        self.assertEqual(self.socket.sent, [])
        counters = self.port.counters
        self.assertEqual((counters.datagramsOut, counters.bytesOut), (3, 250))

    def test_facts(self) -> None:
        """It is visible, before and after the socket was set up anew."""
        self.assertTrue(self.port.facts().batches)
        self.port.reconfigure(SocketOptions(receiveBuffer=1 << 20))
        self.assertTrue(self.port.facts().batches)

    def test_oneDatagram(self) -> None:
        """One datagram needs no batch."""
        self.assertTrue(self.port.send(b"a" * 70, 100, PEER))
        self.assertEqual(self.socket.sent, [(b"a" * 70, None, PEER)])

    def test_full(self) -> None:
        """What the socket does not take is held, and leaves when it does."""
        self.calls.takes.append(200)
        self.socket.failures.append(errno.EAGAIN)
        run = bytes(range(250)) * 2
        self.assertFalse(self.port.send(run, 100, PEER))
        self.assertEqual((self.reactor.writers, self.port.counters.full), ([self.port], 1))
        self.port.doWrite()
        self.assertEqual(b"".join(data for data, _, _ in self.calls.sent), run)
        self.assertEqual(self.receiver.kinds(), ["writable"])

    def test_refused(self) -> None:
        """The datagram that is refused is dropped and told of, those around it leave."""
        self.calls.takes.extend([100, -errno.EMSGSIZE])
        self.socket.failures.extend([errno.EMSGSIZE, errno.EMSGSIZE])
        self.assertTrue(self.port.send(b"a" * 100 + b"b" * 100 + b"c" * 100, 100, PEER))
        # The first batch, then the one that fails alone, then the rest.
        sent = [data for data, _, _ in (*self.calls.sent, *self.socket.sent)]
        self.assertEqual(sent, [b"a" * 100, b"c" * 100])
        self.assertEqual(self.port.counters.dropped, 1)
        self.reactor.advance(0)
        self.assertEqual(self.receiver.log, [("error", PathError.TOO_BIG, 100, PEER), ("turn",)])

    def test_somebodyElsesError(self) -> None:
        """An error that another datagram has caused costs nothing."""
        self.calls.takes.append(-errno.ECONNREFUSED)
        self.socket.errors.append(errorEntry(errno.ECONNREFUSED, OTHER))
        self.assertTrue(self.port.send(b"a" * 300, 100, PEER))
        self.assertEqual((self.port.counters.icmp, list(self.socket.errors)), (1, []))
        sent = [data for data, _, _ in (*self.socket.sent, *self.calls.sent)]
        self.assertEqual(b"".join(sent), b"a" * 300)
        self.assertEqual(self.port.counters.dropped, 0)

    def test_read(self) -> None:
        """All runs of a call are given on, those without a byte counted."""
        runs = [(b"aab", 2, PEER), (b"", 0, OTHER), (b"cc", 2, OTHER)]
        self.calls.incoming.append((runs, False))
        self.port.doRead()
        self.assertEqual(
            self.receiver.log, [("run", b"aab", 2, PEER), ("run", b"cc", 2, OTHER), ("turn",)]
        )
        counters = self.port.counters
        self.assertEqual((counters.datagramsIn, counters.bytesIn, counters.empty), (3, 5, 1))
        self.assertEqual((self.calls.reads, self.socket.reads), (1, 0))

    def test_readOn(self) -> None:
        """A full call is followed by another."""
        self.calls.incoming.extend([([(b"a", 1, PEER)], True), ([(b"b", 1, PEER)], True)])
        self.port.doRead()
        self.assertEqual(self.receiver.kinds(), ["run", "run", "turn"])
        self.assertEqual(self.calls.reads, 3)

    def test_bounded(self) -> None:
        """One wake-up reads no more than its share, in calls and in bytes (FLOW-11)."""
        self.calls.incoming.extend([([(b"a", 1, PEER)], True)] * 100)
        self.port.doRead()
        # Fewer where these took a machine that is busy longer than a wake-up may.
        self.assertLessEqual(self.calls.reads, READ_CALLS // DATAGRAMS)
        self.calls.incoming.clear()
        self.calls.reads = 0
        self.calls.incoming.extend([([(bytes(60_000), 1_000, PEER)] * 9, True)] * 100)
        self.port.doRead()
        self.assertLessEqual(self.calls.reads, -(-READ_BYTES // 540_000))

    def test_nothing(self) -> None:
        """A wake-up for nothing is no turn; it may have been for an error."""
        self.socket.errors.append(errorEntry(errno.ECONNREFUSED, PEER))
        self.port.doRead()
        self.assertEqual(self.receiver.log, [])
        self.assertEqual(self.port.counters.icmp, 1)

    def test_pendingError(self) -> None:
        """An error that reading comes upon is taken, and reading goes on."""
        self.calls.incoming.extend([errno.ECONNREFUSED, ([(b"a", 1, PEER)], False)])
        self.port.doRead()
        self.assertEqual(self.receiver.kinds(), ["run", "turn"])

    def test_closedInRun(self) -> None:
        """Nothing is given on after the port was stopped from inside."""
        self.receiver.hook = lambda entry: self.port.stopListening()
        self.calls.incoming.append(([(b"a", 1, PEER), (b"b", 1, PEER)], True))
        self.port.doRead()
        self.assertEqual(self.receiver.kinds(), ["run"])
        self.assertEqual(self.calls.reads, 1)

    def test_brokenDescriptor(self) -> None:
        """A descriptor that is none any more is the end of the port."""
        self.calls.incoming.append(errno.EBADF)
        self.port.doRead()
        self.assertEqual(self.receiver.kinds(), ["lost"])
        self.assertTrue(self.port.closed)
