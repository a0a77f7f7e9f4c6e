"""
Endpoints that talk to kcptun: many connections over one KCP session, by smux, with
compression (C{kcp.md} section 8).

C{KCPTunServerEndpoint(reactor, 29900, password=...)} is what C{kcptun-server} is without its
target: each stream is a connection for the factory. C{KCPTunClientEndpoint} is what
C{kcptun-client} is without its listener: each C{connect} is a stream, over a session that is
dialled when there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_rudp.core.engine import SECOND, Address, Demultiplexer, Engine
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.settings import Choice, Flag, Integer, Seconds, Text, option
from twisted_rudp.endpoints.base import documented
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPEndpoint, KCPServerEndpoint
from twisted_rudp.kcp.crypto import CipherName
from twisted_rudp.kcp.settings import ProfileName
from twisted_rudp.mux.layer import LayeredDemultiplexer, Wrap
from twisted_rudp.mux.qpp import Pads
from twisted_rudp.mux.smux import SmuxEngine, SmuxSettings
from twisted_rudp.mux.snappy import Compressor, Decompressor, load
from twisted_rudp.net.listen import ListeningPort

DEFAULT_PASSWORD = "it's a secrect"
"""Of kcptun, as it is written there. It protects nothing."""

_TIMEOUT = 30 * SECOND
"""Without a frame for so long kcptun's sessions end; it has no setting for that."""


class _Snappy:
    """Compression of both directions of one session."""

    def __init__(self) -> None:
        self.encode = Compressor().compress
        self.decode = Decompressor().decompress


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class KCPTunEndpoint(KCPEndpoint):
    """One side of kcptun."""

    profile: ProfileName = option(
        Choice(ProfileName), "fast", "What kcptun calls C{mode}; C{default} is ours."
    )
    crypt: CipherName | None = option(
        Choice(CipherName), "aes", "Cipher, by kcptun's name, the same at both ends."
    )
    password: InitVar[str | None] = option(
        Text("any text"),
        DEFAULT_PASSWORD,
        "What kcptun calls C{key}, the same at both ends. The default is kcptun's own and known"
        " to everybody.",
        secret=True,
    )
    mtu: int = option(Integer(50, 65_507), 1350, "Bytes of the longest datagram.")
    dataShards: int = option(Integer(0, 255), 10, "Datagrams in a group of FEC; 0: no FEC.")
    parityShards: int = option(
        Integer(0, 255), 3, "Parity datagrams for each group; 0: no FEC."
    )
    nocomp: bool = option(Flag(), False, "No compression, alike at both ends.")
    smuxver: int = option(Integer(1, 2), 2, "Version of smux, the same at both ends.")
    smuxbuf: int = option(
        Integer(1, 1 << 30), 4 << 20, "Bytes that all streams together may hold unread."
    )
    streambuf: int = option(
        Integer(1, 1 << 30), 2 << 20, "Bytes that one stream may hold unread, with smuxver 2."
    )
    framesize: int = option(Integer(1, 65_535), 8192, "Most bytes of one frame that is sent.")
    keepalive: float = option(
        Seconds(0.1), 10.0, "Seconds between two signs of life of smux, at most 30."
    )
    qpp: bool = option(
        Flag(), False, "Quantum permutation pads over each stream, alike at both ends."
    )
    qppCount: int = option(Integer(1, 1024), 61, "How many pads, the same at both ends.")

    def __post_init__(self, key: str | bytes | None, password: str | None) -> None:
        if password == DEFAULT_PASSWORD and (key is not None or self.keyFile is not None):
            password = None
        super().__post_init__(key, password)
        self._smux = SmuxSettings(
            version=self.smuxver,
            frame_size=self.framesize,
            receive_buffer=self.smuxbuf,
            stream_buffer=min(self.streambuf, self.smuxbuf),
            keepalive=int(self.keepalive * SECOND),
            timeout=_TIMEOUT,
        )
        if not self.nocomp:
            load()
        self._pads: Pads | None = None
        if self.qpp:
            if not password:
                raise ValueError("qpp is derived from the password: give one")
            self._pads = Pads(password.encode(), self.qppCount)

    def _wrapFor(self, role: Role) -> Wrap:
        """What puts smux around a KCP session."""

        def wrap(inner: Engine, now: int) -> SmuxEngine:
            codec = None if self.nocomp else _Snappy()
            return SmuxEngine(inner, role, self._smux, now, codec, self._pads)

        return wrap


class _RefusingFactory(Factory):
    """Of streams that a server opens, for which kcptun has no use."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class _Session(Protocol):
    """
    One session of smux, as a connection that carries nothing itself.

    @ivar streams: how many of its streams are open.
    """

    def __init__(
        self, factory: IProtocolFactory, over: Callable[[_Session, Failure], None]
    ) -> None:
        """
        @param factory: of the streams that the peer opens.
        @param over: told of the end.
        """
        self._factory = factory
        self._over = over
        self.expired = False

    def connectionMade(self) -> None:
        self._transport.acceptStreams(self._factory)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over(self, reason)

    @property
    def _transport(self) -> Any:
        """It provides L{IMultiplexed<twisted_rudp.interfaces.IMultiplexed>} too."""
        return self.transport

    @property
    def streams(self) -> int:
        """How many streams are open."""
        count: int = self._transport.facts()["streams"]
        return count

    @property
    def usable(self) -> bool:
        """Streams may be opened."""
        transport = self._transport
        return bool(transport and transport.connected and not transport.disconnecting)

    def openStream(self, factory: IProtocolFactory) -> Any:
        """See L{IMultiplexed<twisted_rudp.interfaces.IMultiplexed>}."""
        return self._transport.openStream(factory)

    def close(self) -> None:
        """End the session when all that was written is delivered."""
        self._transport.loseConnection()


class _SessionFactory(Factory):
    """Of the sessions of one endpoint."""

    noisy = False

    def __init__(
        self, streams: IProtocolFactory, over: Callable[[_Session, Failure], None]
    ) -> None:
        self._streams = streams
        self._over = over

    def doStart(self) -> None:
        self._streams.doStart()

    def doStop(self) -> None:
        self._streams.doStop()

    def buildProtocol(self, addr: IAddress | None) -> _Session:
        return _Session(self._streams, self._over)


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class KCPTunServerEndpoint(KCPTunEndpoint, KCPServerEndpoint):
    """Listens as kcptun-server: C{KCPTunServerEndpoint(reactor, port, ...)}."""

    def _listen(self, factory: IProtocolFactory) -> ListeningPort:
        return super()._listen(_SessionFactory(factory, lambda session, reason: None))

    def _listeningDemux(self) -> Demultiplexer:  # type: ignore[override]
        return LayeredDemultiplexer(super()._listeningDemux(), self._wrapFor(Role.SERVER))

    def _dialler(self, demux: Demultiplexer) -> None:  # type: ignore[override]
        """A server of kcptun dials nobody."""


def _wanted(protocol: Any) -> IProtocol:
    """
    @raise NoProtocol: the factory did not want the connection.
    """
    if protocol is None:
        raise NoProtocol()
    return cast(IProtocol, protocol)


class _Place:
    """
    Room for one session.

    @ivar session: the one that new streams go to.
    @ivar waiting: who wants a stream as soon as there is a session.
    """

    def __init__(self) -> None:
        self.session: _Session | None = None
        self.dialling: defer.Deferred[Any] | None = None
        self.waiting: list[tuple[defer.Deferred[IProtocol], IProtocolFactory]] = []


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class KCPTunClientEndpoint(KCPTunEndpoint, KCPClientEndpoint):
    """
    Dials as kcptun-client: C{KCPTunClientEndpoint(reactor, host, port, ...)}.

    The endpoint keeps its sessions open for the next connection; L{disconnect} ends them.
    """

    lastPort: int | None = option(
        Integer(1, 65_535),
        None,
        "Dial a random port from C{port} to this one for each session, of a server that listens"
        " on all of them.",
    )
    conn: int = option(Integer(1, 1024), 1, "Sessions that the connections share in turn.")
    autoexpire: float = option(
        Seconds(0), 0.0, "Seconds after which a session is replaced by a new one; 0: never."
    )
    scavengettl: float = option(
        Seconds(0), 600.0, "Seconds that an expired session has for its streams to end."
    )

    def __post_init__(self, key: str | bytes | None, password: str | None) -> None:
        super().__post_init__(key, password)
        if self.lastPort is not None and self.lastPort < self.port:
            raise ValueError(f"lastPort={self.lastPort!r} is below port={self.port!r}")
        self._places = [_Place() for _ in range(self.conn)]
        self._next = 0
        self._sessions: dict[_Session, list[IDelayedCall]] = {}
        self._ended: list[defer.Deferred[None]] = []

    def _peerPort(self) -> int:
        if self.lastPort is None:
            return self.port
        drawn = int.from_bytes(self.entropy(4), "little")
        return self.port + drawn % (self.lastPort - self.port + 1)

    def _diallingSession(  # type: ignore[override]
        self, address: Address, now: int
    ) -> tuple[Demultiplexer, Engine]:
        demux, engine = super()._diallingSession(address, now)
        wrap = self._wrapFor(Role.CLIENT)
        return LayeredDemultiplexer(demux, wrap), wrap(engine, now)

    def connect(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """
        Open a stream, on a session that is there or is dialled for it.

        @return: fires with the protocol; at once where there is a session, for smux has no
            answer to the opening of a stream.
        """
        place = self._places[self._next]
        self._next = (self._next + 1) % len(self._places)
        session = place.session
        if session is not None and session.usable and not session.expired:
            opened = self._opened(session, factory)
            return opened.addErrback(lambda why: self._retry(why, place, session, factory))
        return self._queue(place, factory)

    def _retry(
        self, failure: Failure, place: _Place, session: _Session, factory: IProtocolFactory
    ) -> defer.Deferred[IProtocol]:
        """A session that has no number left for another stream is replaced."""
        if not isinstance(failure.value, RuntimeError):
            return defer.fail(failure)
        if place.session is session:
            place.session = None
            self._expire(session)
        return self._queue(place, factory)

    def _queue(self, place: _Place, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """Wait for a session of this place."""
        waiting: defer.Deferred[IProtocol] = defer.Deferred(
            lambda deferred: self._cancelled(place, deferred)
        )
        place.waiting.append((waiting, factory))
        if place.dialling is None:
            self._dial(place)
        return waiting

    def disconnect(self) -> defer.Deferred[None]:
        """
        End all sessions in order, with what was written on their streams.

        @return: fires when they have ended.
        """
        for place in self._places:
            if place.dialling is not None:
                place.dialling.cancel()
        if not self._sessions:
            return defer.succeed(None)
        waiting: defer.Deferred[None] = defer.Deferred()
        self._ended.append(waiting)
        for session in list(self._sessions):
            session.close()
        return waiting

    def _opened(self, session: _Session, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        opened: defer.Deferred[Any] = defer.execute(session.openStream, factory)
        return opened.addCallback(_wanted)

    def _dial(self, place: _Place) -> None:
        factory = _SessionFactory(_RefusingFactory(), self._over)
        dialling = super().connect(factory)
        place.dialling = dialling
        dialling.addCallbacks(
            lambda session: self._dialled(session, place),
            lambda failure: self._failed(failure, place),
        )

    def _dialled(self, session: Any, place: _Place) -> None:
        place.dialling = None
        place.session = session
        timers: list[IDelayedCall] = []
        self._sessions[session] = timers
        if self.autoexpire:
            timers.append(self.reactor.callLater(self.autoexpire, self._expire, session))
        waiting, place.waiting = place.waiting, []
        for deferred, factory in waiting:
            self._opened(session, factory).chainDeferred(deferred)

    def _failed(self, failure: Failure, place: _Place) -> None:
        place.dialling = None
        waiting, place.waiting = place.waiting, []
        for deferred, _ in waiting:
            deferred.errback(failure)

    def _cancelled(self, place: _Place, deferred: defer.Deferred[IProtocol]) -> None:
        place.waiting = [each for each in place.waiting if each[0] is not deferred]
        if not place.waiting and place.dialling is not None:
            place.dialling.cancel()

    def _expire(self, session: _Session) -> None:
        """New streams go to another session; this one ends with its last stream."""
        session.expired = True
        if not session.streams or not self.scavengettl:
            session.close()
            return
        timers = self._sessions[session]
        timers.append(self.reactor.callLater(self.scavengettl, session.close))

    def _over(self, session: _Session, reason: Failure) -> None:
        for timer in self._sessions.pop(session, ()):
            if timer.active():
                timer.cancel()
        for place in self._places:
            if place.session is session:
                place.session = None
        if not self._sessions:
            ended, self._ended = self._ended, []
            for deferred in ended:
                deferred.callback(None)
