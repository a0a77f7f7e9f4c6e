"""Numbers that were received."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.received import Received


class ReceivedTests(SynchronousTestCase):
    """L{Received} beside a set."""

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        added=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6)), max_size=30),
        limit=st.integers(1, 8),
    )
    def test_model(self, added: list[tuple[int, int]], limit: int) -> None:
        """
        The same members above the floor, at most so many ranges, newest first and
        never touching.
        """
        ranges, model = Received(limit), set[int]()
        for low, more in added:
            model.update(range(max(low, ranges.floor), low + more + 1))
            ranges.add(low, low + more)
        self.assertTrue(len(ranges) <= limit)
        for number in range(70):
            wanted = number < ranges.floor or number in model
            self.assertEqual(number in ranges, wanted, number)
        found = list(ranges.newest(100))
        if model:
            self.assertEqual(ranges.highest, max(model))
        for (low, _), (_, high) in pairwise(found):
            self.assertTrue(high + 1 < low)

    def test_empty(self) -> None:
        """Nothing is in an empty set."""
        ranges = Received()
        self.assertEqual((ranges.highest, 0 in ranges, list(ranges.newest(3))), (-1, False, []))
