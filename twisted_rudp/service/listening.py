"""A service that listens on one stream endpoint and stops in order."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp.service.announcing import Announcer
from twisted_rudp.service.sessions import Sessions
from twisted_rudp.service.starting import cannotStart
from twisted_rudp.service.tally import Tally


class ListeningService(Service):
    """
    Listens between start and stop. Binding happens before privileges are
    dropped (SVC-3); a port that cannot be had ends the program at start
    (SVC-4); stopping refuses new peers, drains the live sessions and waits for
    both (SVC-5). It may be started again afterwards (SVC-6).
    """

    _log = Logger()

    def __init__(
        self,
        description: str,
        endpoint: IStreamServerEndpoint,
        factory: IProtocolFactory,
        sessions: Sessions,
        tally: Tally,
        drain: float,
        announcer: Announcer | None = None,
    ) -> None:
        """
        @param description: what this service does, for the log.
        @param sessions: where the factory enters its sessions.
        @param tally: what the factory has counted, logged when stopped.
        @param drain: seconds that sessions are given to end in order.
        @param announcer: tells others while this listens.
        """
        self.description = description
        self._endpoint = endpoint
        self._factory = factory
        self._sessions = sessions
        self.tally = tally
        self._drain = drain
        self._announcer = announcer
        self._listening: Deferred[IListeningPort | None] | None = None

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind everything. C{twist} leaves this out."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listen()

    def startService(self) -> None:
        """Bind, unless L{privilegedStartService} has."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._listening is None:
            self._listen()

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the port is closed and no session is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        listening, self._listening = self._listening, None
        return Deferred.fromCoroutine(self._stop(listening))

    async def _stop(self, listening: Deferred[IListeningPort | None] | None) -> None:
        closing: Deferred[None] | None = None
        if listening is not None:
            listening.cancel()
            port = await listening
            if self._announcer is not None:
                await self._announcer.end()
            if port is not None:
                closing = maybeDeferred(port.stopListening)  # type: ignore[call-overload]
        await self._sessions.drain(self._drain)
        if closing is not None:
            await closing
        self._log.info(
            "{description}: stopped: {tally}",
            description=self.description,
            tally=self.tally.line(),
        )

    def _listen(self) -> None:
        """
        @raise CannotStart: the address cannot be had.
        @raise Exception: the endpoint failed otherwise before C{listen} returned.
        """
        refused: list[Failure] = []
        failed = refused.append

        def unbound(failure: Failure) -> None:
            failed(failure)

        listening = self._endpoint.listen(self._factory)
        self._listening = listening.addCallbacks(self._bound, unbound)
        failed = self._unbound
        if refused:
            self._listening = None
            problem = refused[0].value
            if isinstance(problem, CannotListenError):
                raise cannotStart(self.description, "--listen", problem) from problem
            refused[0].raiseException()

    def _bound(self, port: IListeningPort) -> IListeningPort:
        host = port.getHost()
        self._log.info(
            "{description}: listening on {host.host} port {host.port} ({host.type})"
            if isinstance(host, IPv4Address | IPv6Address)
            else "{description}: listening on {host}",
            description=self.description,
            host=host,
        )
        if self._announcer is not None:
            self._announcer.begin(host)
        return port

    def _unbound(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self._log.error(
                "{description}: cannot listen: {reason}",
                description=self.description,
                reason=failure.getErrorMessage(),
            )
