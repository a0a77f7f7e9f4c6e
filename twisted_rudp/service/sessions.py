"""
The live sessions of a service: how many there may be, and how they end when the
service stops.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Session(Protocol):
    """What a service holds for one accepted connection."""

    def finish(self) -> None:
        """End in order: deliver what was taken in, then close."""

    def abort(self) -> None:
        """End now."""


class Sessions:
    """A bounded set of sessions that can be drained."""

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        """
        @param limit: how many there may be at one time.
        """
        self._clock = clock
        self._limit = limit
        self._live: set[Session] = set()
        self._empty: Deferred[None] | None = None
        self._patience: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._live)

    @property
    def full(self) -> bool:
        """One more would be too many."""
        return len(self._live) >= self._limit

    def add(self, session: Session) -> None:
        """A session has begun."""
        self._live.add(session)

    def remove(self, session: Session) -> None:
        """A session has ended, whatever the reason."""
        self._live.discard(session)
        if not self._live and self._empty is not None:
            empty, self._empty = self._empty, None
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            empty.callback(None)

    def drain(self, seconds: float) -> Deferred[None]:
        """
        Finish every session, and abort those that are left after a while
        (SVC-5). Called once per stop.

        @return: fires when none is left.
        """
        for session in list(self._live):
            session.finish()
        if not self._live:
            return succeed(None)
        self._empty = Deferred()
        self._patience = self._clock.callLater(seconds, self._impatient)
        return self._empty

    def _impatient(self) -> None:
        self._patience = None
        for session in list(self._live):
            session.abort()
