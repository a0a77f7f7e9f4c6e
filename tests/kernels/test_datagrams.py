"""The kernels that make one system call for many datagrams."""

from __future__ import annotations

import os
import socket
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_rudp.net.udp.receive import packed, unpacked

try:
    from twisted_rudp.kernels import _native
except ImportError:
    _native = None  # type: ignore[assignment]

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)


def native() -> Any:
    """The extension, if this system has such calls."""
    if not hasattr(_native, "send_run"):
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
        return self.kernels.receive_runs(self.receiver.fileno(), most)

    @PROPERTY
    @given(st.integers(1, 300), st.integers(0, 20_000))
    def test_run(self, size: int, length: int) -> None:
        """The datagrams of a run, more than one call takes as well, arrive as such."""
        length = min(length, size * 200)
        run = os.urandom(length)
        fd = self.sender.fileno()
        sent = self.kernels.send_run(fd, memoryview(run), size, packed(self.address))
        self.assertEqual(sent, length)
        got = [self.receiver.recv(65_535) for _ in range(-(-length // size))]
        self.assertEqual(got, [run[i : i + size] for i in range(0, length, size)])
        self.assertRaises(BlockingIOError, self.receiver.recv, 1)

    @PROPERTY
    @given(
        st.lists(
            st.tuples(st.booleans(), st.one_of(st.integers(0, 4), st.integers(20_000, 40_000))),
            max_size=12,
        )
    )
    def test_joining(self, arrivals: list[tuple[bool, int]]) -> None:
        """
        What arrives in a row from one address becomes a run as long as all are equally
        long but the last, which may be shorter, and all fit a receive buffer. Nothing
        is lost, reordered or confused.
        """
        senders = (self.sender, self.opened())
        for number, (second, length) in enumerate(arrivals):
            senders[second].sendto(bytes([number]) * length, self.address)
        if not arrivals:
            self.assertRaises(BlockingIOError, self.receive)
            return
        runs, count = self.receive()
        self.assertEqual(count, len(arrivals))
        got = []
        for run, size, raw in runs:
            second = unpacked(raw) == senders[1].getsockname()
            self.assertTrue(second or unpacked(raw) == senders[0].getsockname())
            self.assertLessEqual(len(run), 65_535)
            pieces = [run[i : i + size] for i in range(0, len(run), size)] if size else [b""]
            got += [(second, piece) for piece in pieces]
        expected = [
            (second, bytes([number]) * length) for number, (second, length) in enumerate(arrivals)
        ]
        self.assertEqual(got, expected)
        for (one, size, raw), (other, following, sender) in pairwise(runs):
            could = raw == sender and size and not len(one) % size and 0 < following <= size
            first = other[:following]
            self.assertFalse(could and len(one) + len(first) <= 65_535)

    def test_most(self) -> None:
        """Not more than asked for are received."""
        for number in range(5):
            self.sender.sendto(bytes([number]), self.address)
        self.assertEqual([self.receive(3)[1], self.receive(3)[1]], [3, 2])
        self.assertRaises(BlockingIOError, self.receive, 3)

    def test_badArguments(self) -> None:
        """What makes no sense is an error, of the system or of ours."""
        fd, raw = self.sender.fileno(), packed(self.address)
        send, receive = self.kernels.send_run, self.kernels.receive_runs
        self.assertRaises(ValueError, send, fd, b"ab", 0, raw)
        self.assertRaises(OSError, send, -1, b"ab", 1, raw)
        self.assertRaises(OSError, send, fd, b"ab", 1, b"nonsense")
        self.assertRaises(TypeError, send, fd, "ab", 1, raw)
        self.assertRaises(TypeError, send, fd, b"ab", 1, None)
        self.assertRaises(TypeError, send, fd, b"ab", 1)
        self.assertRaises(OSError, receive, -1, 1)
        for most in (0, 65, -1):
            self.assertRaises(ValueError, receive, fd, most)
        self.assertEqual(send(fd, b"", 1, raw), 0)

    def test_tooLong(self) -> None:
        """
        The first datagram that the system refuses ends the run; as the first of all it
        raises.
        """
        fd, raw = self.sender.fileno(), packed(self.address)
        run = bytes(130_000)
        self.assertRaises(OSError, self.kernels.send_run, fd, run, 65_508, raw)
        self.assertEqual(self.kernels.send_run(fd, run[:65_000], 65_000, raw), 65_000)


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
        sent = kernels.send_run(one.fileno(), run, 1_000, b"")
        self.assertTrue(0 < sent < len(run))
        self.assertEqual(sent % 1_000, 0)
        self.assertRaises(BlockingIOError, kernels.send_run, one.fileno(), run, 1_000, b"")
        arrived = [other.recv(2_000) for _ in range(sent // 1_000)]
        self.assertEqual(b"".join(arrived), run[:sent])
