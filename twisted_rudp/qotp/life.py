"""The states of a connection, what all connections of an endpoint share, and the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from twisted_rudp.core.engine import SECOND, Event, Reason
from twisted_rudp.qotp.budget import Budget
from twisted_rudp.qotp.crypto import INITIATOR, RESPONDER
from twisted_rudp.qotp.opening import Secrets
from twisted_rudp.qotp.tombstone import Grave, Tombstone, linger
from twisted_rudp.qotp.wire import MTU

IDLE_TIMEOUT = 30 * SECOND

CONGESTION = ("delivery", "release")
"""The congestion controllers there are."""


class Role(Enum):
    """Who dialled. It never changes (C{qotp.md} 1)."""

    INITIATOR = INITIATOR
    RESPONDER = RESPONDER

    @property
    def peer(self) -> int:
        """The direction bit of what the other side sends."""
        return RESPONDER if self is Role.INITIATOR else INITIATOR


class Life(Enum):
    """The states of a connection."""

    OPENING = "not yet shown to the application"
    LIVE = "carrying data"
    CLOSING = "close asked; the rest is being delivered"
    FAREWELL = "over; the peer is told before the socket closes"
    ENDED = "over for the application; a tombstone answers"
    FORGOTTEN = "over"


_NEXT: dict[Life, frozenset[Life]] = {
    Life.OPENING: frozenset({Life.LIVE, Life.FAREWELL, Life.ENDED}),
    Life.LIVE: frozenset({Life.CLOSING, Life.FAREWELL, Life.ENDED}),
    Life.CLOSING: frozenset({Life.FAREWELL, Life.ENDED}),
    Life.FAREWELL: frozenset({Life.ENDED}),
    Life.ENDED: frozenset({Life.FORGOTTEN}),
    Life.FORGOTTEN: frozenset(),
}

OVER = frozenset({Life.FAREWELL, Life.ENDED, Life.FORGOTTEN})


@dataclass(frozen=True)
class Settings:
    """
    What all connections of one endpoint have in common.

    @ivar entropy: random bytes.
    @ivar mtu: longest UDP payload, the same at both ends.
    @ivar idle_timeout: nanoseconds of silence after which a peer counts as gone.
    @ivar roaming: follow a peer to another address.
    @ivar early_data: a listener takes what the release's dialler says in its first
        datagram, which could be a replay.
    @ivar congestion: C{delivery}, as fast as the network delivers
        (L{DeliveryRate<twisted_rudp.core.pacing.DeliveryRate>}), or C{release}, what
        the release does.
    @ivar budget: what all of them may keep.
    @ivar key_log: is given the keys of each connection.
    """

    entropy: Callable[[int], bytes]
    mtu: int = MTU
    idle_timeout: int = IDLE_TIMEOUT
    roaming: bool = True
    early_data: bool = False
    congestion: str = "delivery"
    budget: Budget = field(default_factory=Budget)
    key_log: Callable[[bytes, Secrets], None] | None = None

    def __post_init__(self) -> None:
        if self.congestion not in CONGESTION:
            names = " or ".join(CONGESTION)
            raise ValueError(f"congestion={self.congestion!r} is not {names}")


class Lifetime:
    """
    Where one connection is in its life, and how it ends.

    @ivar state: see L{Life}.
    @ivar tombstone: after the end.
    """

    __slots__ = ("_ending", "_events", "_own_socket", "state", "tombstone")

    def __init__(self, events: list[tuple[Any, ...]], own_socket: bool) -> None:
        """
        @param events: told of the end.
        @param own_socket: the socket closes with the connection, so the peer has to
            be told before.
        """
        self.state = Life.OPENING
        self.tombstone: Tombstone | None = None
        self._ending: tuple[Reason, str | None] | None = None
        self._events = events
        self._own_socket = own_socket

    @property
    def over(self) -> bool:
        """It has ended, for the application or altogether."""
        return self.state in OVER

    def enter(self, state: Life) -> None:
        """The only way from state to state."""
        if state not in _NEXT[self.state]:
            raise AssertionError(f"no way from {self.state.name} to {state.name}")
        self.state = state

    def bury(
        self, grave: Grave, reason: Reason, detail: str | None, now: int, timeout: int
    ) -> None:
        """
        It is over.

        @param timeout: of a retransmission.
        """
        self.tombstone = Tombstone(grave, now, linger(timeout))
        self._ending = (reason, detail)
        if self._own_socket and grave is not Grave.QUIET:
            self.enter(Life.FAREWELL)
        else:
            self._tell_ended()

    def said_farewell(self) -> None:
        """Something was sent after the end; perhaps that was all."""
        if self.state is Life.FAREWELL and self.tombstone is not None and self.tombstone.told:
            self._tell_ended()

    def tick(self, now: int) -> None:
        """See whether the tombstone is over too."""
        stone = self.tombstone
        if stone is not None and self.state is Life.ENDED and now >= stone.until:
            self.enter(Life.FORGOTTEN)

    def _tell_ended(self) -> None:
        assert self._ending is not None
        self.enter(Life.ENDED)
        self._events.append((Event.ENDED, *self._ending))
        if self._own_socket:
            self.enter(Life.FORGOTTEN)
