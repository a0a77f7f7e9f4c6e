"""Tests for L{twisted_rudp.net.udp.own} on a scripted socket."""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.net.udp.fakes import OTHER, PEER, errorEntry, fakePort
from twisted_rudp.core.engine import PathError
from twisted_rudp.net.udp.own import BEHIND, LOOKS, READ_BYTES, READ_CALLS, TRUST
from twisted_rudp.net.udp.receive import DATAGRAMS
from twisted_rudp.net.udp.whentoread import LONGEST_WAIT


def datagram(data: bytes, address: object = PEER, flags: int = 0) -> tuple[object, ...]:
    return (data, [], flags, address)


def joined(data: bytes, size: int, address: object = PEER) -> tuple[object, ...]:
    return (data, [(17, 104, struct.pack("=i", size))], 0, address)


class ReadingTests(SynchronousTestCase):
    """L{OwnPort.doRead}."""

    def test_runOfTheKernel(self) -> None:
        """The control message of UDP_GRO, an int, is the segment size (UDP-13)."""
        port, sock, _, receiver = fakePort()
        sock.incoming.append(joined(b"a" * 250, 100))
        port.doRead()
        self.assertEqual(receiver.log, [("run", b"a" * 250, 100, PEER), ("turn",)])
        self.assertEqual(port.counters.datagramsIn, 3)
        self.assertEqual(port.counters.bytesIn, 250)

    def test_orderOfBoth(self) -> None:
        """A run of the kernel does not overtake the datagrams read before it."""
        port, sock, _, receiver = fakePort()
        sock.incoming += [datagram(b"a"), joined(b"bc", 1), datagram(b"d")]
        port.doRead()
        self.assertEqual(receiver.datagrams(), [b"a", b"b", b"c", b"d"])

    def test_joined(self) -> None:
        """
        Datagrams that wait together become one run for each peer, and the turn ends once.
        What comes after a pause is not expected to have company.
        """
        for lone in (True, False):
            port, sock, _, receiver = fakePort(gro=False)
            if not lone:
                sock.incoming += [datagram(b"x") for _ in range(4)]
                port.doRead()
                receiver.log.clear()
            sock.incoming += [datagram(b"aa"), datagram(b"bb"), datagram(b"dd", OTHER)]
            sock.incoming += [datagram(b"cc"), datagram(b"c"), datagram(b"ee", OTHER)]
            port.doRead()
            mine = [run for kind, *run in receiver.log if kind == "run" and run[2] == PEER]
            self.assertEqual(
                [run for run, _, _ in mine],
                [b"aa", b"bb", b"ccc"] if lone else [b"aabbccc"],
            )
            self.assertIn(("run", b"ddee", 2, OTHER), receiver.log)
            self.assertEqual(receiver.kinds().count("turn"), 1)

    def test_truncatedAndEmpty(self) -> None:
        """Truncated and empty datagrams are dropped and counted (UDP-1, UDP-6)."""
        port, sock, _, receiver = fakePort()
        sock.incoming += [
            datagram(b"a" * 65535, flags=int(socket.MSG_TRUNC)),
            datagram(b""),
            datagram(b"good"),
        ]
        port.doRead()
        self.assertEqual(receiver.log, [("run", b"good", 4, PEER), ("turn",)])
        self.assertEqual((port.counters.truncated, port.counters.empty), (1, 1))

    def test_boundedInBytes(self) -> None:
        """One wake-up reads about a megabyte, however much waits (FLOW-11)."""
        port, sock, _, receiver = fakePort()
        sock.incoming += [joined(bytes(64_000), 1000)] * 40
        port.doRead()
        self.assertEqual(port.counters.runsIn, -(-READ_BYTES // 64_000))
        self.assertEqual(receiver.log[-1], ("turn",))

    def test_boundedInCalls(self) -> None:
        """Tiny datagrams do not hold the reactor either."""
        port, sock, _, _receiver = fakePort()
        sock.incoming += [datagram(b"a")] * (READ_CALLS * 2)
        port.doRead()
        self.assertLessEqual(port.counters.datagramsIn, READ_CALLS + DATAGRAMS)

    def test_loneDatagrams(self) -> None:
        """
        After a wake-up with one short datagram the next ones end without the call that
        finds nothing, and look again every so often.
        """
        port, sock, _, receiver = fakePort()
        reads = []
        for _ in range(TRUST + 3):
            sock.incoming.append(datagram(b"ping"))
            before = sock.reads
            port.doRead()
            reads.append(sock.reads - before)
        self.assertEqual(reads, [2] + [1] * TRUST + [2, 1])
        self.assertEqual(len(receiver.datagrams()), TRUST + 3)

    def test_rightBehind(self) -> None:
        """
        Where datagrams from far away come one right behind the other, the next wake-ups look for
        a second one, until they have looked in vain a few times.
        """
        port, sock, reactor, receiver = fakePort()
        receiver.patient = LONGEST_WAIT
        reads: list[int] = []

        def wake(count: int, pause: float) -> None:
            reactor.advance(pause)
            sock.incoming += [datagram(b"ack")] * count
            before = sock.reads
            port.doRead()
            reads.append(sock.reads - before)

        wake(1, 1.0)
        wake(1, 1.0)
        wake(1, BEHIND / 2)
        for _ in range(LOOKS + 1):
            wake(1, 1.0)
        self.assertEqual(reads, [2, 1, *[2] * LOOKS, 1, 1])
        wake(1, BEHIND / 2)
        turns = receiver.kinds().count("turn")
        for _ in range(5):
            wake(2, 1.0)
        self.assertEqual(receiver.kinds().count("turn"), turns + 5)
        self.assertEqual(sock.incoming, deque())

    def test_rightBehindNear(self) -> None:
        """From a near peer it is the answer to what the turn has sent: nothing is looked for."""
        port, sock, _, receiver = fakePort()
        receiver.patient = 0
        sock.incoming.append(datagram(b"x"))
        port.doRead()
        for _ in range(3):
            sock.incoming.append(datagram(b"x"))
            before = sock.reads
            port.doRead()
            self.assertEqual(sock.reads - before, 1)

    def test_manyDatagrams(self) -> None:
        """Where several wait, all are read in one turn."""
        port, sock, _, _receiver = fakePort()
        for _ in range(3):
            sock.incoming += [datagram(b"ping")] * 5
            port.doRead()
        self.assertEqual(sock.reads, 3 * 6)

    def test_nothing(self) -> None:
        """A wake-up for nothing is no turn."""
        port, _, _, receiver = fakePort()
        port.doRead()
        self.assertEqual(receiver.log, [])

    def test_closedInRun(self) -> None:
        """An owner that closes the port in C{runReceived} gets nothing more (UDP-3)."""
        for items in (
            [datagram(b"a"), datagram(b"b", OTHER), datagram(b"c")],
            [joined(b"ab", 1), joined(b"cd", 1)],
            [datagram(b"a"), joined(b"cd", 1), datagram(b"b")],
        ):
            port, sock, reactor, receiver = fakePort()
            sock.incoming += items
            receiver.hook = lambda entry, port=port: port.stopListening()
            port.doRead()
            self.assertEqual(len(receiver.log), 1)
            self.assertEqual(reactor.readers, [])
            self.assertTrue(sock.closed)


class ErrorTests(SynchronousTestCase):
    """Errors that reading meets."""

    def test_pendingError(self) -> None:
        """An ICMP error that surfaces in a read is reported; reading goes on (UDP-11)."""
        port, sock, reactor, receiver = fakePort()
        sock.incoming += [errno.ECONNREFUSED, datagram(b"a")]
        sock.errors.append(errorEntry(errno.ECONNREFUSED, OTHER))
        port.doRead()
        reactor.advance(0)
        self.assertEqual(
            receiver.log,
            [
                ("run", b"a", 1, PEER),
                ("turn",),
                ("error", PathError.REFUSED, 0, OTHER),
                ("turn",),
            ],
        )

    def test_endlessErrors(self) -> None:
        """Nor does a socket that only fails hold the reactor."""
        port, sock, _, _receiver = fakePort()
        sock.incoming += [errno.ENETDOWN] * (READ_CALLS * 2)
        port.doRead()
        self.assertEqual(len(sock.incoming), READ_CALLS)
        self.assertFalse(port.closed)

    def test_errorAsReadiness(self) -> None:
        """Readable without data: the error queue is what woke us, and is emptied."""
        port, sock, reactor, receiver = fakePort()
        sock.errors += [errorEntry(errno.EHOSTUNREACH, PEER), errorEntry(errno.EHOSTUNREACH, PEER)]
        port.doRead()
        self.assertFalse(sock.errors)
        reactor.advance(0)
        self.assertEqual(receiver.log, [("error", PathError.UNREACHABLE, 0, PEER), ("turn",)])
        self.assertEqual(port.counters.icmp, 2)

    def test_fewLines(self) -> None:
        """Whoever causes ICMP errors does not fill the log (S9)."""
        port, sock, _, _ = fakePort()
        lines: list[object] = []

        def note(event: dict[str, object]) -> None:
            if "reports error" in str(event.get("log_format")):
                lines.append(event)

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        for _ in range(50):
            sock.errors += [errorEntry(errno.ECONNREFUSED, PEER)] * 10
            port.doRead()
        self.assertEqual((port.counters.icmp, len(lines)), (500, 1))

    def test_errorEvent(self) -> None:
        """C{readConnectionLost} empties the queue and the pending error and reads on (UDP-12)."""
        port, sock, reactor, receiver = fakePort()
        sock.errors += [errorEntry(errno.ECONNREFUSED, PEER) for _ in range(100)]
        reactor.removeReader(port)
        sock.asked.clear()
        port.readConnectionLost(Failure(ConnectionDone()))
        self.assertFalse(sock.errors)
        self.assertIn((socket.SOL_SOCKET, socket.SO_ERROR), sock.asked)
        self.assertEqual(reactor.readers, [port])
        reactor.advance(0)
        self.assertEqual(receiver.log, [("error", PathError.REFUSED, 0, PEER), ("turn",)])

    def test_errorEventAfterClose(self) -> None:
        """A late error event does not bring a closed port back."""
        port, _, reactor, _ = fakePort()
        port.stopListening()
        port.readConnectionLost(Failure(ConnectionDone()))
        self.assertEqual(reactor.readers, [])

    def test_filterOnTheWay(self) -> None:
        """A filter somewhere else is no filter on this machine."""
        port, sock, reactor, receiver = fakePort()
        sock.errors.append(errorEntry(errno.EACCES, PEER))
        port.doRead()
        reactor.advance(0)
        self.assertEqual(receiver.log[0], ("error", PathError.UNREACHABLE, 0, PEER))

    def test_brokenDescriptor(self) -> None:
        """A descriptor that is none any more is a lost port, not an endless loop."""
        port, sock, reactor, receiver = fakePort()
        sock.incoming.append(errno.EBADF)
        port.doRead()
        self.assertEqual(receiver.log, [("lost", OSError)])
        self.assertTrue(port.closed)
        self.assertEqual(reactor.readers, [])


class LifeTests(SynchronousTestCase):
    """Closing and losing."""

    def test_interfaces(self) -> None:
        """The port is what the reactor asks for (UDP-9)."""
        port, _, _, _ = fakePort()
        for interface in (IReadDescriptor, IWriteDescriptor, IHalfCloseableDescriptor):
            verifyObject(interface, port)
        self.assertEqual(port.logPrefix(), "UDP port 1234")

    def test_stopThreeTimes(self) -> None:
        """All calls of C{stopListening} give one Deferred, which fires (PORT-2)."""
        port, sock, _reactor, receiver = fakePort()
        first, second, third = (port.stopListening() for _ in range(3))
        self.assertIs(first, second)
        self.assertIs(second, third)
        self.assertIsNone(self.successResultOf(first))
        self.assertTrue(sock.closed)
        self.assertEqual(port.fileno(), -1)
        self.assertEqual(receiver.log, [])

    def test_hostAfterClose(self) -> None:
        """C{getHost} goes on answering (PORT-4)."""
        port, _, _, _ = fakePort()
        before = port.getHost()
        port.stopListening()
        self.assertEqual(port.getHost(), before)

    def test_disconnected(self) -> None:
        """The reactor's shutdown is a lost port, once (PORT-5, UDP-16)."""
        port, sock, reactor, receiver = fakePort()
        for descriptor in reactor.removeAll():
            descriptor.connectionLost(Failure(ConnectionLost()))
        port.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(receiver.log, [("lost", ConnectionLost)])
        self.assertTrue(sock.closed)
        self.successResultOf(port.stopListening())

    def test_disconnectedAfterStop(self) -> None:
        """A port that was stopped is not lost."""
        port, _, _, receiver = fakePort()
        port.stopListening()
        port.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(receiver.log, [])
