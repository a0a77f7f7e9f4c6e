"""Packet numbers that were received, kept as ranges: to be acknowledged, and to know a replay."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Received:
    """
    A bounded set of integers not below 0. When it has too many gaps the lowest range
    is dropped and everything up to it counts as contained.

    @ivar floor: everything below counts as contained.
    """

    __slots__ = ("_highs", "_limit", "_lows", "floor")

    def __init__(self, limit: int = 1024) -> None:
        """
        @param limit: ranges kept, 1 or more.
        """
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._limit = limit
        self.floor = 0

    def __contains__(self, number: int) -> bool:
        if number < self.floor:
            return True
        index = bisect_right(self._lows, number) - 1
        return index >= 0 and number <= self._highs[index]

    def __len__(self) -> int:
        return len(self._lows)

    @property
    def highest(self) -> int:
        """The largest member; -1 while there is none."""
        return self._highs[-1] if self._highs else self.floor - 1

    def add(self, low: int, high: int) -> None:
        """Enter C{low} .. C{high}, both included."""
        lows, highs = self._lows, self._highs
        if highs and highs[-1] + 1 == low:
            highs[-1] = high
            return
        low = max(low, self.floor)
        if low > high:
            return
        first = bisect_left(highs, low - 1)
        last = bisect_right(lows, high + 1)
        if first < last:
            low, high = min(low, lows[first]), max(high, highs[last - 1])
        lows[first:last] = [low]
        highs[first:last] = [high]
        if len(lows) > self._limit:
            self.floor = highs[0] + 1
            del lows[0], highs[0]

    @property
    def last(self) -> tuple[int, int]:
        """The highest range; there has to be one."""
        return self._lows[-1], self._highs[-1]

    def newest(self, count: int) -> Iterator[tuple[int, int]]:
        """The highest ranges, as pairs of first and last member, highest first."""
        lows, highs = self._lows, self._highs
        for index in range(len(lows) - 1, max(len(lows) - 1 - count, -1), -1):
            yield lows[index], highs[index]
