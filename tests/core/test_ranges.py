"""Tests for L{twisted_rudp.core.ranges}."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.ranges import Ranges

spans = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove", "pop"]), spans), max_size=40)


class RangesTests(SynchronousTestCase):
    """L{Ranges} beside a plain set."""

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
