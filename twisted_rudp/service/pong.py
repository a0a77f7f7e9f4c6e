"""C{twist rudp raknet-pong}: answer RakNet pings without a game server."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from twisted_rudp.service.listening import ListeningService, Sessions, SilentFactory, Tally
from twisted_rudp.stats import ports


@implementer(IStreamServerEndpoint)
class _OnlyPings:
    """A server endpoint that accepts no connections."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Answer pings; the factory is not used."""
        answering: Deferred[IListeningPort] = self._endpoint.answerPings()
        return answering


class PongService(ListeningService):
    """Answers pings on one endpoint."""

    def __init__(self, clock: IReactorTime, description: str, endpoint: Any) -> None:
        """
        @param endpoint: an L{IAnswersPings<twisted_rudp.interfaces.IAnswersPings>}.
        """
        self._pinged = endpoint
        sessions = Sessions(clock, 1)
        super().__init__(
            description, _OnlyPings(endpoint), SilentFactory(), sessions, _PongTally(), 0.0
        )


    @property
    def listeningEndpoint(self) -> Any:
        """The endpoint of the transport."""
        return self._pinged

    def listenOn(self, endpoint: Any) -> None:
        """See L{ListeningService.listenOn}."""
        super().listenOn(_OnlyPings(endpoint))


class _PongTally(Tally):
    """The counters of the port, as there are no sessions."""

    def finish(self, port: Any) -> None:
        for each in ports.snapshot().ports:
            if each.host == port.getHost():
                self.counts.update(each.counters)
        self.counts = +self.counts
