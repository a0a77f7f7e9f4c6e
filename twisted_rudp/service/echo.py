"""C{twist rudp echo}: what arrives is sent back."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.service.announce import NodeAnnouncer
from twisted_rudp.service.forward import abort
from twisted_rudp.service.listening import ListeningService, Sessions, SilentFactory, Tally


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """
    Sends everything back, and reads no faster than the peer takes it: the
    transport is its own producer. The peer's end of stream ends the connection
    after the last byte has gone back.
    """

    transport: Any

    def __init__(self, owner: EchoFactory) -> None:
        self._owner = owner

    def connectionMade(self) -> None:
        self._owner.began(self)
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self._owner.tally.add("echoed", len(data))
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.finish()

    def writeConnectionLost(self) -> None:
        """Only a full close follows, and that has been asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._owner.over(self, reason)

    def finish(self) -> None:
        """Send back what has arrived, then close."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once."""
        abort(self)


class EchoFactory(SilentFactory):
    """Makes a bounded number of L{Echo}s."""

    def __init__(self, sessions: Sessions) -> None:
        self.tally = Tally("connections", "refused", "broken", "echoed")
        self._sessions = sessions

    def buildProtocol(self, addr: IAddress | None) -> Echo | None:
        """One more, or None when there are too many (PORT-6)."""
        if self._sessions.full:
            self.tally.add("refused")
            return None
        return Echo(self)

    def began(self, echo: Echo) -> None:
        """An echo has its transport."""
        self.tally.add("connections")
        self._sessions.add(echo)

    def over(self, echo: Echo, reason: Failure) -> None:
        """An echo has lost its transport."""
        self.tally.absorb(echo.transport)
        if not isinstance(reason.value, ConnectionDone):
            self.tally.add("broken")
        # Last: a service that waits for its sessions logs the tally now.
        self._sessions.remove(echo)


class EchoService(ListeningService):
    """Echo on one endpoint."""

    def __init__(
        self,
        clock: IReactorTime,
        description: str,
        endpoint: IStreamServerEndpoint,
        *,
        limit: int,
        drain: float,
        announcer: NodeAnnouncer | None = None,
    ) -> None:
        """
        @param limit: connections at one time.
        @param drain: seconds they are given to end in order when stopping.
        @param announcer: tells others while this listens.
        """
        sessions = Sessions(clock, limit)
        factory = EchoFactory(sessions)
        super().__init__(description, endpoint, factory, sessions, factory.tally, drain, announcer)
