"""The states of a KCP session."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """Which side spoke first."""

    DIALLER = "dialled"
    LISTENER = "was dialled"


class Life(Enum):
    """The states of a session."""

    OPENING = "not yet shown to the application"
    LIVE = "carrying data"
    CLOSING = "close asked; the rest is being delivered"
    LEAVING = "close asked; an unmarked peer is being kept quiet with window 0"
    FAREWELL = "over; the peer is told before the socket closes"
    ENDED = "over for the application; a tombstone answers"
    FORGOTTEN = "over"


NEXT: dict[Life, frozenset[Life]] = {
    Life.OPENING: frozenset({Life.LIVE, Life.FAREWELL, Life.ENDED}),
    Life.LIVE: frozenset({Life.CLOSING, Life.FAREWELL, Life.ENDED}),
    Life.CLOSING: frozenset({Life.LEAVING, Life.FAREWELL, Life.ENDED}),
    Life.LEAVING: frozenset({Life.ENDED}),
    Life.FAREWELL: frozenset({Life.ENDED}),
    Life.ENDED: frozenset({Life.FORGOTTEN}),
    Life.FORGOTTEN: frozenset(),
}

OVER = frozenset({Life.FAREWELL, Life.ENDED, Life.FORGOTTEN})
