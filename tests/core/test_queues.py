"""Queues of bytes, and of messages beside them."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.queues import MOST_BYTES, MOST_MESSAGES, ByteQueue, OutOfBandQueue


class ByteQueueTests(SynchronousTestCase):
    """L{ByteQueue}."""

    def test_wholePiece(self) -> None:
        """A piece that fits is handed out itself."""
        queue = ByteQueue()
        piece = b"abc" * 100
        queue.append(piece)
        queue.append(b"more")
        self.assertIs(queue.take(300), piece)

    def test_cutPiece(self) -> None:
        """A piece that is too long is cut without a copy."""
        queue = ByteQueue()
        piece = b"abcdef"
        queue.append(piece)
        part = queue.take(4)
        self.assertIsInstance(part, memoryview)
        self.assertIs(part.obj, piece)
        self.assertEqual(bytes(queue.take(4)), b"ef")

    def test_short(self) -> None:
        """What short pieces take in memory is bounded by their bytes."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        queue = ByteQueue()
        for number in range(50_000):
            queue.append(number.to_bytes(2, "big"))
        taken, _ = tracemalloc.get_traced_memory()
        self.assertLess(taken, 2 * queue.size)
        self.assertEqual(bytes(queue.take(4)), b"\0\0\0\1")
        self.assertEqual(bytes(queue.take(queue.size))[-2:], (49_999).to_bytes(2, "big"))

    def test_nothing(self) -> None:
        """Nothing asked for or nothing there is nothing."""
        queue = ByteQueue()
        self.assertEqual(queue.take(5), b"")
        queue.append(b"")
        queue.append(b"a")
        self.assertEqual((queue.take(0), queue.take(-1), queue.size), (b"", b"", 1))

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(st.one_of(st.binary(max_size=9), st.integers(0, 20))))
    def test_stream(self, steps: list[bytes | int]) -> None:
        """
        Whatever the order of appending and taking, the bytes come out in order
        and each take gives as many as it can.
        """
        queue = ByteQueue()
        model = b""
        for step in steps:
            if isinstance(step, bytes):
                queue.append(step)
                model += step
            else:
                self.assertEqual(bytes(queue.take(step)), model[:step])
                model = model[step:]
            self.assertEqual(queue.size, len(model))


class OutOfBandQueueTests(SynchronousTestCase):
    """L{OutOfBandQueue}: messages in order, bounded."""

    @given(st.lists(st.integers(0, MOST_BYTES * 3 // 2) | st.integers(0, 200), max_size=40))
    def test_bytes(self, sizes: list[int]) -> None:
        """Not more than so many bytes are held but for the newest; the oldest go first."""
        queue = OutOfBandQueue()
        for size in sizes:
            queue.put(bytes(size))
        left = [len(queue.take()) for _ in range(queue.count)]
        self.assertEqual(left, sizes[len(sizes) - len(left) :])
        self.assertEqual(len(left) + queue.dropped, len(sizes))
        self.assertTrue(sum(left) <= MOST_BYTES or len(left) == 1)
        self.assertEqual(queue.size, 0)
        self.assertRaises(IndexError, queue.take)

    def test_count(self) -> None:
        """Not more than so many are held, and a cleared queue is a new one."""
        queue = OutOfBandQueue()
        for at in range(MOST_MESSAGES + 3):
            queue.put(at.to_bytes(2, "big"))
        self.assertEqual((queue.count, queue.dropped), (MOST_MESSAGES, 3))
        self.assertEqual(queue.take(), b"\0\3")
        queue.clear()
        self.assertEqual(queue.count, 0)
        queue.put(b"more")
        self.assertEqual((queue.size, queue.take()), (4, b"more"))
