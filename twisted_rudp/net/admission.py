"""How many unknown peers come in before they have proved where they are (EP-7, PORT-7)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from twisted_rudp.core.engine import Address
from twisted_rudp.core.limits import network_of
from twisted_rudp.net.session import Session


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
