"""Sets of integers that are mostly consecutive, such as the numbers of what has arrived."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


def merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers as so many intervals of first number and end, disjoint and in order."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(intervals):
        if found and first <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = found[-1][0], end
        else:
            found.append((first, end))
    return found


class Ranges:
    """
    A set of integers kept as disjoint half-open intervals, in order. Adding at
    the upper end, which is the usual case, costs no search.

    It may be bounded: when there are too many intervals the lowest is dropped, and
    everything up to its end counts as contained ever after. Packet numbers that were
    received are kept so, to be acknowledged and to know a replay.

    @ivar starts: the first numbers of the intervals, to be looked at only.
    @ivar floor: everything below counts as contained; None while nothing was dropped.
    """

    __slots__ = ("_ends", "_limit", "floor", "starts")

    def __init__(self, limit: int = 0) -> None:
        """
        @param limit: intervals kept; 0: any number.
        """
        self.starts: list[int] = []
        self._ends: list[int] = []
        self._limit = limit
        self.floor: int | None = None

    def __bool__(self) -> bool:
        return bool(self.starts)

    def __len__(self) -> int:
        """How many intervals there are."""
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The intervals as pairs of first number and end, ascending."""
        return iter(list(zip(self.starts, self._ends, strict=True)))

    def __contains__(self, number: int) -> bool:
        if self.floor is not None and number < self.floor:
            return True
        at = bisect_right(self.starts, number) - 1
        return at >= 0 and number < self._ends[at]

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return sum(self._ends) - sum(self.starts)

    @property
    def end(self) -> int | None:
        """One more than the largest number; None of an empty set."""
        return self._ends[-1] if self._ends else self.floor

    def newest(self, count: int) -> list[tuple[int, int]]:
        """The highest intervals as pairs of first number and end, highest first."""
        behind = -1 - count
        return list(zip(self.starts[:behind:-1], self._ends[:behind:-1], strict=True))

    def add(self, first: int, end: int) -> int:
        """
        Add C{first} .. C{end} - 1.

        @return: how many of them are new.
        """
        starts, ends = self.starts, self._ends
        if ends and first == ends[-1] and first < end:
            ends[-1] = end
            return end - first
        if self.floor is not None and first < self.floor:
            first = self.floor
        if first >= end:
            return 0
        if not starts or first > ends[-1]:
            starts.append(first)
            ends.append(end)
            if self._limit:
                self._drop_lowest()
            return end - first
        low = bisect_left(ends, first)
        high = bisect_right(starts, end)
        had = sum(ends[low:high]) - sum(starts[low:high])
        if low < high:
            first = min(first, starts[low])
            end = max(end, ends[high - 1])
        starts[low:high] = [first]
        ends[low:high] = [end]
        new = end - first - had
        self._drop_lowest()
        return new

    def remove(self, first: int, end: int) -> None:
        """Remove C{first} .. C{end} - 1, as far as they are here."""
        if first >= end:
            return
        starts, ends = self.starts, self._ends
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
        starts, ends = self.starts, self._ends
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
        while first < end and at < len(self.starts):
            start, stop = self.starts[at], self._ends[at]
            if start >= end:
                break
            if first < start:
                found.append((first, start))
            first = stop
            at += 1
        if first < end:
            found.append((first, end))
        return found

    def pop_all(self) -> list[tuple[int, int]]:
        """Remove everything, and give it as pairs of first number and end."""
        found = list(zip(self.starts, self._ends, strict=True))
        self.starts.clear()
        self._ends.clear()
        return found

    def clear(self) -> None:
        """Remove everything."""
        self.starts.clear()
        self._ends.clear()

    def _drop_lowest(self) -> None:
        """Keep to the limit. There is at most one interval too many."""
        if self._limit and len(self.starts) > self._limit:
            self.floor = self._ends[0]
            del self.starts[0], self._ends[0]
