"""What waits to be numbered (kcp.md 1.4)."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.kcp.sender import MessageQueue, StreamQueue


class StreamQueueTests(SynchronousTestCase):
    """L{StreamQueue}."""

    def test_cut(self) -> None:
        """Small writes are joined to full segments."""
        queue = StreamQueue()
        for piece in (b"abc", b"de", b"fghij"):
            queue.append(piece)
        self.assertEqual(queue.segments(4), 3)
        self.assertEqual(queue.cut(1, 4), (b"abcd", 4, 0))
        self.assertEqual(queue.cut_short(1, 4), (b"e", 1, 0))
        data, mss, frg = queue.cut(9, 4)
        self.assertEqual((bytes(data), mss, frg, queue.size), (b"fghij", 4, 0, 0))

    def test_large(self) -> None:
        """What is left of one write is joined with no more of a large one than makes a segment."""
        queue = StreamQueue()
        queue.append(b"abc")
        large = bytes(100)
        queue.append(large)
        data, _, _ = queue.cut(5, 4)
        assert isinstance(data, tuple)
        joined, rest = data
        self.assertEqual(joined, b"abc\0")
        assert isinstance(rest, memoryview)
        self.assertIs(rest.obj, large)
        self.assertEqual((len(rest), queue.size), (16, 83))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=30),
                st.tuples(st.booleans(), st.integers(1, 6), st.integers(1, 7)),
            )
        )
    )
    def test_stream(self, steps: list[bytes | tuple[bool, int, int]]) -> None:
        """
        However it is written and cut, the bytes come out in order, not more than so many
        segments at a time, and all are full but the last of what there is.
        """
        queue = StreamQueue()
        model = b""
        for step in steps:
            if isinstance(step, bytes):
                queue.append(step)
                model += step
            elif model:
                short, count, mss = step
                piece = queue.cut_short(count, mss) if short else queue.cut(count, mss)
                assert piece is not None
                data, unit, frg = piece
                parts = data if isinstance(data, tuple) else (data,)
                whole = b"".join(parts)
                self.assertEqual((whole, frg), (model[: len(whole)], 0))
                model = model[len(whole) :]
                self.assertTrue(0 < len(whole) <= (min(count, mss) if short else count * mss))
                full = [len(part) % unit == 0 for part in parts]
                self.assertTrue(all(full[:-1]) and (full[-1] or not model))
            self.assertEqual((queue.size, queue.segments(3)), (len(model), -(-len(model) // 3)))


class MessageQueueTests(SynchronousTestCase):
    """L{MessageQueue}."""

    def test_oneMessageAtATime(self) -> None:
        """A piece never spans messages."""
        queue = MessageQueue()
        queue.append(b"abcde", 2)
        queue.append(b"fg", 2)
        self.assertEqual((queue.segments(99), queue.size), (4, 7))
        self.assertEqual(queue.cut(9, 99), (b"abcde", 2, 2))
        self.assertEqual(queue.cut(9, 99), (b"fg", 2, 0))
        self.assertEqual((queue.segments(99), queue.size), (0, 0))

    def test_shortAtTheEnd(self) -> None:
        """
        The last fragment may go if it is short enough; one in the middle may
        not be cut, as the count is fixed.
        """
        queue = MessageQueue()
        queue.append(b"abcde", 2)
        queue.cut(1, 2)
        self.assertIsNone(queue.cut_short(1, 2))
        queue.cut(1, 2)
        self.assertEqual(queue.cut_short(1, 2), (b"e", 2, 0))

    def test_shortAtTheLimit(self) -> None:
        """A cut that would make 256 fragments is refused."""
        queue = MessageQueue()
        queue.append(bytes(510), 2)
        self.assertIsNone(queue.cut_short(1, 2))
        queue = MessageQueue()
        queue.append(bytes(509), 2)
        self.assertEqual(queue.cut_short(1, 2), (b"\0", 1, 254))

    def test_shortIsLonger(self) -> None:
        """Where a whole fragment fits, as the mtu has grown since, a whole one goes."""
        queue = MessageQueue()
        queue.append(b"abcde", 2)
        self.assertEqual(queue.cut_short(4, 4), (b"ab", 2, 2))
        self.assertEqual(queue.cut_short(2, 4), (b"cd", 2, 1))
        self.assertEqual(queue.cut_short(9, 9), (b"e", 2, 0))

    @settings(max_examples=100, deadline=None, derandomize=True)
    @example([(3, 1)], [(True, 9)])
    @given(
        st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=6),
        st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=60),
    )
    def test_fragments(
        self, messages: list[tuple[int, int]], cuts: list[tuple[bool, int]]
    ) -> None:
        """
        However it is cut, the fragments of each message count down to 0 without
        a gap and none is longer than its size.
        """
        queue = MessageQueue()
        for length, mss in messages:
            queue.append(bytes([length]) * length, mss)
        fragments: list[tuple[int, bytes]] = []
        for short, count in [*cuts, *[(False, 255)] * len(messages)]:
            if not queue.size:
                break
            piece = queue.cut_short(count, 99) if short else queue.cut(count, 99)
            if piece is None:
                continue
            data, mss, frg = piece
            for start in range(0, len(data), mss):
                fragments.append((frg, bytes(data[start : start + mss])))
                frg -= 1
        rebuilt: list[bytes] = []
        current = b""
        left = None
        for frg, data in fragments:
            self.assertTrue(left is None or frg == left - 1)
            current += data
            left = frg
            if not frg:
                rebuilt.append(current)
                current, left = b"", None
        self.assertEqual(rebuilt, [bytes([length]) * length for length, _ in messages])
        self.assertEqual((queue.size, queue.segments(1)), (0, 0))
