"""What is left of a connection that has ended, so that the peer's end is clean too."""

from __future__ import annotations

from enum import Enum

from twisted_rudp.core.engine import MILLISECOND, SECOND

LONGEST = 4
"""A linger that is prolonged by what comes lasts at most this many lingers."""

FAREWELLS = 3
GAP = 10 * MILLISECOND


class Grave(Enum):
    """What is done with what still comes."""

    QUIET = "dropped: the peer has seen our end"
    ACKNOWLEDGING = "acknowledged again: our last acknowledgement may be lost"
    RESETTING = "answered by the abort"


def linger(timeout: int) -> int:
    """
    How long a tombstone lasts.

    @param timeout: of a retransmission, nanoseconds.
    """
    return min(max(2 * SECOND, 20 * timeout), 10 * SECOND)


class Tombstone:
    """
    The times of what is said after the end.

    @ivar grave: what is said.
    """

    __slots__ = ("_answer", "_last", "_left", "_repeat", "_span", "grave", "until")

    def __init__(self, grave: Grave, now: int, span: int) -> None:
        self.grave = grave
        self.until = now + span
        self._span = span
        self._last = now + LONGEST * span
        self._answer = False
        self._left = 0 if grave is Grave.QUIET else FAREWELLS
        self._repeat = now

    @property
    def told(self) -> bool:
        """It has been said as often as it is to be."""
        return self._left == 0

    def deadline(self) -> int:
        """When L{due} turns true, or it is over."""
        return self.until if self.told else min(self._repeat, self.until)

    def heard(self, now: int) -> None:
        """Something came that asks for an answer."""
        if self.grave is not Grave.QUIET:
            self._answer = True
            self.until = min(now + self._span, self._last)

    def due(self, now: int) -> bool:
        """It is to be said now. Counts as said."""
        answer, self._answer = self._answer, False
        if self._left and now >= self._repeat:
            self._left -= 1
            self._repeat = now + GAP
            return True
        return answer
