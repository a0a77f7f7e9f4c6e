"""The kernels that make one system call for many datagrams."""

from __future__ import annotations

import os
import socket
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_rudp.net.udp.options import enableGRO, reportHops, reportLocal
from twisted_rudp.net.udp.receive import PureBatch, packed, unpacked

try:
    from twisted_rudp.kernels import _native
except ImportError:
    _native = None  # type: ignore[assignment]

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)


def native() -> Any:
    """The extension, if this system has such calls."""
    if not hasattr(_native, "send_batch"):
        raise SkipTest("the extension is not built, or this system has no sendmmsg")
    return _native


class LoopbackTests(SynchronousTestCase):
    """Between two UDP sockets."""

    def setUp(self) -> None:
        self.kernels = native()
        self.sender, self.receiver = self.opened(), self.opened()
        self.address = self.receiver.getsockname()

    def opened(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(("127.0.0.1", 0))
        return sock

    def receive(self, most: int = 64) -> Any:
        return self.kernels.receive_batch(self.receiver.fileno(), most)

    @PROPERTY
    @given(st.integers(1, 300), st.integers(0, 20_000))
    def test_run(self, size: int, length: int) -> None:
        """The datagrams of a run, more than one call takes as well, arrive as such."""
        length = min(length, size * 200)
        run = os.urandom(length)
        fd = self.sender.fileno()
        sent = self.kernels.send_batch(fd, memoryview(run), size, packed(self.address), b"")
        self.assertEqual(sent, length)
        got = [self.receiver.recv(65_535) for _ in range(-(-length // size))]
        self.assertEqual(got, [run[i : i + size] for i in range(0, length, size)])
        self.assertRaises(BlockingIOError, self.receiver.recv, 1)

    @PROPERTY
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 2), st.one_of(st.integers(0, 4), st.integers(20_000, 40_000))
            ),
            max_size=20,
        )
    )
    def test_joining(self, arrivals: list[tuple[int, int]]) -> None:
        """
        The kernel and its twin make the same runs of the same arrivals. A sender's
        datagrams keep their order, and make one run where they fit.
        """
        senders = (self.sender, self.opened(), self.opened())
        for number, (who, length) in enumerate(arrivals):
            senders[who].sendto(bytes([number]) * length, self.address)
        twin = PureBatch(self.receiver)
        if not arrivals:
            self.assertRaises(BlockingIOError, self.receive)
            self.assertRaises(BlockingIOError, twin.receive)
            return
        runs, count, truncated = self.receive()
        self.assertEqual((count, truncated), (len(arrivals), 0))
        for number, (who, length) in enumerate(arrivals):
            senders[who].sendto(bytes([number]) * length, self.address)
        native = [(run, size, unpacked(raw), hops, local) for run, size, raw, hops, local in runs]
        self.assertEqual(twin.receive(), (native, len(arrivals), 0))
        for who, sender in enumerate(senders):
            mine = [each for each in native if each[2] == sender.getsockname()]
            sent = [bytes([n]) * length for n, (w, length) in enumerate(arrivals) if w == who]
            got: list[bytes] = []
            for run, size, *_ in mine:
                self.assertLessEqual(len(run), 65_535)
                got += [run[i : i + size] for i in range(0, len(run), size)] if size else [b""]
            self.assertEqual(got, sent)
            for (one, size, *_), (other, following, *_) in pairwise(mine):
                could = size and not len(one) % size and 0 < following <= size
                self.assertFalse(could and len(one) + len(other[:following]) <= 65_535)

    def test_controls(self) -> None:
        """Hop limit, segment size and the address that was called are told, as by the twin."""
        for family, host, own in (
            (socket.AF_INET, "0.0.0.0", "127.0.0.2"),
            (socket.AF_INET6, "::", "::1"),
            (socket.AF_INET6, "::", "::ffff:127.0.0.2"),
        ):
            receiver = socket.socket(family, socket.SOCK_DGRAM)
            sender = socket.socket(family, socket.SOCK_DGRAM)
            self.addCleanup(receiver.close)
            self.addCleanup(sender.close)
            receiver.setblocking(False)
            try:
                receiver.bind((host, 0))
                sender.bind((own, 0))
            except OSError:
                continue  # no IPv6 here
            reportHops(receiver)
            self.assertTrue(reportLocal(receiver))
            enableGRO(receiver)
            sender.settimeout(1)
            port = receiver.getsockname()[1]
            twin = PureBatch(receiver)
            found = []
            for receive in (
                lambda: self.kernels.receive_batch(receiver.fileno(), 64)[0],  # noqa: B023
                lambda: twin.receive()[0],  # noqa: B023
            ):
                run = b"a" * 250
                sender.sendmsg([run], [(17, 103, b"\x64\x00")], 0, (own, port))
                [got] = receive()
                found.append((got[0], got[1], got[3], got[4]))
                peer = got[2] if isinstance(got[2], tuple) else unpacked(got[2])
                self.assertEqual(peer[:2], sender.getsockname()[:2])
                # What is told serves to answer from that address.
                raw = got[2] if isinstance(got[2], bytes) else packed(got[2])
                fd = receiver.fileno()
                self.assertEqual(self.kernels.send_batch(fd, b"abc", 2, raw, got[4]), 3)
                self.assertEqual(sender.recvfrom(9)[1][0], own)
                self.assertEqual(sender.recvfrom(9)[1][0], own)
            self.assertEqual(found[0], found[1])
            self.assertEqual(found[0][:3], (b"a" * 250, 100, 64))

    def test_most(self) -> None:
        """Not more than asked for are received."""
        for number in range(5):
            self.sender.sendto(bytes([number]), self.address)
        self.assertEqual([self.receive(3)[1], self.receive(3)[1]], [3, 2])
        self.assertRaises(BlockingIOError, self.receive, 3)

    def test_badArguments(self) -> None:
        """What makes no sense is an error, of the system or of ours."""
        fd, raw = self.sender.fileno(), packed(self.address)
        send, receive = self.kernels.send_batch, self.kernels.receive_batch
        self.assertRaises(ValueError, send, fd, b"ab", 0, raw, b"")
        self.assertRaises(OSError, send, -1, b"ab", 1, raw, b"")
        self.assertRaises(OSError, send, fd, b"ab", 1, b"nonsense", b"")
        self.assertRaises(TypeError, send, fd, "ab", 1, raw, b"")
        self.assertRaises(TypeError, send, fd, b"ab", 1, None, b"")
        self.assertRaises(TypeError, send, fd, b"ab", 1, raw, None)
        self.assertRaises(TypeError, send, fd, b"ab", 1, raw)
        self.assertRaises(OSError, receive, -1, 1)
        for most in (0, 65, -1):
            self.assertRaises(ValueError, receive, fd, most)
        self.assertEqual(send(fd, b"", 1, raw, b""), 0)

    def test_tooLong(self) -> None:
        """
        The first datagram that the system refuses ends the run; as the first of all it
        raises.
        """
        fd, raw = self.sender.fileno(), packed(self.address)
        run = bytes(130_000)
        self.assertRaises(OSError, self.kernels.send_batch, fd, run, 65_508, raw, b"")
        self.assertEqual(self.kernels.send_batch(fd, run[:65_000], 65_000, raw, b""), 65_000)


class FullTests(SynchronousTestCase):
    """A socket that takes no more."""

    def test_partly(self) -> None:
        """The answer is what has left; the next call raises."""
        kernels = native()
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        one.setblocking(False)
        other.setblocking(False)
        run = os.urandom(100_000)
        sent = kernels.send_batch(one.fileno(), run, 1_000, b"", b"")
        self.assertTrue(0 < sent < len(run))
        self.assertEqual(sent % 1_000, 0)
        self.assertRaises(BlockingIOError, kernels.send_batch, one.fileno(), run, 1_000, b"", b"")
        arrived = [other.recv(2_000) for _ in range(sent // 1_000)]
        self.assertEqual(b"".join(arrived), run[:sent])
