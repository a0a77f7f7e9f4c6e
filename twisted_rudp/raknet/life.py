"""The states of a session and the ways between them."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """Which side asked for the session."""

    DIALLER = "dialled"
    LISTENER = "was dialled"


class Life(Enum):
    """The states of a session."""

    OFFLINE = "the dialler's first requests"
    OPENING = "the handshake inside of the session"
    LIVE = "carrying data"
    CLOSING = "close asked; the rest is being delivered"
    NOTIFYING = "all is delivered; the last word waits for its acknowledgement"
    FAREWELL = "over; the peer is told before the socket closes"
    ENDED = "over for the application; a tombstone answers"
    FORGOTTEN = "over"


NEXT: dict[Life, frozenset[Life]] = {
    Life.OFFLINE: frozenset({Life.OPENING, Life.ENDED}),
    Life.OPENING: frozenset({Life.LIVE, Life.FAREWELL, Life.ENDED}),
    Life.LIVE: frozenset({Life.CLOSING, Life.FAREWELL, Life.ENDED}),
    Life.CLOSING: frozenset({Life.NOTIFYING, Life.FAREWELL, Life.ENDED}),
    Life.NOTIFYING: frozenset({Life.FAREWELL, Life.ENDED}),
    Life.FAREWELL: frozenset({Life.ENDED}),
    Life.ENDED: frozenset({Life.FORGOTTEN}),
    Life.FORGOTTEN: frozenset(),
}
"""Where each of them may lead."""

OVER = frozenset({Life.FAREWELL, Life.ENDED, Life.FORGOTTEN})
"""In these the application has been, or will be, told of the end."""

CARRYING = frozenset({Life.LIVE, Life.CLOSING, Life.NOTIFYING})
"""In these the peer may be sending data."""
