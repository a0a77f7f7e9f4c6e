"""Where the kernel refuses to cut runs."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from twisted_rudp.core.engine import Address

LIFETIME = 10.0
"""Seconds. The route may change; a failed call in so long a time costs nothing."""

LIMIT = 1024
"""Entries; the oldest goes first."""


class Refusals:
    """
    Pairs of address and datagram size for which runs must leave one by one, for a
    while.

    @ivar table: the entries with their ends, oldest first. Public because to find it
        empty is all that the fast path does.
    """

    __slots__ = ("_clock", "table")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.table: dict[tuple[Address, int], float] = {}

    def add(self, address: Address, size: int) -> None:
        """Remember a refusal from now on."""
        self.table.pop((address, size), None)
        if len(self.table) >= LIMIT:
            del self.table[next(iter(self.table))]
        self.table[address, size] = self._clock.seconds() + LIFETIME

    def holds(self, address: Address, size: int) -> bool:
        """Whether a refusal is still remembered."""
        now = self._clock.seconds()
        table = self.table
        while table:
            oldest = next(iter(table))
            if table[oldest] > now:
                break
            del table[oldest]
        return (address, size) in table
