"""Byte queues."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.queues import ByteQueue


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
