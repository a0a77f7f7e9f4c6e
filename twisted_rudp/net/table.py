"""The sessions of one socket, from their entry to the end of their tombstone, and the
limits of those that unknown peers open (EP-7, PORT-7)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from twisted_rudp.core.engine import Address, Key
from twisted_rudp.core.limits import network_of
from twisted_rudp.net.session import Session, SessionState


@dataclass(frozen=True)
class Limits:
    """
    What unknown peers can make a listening socket hold.

    @ivar backlog: sessions whose peer has not answered yet; what a flood of
        forged sources can occupy at a time.
    @ivar perHost: how many of those may come from one IPv4 address or IPv6 /64, so
        that a single host cannot fill the backlog.
    @ivar maxSessions: all sessions that are not over.
    @ivar handshakeTimeout: seconds after which one that has not got as far as the
        factory lapses.
    """

    backlog: int = 128
    perHost: int = 32
    maxSessions: int = 10_000
    handshakeTimeout: float = 10.0


DEFAULTS = Limits()


class Admission:
    """Counts who has been let in without proof."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._unproved: dict[Session, Hashable] = {}
        self._hosts: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._unproved)

    def refusal(self, address: Address, alive: int) -> str | None:
        """
        Why nobody from C{address} can be let in now, or None.

        @param alive: how many sessions there are.
        """
        if alive >= self.limits.maxSessions:
            return "maxSessions"
        if len(self._unproved) >= self.limits.backlog:
            return "backlog"
        if self._hosts.get(network_of(address), 0) >= self.limits.perHost:
            return "perHost"
        return None

    def room(self, alive: int) -> bool:
        """Whether somebody could be let in."""
        return alive < self.limits.maxSessions and len(self._unproved) < self.limits.backlog

    def enter(self, session: Session) -> None:
        """C{session} was let in without proof."""
        network = network_of(session.address)
        self._unproved[session] = network
        self._hosts[network] = self._hosts.get(network, 0) + 1

    def leave(self, session: Session) -> None:
        """It has proved its address or is over. Harmless when repeated."""
        network = self._unproved.pop(session, None)
        if network is None:
            return
        self._hosts[network] -= 1
        if not self._hosts[network]:
            del self._hosts[network]


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
