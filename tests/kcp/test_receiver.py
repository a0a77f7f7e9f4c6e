"""The receiving half on its own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.kcp.control import Control
from twisted_rudp.kcp.receiver import JOIN_BELOW, ReceiveBudget, ReceiveQueue, Receiver
from twisted_rudp.kcp.wire import Counters


class InboxTests(SynchronousTestCase):
    """L{ReceiveQueue}."""

    def test_wholeChunk(self) -> None:
        """A chunk that fits is handed out itself."""
        queue = ReceiveQueue(stream=True)
        chunks = [bytes(JOIN_BELOW), bytes(JOIN_BELOW + 1)]
        for chunk in chunks:
            queue.append(chunk, 1_024, len(chunk) // 1_024)
        for chunk in chunks:
            self.assertIs(queue.take(1 << 20), chunk)

    def test_joinsSmallOnes(self) -> None:
        """Small chunks are joined up to the limit."""
        queue = ReceiveQueue(stream=True)
        for chunk in (b"ab", b"cd", b"ef"):
            queue.append(chunk, 2, len(chunk) // 2)
        self.assertEqual(queue.take(5), b"abcd")
        self.assertEqual((queue.take(5), queue.size, queue.segments), (b"ef", 0, 0))

    def test_segmentsOfAChunk(self) -> None:
        """A segment is free once its last byte was taken."""
        queue = ReceiveQueue(stream=True)
        queue.append(b"aabbcc", 2, 3)
        self.assertEqual(queue.segments, 3)
        self.assertEqual((queue.take(1), queue.segments), (b"a", 3))
        self.assertEqual((queue.take(2), queue.segments), (b"ab", 2))
        self.assertEqual((queue.take(9), queue.segments), (b"bcc", 0))

    def test_emptySegments(self) -> None:
        """An empty segment is nothing in a stream and a message of 0 bytes else."""
        stream, messages = ReceiveQueue(stream=True), ReceiveQueue(stream=False)
        for queue in (stream, messages):
            queue.append(b"", 0, 1)
        self.assertEqual((stream.segments, stream.readable), (0, False))
        self.assertEqual((messages.segments, messages.readable), (1, True))
        self.assertEqual((messages.take_message(), messages.take_message()), (b"", None))

    def test_fragmentsInAStream(self) -> None:
        """A stream takes the bytes of fragments in order."""
        queue = ReceiveQueue(stream=True)
        for frg in (2, 1):
            queue.append(b"xy", 2, 1, frg)
        self.assertEqual((queue.size, queue.take(9)), (4, b"xyxy"))

    def test_messages(self) -> None:
        """A message is there when all its fragments are; C{size} counts whole ones."""
        queue = ReceiveQueue(stream=False)
        queue.append(b"aabb", 2, 2)
        queue.append(b"c", 1, 1, 1)
        self.assertEqual((queue.size, queue.segments), (4, 3))
        self.assertEqual([queue.take_message() for _ in range(3)], [b"aa", b"bb", None])
        queue.append(b"d", 1, 1)
        self.assertEqual((queue.size, queue.take_message(), queue.size), (2, b"cd", 0))


    def test_miscountedFragments(self) -> None:
        """
        As many fragments as the first announces are a message, even if none of
        them is the last (kcp.md 1.5).
        """
        queue = ReceiveQueue(stream=False)
        for payload in (b"ab", b"cd"):
            queue.append(payload, 2, 1, 1)
        self.assertEqual(queue.take_message(), b"abcd")
        self.assertEqual((queue.size, queue.segments), (0, 0))
        queue.append(b"e", 1, 1)
        self.assertEqual(queue.size, 1)


class ReceiverTests(SynchronousTestCase):
    """L{Receiver}."""

    def make(self, wnd: int = 8, stream: bool = True) -> Receiver:
        return Receiver(0, wnd, stream, Control(1, True, 500), Counters())

    def test_skipRule(self) -> None:
        """Of what C{una} covers only the last entry is acknowledged (kcp.md 1.11 step 1)."""
        receiver = self.make()
        for sn in (0, 2, 1, 4, 0):
            receiver.push(sn, 10 + sn, 0, b"x", True)
        self.assertEqual(receiver.acknowledgements(), [(4, 14), (0, 10)])
        self.assertEqual(receiver.acknowledgements(), [])

    def test_repeats(self) -> None:
        """
        Duplicates, old ones and those beyond the window are counted if regular;
        the last are not acknowledged (kcp.md 1.7 and 6).
        """
        receiver = self.make()
        for sn in (0, 3, 3, 0, 9):
            for regular in (True, False):
                receiver.push(sn, 0, 0, b"x", regular)
        self.assertEqual(receiver._counters.repeat_segs, 3)
        self.assertNotIn(9, [number for number, _ in receiver.acks])

    def test_overlappingRun(self) -> None:
        """A run of which something is held already is refused whole."""
        receiver = self.make()
        receiver.push(3, 0, 0, b"x", True)
        self.assertFalse(receiver.hold_run(2, 2, b"ab", 0))
        self.assertTrue(receiver.hold_run(1, 2, b"ab", 0))
        receiver.push(0, 0, 0, b"y", True)
        self.assertEqual((receiver.take(9), receiver.nxt), (b"yabx", 4))

    def test_runIntoFullInbox(self) -> None:
        """A held run moves on as far as there is room, and the rest later."""
        receiver = self.make(wnd=4)
        receiver.hold_run(1, 3, b"bcd", 0)
        receiver.push(0, 0, 0, b"a", True)
        self.assertEqual((receiver.nxt, receiver.free), (4, 0))
        receiver.hold_run(5, 3, b"fgh", 0)
        receiver.push(4, 0, 0, b"e", True)
        self.assertEqual(receiver.nxt, 4)
        self.assertEqual(receiver.take(1) + receiver.take(1), b"ab")
        self.assertEqual((receiver.nxt, receiver.free), (6, 0))
        self.assertEqual(b"".join(receiver.take(9) for _ in range(4)), b"cdefgh")

    def test_bytes(self) -> None:
        """
        Bytes are bounded, not only segments: a segment may be much longer than ours are. Beyond
        the bound nothing is taken in, and the window shows that.
        """
        for first in (0, 1):
            receiver = self.make(wnd=1000)
            receiver.limit = 100_000
            for sn in range(first, 1000):
                receiver.push(sn, 0, 0, bytes(60_000), True)
            self.assertEqual(receiver.nxt, 0 if first else 2)
            self.assertLessEqual(receiver.cost, 100_000 + 60_000 + 1000)
        receiver = self.make(wnd=1000)
        receiver.limit = 100_000
        for _ in range(2):
            self.assertGreater(receiver.free, 0)
            receiver.push(receiver.nxt, 0, 0, bytes(60_000), True)
        self.assertEqual(receiver.free, 0)
        receiver.take(60_000)
        self.assertGreater(receiver.free, 0)
        self.assertTrue(receiver.control.tell)

    def test_holeFilled(self) -> None:
        """What is out of order never keeps out what is in order."""
        receiver = self.make(wnd=1000)
        receiver.limit = 100_000
        for sn in range(1, 1000):
            receiver.push(sn, 0, 0, bytes(9_000), True)
        held = len(receiver.held)
        self.assertLess(held, 20)
        receiver.push(0, 0, 0, bytes(9_000), True)
        self.assertEqual(receiver.nxt, held + 1)

    def test_budget(self) -> None:
        """
        All receivers of a port together are bounded: beyond that each takes in only what is
        next when it has nothing, so that every session goes on.
        """
        budget = ReceiveBudget(1_000_000)
        receivers = [self.make(wnd=1000) for _ in range(10)]
        for receiver in receivers:
            receiver.budget = budget
            for _ in range(50):
                receiver.push(receiver.nxt, 0, 0, bytes(10_000), True)
                receiver.settle()
                receiver.push(receiver.nxt + 5, 0, 0, bytes(10_000), True)
                receiver.settle()
        self.assertLess(budget.used, 1_000_000 + 10 * 30_000)
        self.assertTrue(all(receiver.nxt for receiver in receivers))
        self.assertEqual([receiver.free > 0 for receiver in receivers], [False] * 10)
        for receiver in receivers:
            while receiver.take(1 << 20):
                pass
            receiver.settle()
            receiver.release()
            receiver.settle()
        self.assertEqual(budget.used, 0)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6), st.booleans()), max_size=40),
        st.integers(1, 12),
    )
    def test_anyOrder(self, arrivals: list[tuple[int, int, bool]], wnd: int) -> None:
        """
        Runs and single segments in any order, with repetitions, come out as the
        stream, without loss.
        """
        receiver = self.make(wnd=wnd)
        stream = bytes(range(64))
        taken = b""
        for first, count, as_run in [*arrivals, *[(n, 1, False) for n in range(40)]]:
            distance = first - receiver.nxt
            if as_run and distance >= 0 and distance + count <= wnd:
                receiver.hold_run(first, count, stream[first : first + count], 0)
            else:
                for sn in range(first, first + count):
                    receiver.push(sn, 0, 0, stream[sn : sn + 1], True)
            if count % 2:
                taken += receiver.take(count)
            self.assertLessEqual(receiver.queue.segments, wnd)
            receiver.settle()
            self.assertEqual(receiver.held_bytes, len(receiver.held))
            self.assertEqual(len(taken) + receiver.queue.size, receiver.nxt)
        self.assertEqual(taken + receiver.take(99), stream[: receiver.nxt])
        self.assertGreaterEqual(receiver.nxt, 1)


class AcknowledgementsTests(SynchronousTestCase):
    """L{Control.acknowledgements}."""

    def test_many(self) -> None:
        """Many at once are the same bytes as one after the other, with any number and timestamp."""
        control = Control(0xFEDCBA98, True, 500)
        acks = [(0, 0xFFFFFFFF), (0x80000000, 1), (0x01020304, 0x05060708)]
        each = [control.acknowledgements([ack], 0xABCD, 0x11223344) for ack in acks]
        self.assertEqual(control.acknowledgements(acks, 0xABCD, 0x11223344), b"".join(each))
