"""Sets of integers that are mostly consecutive, such as the numbers of what has arrived."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """
    A set of integers kept as disjoint half-open intervals, in order. Adding at
    the upper end, which is the usual case, costs no search.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        """How many intervals there are."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The intervals as pairs of first number and end, ascending."""
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._ends[at]

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return sum(self._ends) - sum(self._starts)

    def add(self, first: int, end: int) -> int:
        """
        Add C{first} .. C{end} - 1.

        @return: how many of them are new.
        """
        if first >= end:
            return 0
        starts, ends = self._starts, self._ends
        if not starts or first > ends[-1]:
            starts.append(first)
            ends.append(end)
            return end - first
        if first == ends[-1]:
            ends[-1] = end
            return end - first
        low = bisect_left(ends, first)
        high = bisect_right(starts, end)
        had = sum(ends[low:high]) - sum(starts[low:high])
        if low < high:
            first = min(first, starts[low])
            end = max(end, ends[high - 1])
        starts[low:high] = [first]
        ends[low:high] = [end]
        return end - first - had

    def remove(self, first: int, end: int) -> None:
        """Remove C{first} .. C{end} - 1, as far as they are here."""
        if first >= end:
            return
        starts, ends = self._starts, self._ends
        low = bisect_right(ends, first)
        high = bisect_left(starts, end)
        if low >= high:
            return
        left, right = starts[low], ends[high - 1]
        kept = [(a, b) for a, b in ((left, first), (end, right)) if a < b]
        starts[low:high] = [a for a, _ in kept]
        ends[low:high] = [b for _, b in kept]

    def pop_through(self, base: int) -> int:
        """
        Forget everything below the first number, from C{base} on, that is not here.

        @return: that number.
        """
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, base)
        if at and ends[at - 1] > base:
            base = ends[at - 1]
        if at:
            del starts[:at]
            del ends[:at]
        return base

    def gaps(self, first: int, end: int) -> list[tuple[int, int]]:
        """What of C{first} .. C{end} - 1 is not here, as intervals."""
        found: list[tuple[int, int]] = []
        at = bisect_right(self._ends, first)
        while first < end and at < len(self._starts):
            start, stop = self._starts[at], self._ends[at]
            if start >= end:
                break
            if first < start:
                found.append((first, start))
            first = stop
            at += 1
        if first < end:
            found.append((first, end))
        return found

    def clear(self) -> None:
        """Remove everything."""
        self._starts.clear()
        self._ends.clear()
