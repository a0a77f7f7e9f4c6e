"""
C{twist rudp forward}: each connection accepted on one endpoint is relayed over a
connection to another, whatever transports the two are.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.engine import Capability
from twisted_rudp.discovery.service import Lease
from twisted_rudp.endpoints.mux import (
    BOTH_ENDS,
    MuxClientEndpoint,
    MuxServerEndpoint,
    multiplexes,
)
from twisted_rudp.endpoints.node import NodeClientEndpoint
from twisted_rudp.endpoints.reverse import ReverseClient, ReverseServerEndpoint
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.net.transport import SessionTransport
from twisted_rudp.service.announce import NodeAnnouncer
from twisted_rudp.service.connectionlog import ConnectionLog, addressText, transportText
from twisted_rudp.service.listening import (
    ListeningService,
    Sessions,
    SilentFactory,
    Tally,
    adviceFor,
)
from twisted_rudp.service.proxyprotocol import Header, ProxiedFactory, encode

EARLY_LIMIT = 256 * 1024
"""
Bytes of the near side held until the far side is connected. The near side is paused
meanwhile, so only data its transport had already read can accumulate (FLOW-6).
"""


class Mismatch(Exception):
    """The near peer multiplexes, which the service at the far side would not understand."""


class Reading(Enum):
    """State of reading from a side."""

    OPEN = auto()
    ENDED = auto()
    LOST = auto()


@implementer(IHalfCloseableProtocol, IPushProducer)
class Side(Protocol):
    """
    One of the two connections. It is also the producer of the other side's transport,
    whose back-pressure pauses reading here.

    @ivar received: bytes received from this connection.
    @ivar shut: nothing can be written to it any more.
    """

    noisy = False

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.reading = Reading.OPEN
        self.shut = False
        self.received = 0

    def connectionMade(self) -> None:
        self._relay.made(self)

    def dataReceived(self, data: bytes) -> None:
        first, self.received = not self.received, self.received + len(data)
        if first and multiplexes(self.transport, data):
            self._relay.mismatched()
        else:
            self._relay.data(self, data)

    def readConnectionLost(self) -> None:
        self.reading = Reading.ENDED
        self._relay.ended(self)

    def writeConnectionLost(self) -> None:
        """Requested by the relay itself."""
        self.shut = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reading = Reading.LOST
        self._relay.lost(self, reason)

    def pauseProducing(self) -> None:
        _flow(self).pauseProducing()

    def resumeProducing(self) -> None:
        _flow(self).resumeProducing()

    def stopProducing(self) -> None:
        """
        The other side is lost; its C{connectionLost} comes next and does what
        is to be done (FLOW-5).
        """


class Relay:
    """
    A near connection, which was accepted, and a far one, which is dialled for
    it.

    The near side is not read before the far side is there. The end of one
    direction is carried over where the transport can half close, otherwise it
    ends the connection, as it does for every TCP protocol that does not ask for
    half closes. The loss of one side with an error aborts the other, so that
    nobody takes a broken stream for a complete one.
    """

    def __init__(
        self,
        far: IStreamClientEndpoint,
        unreachable: Callable[[Failure], None],
        over: Callable[[Relay, Failure], None],
        joined: Callable[[Relay], None] | None = None,
        header: Callable[[Relay], bytes] | None = None,
        origin: Callable[[Relay], object] | None = None,
    ) -> None:
        """
        @param unreachable: called when the far side cannot be reached.
        @param over: called once, when both sides are disconnected; the reason is that
            of the side disconnected first.
        @param joined: called when both sides are connected.
        @param header: what to send to the far side in front of everything.
        @param origin: whose connection it is; None: that of the near side's peer.
        """
        self.near = Side(self)
        self.far = Side(self)
        self._endpoint = far
        self._unreachable = unreachable
        self._over = over
        self._joined = joined
        self._header = header
        self._origin = origin
        self._dialling: Deferred[Any] | None = None
        self._early: list[bytes] = []
        self._reason: Failure | None = None

    # from the two sides

    def made(self, side: Side) -> None:
        """A side is connected: dial for the near one, join the two for the far one."""
        if side is self.near:
            _flow(side).pauseProducing()
            self._dial()
        else:
            self._join()

    def data(self, side: Side, data: bytes) -> None:
        """Relay bytes; hold them until the far side is connected."""
        other = self._other(side)
        if other.transport is not None:
            other.transport.write(data)
        elif sum(map(len, self._early)) + len(data) <= EARLY_LIMIT:
            self._early.append(data)
        else:
            abort(side)

    def mismatched(self) -> None:
        """A peer of ours multiplexes, which nobody behind us would understand."""
        self._unreachable(Failure(Mismatch(f"the peer multiplexes: {BOTH_ENDS}")))  # type: ignore[no-untyped-call]
        self.abort()

    def ended(self, side: Side) -> None:
        """Relay the end of one direction."""
        other = self._other(side)
        if other.transport is None:
            return
        if other.reading is Reading.OPEN and canHalfClose(other.transport):
            _consumer(other).unregisterProducer()
            _consumer(other).loseWriteConnection()
        else:
            self.finish()

    def lost(self, side: Side, reason: Failure) -> None:
        """One side is disconnected: close the other."""
        if self._reason is None:
            self._reason = reason
        other = self._other(side)
        if self._dialling is not None:
            self._dialling.cancel()
        elif other.transport is None or other.reading is Reading.LOST:
            self._over(self, self._reason)
        elif isinstance(reason.value, ConnectionDone):
            _close(other)
        else:
            abort(other)

    # from the service

    def origin(self) -> object:
        """The address of the peer whose connection this is."""
        if self._origin is not None:
            return self._origin(self)
        return _consumer(self.near).getPeer()

    def finish(self) -> None:
        """Deliver all received data, and close both sides."""
        for side in (self.near, self.far):
            _close(side)

    def abort(self) -> None:
        """Discard all data and close both sides."""
        for side in (self.near, self.far):
            abort(side)

    # the far side

    def _dial(self) -> None:
        self._dialling = self._endpoint.connect(_FarFactory(self))
        self._dialling.addCallbacks(self._dialled, self._refused)

    def _dialled(self, ignored: object) -> None:
        self._dialling = None

    def _refused(self, failure: Failure) -> None:
        self._dialling = None
        if self._reason is None:
            self._unreachable(failure)
            abort(self.near)
        elif self.near.reading is Reading.LOST:
            self._over(self, self._reason)

    def _join(self) -> None:
        near, far = self.near, self.far
        if near.reading is Reading.LOST:
            abort(far)
            return
        if self._joined is not None:
            self._joined(self)
        early, self._early = self._early, []
        if self._header is not None:
            early.insert(0, self._header(self))
        _consumer(far).writeSequence(early)
        _consumer(near).registerProducer(far, True)
        if near.reading is Reading.OPEN:
            _consumer(far).registerProducer(near, True)
            near.resumeProducing()
        else:
            self.ended(near)

    def _other(self, side: Side) -> Side:
        return self.far if side is self.near else self.near


class _FarFactory(SilentFactory):
    """Returns the far side of one relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def buildProtocol(self, addr: IAddress | None) -> Side:
        return self._relay.far

    def origin(self) -> object:
        """The address of the peer whose connection this is."""
        return self._relay.origin()


def canHalfClose(transport: ITransport) -> bool:
    """
    Whether a transport supports half-close. TLS has the method of the transport below it,
    which would close TLS itself; RakNet's peer would not be told.
    """
    if isinstance(transport, SessionTransport):
        return Capability.HALF_CLOSE in transport.session.engine.capabilities
    return hasattr(transport, "loseWriteConnection") and not ISSLTransport.providedBy(transport)


def abort(side: Protocol) -> None:
    """Abort a connection, if there is one. A transport that cannot abort is closed."""
    if side.transport is not None:
        close = getattr(side.transport, "abortConnection", side.transport.loseConnection)
        close()
        if isinstance(side, Side):
            _forget(side)


def _close(side: Side) -> None:
    if side.transport is not None and side.reading is not Reading.LOST:
        _consumer(side).unregisterProducer()
        side.transport.loseConnection()
        _forget(side)


def _forget(side: Side) -> None:
    """
    Standard input and output that are closed one after the other never tell that they are: the
    output was closed before, and of the input C{loseConnection} only stops reading.
    """
    if side.shut and side.reading is not Reading.LOST and isinstance(side.transport, StandardIO):
        side.transport.connectionLost(connectionDone)


def _consumer(side: Side) -> Any:
    """A stream transport accepts producers (TR-1), which C{ITransport} does not declare."""
    return side.transport


def _flow(side: Side) -> IPushProducer:
    return cast(IPushProducer, side.transport)


class _Connection:
    """
    A relayed connection, for the log.

    @ivar ends: peers and transports of both sides. Some transports cannot tell them after
        the end.
    @ivar proxied: what a proxy in front of the near side has told.
    """

    def __init__(
        self, number: int, began: float, address: IAddress | None, proxied: Header | None
    ) -> None:
        self.number = number
        self.began = began
        self.proxied = proxied
        self._address = address
        self.ends = {
            "peer": addressText(address),
            "transport": getattr(address, "type", "unknown").lower(),
            "far": "not connected",
            "far_transport": "none",
        }

    def addresses(self, relay: Relay) -> tuple[object, object]:
        """The near side's peer, and what it connected to."""
        near = _consumer(relay.near)
        told = self.proxied
        if told is not None and told.source is not None:
            return told.source, told.destination
        # A stream's peer is the session's; the factory was told of whose connection it is.
        peer = self._address if getattr(near, "stream", 0) else near.getPeer()
        return peer, near.getHost()

    def joined(self, relay: Relay) -> None:
        """Both sides are connected."""
        self.ends = {
            "peer": addressText(self.addresses(relay)[0]),
            "transport": transportText(relay.near.transport),
            "far": addressText(_consumer(relay.far).getPeer()),
            "far_transport": transportText(relay.far.transport),
        }


class ForwardFactory(SilentFactory):
    """Makes a L{Relay} for each accepted connection."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        description: str,
        far: IStreamClientEndpoint,
        sessions: Sessions,
        proxyProtocol: str | None = None,
    ) -> None:
        """
        @param description: the two endpoints, for the log.
        @param proxyProtocol: the version of the header to send to the far side.
        @ivar finished: called after the end of each connection, if set.
        """
        self.tally = Tally("connections", "refused", "unreachable", "broken", "forth", "back")
        self.finished: Callable[[], None] | None = None
        self._clock = clock
        self._connections = ConnectionLog(clock, self._log, description)
        self._description = description
        self._far = far
        self._sessions = sessions
        self._proxyProtocol = proxyProtocol
        self._limited = RateLimitedLog(clock, self._log)
        self._live: dict[Relay, _Connection] = {}

    def buildProtocol(self, addr: IAddress | None) -> Side | None:
        """The near side of a new relay; None at the limit of connections (PORT-6)."""
        return self.build(addr, None)

    def build(self, addr: IAddress | None, proxied: Header | None) -> Side | None:
        """
        As L{buildProtocol}.

        @param proxied: what a proxy in front of the near side has told.
        """
        if self._sessions.full:
            self.tally.add("refused")
            self._complain("connection refused: limit reached")
            return None
        self.tally.add("connections")
        number = self.tally.counts["connections"]
        header = None if self._proxyProtocol is None else self._header
        relay = Relay(
            self._far, self._unreachable, self._over, self._joined, header, self._origin
        )
        self._live[relay] = _Connection(number, self._clock.seconds(), addr, proxied)
        self._sessions.add(relay)
        return relay.near

    def _unreachable(self, failure: Failure) -> None:
        if isinstance(failure.value, Mismatch):
            self._complain(failure.getErrorMessage())
            return
        self.tally.add("unreachable")
        self._complain(f"cannot reach the far side: {failure.getErrorMessage()}")

    def _complain(self, reason: str) -> None:
        self._limited.note(
            reason,
            "{description}: {reason}",
            LogLevel.error,
            description=self._description,
            reason=reason,
        )

    def _over(self, relay: Relay, reason: Failure) -> None:
        self.tally.add("forth", relay.near.received)
        self.tally.add("back", relay.far.received)
        for side in (relay.near, relay.far):
            if side.transport is not None:
                self.tally.absorb(side.transport)
        if not isinstance(reason.value, ConnectionDone):
            self.tally.add("broken")
        connection = self._live.pop(relay)
        self._connections.closed(
            connection.number,
            duration=self._clock.seconds() - connection.began,
            reason=reason.getErrorMessage(),
            sent=relay.near.received,
            received=relay.far.received,
            **connection.ends,
        )
        # Last: a service that waits for its sessions logs the tally from here.
        self._sessions.remove(relay)
        if self.finished is not None:
            self.finished()

    def _origin(self, relay: Relay) -> object:
        return self._live[relay].addresses(relay)[0]

    def _header(self, relay: Relay) -> bytes:
        assert self._proxyProtocol is not None
        return encode(self._proxyProtocol, *self._live[relay].addresses(relay))

    def _joined(self, relay: Relay) -> None:
        connection = self._live[relay]
        connection.joined(relay)
        self._connections.opened(connection.number, **connection.ends)


class ForwardService(ListeningService):
    """
    One pair of endpoints. While it runs it keeps discovery running for a far side that is a
    node, so that each connection finds it at once.
    """

    def __init__(
        self,
        clock: IReactorTime,
        description: str,
        near: IStreamServerEndpoint,
        far: IStreamClientEndpoint,
        *,
        limit: int,
        drain: float,
        announcer: NodeAnnouncer | None = None,
        proxyProtocol: str | None = None,
        proxied: bool = False,
    ) -> None:
        """
        @param limit: connections at one time.
        @param drain: seconds for open connections to end when the service stops.
        @param announcer: announces the node while this service listens.
        @param proxyProtocol: the version of the PROXY protocol to speak to the far side.
        @param proxied: connections begin with a header of the PROXY protocol.
        """
        sessions = Sessions(clock, limit)
        factory = ForwardFactory(clock, description, far, sessions, proxyProtocol)
        self._shared = far if isinstance(far, MuxClientEndpoint) else None
        self._far = far.carrier if isinstance(far, MuxClientEndpoint) else far
        self._reverse = near.client if isinstance(near, ReverseServerEndpoint) else None
        carrying: list[MuxClientEndpoint | MuxServerEndpoint | ReverseClient] = [
            each
            for each in (far, near, self._reverse)
            if isinstance(each, MuxClientEndpoint | MuxServerEndpoint | ReverseClient)
        ]
        for each in carrying:
            each.side.ended = factory.tally.absorb
        self._held: Lease | None = None
        self.forwarding = factory
        accepting: SilentFactory = factory
        if proxied:
            accepting = ProxiedFactory(
                clock, self._log, description, limit, factory.tally, factory.build
            )
        super().__init__(description, near, accepting, sessions, factory.tally, drain, announcer)
        self.endings += [each.disconnect for each in carrying]
        if isinstance(near, MuxServerEndpoint):
            self.retirings.append(near.retire)

    def startService(self) -> None:
        super().startService()
        if isinstance(self._far, NodeClientEndpoint) and self._held is None:
            self._held = self._far.hold()
        if self._shared is not None:
            self._shared.hold()
        near = () if self._reverse is None else adviceFor(self._reverse.carrier)
        for advice in (*near, *adviceFor(self._far)):
            self._log.warn(
                "{description}: {advice}", description=self.description, advice=advice
            )

    def stopService(self) -> Deferred[None]:
        held, self._held = self._held, None
        if held is not None:
            held.release()
        return super().stopService()
