"""
C{twist rudp forward}: every connection accepted on one endpoint is carried over
a connection dialled to another, whatever transports the two are.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp.service.announcing import Announcer
from twisted_rudp.service.complaints import Complaints
from twisted_rudp.service.factories import QuietFactory
from twisted_rudp.service.listening import ListeningService
from twisted_rudp.service.relay import Relay, Side
from twisted_rudp.service.sessions import Sessions
from twisted_rudp.service.tally import Tally


class ForwardFactory(QuietFactory):
    """Makes a L{Relay} for each accepted connection."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        description: str,
        far: IStreamClientEndpoint,
        sessions: Sessions,
    ) -> None:
        """
        @param description: the two ends in words, for the log.
        """
        self.tally = Tally("connections", "refused", "unreachable", "broken", "forth", "back")
        self._description = description
        self._far = far
        self._sessions = sessions
        self._complaints = Complaints(clock, self._log)

    def buildProtocol(self, addr: IAddress | None) -> Side | None:
        """The near side of a new relay, or None when there are too many (PORT-6)."""
        if self._sessions.full:
            self.tally.add("refused")
            self._complaints.complain(self._description, "too many connections, one refused")
            return None
        self.tally.add("connections")
        relay = Relay(self._far, self._unreachable, self._over)
        self._sessions.add(relay)
        return relay.near

    def _unreachable(self, failure: Failure) -> None:
        self.tally.add("unreachable")
        self._complaints.complain(
            self._description, f"cannot reach the far side: {failure.getErrorMessage()}"
        )

    def _over(self, relay: Relay, reason: Failure) -> None:
        self.tally.add("forth", relay.near.received)
        self.tally.add("back", relay.far.received)
        for side in (relay.near, relay.far):
            if side.transport is not None:
                self.tally.absorb(side.transport)
        if not isinstance(reason.value, ConnectionDone):
            self.tally.add("broken")
        self._log.debug(
            "{description}: over after {forth} bytes forth and {back} back: {reason}",
            description=self._description,
            forth=relay.near.received,
            back=relay.far.received,
            reason=reason.getErrorMessage(),
        )
        # Last: a service that waits for its sessions logs the tally now.
        self._sessions.remove(relay)


class ForwardService(ListeningService):
    """One pair of endpoints."""

    def __init__(
        self,
        clock: IReactorTime,
        description: str,
        near: IStreamServerEndpoint,
        far: IStreamClientEndpoint,
        *,
        limit: int,
        drain: float,
        announcer: Announcer | None = None,
    ) -> None:
        """
        @param limit: connections at one time.
        @param drain: seconds they are given to end in order when stopping.
        @param announcer: tells others while this listens.
        """
        sessions = Sessions(clock, limit)
        factory = ForwardFactory(clock, description, far, sessions)
        super().__init__(description, near, factory, sessions, factory.tally, drain, announcer)
