"""The sessions of one socket, from their entry to the end of their tombstone."""

from __future__ import annotations

from collections.abc import Callable

from twisted_rudp.core.engine import Address, Key
from twisted_rudp.net.admission import Admission, Limits
from twisted_rudp.net.session import Session, SessionState

MAX_TOMBSTONES = 4096
"""Sessions that are over and still answered; the oldest goes first."""


class Roster:
    """Who is found under which key, who is alive, who has been let in without proof."""

    def __init__(
        self,
        limits: Limits,
        dropped: Callable[[Session], None],
        count: Callable[[str], None],
    ) -> None:
        """
        @param dropped: called with each session that is forgotten for good.
        @param count: counts something under a name.
        """
        self.byKey: dict[Key | None, Session] = {}
        self.admission = Admission(limits)
        self._dropped = dropped
        self._count = count
        self._alive: dict[Session, None] = {}
        self._tombstones: dict[Session, None] = {}

    def alive(self) -> list[Session]:
        """The sessions that are not over."""
        return list(self._alive)

    def at(self, address: Address) -> list[Session]:
        """Those of them whose peer is at C{address}."""
        return [session for session in self._alive if session.address == address]

    def enter(self, session: Session) -> None:
        """A session begins."""
        self._alive[session] = None
        self.reindex(session)

    def reindex(self, session: Session) -> None:
        """
        The session's keys may have changed. A key that another session holds stays
        there: the newcomer is counted and does not get it.
        """
        self._unindex(session)
        session.keys = tuple(session.engine.keys())
        for key in session.keys:
            if self.byKey.setdefault(key, session) is not session:
                self._count("keyTaken")

    def refusal(self, address: Address) -> str | None:
        """Why nobody from C{address} can be let in now, or None."""
        return self.admission.refusal(address, len(self._alive))

    @property
    def room(self) -> bool:
        """Whether one more session would be let in, its host aside."""
        return self.admission.room(len(self._alive))

    def ended(self, session: Session) -> None:
        """The session is over and no tombstone is wanted."""
        self._alive.pop(session, None)
        self.admission.leave(session)

    def bury(self, session: Session) -> None:
        """The session is over; its tombstone stays for what still comes."""
        self.ended(session)
        self._tombstones[session] = None
        if len(self._tombstones) > MAX_TOMBSTONES:
            self.drop(next(iter(self._tombstones)))

    def drop(self, session: Session) -> None:
        """Forget a session for good."""
        if session.state is SessionState.GONE:
            return
        session.state = SessionState.GONE
        self._tombstones.pop(session, None)
        self._unindex(session)
        self._dropped(session)

    def clear(self) -> None:
        """Forget all, without a word."""
        for session in self._tombstones:
            session.state = SessionState.GONE
        self.byKey.clear()
        self._alive.clear()
        self._tombstones.clear()

    def counters(self) -> dict[str, int]:
        return {
            "alive": len(self._alive),
            "unproved": len(self.admission),
            "tombstones": len(self._tombstones),
        }

    def _unindex(self, session: Session) -> None:
        for key in session.keys:
            if self.byKey.get(key) is session:
                del self.byKey[key]
