"""Tests for L{twisted_rudp.core.outofband}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.outofband import MOST_BYTES, MOST_MESSAGES, OutOfBandQueue


class QueueTests(SynchronousTestCase):
    """Messages in order, bounded."""

    @given(st.lists(st.integers(0, MOST_BYTES * 3 // 2) | st.integers(0, 200), max_size=40))
    def test_bytes(self, sizes: list[int]) -> None:
        """Not more than so many bytes are held but for the newest; the oldest go first."""
        queue = OutOfBandQueue()
        for size in sizes:
            queue.put(bytes(size))
        left = [len(queue.take()) for _ in range(len(queue))]
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
        self.assertEqual((len(queue), queue.dropped), (MOST_MESSAGES, 3))
        self.assertEqual(queue.take(), b"\0\3")
        queue.clear()
        self.assertFalse(queue)
        queue.put(b"more")
        self.assertEqual((queue.size, queue.take()), (4, b"more"))
