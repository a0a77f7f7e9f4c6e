"""C{twist rudp echo}: send received data back."""

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
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.service.announce import NodeAnnouncer
from twisted_rudp.service.connectionlog import ConnectionLog, addressText, transportText
from twisted_rudp.service.forward import abort
from twisted_rudp.service.listening import ListeningService, Sessions, SilentFactory, Tally


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """
    Sends all data back. The transport is its own producer, so it reads no faster than the
    peer does. After the peer's end of stream and the last byte, it closes.
    """

    transport: Any

    def __init__(self, owner: EchoFactory) -> None:
        self._owner = owner
        self.number = 0
        self.began = 0.0
        self.received = 0
        self.peer: dict[str, str] = {}

    def connectionMade(self) -> None:
        self._owner.began(self)
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self._owner.tally.add("echoed", len(data))
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.finish()

    def writeConnectionLost(self) -> None:
        """A full close was requested already."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._owner.over(self, reason)

    def finish(self) -> None:
        """Send received data back, then close."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once."""
        abort(self)


class EchoFactory(SilentFactory):
    """Makes a bounded number of L{Echo}s."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, description: str, sessions: Sessions) -> None:
        self.tally = Tally("connections", "refused", "broken", "echoed")
        self._clock = clock
        self._connections = ConnectionLog(clock, self._log, description)
        self._sessions = sessions

    def buildProtocol(self, addr: IAddress | None) -> Echo | None:
        """A new L{Echo}; None at the limit of connections (PORT-6)."""
        if self._sessions.full:
            self.tally.add("refused")
            return None
        return Echo(self)

    def began(self, echo: Echo) -> None:
        """An echo is connected."""
        self.tally.add("connections")
        echo.number = self.tally.counts["connections"]
        echo.began = self._clock.seconds()
        self._sessions.add(echo)
        transport = echo.transport
        echo.peer = {
            "peer": addressText(transport.getPeer()),
            "transport": transportText(transport),
        }
        self._connections.opened(echo.number, **echo.peer)

    def over(self, echo: Echo, reason: Failure) -> None:
        """An echo is disconnected."""
        self.tally.absorb(echo.transport)
        if not isinstance(reason.value, ConnectionDone):
            self.tally.add("broken")
        self._connections.closed(
            echo.number,
            duration=self._clock.seconds() - echo.began,
            reason=reason.getErrorMessage(),
            received=echo.received,
            **echo.peer,
        )
        # Last: a service that waits for its sessions logs the tally from here.
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
        @param drain: seconds for open connections to end when the service stops.
        @param announcer: announces the node while this service listens.
        """
        sessions = Sessions(clock, limit)
        factory = EchoFactory(clock, description, sessions)
        super().__init__(description, endpoint, factory, sessions, factory.tally, drain, announcer)
