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
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.python.failure import Failure

from twisted_rudp.core.engine import SECOND, Engine
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.settings import Choice, Flag, Integer, Seconds, Text, option
from twisted_rudp.endpoints.base import documented
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.sessions import (
    CarrierFactory,
    CarrierSession,
    PoolOptions,
    RefusingFactory,
    SessionPool,
)
from twisted_rudp.errors import PeerBrokeProtocol, PeerTimedOut
from twisted_rudp.kcp.crypto import CipherName
from twisted_rudp.kcp.settings import FEC, ProfileName
from twisted_rudp.mux.layer import Wrap
from twisted_rudp.mux.qpp import Pads
from twisted_rudp.mux.smux import SmuxEngine, SmuxSettings
from twisted_rudp.mux.snappy import Compressor, Decompressor, load
from twisted_rudp.net.listen import ListeningPort
from twisted_rudp.net.ratelog import RateLimitedLog

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
    fec: FEC | None = option(
        Choice(FEC),
        "reduced",
        "C{reduced} leaves out parity of bulk while little has to be sent again, C{fixed} sends"
        " all; C{auto} is that of C{kcp:}.",
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
        self._layer = self._wrapFor
        self._limited = RateLimitedLog(self.reactor, self._log)

    def _complain(self, session: CarrierSession, reason: Failure) -> None:
        """Log why a session ended with a peer that speaks otherwise, in one line."""
        if not isinstance(reason.value, PeerBrokeProtocol | PeerTimedOut):
            return
        peer = session.carrier.getPeer()
        self._limited.note(
            reason.getErrorMessage(),
            "{endpoint}: {host}:{port}: {problem}",
            endpoint=repr(self),
            host=peer.host,
            port=peer.port,
            problem=reason.getErrorMessage(),
        )

    def _wrapFor(self, role: Role) -> Wrap:
        """What puts smux around a KCP session."""

        def wrap(inner: Engine, now: int) -> SmuxEngine:
            codec = None if self.nocomp else _Snappy()
            return SmuxEngine(inner, role, self._smux, now, codec, self._pads)

        return wrap


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class KCPTunServerEndpoint(KCPTunEndpoint, KCPServerEndpoint):
    """Listens as kcptun-server: C{KCPTunServerEndpoint(reactor, port, ...)}."""

    def _listen(self, factory: IProtocolFactory) -> ListeningPort:
        def make() -> CarrierSession:
            return CarrierSession(factory, self._complain)

        return super()._listen(CarrierFactory(make, factory))


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
        options = PoolOptions(self.conn, 0.0, self.autoexpire, self.scavengettl)
        # Without a pause between attempts nothing is drawn.
        self._pool = SessionPool(self.reactor, self._dialSession, options, lambda: 1.0)

    def _peerPort(self) -> int:
        if self.lastPort is None:
            return self.port
        drawn = int.from_bytes(self.entropy(4), "little")
        return self.port + drawn % (self.lastPort - self.port + 1)

    def _dialSession(
        self, over: Callable[[CarrierSession, Failure], None]
    ) -> defer.Deferred[Any]:
        refusing = RefusingFactory()

        def ended(session: CarrierSession, reason: Failure) -> None:
            self._complain(session, reason)
            over(session, reason)

        return super().connect(CarrierFactory(lambda: CarrierSession(refusing, ended)))

    def connect(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """
        Open a stream, on a session that is there or is dialled for it.

        @return: fires with the protocol; at once where there is a session, for smux has no
            answer to the opening of a stream.
        """
        return self._pool.open(factory)

    def disconnect(self) -> defer.Deferred[None]:
        """
        End all sessions in order, with what was written on their streams.

        @return: fires when they have ended.
        """
        return self._pool.disconnect()
