"""
The life of a session: its states, the ways between them, and what follows its end::

    HANDSHAKE -> ESTABLISHED -> FIN_WAIT -> DRAINING -> CLOSING -> TIME_WAIT -> CLOSED

C{ESTABLISHED}, C{TIME_WAIT} and C{CLOSED} are those of RFC 9293 section 3.3.2, C{DRAINING}
and C{CLOSING} follow RFC 9000 section 10.2. Each state but the first can be left out; no
way leads back.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from twisted_rudp.core.engine import MILLISECOND, SECOND, Event, Reason
from twisted_rudp.core.timers import NEVER


class Role(Enum):
    """Which side opened the session. It never changes."""

    CLIENT = "dialled"
    SERVER = "was dialled"


class State(Enum):
    """The states of a session."""

    HANDSHAKE = "not yet shown to the application"
    ESTABLISHED = "carrying data"
    FIN_WAIT = "close asked; what was written is being delivered"
    DRAINING = "all was delivered; the last exchange with the peer is awaited"
    CLOSING = "over; the peer is told before the socket closes"
    TIME_WAIT = "over for the application; late packets are answered"
    CLOSED = "over"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.HANDSHAKE: frozenset({State.ESTABLISHED, State.CLOSING, State.TIME_WAIT}),
    State.ESTABLISHED: frozenset({State.FIN_WAIT, State.CLOSING, State.TIME_WAIT}),
    State.FIN_WAIT: frozenset({State.DRAINING, State.CLOSING, State.TIME_WAIT}),
    State.DRAINING: frozenset({State.CLOSING, State.TIME_WAIT}),
    State.CLOSING: frozenset({State.TIME_WAIT}),
    State.TIME_WAIT: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""Where each state may lead."""

OVER: Final = frozenset({State.CLOSING, State.TIME_WAIT, State.CLOSED})
"""In these the application has been, or will be, told of the end."""

LAST_PACKETS: Final = 3
"""How often the last packet is sent by a side that is about to close its socket."""

LAST_PACKET_INTERVAL: Final = 10 * MILLISECOND

_PROLONGED: Final = 4
"""A TIME-WAIT that answers go on in lasts at most this many times its span."""


def time_wait_span(timeout: int) -> int:
    """
    How long a session stays in TIME-WAIT while nothing comes.

    @param timeout: of a retransmission, in nanoseconds.
    @return: twenty of them, at least two and at most ten seconds.
    """
    return min(max(2 * SECOND, 20 * timeout), 10 * SECOND)


class TimeWait:
    """
    When a session that has ended sends its last packet. What that is the transport knows.

    @ivar until: when nothing is answered any more.
    """

    __slots__ = ("_interval", "_last", "_left", "_repeat", "_span", "until")

    def __init__(
        self, now: int, span: int, repeats: int = 0, interval: int = LAST_PACKET_INTERVAL
    ) -> None:
        """
        @param span: nanoseconds it lasts when nothing comes; see L{time_wait_span}.
        @param repeats: how often the last packet is sent unasked, the first time at once.
        @param interval: nanoseconds between two of them.
        """
        self.until = now + span
        self._span = span
        self._last = now + _PROLONGED * span
        self._left = repeats
        self._repeat = now
        self._interval = interval

    @property
    def finished(self) -> bool:
        """The last packet was sent as often as it is to be."""
        return self._left == 0

    def deadline(self) -> int:
        """When L{repeat_due} turns true, or all is over."""
        return self.until if self._left == 0 else min(self._repeat, self.until)

    def expired(self, now: int) -> bool:
        """Nothing is answered any more."""
        return now >= self.until

    def prolong(self, now: int) -> None:
        """Something came that has to be answered, so the peer is still there."""
        self.until = min(now + self._span, self._last)

    def repeat_due(self, now: int) -> bool:
        """Whether the last packet is to be sent now. A yes counts as sent."""
        if self._left == 0 or now < self._repeat:
            return False
        self._left -= 1
        self._repeat = now + self._interval
        return True

    def acknowledged(self) -> None:
        """The peer has the last packet: it is not repeated any more."""
        self._left = 0


_DONE: Final[tuple[Reason, str | None]] = (Reason.DONE, None)


class Lifecycle:
    """
    Where one session is in its life.

    @ivar role: which side this is.
    @ivar state: see L{State}.
    @ivar time_wait: after the end, else None.
    """

    __slots__ = ("_ending", "_events", "_own_socket", "role", "state", "time_wait")

    def __init__(self, role: Role, events: list[tuple[Any, ...]], own_socket: bool) -> None:
        """
        @param events: is told of the end.
        @param own_socket: the socket closes with the session, so the peer has to be told
            before, and there is no TIME-WAIT behind it.
        """
        self.role = role
        self.state = State.HANDSHAKE
        self.time_wait: TimeWait | None = None
        self._ending = _DONE
        self._events = events
        self._own_socket = own_socket

    @property
    def over(self) -> bool:
        """The session has ended, for the application or altogether."""
        return self.state in OVER

    @property
    def own_socket(self) -> bool:
        """The socket closes with the session."""
        return self._own_socket

    def enter(self, state: State) -> None:
        """
        Change the state; there is no other way to do it.

        @raise AssertionError: L{TRANSITIONS} has no such way.
        """
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"no way from {self.state.name} to {state.name}")
        self.state = state

    def end(self, reason: Reason, detail: str | None, time_wait: TimeWait) -> None:
        """
        End the session, whatever its state.

        The application is told at once, but where the socket is the session's own and the
        last packet has to be sent first (L{last_packet_sent}).

        @param detail: a text for people, or None.
        """
        self.time_wait = time_wait
        self._ending = (reason, detail)
        if self._own_socket and not time_wait.finished:
            self.enter(State.CLOSING)
        else:
            self._tell_ended()

    def last_packet_sent(self) -> None:
        """The last packet may have been sent for the last time: see whether that was all."""
        if self.state is State.CLOSING and self.time_wait is not None and self.time_wait.finished:
            self._tell_ended()

    def vanish(self, detail: str) -> None:
        """End and close at once, sending nothing: the peer has begun another session."""
        if self.state not in OVER:
            self.enter(State.TIME_WAIT)
            self._events.append((Event.ENDED, Reason.FORGOTTEN, detail))
        elif self.state is State.CLOSING:
            self._tell_ended()
        self.time_wait = None
        if self.state is State.TIME_WAIT:
            self.enter(State.CLOSED)

    def tick(self, now: int) -> None:
        """See whether TIME-WAIT is over."""
        if (
            self.state is State.TIME_WAIT
            and self.time_wait is not None
            and self.time_wait.expired(now)
        ):
            self.enter(State.CLOSED)

    def deadline(self) -> int:
        """When TIME-WAIT wants L{tick} or a flush; L{NEVER} before the end and when all is over."""
        if self.time_wait is None or self.state is State.CLOSED:
            return NEVER
        return self.time_wait.deadline()

    def _tell_ended(self) -> None:
        self.enter(State.TIME_WAIT)
        self._events.append((Event.ENDED, *self._ending))
        if self._own_socket:
            self.enter(State.CLOSED)
