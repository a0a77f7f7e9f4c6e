"""Runs that wait for room in a full socket."""

from __future__ import annotations

from twisted_rudp.core.engine import Address, Buffer

HELD_LIMIT = 1 << 20
"""
Bytes held for a full socket. An owner that stops when told to never has more than a
run here; the limit is for one that cannot stop, such as answers to unknown peers.
"""


class HeldRuns:
    """
    A queue of copied runs, bounded in bytes. True while something is in it.

    @ivar runs: what is in it: run, size and address of each.
    """

    __slots__ = ("_bytes", "_limit", "runs")

    def __init__(self, limit: int = HELD_LIMIT) -> None:
        self.runs: list[tuple[Buffer, int, Address]] = []
        self._bytes = 0
        self._limit = limit

    def __bool__(self) -> bool:
        return bool(self.runs)

    def append(self, run: Buffer, size: int, address: Address) -> bool:
        """
        Copy a run to the end.

        @return: False if there is no room for it. An empty queue always has room.
        """
        if self.runs and self._bytes + len(run) > self._limit:
            return False
        self.runs.append((bytes(run), size, address))
        self._bytes += len(run)
        return True

    def head(self) -> tuple[Buffer, int, Address]:
        """The run that waits longest."""
        return self.runs[0]

    def shorten(self, taken: int) -> None:
        """The first C{taken} bytes of the head have left, whole datagrams all."""
        run, size, address = self.runs[0]
        self._bytes -= taken
        if taken < len(run):
            self.runs[0] = (memoryview(run)[taken:], size, address)
        else:
            del self.runs[0]

    def clear(self) -> int:
        """
        Drop everything.

        @return: how many datagrams that were.
        """
        lost = sum(-(-len(run) // size) for run, size, _ in self.runs)
        self.runs.clear()
        self._bytes = 0
        return lost
