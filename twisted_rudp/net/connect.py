"""Connecting: resolve, race the addresses, time out, cancel (CONN-1 to CONN-8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any, Final, Generic, TypeAlias, TypeVar

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, Capability, Demultiplexer, Engine, Reason
from twisted_rudp.errors import AuthenticationFailed, Phase, failureFor
from twisted_rudp.net.addresses import (
    familyOf,
    hostText,
    isOwn,
    reachable,
    resolve,
    shownAs,
    toTwisted,
)
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.messages import MessageTransport
from twisted_rudp.net.multiplex import MultiplexTransport
from twisted_rudp.net.schedule import MonotonicClock
from twisted_rudp.net.session import Session
from twisted_rudp.net.stream import StreamTransport
from twisted_rudp.net.transport import SessionTransport
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import DatagramPort, SocketOptions
from twisted_rudp.net.udp.reactors import IPortReactor
from twisted_rudp.net.usercode import callUser, callUserLogged

MakeSession: TypeAlias = Callable[[Address, int], tuple[Demultiplexer, Engine]]

ATTEMPT_DELAY: Final = 0.3
"""Seconds until the next address is tried as well (RFC 8305 recommends 0.25)."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a session nobody wanted has for its polite end (CONN-4)."""

NO_ANSWER: Final = (
    f"{Reason.HANDSHAKE_TIMEOUT.value}; perhaps the address is wrong, a firewall drops UDP, or the"
    " two ends have different keys or settings: 'rudp doctor ENDPOINT' tries to find out"
)
"""Most peers are silent to what they cannot read, so no more is known."""

_Where = TypeVar("_Where")
_Attempt = TypeVar("_Attempt")


class Mode(StrEnum):
    """What a factory's protocols are to be given."""

    STREAM = "stream"
    """Bytes, as TCP."""

    MESSAGES = "messages"
    """Messages; the protocols provide
    L{IMessageProtocol<twisted_rudp.interfaces.IMessageProtocol>}."""


def makeTransport(
    session: Session,
    mode: Mode,
    host: IPv4Address | IPv6Address,
    lost: Callable[[], None] | None,
) -> SessionTransport:
    """
    The transport for what the engine can do.

    @raise ValueError: it cannot do what C{mode} wants.
    """
    capabilities = session.engine.capabilities
    if mode is Mode.MESSAGES:
        wanted = Capability.MESSAGES
    elif Capability.STREAMS in capabilities:
        return MultiplexTransport(session, host, lost)
    else:
        wanted = Capability.BYTES
    if wanted not in capabilities:
        raise ValueError(f"this transport has no mode {mode.value!r}")
    if mode is Mode.MESSAGES:
        return MessageTransport(session, host, lost)
    return StreamTransport(session, host, lost)


@dataclass(frozen=True)
class ConnectSettings:
    """
    How to dial, the same for every address.

    @ivar session: makes demultiplexer and engine for a raw address and the present time,
        fresh for each attempt.
    @ivar timeout: seconds for one attempt, from its first datagram (CONN-7).
    @ivar bindAddress: our own literal and port.
    @ivar shared: hub and port to dial from; None: each attempt has a socket of its own.
    """

    session: MakeSession
    timeout: float = 30
    bindAddress: tuple[str, int] = ("", 0)
    attemptDelay: float = ATTEMPT_DELAY
    portKind: str = "auto"
    socketOptions: SocketOptions = field(default_factory=SocketOptions)
    mode: Mode = Mode.STREAM
    shared: tuple[Hub, DatagramPort] | None = None


class ConnectAttempt:
    """
    The first owner of a dialled session.

    @ivar address: raw, of the peer.
    @ivar port: the socket, once there is one. It is closed with the session if it was
        opened for that.
    """

    def __init__(
        self,
        reactor: IPortReactor,
        settings: ConnectSettings,
        address: Address,
        connected: Callable[[ConnectAttempt, Session], None],
        failed: Callable[[ConnectAttempt, Failure], None],
    ) -> None:
        """
        @param connected: called when the peer is there.
        @param failed: called when it is certain that it will not be, with the socket
            closed.
        """
        self.address = reachable(address)
        self.port: DatagramPort | None = None
        self._reactor = reactor
        self._settings = settings
        self._connected = connected
        self._failed = failed
        self._hub: Hub | None = None
        self._session: Session | None = None
        self._timer: IDelayedCall | None = None
        self._failure: Failure | None = None

    def start(self) -> None:
        """
        Open the socket and dial.

        @raise Exception: what stood in the way; C{failed} is not called then.
        """
        settings = self._settings
        if settings.shared is None:
            self._openSocket()
        else:
            self._useSocket(*settings.shared)
        self._timer = self._reactor.callLater(settings.timeout, self._timedOut)

    def _useSocket(self, hub: Hub, port: DatagramPort) -> None:
        """Dial from a socket that others use too."""
        host = port.getHost()
        if familyOf(host.host) != familyOf(self.address[0]):
            raise _bindError(None, f"{host.host} cannot reach {self.address[0]}")
        if self.address[1] == host.port and isOwn(self.address[0], host.host, self._reactor):
            raise _bindError(None, "a port cannot connect to itself")
        self.port = port
        _, engine = self._settings.session(self.address, hub.now())
        self._session = hub.dial(engine, self.address, self)

    def _openSocket(self) -> None:
        settings = self._settings
        interface, number = settings.bindAddress
        if not interface and len(self.address) > 2:
            interface = "::"
        if interface and familyOf(interface) != familyOf(self.address[0]):
            text = f"{interface} cannot reach {self.address[0]}"
            raise _bindError(None, text)
        clock = MonotonicClock(self._reactor)
        demux, engine = settings.session(self.address, clock.now())
        hub = Hub(self._reactor, demux, clock=clock)
        try:
            self.port = openPort(
                self._reactor,
                hub,
                interface,
                number,
                kind=settings.portKind,
                options=settings.socketOptions,
                answers=False,
            )
        except error.CannotListenError as problem:
            cause = problem.socketError
            raise _bindError(getattr(cause, "errno", None), str(cause)) from problem
        hub.attach(self.port)
        self._hub = hub
        host = self.port.getHost()
        if self.address[1] == host.port and isOwn(self.address[0], host.host, self._reactor):
            # Nobody else listens there, or the number would not have been free.
            hub.close()
            raise _bindError(None, "a port cannot connect to itself")
        self._session = hub.dial(engine, self.address, self)

    def abandon(self) -> Deferred[None]:
        """
        Tell the peer, close the socket if it is our own, tell nobody else.

        @return: when that is done.
        """
        self.stopTimer()
        session = self._session
        if session is None:
            return succeed(None)
        session.owner = None
        session.expel(Reason.ABORTED, None)
        return succeed(None) if self._hub is None else self._hub.close()

    def giveUp(self, failure: Failure) -> None:
        """
        The peer is there and nobody wants it: close politely, then fail with
        C{failure} (CONN-4).
        """
        self.stopTimer()
        self._failure = failure
        if self._session is not None:
            self._session.close()
            self._timer = self._reactor.callLater(CLOSE_TIMEOUT, self._timedOut)

    def stopTimer(self) -> None:
        """Harmless when none runs."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _timedOut(self) -> None:
        if self._session is not None:
            self._session.expel(Reason.HANDSHAKE_TIMEOUT, NO_ANSWER)

    # the session's owner

    def sessionConnected(self, session: Session, early: bool) -> None:
        self.stopTimer()
        self._connected(self, session)

    def sessionReadable(self, stream: int | None) -> None:
        """Of a session that nobody wanted."""

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        """Of a session that nobody wanted."""

    @property
    def disconnecting(self) -> bool:
        """The peer is there and nobody wants it."""
        return self._failure is not None

    def sessionShutdown(self, session: Session) -> None:
        """Nobody will be there to be connected."""
        session.expel(Reason.SOCKET_LOST, "the reactor stops")

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        self.stopTimer()
        self._failed(self, self._failure or failureFor(reason, detail, Phase.CONNECTING))


class Race(Generic[_Where, _Attempt]):
    """
    Addresses dialled one after the other, each some time after the last or when one has
    failed. What an attempt is, and when one has won, is the owner's.

    @ivar attempts: those that are going on; C{dial} appends.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        delay: float,
        dial: Callable[[_Where], None],
        more: Callable[[], None] | None = None,
    ) -> None:
        """
        @param delay: seconds until the next one is dialled as well.
        @param dial: begins an attempt.
        @param more: called before each choice; may L{enter} what has become known. With it
            the race waits for more for as long as it is not finished.
        """
        self.attempts: list[_Attempt] = []
        self._reactor = reactor
        self._delay = delay
        self._dial = dial
        self._more = more
        self._waiting: deque[_Where] = deque()
        self._timer: IDelayedCall | None = None

    def enter(self, addresses: Iterable[_Where]) -> bool:
        """
        Line up addresses behind those that wait.

        @return: whether any wait now.
        """
        self._waiting.extend(addresses)
        return bool(self._waiting)

    def dialNext(self) -> None:
        """Dial one more address, if there is one."""
        self._stopTimer()
        if self._more is not None:
            self._more()
        elif not self._waiting:
            return
        address = self._waiting.popleft() if self._waiting else None
        if self._waiting or self._more is not None:
            self._timer = self._reactor.callLater(self._delay, self.dialNext)
        if address is not None:
            self._dial(address)

    def failed(self, attempt: _Attempt) -> bool:
        """
        An attempt has failed: dial the next at once.

        @return: the race goes on.
        """
        if attempt in self.attempts:
            self.attempts.remove(attempt)
        if self._more is not None:
            self._more()
        if self._waiting:
            self.dialNext()
            return True
        if not self.attempts:
            self._stopTimer()
        return bool(self.attempts)

    def finish(self, winner: _Attempt | None = None) -> list[_Attempt]:
        """
        Dial no more.

        @return: the attempts that are going on, without the winner.
        """
        self._stopTimer()
        self._waiting.clear()
        others = [attempt for attempt in self.attempts if attempt is not winner]
        self.attempts = [] if winner is None else [winner]
        return others

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


class _State(Enum):
    RESOLVING = auto()
    """No address is known; the factory knows of nothing."""

    RACING = auto()
    """Addresses are being dialled."""

    WON = auto()
    """One peer is there; the others are given up."""

    DONE = auto()
    """The Deferred has fired or is firing."""


class _Started:
    """A factory that was told of the start of an attempt. All that a connection keeps of it."""

    __slots__ = ("_factory",)

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory: IProtocolFactory | None = factory
        callUserLogged(factory.doStart)

    def stop(self) -> None:
        """Tell it of the end, once."""
        factory, self._factory = self._factory, None
        if factory is not None:
            callUserLogged(factory.doStop)


class Connecting:
    """
    One call of L{connect}.

    @ivar deferred: what the caller waits for.
    """

    def __init__(
        self,
        reactor: IPortReactor,
        factory: IProtocolFactory,
        host: str,
        port: int,
        settings: ConnectSettings,
    ) -> None:
        self.deferred: Deferred[IProtocol] = Deferred(self._cancelled)
        self._reactor = reactor
        self._factory = factory
        self._host = host
        self._number = port
        self._settings = settings
        self._state = _State.RESOLVING
        self._started: _Started | None = None
        self._race: Race[Address, ConnectAttempt] = Race(
            reactor, settings.attemptDelay, self._dial
        )
        self._transport: SessionTransport | None = None

    def start(self) -> None:
        """Begin with the name."""
        outcome = callUser(resolve, self._reactor, self._host, self._number, self._resolved)
        if isinstance(outcome, Failure) and self._state is _State.RESOLVING:
            self._fail(outcome)

    # racing

    def _resolved(self, addresses: list[Address]) -> None:
        if self._state is not _State.RESOLVING:
            return
        if not addresses:
            self._fail(_failure(error.DNSLookupError(f"no address for {self._host!r}")))
            return
        self._state = _State.RACING
        self._started = _Started(self._factory)
        self._race.enter(addresses)
        self._race.dialNext()

    def _dial(self, address: Address) -> None:
        """
        Dial one address; the next after it when C{attemptDelay} is over or this one has
        failed (CONN-8).
        """
        dialled = ConnectAttempt(
            self._reactor, self._settings, address, self._connected, self._failed
        )
        self._race.attempts.append(dialled)
        outcome = callUser(dialled.start)
        if isinstance(outcome, Failure):
            self._failed(dialled, outcome)

    def _failed(self, dialled: ConnectAttempt, failure: Failure) -> None:
        """One address has failed, or the peer that won is closed after all."""
        if dialled not in self._race.attempts:
            # It was given up while its socket was being closed.
            return
        if isinstance(failure.value, AuthenticationFailed):
            # The host has answered. Its other addresses would say the same, or nothing.
            for other in self._race.finish(dialled):
                other.abandon()
            self._race.finish()
            self._fail(failure)
        elif not self._race.failed(dialled):
            self._fail(failure)

    def _connected(self, winner: ConnectAttempt, session: Session) -> None:
        """The first peer is there: drop the others, then ask the factory (CONN-1)."""
        self._state = _State.WON
        for loser in self._race.finish(winner):
            loser.abandon()
        protocol = callUser(self._factory.buildProtocol, toTwisted(winner.address))
        if self._state is not _State.WON:
            return
        if protocol is None:
            protocol = _failure(error.NoProtocol())
        if isinstance(protocol, Failure):
            winner.giveUp(protocol)
        else:
            self._make(winner, session, protocol)

    def _make(self, winner: ConnectAttempt, session: Session, protocol: Any) -> None:
        """Give the connection to its protocol and the protocol to the caller."""
        if winner.port is None:
            raise RuntimeError("a session without a socket has connected")
        host = winner.port.getHost()
        lost = None if self._started is None else self._started.stop
        made = callUser(makeTransport, session, self._settings.mode, host, lost)
        if isinstance(made, Failure):
            winner.giveUp(made)
            return
        self._transport = session.owner = made
        self._race.finish()
        made.makeConnection(protocol)
        if self._state is not _State.WON:
            return
        self._state = _State.DONE
        self._transport = None
        if made.failure is None:
            self.deferred.callback(protocol)
        else:
            self.deferred.errback(made.failure)

    # the end

    def _fail(self, failure: Failure) -> None:
        self._state = _State.DONE
        self._stopFactory()
        self.deferred.errback(failure)

    def _cancelled(self, deferred: Deferred[IProtocol]) -> None:
        """Whatever the state: let go of everything, nothing is built any more (CONN-5)."""
        self._state = _State.DONE
        for each in self._race.finish():
            each.abandon()
        if self._transport is not None:
            self._transport.abortConnection()
        else:
            self._stopFactory()
        address = shownAs(self._host, self._number)
        deferred.errback(error.ConnectingCancelledError(address))  # type: ignore[no-untyped-call]

    def _stopFactory(self) -> None:
        if self._started is not None:
            self._started.stop()


def connect(
    reactor: IPortReactor,
    factory: IProtocolFactory,
    host: str | bytes,
    port: int,
    *,
    session: MakeSession,
    timeout: float = 30,
    bindAddress: Any = None,
    attemptDelay: float = ATTEMPT_DELAY,
    portKind: str = "auto",
    socketOptions: SocketOptions | None = None,
    mode: str = Mode.STREAM,
    shared: tuple[Hub, DatagramPort] | None = None,
) -> Deferred[IProtocol]:
    """
    Dial a host and give the connection to a protocol. Never raises (EP-1).

    @param host: a name, or an IP literal, which is not looked up (NAME-2).
    @param session: makes demultiplexer and engine for a raw address and the present time;
        called once for each address that is tried.
    @param timeout: seconds for each address, from its first datagram.
    @param bindAddress: None, a literal, a tuple of literal and port, or what
        C{twisted.internet.tcp.makeBinding} gives (EP-5).
    @param attemptDelay: seconds until the next address is tried as well.
    @param portKind: see L{openPort}.
    @param mode: a L{Mode}.
    @param shared: hub and port to dial from, instead of sockets of their own.

    @return: the protocol that C{factory} built; the failures are those of CONN-6.
        Cancelling it at any time is harmless.
    """

    def begin() -> Connecting:
        settings = ConnectSettings(
            session,
            timeout,
            binding(bindAddress),
            attemptDelay,
            portKind,
            socketOptions or SocketOptions(),
            Mode(mode),
            shared,
        )
        return Connecting(reactor, factory, hostText(host), port, settings)

    connecting = callUser(begin)
    if isinstance(connecting, Failure):
        failed: Deferred[IProtocol] = Deferred()
        failed.errback(connecting)
        return failed
    deferred: Deferred[IProtocol] = connecting.deferred
    connecting.start()
    return deferred


def binding(bindAddress: Any) -> tuple[str, int]:
    """
    @raise ValueError: none of the forms that EP-5 names.
    """
    if bindAddress is None:
        return ("", 0)
    if isinstance(bindAddress, str | bytes):
        bindAddress = (bindAddress, 0)
    elif not isinstance(bindAddress, tuple):
        # Twisted's Binding keeps what it describes to itself.
        bindAddress = (
            getattr(bindAddress, "_address", bindAddress),
            getattr(bindAddress, "_port", 0),
        )
    host, number = bindAddress
    if isinstance(host, bytes):
        host = host.decode("ascii")
    if not isinstance(host, str) or not isinstance(number, int):
        raise ValueError(f"{bindAddress!r} is no address to bind to")
    return (host, number)


def _failure(problem: Exception) -> Failure:
    return Failure(problem)  # type: ignore[no-untyped-call]


def _bindError(number: int | None, text: str) -> error.ConnectBindError:
    return error.ConnectBindError(number, text)  # type: ignore[no-untyped-call]
