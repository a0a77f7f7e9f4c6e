"""Connecting: resolve, race the addresses, time out, cancel (CONN-1 to CONN-8)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.attempt import Attempt, Dialling, MakeSession
from twisted_rudp.net.fence import callApplication, outcomeOf
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.making import Mode, makeTransport
from twisted_rudp.net.port import DatagramPort, IPortReactor, SocketOptions
from twisted_rudp.net.resolving import hostText, resolve, shownAs
from twisted_rudp.net.session import Session
from twisted_rudp.net.transport import SessionTransport


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
        callApplication(factory.doStart)

    def stop(self) -> None:
        """Tell it of the end, once."""
        factory, self._factory = self._factory, None
        if factory is not None:
            callApplication(factory.doStop)


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
        dialling: Dialling,
    ) -> None:
        self.deferred: Deferred[IProtocol] = Deferred(self._cancelled)
        self._reactor = reactor
        self._factory = factory
        self._host = host
        self._number = port
        self._dialling = dialling
        self._state = _State.RESOLVING
        self._started: _Started | None = None
        self._waiting: list[Address] = []
        self._attempts: list[Attempt] = []
        self._delay: IDelayedCall | None = None
        self._transport: SessionTransport | None = None

    def start(self) -> None:
        """Begin with the name."""
        outcome = outcomeOf(resolve, self._reactor, self._host, self._number, self._resolved)
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
        self._waiting.extend(addresses)
        self._dialNext()

    def _dialNext(self) -> None:
        """
        Dial one more address; the next after it when C{attemptDelay} is over or this
        one has failed (CONN-8).
        """
        self._stopDelay()
        dialled = Attempt(
            self._reactor, self._dialling, self._waiting.pop(0), self._connected, self._failed
        )
        self._attempts.append(dialled)
        if self._waiting:
            self._delay = self._reactor.callLater(self._dialling.attemptDelay, self._dialNext)
        outcome = outcomeOf(dialled.start)
        if isinstance(outcome, Failure):
            self._failed(dialled, outcome)

    def _failed(self, dialled: Attempt, failure: Failure) -> None:
        """One address has failed, or the peer that won is closed after all."""
        self._attempts.remove(dialled)
        if self._state is _State.RACING and self._waiting:
            self._dialNext()
        elif not self._attempts:
            self._fail(failure)

    def _connected(self, winner: Attempt, session: Session) -> None:
        """The first peer is there: drop the others, then ask the factory (CONN-1)."""
        self._state = _State.WON
        self._stopDelay()
        self._waiting.clear()
        losers = [each for each in self._attempts if each is not winner]
        self._attempts = [winner]
        for loser in losers:
            loser.abandon()
        protocol = outcomeOf(self._factory.buildProtocol, toTwisted(winner.address))
        if self._state is not _State.WON:
            return
        if protocol is None:
            protocol = _failure(error.NoProtocol())
        if isinstance(protocol, Failure):
            winner.giveUp(protocol)
        else:
            self._make(winner, session, protocol)

    def _make(self, winner: Attempt, session: Session, protocol: Any) -> None:
        """Give the connection to its protocol and the protocol to the caller."""
        if winner.port is None:
            raise RuntimeError("a session without a socket has connected")
        host = winner.port.getHost()
        lost = None if self._started is None else self._started.stop
        made = outcomeOf(makeTransport, session, self._dialling.mode, host, lost)
        if isinstance(made, Failure):
            winner.giveUp(made)
            return
        self._transport = session.owner = made
        self._attempts.clear()
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
        self._stopDelay()
        self._waiting.clear()
        attempts, self._attempts = self._attempts, []
        for each in attempts:
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

    def _stopDelay(self) -> None:
        delay, self._delay = self._delay, None
        if delay is not None and delay.active():
            delay.cancel()


def connect(
    reactor: IPortReactor,
    factory: IProtocolFactory,
    host: str | bytes,
    port: int,
    *,
    session: MakeSession,
    timeout: float = 30,
    bindAddress: Any = None,
    attemptDelay: float = 0.3,
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
        dialling = Dialling(
            session,
            timeout,
            binding(bindAddress),
            attemptDelay,
            portKind,
            socketOptions or SocketOptions(),
            Mode(mode),
            shared,
        )
        return Connecting(reactor, factory, hostText(host), port, dialling)

    connecting = outcomeOf(begin)
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
