"""The states of a connection as its protocol sees it, and what leads from one to another."""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final


class State(IntEnum):
    """
    The states of a connection as its protocol sees it, both halves in one. Integers, because
    the hash of one is cheap.
    """

    CONNECTING = auto()
    """The protocol is not there yet."""

    OPEN = auto()

    ENDING = auto()
    """Our half is to end after what is written; reading goes on."""

    WRITE_ENDED = auto()
    """Our half has ended; reading goes on."""

    READ_ENDED = auto()
    """The peer's half has ended and the protocol goes on writing."""

    READ_ENDED_ENDING = auto()
    """The peer's half has ended and ours is to end after what is written."""

    BOTH_ENDED = auto()
    """It is the protocol's duty to call C{loseConnection} (CLOSE-9)."""

    DRAINING = auto()
    """All is to end after what is written and what a producer still writes."""

    CLOSING = auto()
    """The engine ends it in order."""

    ABORTING = auto()
    """The engine will be told to give up in the next turn."""

    LOST = auto()
    """C{connectionLost} was called."""


class Cause(Enum):
    """What changes a state."""

    MADE = auto()
    """C{makeConnection}."""

    LOSE_WRITE = auto()
    """C{loseWriteConnection}."""

    LOSE = auto()
    """C{loseConnection}."""

    DRAINED = auto()
    """Nothing waits for the send window and no producer is left."""

    PEER_ENDED = auto()
    """The peer's end of stream, for a protocol that knows half close."""

    PEER_CLOSED = auto()
    """The peer's end of stream, for any other."""

    ABORT = auto()
    """C{abortConnection}, or the protocol failed."""

    OVER = auto()
    """The session or stream is over."""


_S, _C = State, Cause

_TABLE: Final[dict[State, dict[Cause, State]]] = {
    _S.CONNECTING: {
        _C.MADE: _S.OPEN,
        _C.LOSE: _S.DRAINING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.OPEN: {
        _C.LOSE_WRITE: _S.ENDING,
        _C.LOSE: _S.DRAINING,
        _C.PEER_ENDED: _S.READ_ENDED,
        _C.PEER_CLOSED: _S.CLOSING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.ENDING: {
        _C.DRAINED: _S.WRITE_ENDED,
        _C.LOSE: _S.DRAINING,
        _C.PEER_ENDED: _S.READ_ENDED_ENDING,
        _C.PEER_CLOSED: _S.CLOSING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.WRITE_ENDED: {
        _C.LOSE: _S.CLOSING,
        _C.PEER_ENDED: _S.BOTH_ENDED,
        _C.PEER_CLOSED: _S.CLOSING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.READ_ENDED: {
        _C.LOSE_WRITE: _S.READ_ENDED_ENDING,
        _C.LOSE: _S.DRAINING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.READ_ENDED_ENDING: {
        _C.DRAINED: _S.BOTH_ENDED,
        _C.LOSE: _S.DRAINING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.BOTH_ENDED: {
        _C.LOSE: _S.CLOSING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.DRAINING: {
        _C.DRAINED: _S.CLOSING,
        _C.ABORT: _S.ABORTING,
        _C.OVER: _S.LOST,
    },
    _S.CLOSING: {_C.ABORT: _S.ABORTING, _C.OVER: _S.LOST},
    _S.ABORTING: {_C.OVER: _S.LOST},
    _S.LOST: {},
}

READING: Final = frozenset({_S.OPEN, _S.ENDING, _S.WRITE_ENDED})
"""Here the protocol is given what arrives."""

WRITING: Final = frozenset({_S.OPEN, _S.ENDING, _S.READ_ENDED, _S.READ_ENDED_ENDING, _S.DRAINING})
"""Here what the protocol writes is sent (CLOSE-1)."""

DRAINING: Final = frozenset({_S.ENDING, _S.READ_ENDED_ENDING, _S.DRAINING})
"""Here something waits for the buffers and the producer."""

DISCONNECTING: Final = frozenset({_S.DRAINING, _S.CLOSING, _S.ABORTING})
"""Here C{disconnecting} is true (TR-5)."""


def after(state: State, cause: Cause) -> State | None:
    """The next state, or None if C{cause} changes nothing here."""
    return _TABLE[state].get(cause)
