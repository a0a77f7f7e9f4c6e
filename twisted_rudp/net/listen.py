"""Listening ports: accepting, refusing, draining (PORT-1 to PORT-7)."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any, ClassVar, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from twisted_rudp.core.engine import Address, Demultiplexer, PathError, Reason
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.connect import MakeSession, Mode, connect, makeTransport
from twisted_rudp.net.handover import (
    LOOK,
    OPENINGS,
    Divider,
    Nobody,
    Predecessor,
    SharedPort,
    Successor,
)
from twisted_rudp.net.hub import Hub, closingTowards
from twisted_rudp.net.session import Session
from twisted_rudp.net.table import DEFAULTS, Limits
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.options import cannotListen
from twisted_rudp.net.udp.port import DatagramPort, Receiver, SocketOptions, descriptorOf
from twisted_rudp.net.udp.reactors import IPortReactor
from twisted_rudp.net.usercode import callUserLogged

DRAIN_TIMEOUT: Final = 5.0
"""Seconds that C{stopListening} gives established connections (PORT-3)."""


class _Phase(Enum):
    IDLE = auto()
    LISTENING = auto()
    HANDED_OVER = auto()
    DRAINING = auto()
    CLOSING = auto()


_SERVING: Final = (_Phase.LISTENING, _Phase.HANDED_OVER)
"""The phases in which sessions are given to the factory."""


class ListeningPort:
    """
    A socket whose sessions are given to a factory.

    Connections and port share the socket, so C{stopListening} refuses new peers at
    once but closes only when the last connection has ended or C{drainTimeout} is
    over (PORT-3).
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IPortReactor,
        factory: IProtocolFactory,
        demux: Demultiplexer,
        *,
        interface: str = "",
        port: int = 0,
        portKind: str = "auto",
        socketOptions: SocketOptions | None = None,
        limits: Limits | None = None,
        drainTimeout: float = DRAIN_TIMEOUT,
        mode: str = Mode.STREAM,
        dial: MakeSession | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        """See L{listen}."""
        self._reactor = reactor
        self._factory = factory
        self._demux = demux
        self._interface = interface
        self._number = port
        self._portKind = portKind
        self._socketOptions = socketOptions or SocketOptions()
        self._drainTimeout = drainTimeout
        self._mode = Mode(mode)
        self._dial = dial
        self._predecessor = predecessor
        self._divider: Divider | None = None
        self._fed = predecessor is not None
        self._openings = False
        self._nobody: Nobody | None = None
        self._hub = Hub(reactor, demux, self, limits or DEFAULTS, lost=self._portLost)
        self._receiver: Receiver = self._hub
        self._port: DatagramPort | None = None
        self._phase = _Phase.IDLE
        self._stopping: Deferred[None] = Deferred()
        self._drainTimer: IDelayedCall | None = None
        self._connections = 0
        # One for all connections: each look-up of a method makes a new object.
        self._lostOne = self._connectionLost

    def __repr__(self) -> str:
        where = "not bound" if self._port is None else self._port.getHost()
        return f"<ListeningPort of {type(self._factory).__name__} ({where})>"

    # IListeningPort

    def startListening(self) -> None:
        """
        Bind and accept.

        @raise twisted.internet.error.CannotListenError: the address cannot be had.
        @raise RuntimeError: it has been started before.
        """
        if self._phase is not _Phase.IDLE:
            raise RuntimeError("a listening port is started once")
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is None:
            self._port = openPort(
                self._reactor,
                self._hub,
                self._interface,
                self._number,
                kind=self._portKind,
                options=self._socketOptions,
            )
        else:
            self._port = predecessor.open(
                self._reactor, self._hub, self, self._portKind, self._socketOptions
            )
        self._hub.attach(self._port)
        self._phase = _Phase.LISTENING
        callUserLogged(self._factory.doStart)

    def stopListening(self) -> Deferred[None]:
        """
        Refuse new peers now, close when the connections have ended.

        @return: the same C{Deferred} for every call; it fires when the socket is closed
            (PORT-2).
        """
        if self._phase is _Phase.IDLE:
            self._phase = _Phase.CLOSING
            self._closed(None)
        elif self._phase is _Phase.HANDED_OVER:
            self._cutOff()
        elif self._phase is _Phase.LISTENING:
            self._phase = _Phase.DRAINING
            self._hub.stopAccepting()
            callUserLogged(self._factory.doStop)
            if self._connections:
                self._drainTimer = self._reactor.callLater(self._drainTimeout, self._drained)
            else:
                self._drained()
        return self._stopping

    def retire(self) -> Deferred[None]:
        """
        Refuse new peers, and close when the last session has ended by itself. Openings that
        were answered may still become sessions. L{stopListening} puts an end to that.
        Nothing changes for a port that was handed over.

        @return: the same C{Deferred} as L{stopListening}.
        """
        if self._phase is _Phase.LISTENING:
            self.handOver(Nobody())
        return self._stopping

    def configureSessions(self, changes: Mapping[str, Any]) -> int:
        """
        Change settings of all sessions, as far as each can.

        @return: how many were changed.
        """
        return self._hub.configureSessions(changes)

    # taking over and handing over

    def handOver(self, successor: Successor) -> Deferred[None]:
        """
        Have another owner accept what comes, and keep the socket until the last session
        here has ended. L{stopListening} ends those that are left at once.

        @return: the same C{Deferred} as L{stopListening}.
        @raise CannotListenError: it is not listening, or has been handed over.
        """
        divider = self._divider
        if divider is not None and isinstance(divider.successor, Nobody):
            self._nobody = divider.successor
            divider.successor = successor
            return self._stopping
        if self._phase is not _Phase.LISTENING or self._port is None:
            cause = OSError(errno.EBADF, "the socket is not there to be handed over")
            raise cannotListen((self._interface, self._number), cause)
        self._phase = _Phase.HANDED_OVER
        self._hub.divide()
        self._divider = Divider(self._hub, successor)
        self._receiver = self._divider
        self._port.receiveBy(self._divider)
        self._openings = True
        self._drainTimer = self._reactor.callLater(OPENINGS, self._openingsOver)
        return self._stopping

    def takeBack(self) -> None:
        """Undo L{handOver}: the successor did not come."""
        if self._divider is not None and self._nobody is not None:
            self._divider.successor = self._nobody
            self._nobody = None
        elif self._phase is _Phase.HANDED_OVER and self._port is not None:
            self._phase = _Phase.LISTENING
            self._cancelTimer()
            self._divider = None
            self._receiver = self._hub
            self._port.receiveBy(self._hub)
            self._hub.undivide()

    @property
    def socketPort(self) -> DatagramPort | None:
        """The socket, once there is one."""
        return self._port

    def addresses(self) -> Sequence[Address]:
        """Where the peers of its sessions are."""
        return self._hub.addresses()

    def fileno(self) -> int:
        """See L{descriptorOf}."""
        return descriptorOf(self._port)

    def runPassedOn(self, run: bytes, size: int, address: Address, local: bytes) -> None:
        """See L{Successor}."""
        self._receiver.calledAt(local)
        self._receiver.runReceived(run, size, address)

    def turnEnded(self) -> None:
        """See L{Successor}."""
        self._receiver.turnEnded()

    def portWritable(self) -> None:
        """See L{Successor}."""
        self._receiver.portWritable()

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """See L{Successor}."""
        self._receiver.pathError(kind, size, address)

    def portLost(self, failure: Failure) -> None:
        """See L{Successor}."""
        if self._fed:
            self._receiver.portLost(failure)

    def released(self, port: DatagramPort) -> Deferred[None]:
        """See L{Successor}. The socket is this port's own from now on."""
        self._fed = False
        if self._hub.closed and self._divider is None:
            # Stopped in the meantime.
            return port.stopListening()
        self._port = port
        port.receiveBy(self._receiver)
        if self._hub.closed:
            self._relinquish()
        else:
            self._hub.attach(port)
        return succeed(None)

    def _openingsOver(self) -> None:
        """Look whether all is over here, now and then."""
        if self._openings:
            self._openings = False
            self._hub.stopAccepting()
        if self._hub.empty and self._demux.deadline() is None:
            self._cutOff()
        else:
            self._drainTimer = self._reactor.callLater(LOOK, self._openingsOver)

    def _cutOff(self) -> None:
        """End what is left, and let go of the socket."""
        self._phase = _Phase.CLOSING
        self._cancelTimer()
        self._hub.stopAccepting()
        callUserLogged(self._factory.doStop)
        done = self._hub.expel(Reason.SOCKET_LOST, "the listening port was stopped")
        done.addCallback(lambda _: self._left())

    def _left(self) -> None:
        self._hub.leave()
        if not self._fed:
            self._relinquish()

    def _relinquish(self) -> None:
        """Nothing is done here any more."""
        divider, self._divider = self._divider, None
        if divider is None or self._port is None:
            return
        divider.successor.released(self._port).addBoth(self._closed)

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        The bound address, also after closing (PORT-4).

        @raise RuntimeError: it was never bound.
        """
        if self._port is None:
            raise RuntimeError("the port is not bound yet")
        return self._port.getHost()

    def configure(self, **changes: int) -> None:
        """
        Change the socket while it is open, for all its sessions: C{dscp}, 0 to 63,
        C{readBuffer} and C{writeBuffer}, bytes. What the system grants is among the
        facts of L{twisted_rudp.stats}.

        @raise ValueError: another name, or a value is not possible. Then nothing is
            changed.
        """
        self._hub.configure(changes)()

    def connect(
        self,
        factory: IProtocolFactory,
        host: str | bytes,
        port: int,
        *,
        session: MakeSession | None = None,
        timeout: float = 30,
    ) -> Deferred[IProtocol]:
        """
        Dial from this socket, which is how peers behind NATs reach each other, and how
        thousands of connections need no socket each. The connection ends with the port.

        @param host: a name or an IP literal of the socket's family.
        @param session: as for L{twisted_rudp.net.connect.connect}; its demultiplexer is
            not used. None: sessions with the settings of this port.
        @param timeout: seconds for each address.
        @raise RuntimeError: the port is not bound.
        @raise ValueError: this transport dials from sockets of its own only.
        """
        if self._port is None:
            raise RuntimeError("the port is not bound yet")
        session = session or self._dial
        if session is None:
            raise ValueError("ports of this transport do not dial")
        return connect(
            self._reactor,
            factory,
            host,
            port,
            session=session,
            timeout=timeout,
            mode=self._mode,
            shared=(self._hub, self._port),
        )

    # the owner of sessions nobody has accepted yet

    def sessionConnected(self, session: Session, early: bool) -> None:
        """The peer has proved itself: ask the factory (PORT-6, PORT-7)."""
        protocol = None
        # What a factory has that wants to know more of a peer than its address.
        build = getattr(self._factory, "buildProtocolFor", None)
        serving = self._phase in _SERVING
        if serving and build is not None:
            protocol = callUserLogged(build, session)
        elif serving:
            protocol = callUserLogged(self._factory.buildProtocol, toTwisted(session.address))
        if protocol is None or isinstance(protocol, Failure):
            session.refuse()
            return
        transport = makeTransport(session, self._mode, self.getHost(), self._lostOne)
        session.owner = transport
        self._connections += 1
        transport.makeConnection(protocol)

    def sessionReadable(self, stream: int | None) -> None:
        """Of a session that was refused."""

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        """Of a session that was refused."""

    @property
    def disconnecting(self) -> bool:
        """Of sessions that were refused: these are ended by the engine."""
        return False

    def sessionShutdown(self, session: Session) -> None:
        """Nobody will ask the factory for it."""
        session.expel(Reason.SOCKET_LOST, "the reactor stops")

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        """Of a session that never became a connection: nobody is to be told."""

    # draining

    def _connectionLost(self) -> None:
        self._connections -= 1
        if not self._connections and self._phase is _Phase.DRAINING:
            self._drained()

    def _drained(self) -> None:
        """Close the socket; what is left of the connections ends with it."""
        self._phase = _Phase.CLOSING
        self._cancelTimer()
        done = self._hub.expel(Reason.SOCKET_LOST, "the listening port was stopped")
        done.addCallback(lambda _: self._hub.close()).addCallback(self._socketClosed)

    def _socketClosed(self, _: object) -> None:
        """
        Wait for connections of this process that are closing towards this port: what is
        stopped in the order of a test leaves nothing behind, as over TCP.
        """
        closing = closingTowards(self._reactor, self.getHost())
        if closing:
            self._drainTimer = self._reactor.callLater(self._drainTimeout, self._closed)
            DeferredList(closing).addCallback(self._closed)
        else:
            self._closed()

    def _closed(self, _: object = None) -> None:
        self._cancelTimer()
        if not self._stopping.called:
            self._stopping.callback(None)

    def _portLost(self, failure: Failure) -> None:
        """
        The socket is gone at the reactor's shutdown or unasked; all connections have
        been told (PORT-5).
        """
        self._log.info("{port} lost its socket: {reason}", port=self, reason=failure.value)
        if self._phase in _SERVING:
            callUserLogged(self._factory.doStop)
        self._phase = _Phase.CLOSING
        self._cancelTimer()
        self._closed(None)

    def _cancelTimer(self) -> None:
        timer, self._drainTimer = self._drainTimer, None
        if timer is not None and timer.active():
            timer.cancel()


classImplements(ListeningPort, IListeningPort)


class ListeningPredecessor:
    """A listening port of this process whose socket another one takes over."""

    def __init__(self, listening: ListeningPort) -> None:
        self._listening = listening

    def open(
        self,
        reactor: IPortReactor,
        receiver: Receiver,
        successor: Successor,
        kind: str,
        options: SocketOptions,
    ) -> DatagramPort:
        """See L{Predecessor}. The kind of port stays what it was."""
        self._listening.handOver(successor)
        port = self._listening.socketPort
        assert port is not None
        port.reconfigure(
            replace(
                port.options,
                receiveBuffer=options.receiveBuffer,
                sendBuffer=options.sendBuffer,
                dscp=options.dscp,
            )
        )
        return SharedPort(port, self._listening.addresses)


def listen(
    reactor: IPortReactor,
    factory: IProtocolFactory,
    demux: Demultiplexer,
    *,
    interface: str = "",
    port: int = 0,
    portKind: str = "auto",
    socketOptions: SocketOptions | None = None,
    limits: Limits | None = None,
    drainTimeout: float = DRAIN_TIMEOUT,
    mode: str = Mode.STREAM,
    dial: MakeSession | None = None,
    predecessor: Predecessor | None = None,
) -> ListeningPort:
    """
    Bind a UDP socket and give those who come to a factory. Done on return (EP-2).

    @param demux: of this socket alone; it makes the engines.
    @param interface: an IP literal; C{""} for all IPv4 addresses.
    @param port: 0 to 65535; 0: any free one.
    @param portKind: see L{openPort}.
    @param limits: what unknown peers may occupy; C{backlog} and C{maxSessions} (EP-7).
    @param drainTimeout: seconds for which C{stopListening} waits for connections.
    @param mode: a L{Mode}.
    @param dial: makes the sessions of L{ListeningPort.connect}.
    @param predecessor: has the socket; C{interface}, C{port} and C{portKind} do not matter.

    @raise twisted.internet.error.CannotListenError: the address cannot be had.
    @raise ValueError: no such mode or kind of port.
    """
    listening = ListeningPort(
        reactor,
        factory,
        demux,
        interface=interface,
        port=port,
        portKind=portKind,
        socketOptions=socketOptions,
        limits=limits,
        drainTimeout=drainTimeout,
        mode=mode,
        dial=dial,
        predecessor=predecessor,
    )
    listening.startListening()
    return listening
