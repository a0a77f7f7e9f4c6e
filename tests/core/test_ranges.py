"""Tests for L{twisted_rudp.core.ranges}."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.ranges import Ranges, merged

spans = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove", "pop"]), spans), max_size=40)


class RangesTests(SynchronousTestCase):
    """L{Ranges} beside a plain set."""

    @given(intervals=st.lists(spans.filter(lambda span: span[0] < span[1]), max_size=20))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_merged(self, intervals: list[tuple[int, int]]) -> None:
        """Intervals that overlap or touch become one, as they do in a set that is taken whole."""
        ranges = Ranges()
        for first, end in intervals:
            ranges.add(first, end)
        found = merged(intervals)
        self.assertEqual(found, list(ranges))
        self.assertEqual(ranges.pop_all(), found)
        self.assertEqual((list(ranges), ranges.floor), ([], None))

    @given(steps=steps)
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_isASet(self, steps: list[tuple[str, tuple[int, int]]]) -> None:
        """
        Every operation does what it does to a set of integers, and the intervals
        stay in order, disjoint and not adjacent.
        """
        ranges = Ranges()
        model: set[int] = set()
        for kind, (first, end) in steps:
            numbers = set(range(first, end))
            if kind == "add":
                self.assertEqual(ranges.add(first, end), len(numbers - model))
                model |= numbers
            elif kind == "remove":
                ranges.remove(first, end)
                model -= numbers
            else:
                base = first
                while base in model:
                    base += 1
                self.assertEqual(ranges.pop_through(first), base)
                model = {number for number in model if number >= base}
            intervals = list(ranges)
            self.assertEqual({n for a, b in intervals for n in range(a, b)}, model)
            self.assertTrue(all(a < b for a, b in intervals))
            self.assertTrue(all(b < c for (_, b), (c, _) in pairwise(intervals)))
            self.assertEqual(ranges.total, len(model))
            self.assertEqual(len(ranges), len(intervals))
            gaps = {n for a, b in ranges.gaps(10, 40) for n in range(a, b)}
            self.assertEqual(gaps, set(range(10, 40)) - model)
            self.assertEqual([n in ranges for n in range(75)], [n in model for n in range(75)])


class BoundedTests(SynchronousTestCase):
    """L{Ranges} with a limit beside a plain set."""

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        added=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 7)), max_size=30),
        limit=st.integers(1, 8),
    )
    def test_model(self, added: list[tuple[int, int]], limit: int) -> None:
        """
        The same members above the floor, at most so many intervals, newest first and
        never touching.
        """
        ranges = Ranges(limit)
        model: set[int] = set()
        for first, count in added:
            floor = ranges.floor or 0
            fresh = set(range(max(first, floor), first + count)) - model
            self.assertEqual(ranges.add(first, first + count), len(fresh))
            model |= fresh
        self.assertTrue(len(ranges) <= limit)
        floor = ranges.floor or 0
        for number in range(70):
            self.assertEqual(number in ranges, number < floor or number in model, number)
        found = ranges.newest(100)
        self.assertEqual(found, list(ranges)[::-1])
        if model:
            self.assertEqual(ranges.end, max(model) + 1)
        for (first, _), (_, end) in pairwise(found):
            self.assertTrue(end < first)

    def test_empty(self) -> None:
        """Nothing is in an empty set."""
        ranges = Ranges(3)
        self.assertEqual((ranges.end, 0 in ranges, ranges.newest(3)), (None, False, []))

    def test_newestFew(self) -> None:
        """Only as many intervals are given as were asked for."""
        ranges = Ranges(8)
        for first in (0, 10, 20, 30):
            ranges.add(first, first + 5)
        self.assertEqual(ranges.newest(2), [(30, 35), (20, 25)])
