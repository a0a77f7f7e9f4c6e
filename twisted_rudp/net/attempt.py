"""One address that is dialled, on a socket of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from twisted.internet import error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, Demultiplexer, Engine, Reason
from twisted_rudp.errors import Phase, failureFor
from twisted_rudp.net.addresses import familyOf
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.making import Mode
from twisted_rudp.net.port import DatagramPort, IPortReactor, SocketOptions, openPort
from twisted_rudp.net.session import Session
from twisted_rudp.net.timers import MonotonicClock

MakeSession: TypeAlias = Callable[[Address, int], tuple[Demultiplexer, Engine]]

CLOSE_TIMEOUT = 5.0
"""Seconds that a session nobody wanted has for its polite end (CONN-4)."""


@dataclass(frozen=True)
class Dialling:
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
    attemptDelay: float = 0.3
    portKind: str = "auto"
    socketOptions: SocketOptions = field(default_factory=SocketOptions)
    mode: Mode = Mode.STREAM
    shared: tuple[Hub, DatagramPort] | None = None


class Attempt:
    """
    The first owner of a dialled session.

    @ivar address: raw, of the peer.
    @ivar port: the socket, once there is one.
    """

    def __init__(
        self,
        reactor: IPortReactor,
        dialling: Dialling,
        address: Address,
        connected: Callable[[Attempt, Session], None],
        failed: Callable[[Attempt, Failure], None],
    ) -> None:
        """
        @param connected: called when the peer is there.
        @param failed: called when it is certain that it will not be, with the socket
            closed.
        """
        self.address = address
        self.port: DatagramPort | None = None
        self._reactor = reactor
        self._dialling = dialling
        self._connected = connected
        self._failed = failed
        self._session: Session | None = None
        self._timer: IDelayedCall | None = None
        self._failure: Failure | None = None

    def start(self) -> None:
        """
        Open the socket and dial.

        @raise Exception: what stood in the way; C{failed} is not called then.
        """
        dialling = self._dialling
        if dialling.shared is None:
            self._openSocket()
        else:
            self._useSocket(*dialling.shared)
        self._timer = self._reactor.callLater(dialling.timeout, self._timedOut)

    def _useSocket(self, hub: Hub, port: DatagramPort) -> None:
        """Dial from a socket that others use too."""
        host = port.getHost().host
        if familyOf(host) != familyOf(self.address[0]):
            raise _bindError(None, f"{host} cannot reach {self.address[0]}")
        self.port = port
        _, engine = self._dialling.session(self.address, hub.now())
        self._session = hub.dial(engine, self.address, self)

    def _openSocket(self) -> None:
        dialling = self._dialling
        interface, number = dialling.bindAddress
        if not interface and len(self.address) > 2:
            interface = "::"
        if interface and familyOf(interface) != familyOf(self.address[0]):
            text = f"{interface} cannot reach {self.address[0]}"
            raise _bindError(None, text)
        clock = MonotonicClock(self._reactor)
        demux, engine = dialling.session(self.address, clock.now())
        hub = Hub(self._reactor, demux, clock=clock)
        try:
            self.port = openPort(
                self._reactor,
                hub,
                interface,
                number,
                kind=dialling.portKind,
                options=dialling.socketOptions,
            )
        except error.CannotListenError as problem:
            cause = problem.socketError
            raise _bindError(getattr(cause, "errno", None), str(cause)) from problem
        hub.attach(self.port)
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
        return session.hub.close() if self._dialling.shared is None else succeed(None)

    def giveUp(self, failure: Failure) -> None:
        """
        The peer is there and nobody wants it: close politely, then fail with
        C{failure} (CONN-4).
        """
        self.stopTimer()
        self._failure = failure
        if self._session is not None:
            self._session.engine.close(self._session.hub.now())
            self._session.touch()
            self._timer = self._reactor.callLater(CLOSE_TIMEOUT, self._timedOut)

    def stopTimer(self) -> None:
        """Harmless when none runs."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _timedOut(self) -> None:
        if self._session is not None:
            self._session.expel(Reason.HANDSHAKE_TIMEOUT, None)

    # the session's owner

    def sessionConnected(self, session: Session, early: bool) -> None:
        self.stopTimer()
        self._connected(self, session)

    def sessionReadable(self, stream: int | None) -> None:
        """Of a session that nobody wanted."""

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        """Of a session that nobody wanted."""

    def sessionShare(self, budget: int) -> int:
        return budget

    def sessionFlushed(self) -> bool:
        return False

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        self.stopTimer()
        self._failed(self, self._failure or failureFor(reason, detail, Phase.CONNECTING))


def _bindError(number: int | None, text: str) -> error.ConnectBindError:
    return error.ConnectBindError(number, text)  # type: ignore[no-untyped-call]
