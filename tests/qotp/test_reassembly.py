"""Reassembly (qotp.md 5.4)."""

from __future__ import annotations

import random
import tracemalloc
from collections import defaultdict
from itertools import count, takewhile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.qotp.receiver import coalesce
from twisted_rudp.qotp.streams import PIECE_COST, Reassembly
from twisted_rudp.qotp.wire import Segment, encode

bounded = settings(max_examples=150, deadline=None, derandomize=True)



def right(case: dict[str, Any]) -> dict[int, bytes]:
    """
    What a right implementation delivers where the release wedges or panics: every byte
    that came, in order, and of two for one place the first.
    """
    came: dict[int, dict[int, int]] = defaultdict(dict)
    for step in case["steps"]:
        if step["op"] == "insert" and step["status"] != "full":
            for place, byte in enumerate(bytes.fromhex(step["data"]), step["offset"]):
                came[step["stream_id"]].setdefault(place, byte)
    return {
        number: bytes(held[place] for place in takewhile(held.__contains__, count()))
        for number, held in came.items()
    }


class VectorTests(SynchronousTestCase):
    """Against the release, and against reason where that fails."""

    def test_cases(self) -> None:
        """The same bytes come out, and the same segments are taken and acknowledged."""
        for case in load("qotp", "receive_buffer")["cases"]:
            with self.subTest(case["name"]):
                self.play(case)

    def play(self, case: dict[str, Any]) -> None:
        streams: dict[int, Reassembly] = defaultdict(lambda: Reassembly(piece_cost=0))
        got: dict[int, bytes] = defaultdict(bytes)
        wanted: dict[int, bytes] = defaultdict(bytes)
        for step in case["steps"]:
            stream = streams[step["stream_id"]]
            if step["op"] == "close":
                stream.finish(step["offset"])
            elif step["op"] == "read":
                got[step["stream_id"]] += stream.take(1 << 20)
                wanted[step["stream_id"]] += bytes.fromhex(step["data"])
                if not case["go_bug"] and step["ready_to_close"]:
                    self.assertTrue(stream.complete)
            else:
                room = case["capacity"] - sum(each.held for each in streams.values())
                taken = stream.insert(step["offset"], bytes.fromhex(step["data"]), room)
                self.assertEqual(taken, step["status"] != "full")
                self.assertEqual(taken, case["go_bug"] or step["ack"] is not None)
        for number, stream in streams.items():
            got[number] += stream.take(1 << 20)
        if case["go_bug"]:
            self.assertEqual(got, right(case))
        else:
            for number, data in wanted.items():
                self.assertTrue(got[number].startswith(data))


class ReassemblyTests(SynchronousTestCase):
    """Any segments in any order."""

    @bounded
    @given(
        size=st.integers(1, 3000),
        pieces=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 700)), max_size=40),
        seed=st.integers(0, 1000),
    )
    def test_anyOrder(self, size: int, pieces: list[tuple[int, int]], seed: int) -> None:
        """
        Overlapping, repeated and shuffled segments give the stream, once; nothing is
        held at the end.
        """
        chance = random.Random(seed)
        data = chance.randbytes(size)
        segments = [(o, data[o : o + n]) for o, n in pieces if o < size]
        segments += [(o, data[o : o + 500]) for o in range(0, size, 500)]
        chance.shuffle(segments)
        stream = Reassembly()
        got = b""
        for offset, part in segments:
            self.assertTrue(stream.insert(offset, part, 1 << 20))
            if chance.random() < 0.3:
                got += stream.take(chance.randint(1, 400))
        self.assertTrue(stream.finish(size))
        self.assertTrue(stream.complete)
        got += stream.take(1 << 20)
        self.assertEqual(got, data)
        self.assertEqual((stream.held, stream.unread), (0, 0))

    def test_end(self) -> None:
        """W17: the first end counts, and bytes beyond it contradict it."""
        stream = Reassembly()
        self.assertTrue(stream.finish(4))
        self.assertTrue(stream.finish(4))
        self.assertFalse(stream.finish(9))
        self.assertTrue(stream.insert(2, b"cdef", 100))
        self.assertTrue(stream.insert(0, b"ab", 100))
        self.assertEqual(stream.take(10), b"abcd")
        ahead = Reassembly()
        self.assertTrue(ahead.insert(5, b"x", 100))
        self.assertFalse(ahead.finish(5))

    def test_memory(self) -> None:
        """W6: small pieces take no more memory than they are counted for."""
        count = 5000
        for size in (1, 64, 500):
            stream = Reassembly()
            tracemalloc.start()
            self.addCleanup(tracemalloc.stop)
            for number in range(count):
                datagram = bytes(1400)
                offset = 10 + number * (size + 1)
                stream.insert(offset, memoryview(datagram)[:size], 1 << 30)
            taken, _ = tracemalloc.get_traced_memory()
            self.assertTrue(taken <= stream.held, (size, taken / count, stream.held / count))
            tracemalloc.stop()

    def test_cost(self) -> None:
        """W6: a piece out of order costs more than its byte."""
        stream = Reassembly()
        self.assertTrue(stream.insert(5, b"x", 1000))
        self.assertEqual(stream.held, 1 + PIECE_COST)
        self.assertFalse(stream.insert(7, b"y", 0))
        self.assertTrue(stream.insert(0, b"abcde", 1000))
        self.assertEqual(stream.held, 6)

    def test_small(self) -> None:
        """W6: bytes one by one are joined to few objects."""
        stream = Reassembly()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(5000):
            stream.insert(number, b"z", 1 << 20)
        taken, _ = tracemalloc.get_traced_memory()
        self.assertLess(taken, 10_000)
        self.assertEqual(stream.take(1 << 20), b"z" * 5000)


class CoalesceTests(SynchronousTestCase):
    """L{coalesce}."""

    def test_behindGap(self) -> None:
        """A stretch may begin behind a lost datagram, and ends before the next that is lost."""
        opened: list[tuple[int, bytes] | None] = [
            (number, encode(None, Segment(4, number * 3, b"%03d" % number)))
            for number in (7, 9, 10, 11, 13, 14)
        ]
        self.assertEqual(coalesce(opened, 0), (1, Segment(4, 21, b"007")))
        self.assertEqual(coalesce(opened, 1), (3, Segment(4, 27, b"009010011")))
        self.assertEqual(coalesce(opened, 4), (2, Segment(4, 39, b"013014")))
        self.assertEqual(coalesce(opened, 5), (1, Segment(4, 42, b"014")))
        opened[2] = None
        self.assertEqual(coalesce(opened, 1), (1, Segment(4, 27, b"009")))
        self.assertIsNone(coalesce(opened, 2))
