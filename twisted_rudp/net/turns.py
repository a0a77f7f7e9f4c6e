"""
When the sessions of a socket are flushed: at the end of a read turn, or in a turn of
their own that one zero-delay call starts.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rudp.net.schedule import MonotonicClock
from twisted_rudp.net.session import Session, SessionState

# A name of this module: it is needed for each session and turn.
_GONE = SessionState.GONE


class Turns:
    """
    What is to be done in this turn, in the next, and when the port is writable.

    @ivar number: how many flushes there were; tells one turn from the next.
    @ivar running: a turn is going on; whoever sets it ends the turn with L{flush}.
    @ivar full: the port has said that it takes no more until it is writable.
    """

    def __init__(self, reactor: IReactorTime, clock: MonotonicClock) -> None:
        self._reactor = reactor
        self._clock = clock
        self.number = 0
        self.full = False
        self.running = False
        self._stopped = False
        self._dirty: list[Session] = []
        self._next: list[Session] = []
        self._blocked: dict[Session, None] = {}
        self._later: list[tuple[Session, Callable[[], None]]] = []
        self._call: IDelayedCall | None = None

    def begin(self) -> int:
        """
        A turn has begun, or goes on; whoever did that ends it with C{flush}.

        @return: the time.
        """
        self.running = True
        return self._clock.now()

    def touch(self, session: Session) -> None:
        """Flush this session at the end of the turn; if there is none, start one soon."""
        if session.dirty or self._stopped:
            return
        session.dirty = True
        self._dirty.append(session)
        if not self.running:
            self._schedule()

    def again(self, session: Session) -> None:
        """Visit this session in the next turn, after those that wait already."""
        self._next.append(session)
        if not self.running:
            self._schedule()

    def later(self, session: Session, function: Callable[[], None]) -> None:
        """Call C{function} in a later turn, never in this one (ORD-2)."""
        if not self._stopped:
            self._later.append((session, function))
            self._schedule()

    def block(self, session: Session) -> None:
        """Flush this session when the port is writable."""
        self._blocked[session] = None

    def forget(self, session: Session) -> None:
        """It has left; nothing of it waits for the port."""
        self._blocked.pop(session, None)

    def writable(self) -> None:
        """The port takes runs again: flush what it stopped."""
        self.full = False
        self.begin()
        blocked, self._blocked = self._blocked, {}
        for session in blocked:
            self.touch(session)
        self.flush(self._clock.now())

    def flush(self, now: int) -> None:
        """
        End a turn: visit every dirty session once. What becomes dirty meanwhile, and
        what its budget stopped, is for the next turn.
        """
        self.running = True
        self.number += 1
        queue, self._dirty = self._dirty, []
        for session in queue:
            session.dirty = False
            if session.state is not _GONE:
                session.visit(now)
        self.running = False
        if self._dirty or self._next:
            self._schedule()

    def stop(self) -> None:
        """Let go of everything; nothing is scheduled any more."""
        self._stopped = True
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        for kept in (self._dirty, self._next, self._blocked, self._later):
            kept.clear()

    def _schedule(self) -> None:
        if self._call is None and not self._stopped:
            self._call = self._reactor.callLater(0, self._start)

    def _start(self) -> None:
        """A turn of our own: what was kept for later, then all that is dirty."""
        self._call = None
        self.begin()
        later, self._later = self._later, []
        for session, function in later:
            session.call(function)
        waiting, self._next = self._next, []
        for session in waiting:
            self.touch(session)
        self.flush(self._clock.now())
