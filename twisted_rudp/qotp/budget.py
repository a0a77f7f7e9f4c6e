"""How much may be kept for peers that send and applications that do not read (W6)."""

from __future__ import annotations

SMALLEST = 8 * 1400
"""A connection always has room for so many bytes."""

FIRST = 256 << 10
LARGEST = 16 << 20
SOCKET_LIMIT = 256 << 20


class Budget:
    """
    What all connections of one socket may keep altogether.

    @ivar free: bytes that nobody has reserved.
    """

    __slots__ = ("free",)

    def __init__(self, limit: int = SOCKET_LIMIT) -> None:
        self.free = limit

    def reserve(self, wanted: int) -> int:
        """
        @return: how much of it was given.
        """
        given = max(min(wanted, self.free), 0)
        self.free -= given
        return given


class ReceiveWindow:
    """
    What one connection may keep: it starts small and doubles whenever the
    application has read a whole window and keeps up.

    @ivar held: bytes that are kept now.
    """

    __slots__ = ("_budget", "_capacity", "_read", "_reserved", "held", "told")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._reserved = budget.reserve(FIRST)
        self._capacity = max(self._reserved, SMALLEST)
        self._read = 0
        self.held = 0
        self.told = self._capacity

    @property
    def free(self) -> int:
        """Bytes that can still come."""
        free = self._capacity - self.held
        return free if free > 0 else 0

    @property
    def room(self) -> int:
        """
        What those bytes may cost: if the first of a window is lost, all others are
        pieces out of order.
        """
        return self._capacity + self._capacity // 4 - self.held

    @property
    def capacity(self) -> int:
        """Bytes that may be kept."""
        return self._capacity

    def took(self, size: int) -> None:
        """The application has read something."""
        self._read += size
        if self._read < self._capacity:
            return
        self._read = 0
        if self.held <= self._capacity // 2 and self._capacity < LARGEST:
            more = self._budget.reserve(self._capacity)
            self._reserved += more
            self._capacity += more

    def reopened(self, free: int) -> bool:
        """
        There is so much more room than the peer knows of that it should be told
        (rule R7).

        @param free: what L{free} is now.
        """
        more = free - self.told
        return more > 0 and (more >= self._capacity // 2 or self.told < 4 * 1400)

    def release(self) -> None:
        """The connection is over."""
        self._budget.free += self._reserved
        self._reserved = self._capacity = 0
