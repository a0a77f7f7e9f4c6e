"""Tests for L{twisted_rudp.net.udp.own} and L{twisted_rudp.net.udp.sending}."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import OTHER, PEER, errorEntry, fakePort
from twisted_rudp.core.engine import PathError
from twisted_rudp.net.udp.own import FALLBACK_SECONDS
from twisted_rudp.net.udp.sending import HELD_LIMIT, RETRY


def cut(run: bytes, size: int) -> list[bytes]:
    return [run[start : start + size] for start in range(0, len(run), size)]


class CuttingTests(SynchronousTestCase):
    """How a run becomes system calls."""

    def test_oneCallForARun(self) -> None:
        """A run goes to the kernel whole, with its segment size (UDP-14)."""
        port, sock, _, _ = fakePort()
        self.assertTrue(port.send(b"a" * 250, 100, PEER))
        self.assertEqual(sock.sent, [(b"a" * 250, 100, PEER)])

    def test_oneDatagram(self) -> None:
        """A single datagram, even a short one, needs no segmentation."""
        port, sock, _, _ = fakePort()
        self.assertTrue(port.send(b"a" * 70, 100, PEER))
        self.assertEqual(sock.sent, [(b"a" * 70, None, PEER)])

    def test_withoutGSO(self) -> None:
        """A plain port sends a run datagram by datagram."""
        port, sock, _, _ = fakePort(gso=False)
        self.assertTrue(port.send(b"a" * 250, 100, PEER))
        self.assertEqual([len(data) for data, _, _ in sock.sent], [100, 100, 50])

    @given(st.integers(1, 9000), st.integers(1, 200_000), st.booleans())
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_limits(self, size: int, length: int, gso: bool) -> None:
        """
        However long the run, a call has at most 64 segments and 65507 bytes (UDP-14),
        and the peer gets the datagrams that were meant.
        """
        length = min(length, size * 300)
        port, sock, _, _ = fakePort(gso=gso)
        run = bytes(i % 251 for i in range(length))
        self.assertTrue(port.send(run, size, PEER))
        datagrams = []
        for data, segment, _ in sock.sent:
            self.assertLessEqual(len(data), 65507)
            self.assertLessEqual(-(-len(data) // (segment or len(data))), 64)
            datagrams += cut(data, segment or len(data))
        self.assertEqual(datagrams, cut(run, size))
        self.assertEqual(port.counters.datagramsOut, len(datagrams))
        self.assertEqual(port.counters.bytesOut, length)

    def test_bufferIsOnlyBorrowed(self) -> None:
        """A run may be any buffer, and is the caller's again after the call."""
        port, sock, _reactor, _ = fakePort()
        sock.failures.append(errno.EAGAIN)
        buffer = bytearray(b"a" * 200)
        self.assertFalse(port.send(memoryview(buffer), 100, PEER))
        buffer[:] = b"b" * 200
        port.doWrite()
        self.assertEqual(sock.sent, [(b"a" * 200, 100, PEER)])


class FullTests(SynchronousTestCase):
    """What happens when the socket takes no more."""

    def test_waitsForWritability(self) -> None:
        """EAGAIN: the run is held, the answer is False, the reactor is asked (UDP-14)."""
        port, sock, reactor, receiver = fakePort()
        sock.failures.append(errno.EAGAIN)
        self.assertFalse(port.send(b"a" * 200, 100, PEER))
        self.assertEqual(reactor.writers, [port])
        self.assertEqual(port.counters.full, 1)
        port.doWrite()
        self.assertEqual(sock.sent, [(b"a" * 200, 100, PEER)])
        self.assertEqual(receiver.log, [("writable",)])
        self.assertEqual(reactor.writers, [])

    def test_deviceQueueFull(self) -> None:
        """ENOBUFS: the socket stays writable, so the port tries again by the clock."""
        port, sock, reactor, receiver = fakePort()
        sock.failures += [errno.ENOBUFS, errno.ENOBUFS]
        self.assertFalse(port.send(b"a" * 200, 100, PEER))
        self.assertEqual(reactor.writers, [])
        reactor.advance(RETRY)
        self.assertEqual(receiver.log, [])
        reactor.advance(RETRY)
        self.assertEqual(sock.sent, [(b"a" * 200, 100, PEER)])
        self.assertEqual(receiver.log, [("writable",)])
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_orderIsKept(self) -> None:
        """What is sent to a full port queues behind what is held."""
        port, sock, _, _ = fakePort(gso=False)
        sock.failures += [None, errno.EAGAIN]
        self.assertFalse(port.send(b"aabbcc", 2, PEER))
        self.assertFalse(port.send(b"dd", 2, OTHER))
        port.doWrite()
        self.assertEqual(
            sock.sent,
            [(b"aa", None, PEER), (b"bb", None, PEER), (b"cc", None, PEER), (b"dd", None, OTHER)],
        )

    def test_fullAgain(self) -> None:
        """Half of what is held leaves: the rest waits, and the owner too."""
        port, sock, reactor, receiver = fakePort(gso=False)
        sock.failures += [errno.EAGAIN, None, errno.EAGAIN]
        self.assertFalse(port.send(b"aabbcc", 2, PEER))
        port.doWrite()
        self.assertEqual([data for data, _, _ in sock.sent], [b"aa"])
        self.assertEqual(receiver.log, [])
        self.assertEqual(reactor.writers, [port])
        port.doWrite()
        self.assertEqual([data for data, _, _ in sock.sent], [b"aa", b"bb", b"cc"])
        self.assertEqual(receiver.log, [("writable",)])

    def test_bounded(self) -> None:
        """An owner that does not stop loses datagrams, not memory."""
        port, sock, _, _ = fakePort()
        sock.refuse = lambda size, address: errno.EAGAIN
        for _ in range(HELD_LIMIT // 50_000 + 2):
            self.assertFalse(port.send(bytes(50_000), 1000, PEER))
        self.assertEqual(port.counters.dropped, 100)
        sock.refuse = lambda size, address: None
        port.doWrite()
        self.assertEqual(sum(len(data) for data, _, _ in sock.sent), HELD_LIMIT // 50_000 * 50_000)

    def test_closedWhileHeld(self) -> None:
        """Closing drops what is held, counts it, and leaves no timer (TIME-6)."""
        for code in (errno.EAGAIN, errno.ENOBUFS):
            port, sock, reactor, receiver = fakePort()
            sock.failures.append(code)
            port.send(b"a" * 250, 100, PEER)
            port.stopListening()
            self.assertEqual(port.counters.dropped, 3)
            self.assertEqual(reactor.getDelayedCalls(), [])
            self.assertEqual(reactor.writers, [])
            self.assertEqual(receiver.log, [])

    def test_sendingAfterClose(self) -> None:
        """A closed port swallows and counts; nobody is to wait for it."""
        port, sock, _, _ = fakePort()
        port.stopListening()
        self.assertTrue(port.send(b"a" * 250, 100, PEER))
        self.assertEqual(sock.sent, [])
        self.assertEqual(port.counters.dropped, 3)

    def test_ownerSendsWhenWritable(self) -> None:
        """The owner may send, and close, from inside C{portWritable}."""
        port, sock, reactor, receiver = fakePort()
        sock.failures.append(errno.EAGAIN)

        def hook(entry: tuple[str, ...]) -> None:
            self.assertTrue(port.send(b"more", 4, PEER))
            port.stopListening()

        receiver.hook = hook
        port.send(b"a" * 200, 100, PEER)
        port.doWrite()
        self.assertEqual([data for data, _, _ in sock.sent], [b"a" * 200, b"more"])
        self.assertEqual(reactor.readers + reactor.writers, [])


class RefusalTests(SynchronousTestCase):
    """Errors of a call that sends a run."""

    def test_notThere(self) -> None:
        """
        EMSGSIZE, EINVAL and EIO of a run: that address and size go singly for ten
        seconds, everything else goes on as runs (design, GSO errors).
        """
        for code in (errno.EMSGSIZE, errno.EINVAL, errno.EIO):
            port, sock, reactor, receiver = fakePort()
            sock.refuse = lambda size, address, code=code: (
                code if size == 100 and address == PEER else None
            )
            self.assertTrue(port.send(b"a" * 250, 100, PEER))
            self.assertEqual([size for _, size, _ in sock.sent], [None, None, None])
            sock.refuse = lambda size, address: None
            sock.sent.clear()
            port.send(b"a" * 250, 100, PEER)
            self.assertEqual(len(sock.sent), 3)
            sock.sent.clear()
            port.send(b"a" * 250, 100, OTHER)
            port.send(b"a" * 250, 90, PEER)
            self.assertEqual(len(sock.sent), 2)
            reactor.advance(FALLBACK_SECONDS)
            sock.sent.clear()
            port.send(b"a" * 250, 100, PEER)
            self.assertEqual(sock.sent, [(b"a" * 250, 100, PEER)])
            self.assertTrue(port.facts().gso)
            self.assertEqual(port.counters.gsoRefused, 1)
            self.assertEqual(receiver.log, [])

    def test_notAtAll(self) -> None:
        """Only ENOPROTOOPT and EOPNOTSUPP switch segmentation off for the socket."""
        for code in (errno.ENOPROTOOPT, errno.EOPNOTSUPP):
            port, sock, _, _ = fakePort()
            sock.refuse = lambda size, address, code=code: code if size else None
            self.assertTrue(port.send(b"a" * 250, 100, PEER))
            self.assertEqual(len(sock.sent), 3)
            self.assertFalse(port.facts().gso)
            sock.refuse = lambda size, address: None
            port.send(b"a" * 250, 100, OTHER)
            self.assertEqual(len(sock.sent), 6)

    def test_longRunRefused(self) -> None:
        """A run of several calls that is refused in the first arrives all the same."""
        port, sock, _, _ = fakePort()
        sock.refuse = lambda size, address: errno.EINVAL if size else None
        run = bytes(range(256)) * 10
        self.assertTrue(port.send(run, 16, PEER))
        self.assertEqual([data for data, _, _ in sock.sent], cut(run, 16))
        self.assertEqual(port.counters.gsoRefused, 1)

    def test_fullInTheMiddle(self) -> None:
        """A run that goes singly and meets a full socket resumes where it stopped."""
        port, sock, _, _ = fakePort()
        sock.failures += [errno.EIO, errno.EIO, None, errno.EAGAIN]
        self.assertFalse(port.send(b"aabbccd", 2, PEER))
        port.doWrite()
        self.assertEqual([data for data, _, _ in sock.sent], [b"aa", b"bb", b"cc", b"d"])


class PathErrorTests(SynchronousTestCase):
    """Errors of a call that sends one datagram."""

    KINDS = (
        (errno.EMSGSIZE, PathError.TOO_BIG),
        (errno.ECONNREFUSED, PathError.REFUSED),
        (errno.ENETUNREACH, PathError.UNREACHABLE),
        (errno.EHOSTUNREACH, PathError.UNREACHABLE),
        (errno.EADDRNOTAVAIL, PathError.UNREACHABLE),
        (errno.EINVAL, PathError.UNREACHABLE),
        (errno.EPERM, PathError.FORBIDDEN),
        (errno.EACCES, PathError.FORBIDDEN),
    )

    def test_kinds(self) -> None:
        """Each errno becomes its path error, once a turn, and never from inside C{send}."""
        for code, kind in self.KINDS:
            port, sock, reactor, receiver = fakePort(gso=False)
            sock.refuse = lambda size, address, code=code: code
            self.assertTrue(port.send(b"a" * 250, 100, PEER))
            self.assertEqual(receiver.log, [])
            reactor.advance(0)
            self.assertEqual(
                receiver.log,
                [("error", kind, 100, PEER), ("error", kind, 50, PEER), ("turn",)],
            )
            self.assertEqual(port.counters.dropped, 3)
            self.assertEqual(port.counters.sendErrors, 3)

    def test_tooBigInARun(self) -> None:
        """A run for a narrower link goes singly, and what still does not fit is told."""
        port, sock, reactor, receiver = fakePort()
        sock.refuse = lambda size, address: errno.EMSGSIZE
        self.assertTrue(port.send(b"a" * 200, 100, PEER))
        reactor.advance(0)
        self.assertEqual(receiver.log, [("error", PathError.TOO_BIG, 100, PEER), ("turn",)])

    def test_others(self) -> None:
        """An errno that says nothing of the path costs the datagram only (UDP-2)."""
        port, sock, reactor, receiver = fakePort()
        sock.refuse = lambda size, address: errno.EPIPE
        self.assertTrue(port.send(b"a", 1, PEER))
        reactor.advance(0)
        self.assertEqual(receiver.log, [])
        self.assertEqual(port.counters.sendErrors, 1)

    def test_closedInReport(self) -> None:
        """An owner that closes the port on an error hears nothing more."""
        port, sock, reactor, receiver = fakePort()
        sock.refuse = lambda size, address: errno.EPERM
        port.send(b"a", 1, PEER)
        port.send(b"b", 1, OTHER)
        receiver.hook = lambda entry: port.stopListening()
        reactor.advance(0)
        self.assertEqual(receiver.log, [("error", PathError.FORBIDDEN, 1, PEER)])

    def test_closedBeforeReport(self) -> None:
        """Closing takes back a report that was on its way."""
        port, sock, reactor, _receiver = fakePort()
        sock.refuse = lambda size, address: errno.EPERM
        port.send(b"a", 1, PEER)
        port.stopListening()
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_ownerSendsInReport(self) -> None:
        """What an answer to an error causes is reported in the next turn, not in this."""
        port, sock, reactor, receiver = fakePort()
        sock.refuse = lambda size, address: errno.EPERM

        def hook(entry: tuple[object, ...]) -> None:
            if entry[0] == "error" and len(receiver.log) < 5:
                port.send(b"again", 5, PEER)

        receiver.hook = hook
        port.send(b"a", 1, PEER)
        reactor.advance(0)
        self.assertEqual([entry[0] for entry in receiver.log], ["error", "turn"] * 3)


class ForeignErrorTests(SynchronousTestCase):
    """With C{IP_RECVERR} the pending error of one peer fails the call for another."""

    def test_anotherPeersError(self) -> None:
        """
        A refusal by one peer that fails the call for another is told of the first,
        and the second gets its run.
        """
        port, sock, reactor, receiver = fakePort()
        sock.errors.append(errorEntry(errno.ECONNREFUSED, OTHER))
        sock.failures.append(errno.ECONNREFUSED)
        self.assertTrue(port.send(b"a" * 200, 100, PEER))
        self.assertEqual(sock.sent, [(b"a" * 200, 100, PEER)])
        reactor.advance(0)
        self.assertEqual(receiver.log, [("error", PathError.REFUSED, 0, OTHER), ("turn",)])
        self.assertEqual(port.counters.icmp, 1)

    def test_forgedUnsupported(self) -> None:
        """
        An ICMP message that the kernel turns into ENOPROTOOPT, or into EMSGSIZE, switches
        segmentation off for nobody: no peer can slow the others.
        """
        for code in (errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMSGSIZE):
            port, sock, _, _ = fakePort()
            sock.errors.append(errorEntry(code, OTHER))
            sock.failures.append(code)
            self.assertTrue(port.send(b"a" * 200, 100, PEER))
            self.assertTrue(port.facts().gso)
            self.assertEqual(sock.sent, [(b"a" * 200, 100, PEER)])

    def test_pendingWithoutEntry(self) -> None:
        """A pending error whose entry was lost is not believed either: one more try."""
        port, sock, _, _ = fakePort()
        sock.failures.append(errno.ENOPROTOOPT)
        self.assertTrue(port.send(b"a" * 200, 100, PEER))
        self.assertTrue(port.facts().gso)
        self.assertEqual(sock.sent, [(b"a" * 200, 100, PEER)])

    def test_stormOfErrors(self) -> None:
        """When each try meets a fresh error the piece is lost, and nothing is concluded."""
        port, sock, reactor, receiver = fakePort()

        def refuse(size: int | None, address: object) -> int:
            sock.errors.append(errorEntry(errno.ENOPROTOOPT, OTHER))
            return errno.ENOPROTOOPT

        sock.refuse = refuse
        self.assertTrue(port.send(b"a" * 200, 100, PEER))
        self.assertTrue(port.facts().gso)
        self.assertEqual(port.counters.dropped, 2)
        reactor.advance(0)
        self.assertEqual([entry for entry in receiver.log if PEER in entry], [])

    def test_localEcho(self) -> None:
        """
        The queue repeats EMSGSIZE of our own call with a local origin; that is our
        error, told once.
        """
        port, sock, reactor, receiver = fakePort()

        def refuse(size: int | None, address: object) -> int:
            sock.errors.append(errorEntry(errno.EMSGSIZE, PEER, origin=1))
            return errno.EMSGSIZE

        sock.refuse = refuse
        self.assertTrue(port.send(b"a" * 100, 100, PEER))
        reactor.advance(0)
        self.assertEqual(receiver.log, [("error", PathError.TOO_BIG, 100, PEER), ("turn",)])
        self.assertEqual(port.counters.icmp, 0)
        self.assertFalse(sock.errors)
