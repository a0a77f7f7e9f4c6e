"""Finding out the peer's numbers of data and parity packets (kcp.md 3.5)."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from operator import itemgetter

from twisted_rudp.kcp.fec_wire import DATA, PARITY
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS

SAMPLES = 258
"""So many packets are looked back upon: the longest group, and one on each side."""


class Tuner:
    """Remembers which kinds came under which sequence ids."""

    __slots__ = ("_count", "_stretches")

    def __init__(self) -> None:
        self._stretches: deque[tuple[int, bytes]] = deque()
        self._count = 0

    def add(self, first: int, kinds: bytes) -> None:
        """Packets of these kinds came, numbered from C{first} without a gap."""
        self._stretches.append((first, kinds))
        self._count += len(kinds)
        while self._count - len(self._stretches[0][1]) >= SAMPLES:
            self._count -= len(self._stretches.popleft()[1])

    def find(self) -> tuple[int, int] | None:
        """
        The length of a whole row of data packets, and of parity packets, that
        have their neighbours on both sides; None if there is none, or a gap
        before its end.
        """
        samples = [
            (first + index, kind)
            for first, kinds in self._stretches
            for index, kind in enumerate(kinds)
        ][-SAMPLES:]
        samples = sorted(set(samples))
        rows = [(kind, len(list(row))) for kind, row in groupby(samples, itemgetter(1))]
        data = self._whole(samples, rows, DATA)
        parity = self._whole(samples, rows, PARITY)
        if not data or not parity or data + parity >= MAXIMUM_SHARDS:
            return None
        return data, parity

    def _whole(
        self, samples: list[tuple[int, int]], rows: list[tuple[int, int]], kind: int
    ) -> int:
        start = 0
        for index, (its, length) in enumerate(rows[:-1]):
            end = start + length
            if samples[end][0] - samples[0][0] != end:
                return 0
            if index and its == kind:
                return length
            start = end
        return 0
