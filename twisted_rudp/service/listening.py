"""The base of the services that listen: sessions, counters, start and stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.endpoints.mux import MuxClientEndpoint, MuxServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.interfaces import IRUDPTransport
from twisted_rudp.net.listen import ListeningPort
from twisted_rudp.service.announce import NodeAnnouncer
from twisted_rudp.service.connectionlog import addressText
from twisted_rudp.service.places import Place


@implementer(IProtocolFactory)
class SilentFactory:
    """
    A factory with the three methods of FAC-1. C{protocol.Factory} would log each start
    and stop, and is generic only in recent versions of Twisted.
    """

    def doStart(self) -> None:
        """Does nothing."""

    def doStop(self) -> None:
        """Does nothing."""

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """A protocol for one connection, or None to refuse it."""
        raise NotImplementedError


class StartupError(SystemExit, Exception):
    """
    Ends the program at its start with one line and status 1 (SVC-4), without a traceback.

    It is an C{Exception} too: twistd reports only these to its parent process, and
    removes its pid file.
    """


def startupError(description: str, options: str, problem: CannotListenError) -> StartupError:
    """
    The error for an address that cannot be bound.

    @param description: what the service does.
    @param options: those that set the address.
    """
    where = f"port {problem.port}" if isinstance(problem.port, int) else str(problem.port)
    if problem.interface:
        where = f"{problem.interface} {where}"
    cause = problem.socketError
    reason = getattr(cause, "strerror", None) or str(cause)
    return StartupError(f"{description}: cannot listen on {where} ({options}): {reason}")


class Session(Protocol):
    """The session of a service for one accepted connection."""

    def finish(self) -> None:
        """Deliver all data received, then close."""

    def abort(self) -> None:
        """Close at once."""


class Sessions:
    """A bounded set of sessions that can be drained when the service stops."""

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        """
        @param limit: sessions at one time.
        """
        self._clock = clock
        self._limit = limit
        self._live: set[Session] = set()
        self._waiting: list[Deferred[None]] = []
        self._timeout: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._live)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return len(self._live) >= self._limit

    def add(self, session: Session) -> None:
        """Add a new session."""
        self._live.add(session)

    def remove(self, session: Session) -> None:
        """Remove an ended session."""
        self._live.discard(session)
        if not self._live:
            waiting, self._waiting = self._waiting, []
            self._setTimeout(None)
            for each in waiting:
                each.callback(None)

    def drain(self, seconds: float) -> Deferred[None]:
        """
        Finish every session, and abort those left after a time (SVC-5). Called once
        for each stop.

        @return: fires when none is left.
        """
        for session in list(self._live):
            session.finish()
        return self._ended(seconds, self._timedOut)

    def settle(self, seconds: float, drain: float) -> Deferred[None]:
        """
        Let every session end by itself, and L{drain} those left after a time.

        @return: fires when none is left.
        """
        return self._ended(seconds, lambda: self.drain(drain))

    def _ended(self, seconds: float, overdue: Callable[[], object]) -> Deferred[None]:
        if not self._live:
            return succeed(None)
        self._setTimeout(self._clock.callLater(seconds, overdue))
        ended: Deferred[None] = Deferred()
        self._waiting.append(ended)
        return ended

    def later(self, seconds: float, function: Callable[[], object]) -> IDelayedCall:
        """Call a function after a while."""
        return self._clock.callLater(seconds, function)

    def _setTimeout(self, timeout: IDelayedCall | None) -> None:
        before, self._timeout = self._timeout, timeout
        if before is not None and before.active():
            before.cancel()

    def _timedOut(self) -> None:
        for session in list(self._live):
            session.abort()


class Tally:
    """
    Counters of a service for the line it logs when it stops, and the round trip of the
    last reliable-UDP session that ended.

    @ivar counts: the service's own counters, and the sums of the counters of all its
        reliable-UDP sessions.
    """

    def __init__(self, *names: str) -> None:
        """
        @param names: counters of the service itself; shown first, in this order, even when
            they are 0.
        """
        self.counts: Counter[str] = Counter(dict.fromkeys(names, 0))
        self._roundTrip: float | None = None

    def add(self, name: str, amount: int = 1) -> None:
        """Increase a counter."""
        self.counts[name] += amount

    def absorb(self, transport: ITransport) -> None:
        """
        Add the counters of an ended session, if its transport has any. Those of a stream of a
        session are its session's, and come with that.
        """
        if IRUDPTransport.providedBy(transport) and not getattr(transport, "stream", None):
            self.counts.update(transport.counters())
            self._roundTrip = transport.facts().get("round_trip", self._roundTrip)

    def finish(self, port: Any) -> None:
        """Add counters of the port itself, before it closes."""

    def line(self) -> str:
        """All counters as C{name=value}. The round trip is in milliseconds."""
        shown = [f"{name}={value}" for name, value in self.counts.items()]
        if self._roundTrip is not None:
            shown.append(f"round_trip_ms={self._roundTrip * 1000:.1f}")
        return " ".join(shown)


def adviceFor(endpoint: object) -> list[str]:
    """What is insecure about the arguments of an endpoint, each with what to do."""
    advice = []
    if isinstance(endpoint, MuxClientEndpoint | MuxServerEndpoint):
        return adviceFor(endpoint.carrier)
    if isinstance(endpoint, QOTPServerEndpoint) and endpoint.temporaryIdentity:
        advice.append(
            "the identity key is temporary, so clients cannot recognise this server after a"
            " restart: create one with 'rudp keygen FILE' and add keyFile=FILE"
        )
    if isinstance(endpoint, QOTPClientEndpoint) and endpoint.serverKey is None:
        advice.append("the server is not authenticated: add serverKey=PUBLIC-KEY")
    if isinstance(endpoint, RakNetServerEndpoint | RakNetClientEndpoint):
        advice.append(
            "RakNet encrypts nothing: anyone on the path can read and forge data; use kcp: with a"
            " key or qotp: unless the data are encrypted already"
        )
    return advice


PATIENCE: Final = 86_400.0
"""Seconds that open sessions are given when their service retires."""


class ListeningService(Service):
    """
    Listens between start and stop. It binds before privileges are dropped (SVC-3). If the
    address cannot be bound, the program ends at its start (SVC-4). Stopping refuses new
    connections, drains the open sessions and waits for both (SVC-5). It may be started
    again afterwards (SVC-6).

    @ivar advice: what the operator should improve, logged at the start.
    @ivar place: where the endpoint listens, if that can be told.
    @ivar patience: seconds that open sessions are given when it retires.
    @ivar source: listens instead of the endpoint: it has a socket already.
    @ivar endings: called when the service stops and has drained its sessions, one after the
        other: what else is to end before the port is closed and the counters are logged.
    @ivar retirings: called when it retires: what else is to end when it is not used any more.
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
        announcer: NodeAnnouncer | None = None,
    ) -> None:
        """
        @param description: the service in words, for the log.
        @param sessions: where the factory adds its sessions.
        @param tally: the factory's counters, logged when the service stops.
        @param drain: seconds for open sessions to end.
        @param announcer: announces the node while this service listens.
        """
        self.description = description
        self._endpoint = endpoint
        self._factory = factory
        self._sessions = sessions
        self.tally = tally
        self._drain = drain
        self._announcer = announcer
        self.advice: list[str] = []
        self.endings: list[Callable[[], Deferred[None]]] = []
        self.retirings: list[Callable[[], None]] = []
        self._listening: Deferred[IListeningPort | None] | None = None
        self._port: Any = None
        self._retired: Deferred[None] | None = None
        self._closing: Deferred[Any] | None = None
        self.place: Place | None = None
        self.patience = PATIENCE
        self.source: Callable[[IStreamServerEndpoint, IProtocolFactory], Any] | None = None

    @property
    def listeningEndpoint(self) -> Any:
        """What it listens on."""
        return self._endpoint

    def listenOn(self, endpoint: IStreamServerEndpoint) -> None:
        """Listen on another endpoint. To be called before the start."""
        self._endpoint = endpoint

    def withoutAnnouncer(self) -> NodeAnnouncer | None:
        """
        Announce nothing: another process does that.

        @return: what would have announced this service.
        """
        announcer, self._announcer = self._announcer, None
        return announcer

    def privilegedStartService(self) -> None:
        """Bind before privileges are dropped. C{twist} does not call this."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listen()

    def startService(self) -> None:
        """Bind, unless L{privilegedStartService} has."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._listening is None:
            self._listen()
        self._logIdentity()

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the port is closed and no session is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        retired, self._retired = self._retired, None
        if retired is not None:
            return Deferred.fromCoroutine(self._stopRetired(retired))
        listening, self._listening = self._listening, None
        return Deferred.fromCoroutine(self._stop(listening))

    @property
    def drain(self) -> float:
        """Seconds for open sessions to end when it stops."""
        return self._drain

    @property
    def port(self) -> Any:
        """What it listens on, once it does."""
        return self._port

    @property
    def endpoint(self) -> IStreamServerEndpoint:
        """What it was made to listen on."""
        return self._endpoint

    def retire(self, seconds: float) -> Deferred[None]:
        """
        Accept nothing more, and let the open sessions end by themselves. Those left after
        a time are drained as when stopping. L{stopService} shortens that.

        @return: fires when no session is left and the port is closed.
        """
        listening, self._listening = self._listening, None
        self._retired = Deferred.fromCoroutine(self._retire(listening, seconds))
        return self._retired

    async def _retire(
        self, listening: Deferred[IListeningPort | None] | None, seconds: float
    ) -> None:
        if listening is not None:
            listening.cancel()
            await listening
        if self._announcer is not None:
            await self._announcer.end()
        for retiring in self.retirings:
            retiring()
        port = self._port
        if isinstance(port, ListeningPort):
            overdue = self._sessions.later(seconds, self._cutOff)
            await port.retire()
            if overdue.active():
                overdue.cancel()
        await self.closeOther()
        await self._sessions.settle(seconds, self._drain)
        for ending in self.endings:
            await ending()
        self._log.info(
            "{description}: retired: {tally}",
            description=self.description,
            tally=self.tally.line(),
        )

    def letGo(self) -> None:
        """
        Another owner has a copy of the TCP socket. Closing the port would shut the socket
        down for both, so its descriptor is closed before.
        """
        port = self._port
        port.stopReading()
        port.socket.close()

    def closeOther(self) -> Deferred[None]:
        """
        Close the port, if it is none that its sessions need.

        @return: a C{Deferred} of its own for each caller.
        """
        port = self._port
        if isinstance(port, ListeningPort) or not hasattr(port, "stopListening"):
            return succeed(None)
        if self._closing is None:
            self._closing = maybeDeferred(port.stopListening)
        waiting: Deferred[None] = Deferred()
        self._closing.addBoth(lambda _: waiting.callback(None))
        return waiting

    def reopen(self) -> None:
        """
        Listen again after L{closeOther}.

        @raise StartupError: the address cannot be bound.
        """
        self._closing = None
        self._listen()

    def _cutOff(self) -> None:
        """What is left is drained, then the port goes."""
        self._sessions.drain(self._drain).addCallback(lambda _: self._port.stopListening())

    async def _stopRetired(self, retired: Deferred[None]) -> None:
        await self._sessions.drain(self._drain)
        if isinstance(self._port, ListeningPort):
            await self._port.stopListening()
        await retired

    async def _stop(self, listening: Deferred[IListeningPort | None] | None) -> None:
        closing: Deferred[None] | None = None
        if listening is not None:
            listening.cancel()
            port = await listening
            if self._announcer is not None:
                await self._announcer.end()
            if port is not None:
                self.tally.finish(port)
                # The endpoint of standard input gives its connection.
                if hasattr(port, "stopListening"):
                    closing = maybeDeferred(port.stopListening)  # type: ignore[call-overload]
        await self._sessions.drain(self._drain)
        for ending in self.endings:
            await ending()
        if closing is not None:
            await closing
        self._log.info(
            "{description}: stopped: {tally}",
            description=self.description,
            tally=self.tally.line(),
        )

    def _listen(self) -> None:
        """
        @raise CannotStart: the address cannot be bound.
        @raise Exception: the endpoint failed in another way before C{listen} returned.
        """
        refused: list[Failure] = []
        failed = refused.append

        def unbound(failure: Failure) -> None:
            failed(failure)

        source, self.source = self.source, None
        if source is None:
            listening = self._endpoint.listen(self._factory)
        else:
            listening = source(self._endpoint, self._factory)
        self._listening = listening.addCallbacks(self._bound, unbound)
        failed = self._unbound
        if refused:
            self._listening = None
            problem = refused[0].value
            if isinstance(problem, CannotListenError):
                raise startupError(self.description, "--listen", problem) from problem
            if isinstance(problem, ValueError | OSError):
                raise StartupError(f"{self.description}: cannot listen: {problem}") from problem
            refused[0].raiseException()

    def _bound(self, port: IListeningPort) -> IListeningPort:
        self._port = port
        host = port.getHost()
        self._log.info(
            "{description}: listening on {host.host} port {host.port} ({host.type})"
            if isinstance(host, IPv4Address | IPv6Address)
            else "{description}: listening on {host}"
            if hasattr(port, "stopListening")
            else "{description}: reading standard input",
            description=self.description,
            host=host,
        )
        if self._announcer is not None:
            self._announcer.begin(host)
        return port

    def _logIdentity(self) -> None:
        """Log the public key, and what the operator should improve."""
        endpoint: Any = self._endpoint
        if isinstance(endpoint, MuxServerEndpoint):
            endpoint = endpoint.carrier
        if isinstance(endpoint, QOTPEndpoint):
            self._log.info(
                "{description}: public key {key}",
                description=self.description,
                key=endpoint.publicKey.hex(),
            )
        for advice in (*self.advice, *adviceFor(self._endpoint)):
            self._log.warn(
                "{description}: {advice}", description=self.description, advice=advice
            )

    def _unbound(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self._log.error(
                "{description}: cannot listen: {reason}",
                description=self.description,
                reason=failure.getErrorMessage(),
            )


class PortService(Service):
    """A service that is one port, open while it runs."""

    _port: IListeningPort | None = None

    def startService(self) -> None:
        """
        @raise StartupError: the port cannot be opened.
        """
        super().startService()  # type: ignore[no-untyped-call]
        problems: list[Failure] = []
        self._open().addCallbacks(self._bound, problems.append)
        if problems:
            problem: BaseException = problems[0].value  # type: ignore[assignment]
            raise self._refusal(problem) from problem

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the port is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        closing: Deferred[None] = maybeDeferred(port.stopListening)  # type: ignore[call-overload]
        return closing

    def _bound(self, port: IListeningPort) -> None:
        self._port = port

    def _open(self) -> Deferred[IListeningPort]:
        """Listen."""
        raise NotImplementedError

    def _refusal(self, problem: BaseException) -> StartupError:
        """What to say when that was not possible."""
        raise NotImplementedError


class PlainListeningService(PortService):
    """Listens on an endpoint with a factory of its own, between start and stop."""

    _log = Logger()

    def __init__(
        self,
        description: str,
        options: str,
        endpoint: IStreamServerEndpoint,
        factory: IProtocolFactory,
    ) -> None:
        """
        @param options: those that set the address, for the error.
        """
        self._description = description
        self._options = options
        self._endpoint = endpoint
        self._factory = factory

    def _open(self) -> Deferred[IListeningPort]:
        listening: Deferred[IListeningPort] = self._endpoint.listen(self._factory)
        return listening

    def _refusal(self, problem: BaseException) -> StartupError:
        if isinstance(problem, CannotListenError):
            return startupError(self._description, self._options, problem)
        return StartupError(f"{self._description}: cannot listen: {problem}")

    def _bound(self, port: IListeningPort) -> None:
        super()._bound(port)
        self._log.info(
            "{description}: listening on {address}",
            description=self._description,
            address=addressText(port.getHost()),
        )
