"""
RakNet endpoints: any Twisted stream protocol over RakNet, or messages.

C{RakNetServerEndpoint(reactor, 19132)} and C{RakNetClientEndpoint(reactor, host,
19132)} work as they are. Each argument has the same name in the endpoint strings
C{raknet:...}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import InitVar, dataclass, replace

from twisted.internet import defer
from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer

from twisted_rudp.core.checking import require_within
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import Address
from twisted_rudp.endpoints.base import (
    ClientEndpoint,
    Endpoint,
    ServerEndpoint,
    idleNanoseconds,
    profiled,
)
from twisted_rudp.endpoints.pinging import Pinging, PongPort
from twisted_rudp.interfaces import IAnswersPings, IPingable, Pong
from twisted_rudp.net.connect import Mode
from twisted_rudp.net.udp.port import SocketOptions
from twisted_rudp.raknet.demux import MAX_PONG_DATA, RakNetDemultiplexer
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.offline import MAGIC, Request2
from twisted_rudp.raknet.pongs import pack_text
from twisted_rudp.raknet.profiles import PROFILES, PROTOCOL, Settings

_NEGATIVE = 1 << 63
"""The highest bit of a GUID, which those of Bedrock clients have: newest go-raknet
refuses any other client, and then its host for ten seconds."""


@dataclass(kw_only=True, eq=False, repr=False)
class RakNetEndpoint(Endpoint):
    """
    One side of RakNet.

    @ivar guid: 64 bits that name this side; None: random.
    @ivar protocol: the version of the protocol; a server takes several, too.
    @ivar magic: the 16 bytes that mark datagrams outside of sessions; None: the usual.
    @ivar profile: C{default} or C{seed}; see
        L{PROFILES<twisted_rudp.raknet.profiles.PROFILES>}.
    @ivar mtu: longest IP packet, 400 to 1492, as the wire counts it: UDP payload and 28.
    @ivar mode: C{stream} or C{messages}.
    @ivar userId: first byte of the messages that carry a stream, 0x80 to 0xff.
    @ivar password: what a connection request must bring; sent in the clear. It cannot
        be read afterwards.
    @ivar dscp: 0 to 63.
    @ivar idleTimeout: seconds of silence until a peer counts as gone; None: as the
        profile says.
    @ivar settings: all numbers of a session, in place of C{protocol}, C{magic},
        C{profile}, C{mtu}, C{userId}, C{password} and C{idleTimeout}.
    """

    guid: int | None = None
    protocol: int | Collection[int] = PROTOCOL
    magic: bytes | None = None
    profile: str = "default"
    mtu: int | None = None
    mode: str = "stream"
    userId: int | None = None
    password: InitVar[str] = ""
    dscp: int = 0
    idleTimeout: float | None = None
    settings: Settings | None = None

    def __post_init__(self, password: str) -> None:
        super().__post_init__()
        self._mode = Mode(self.mode)
        self._settings = replace(
            self.settings or self._profiled(password), stream=self._mode is Mode.STREAM
        )
        if self.guid is not None and not 0 <= self.guid < 1 << 64:
            raise ValueError(f"guid={self.guid!r} is not a number of 64 bits")
        self._socketOptions = SocketOptions(dscp=self.dscp or None)

    def _profiled(self, password: str) -> Settings:
        versions = self._versions()
        if self.magic is not None and len(self.magic) != len(MAGIC):
            raise ValueError(f"magic: {len(self.magic)} bytes are not {len(MAGIC)}")
        chosen = profiled(
            PROFILES,
            self.profile,
            protocol=max(versions),
            accepted=versions,
            magic=self.magic,
            user_id=self.userId,
            password=password.encode(),
            timeout=None if self.idleTimeout is None else idleNanoseconds(self.idleTimeout),
        )
        if self.mtu is None:
            return chosen
        return replace(chosen, mtu=self.mtu, mtu_min=min(self.mtu, chosen.mtu_min))

    def _versions(self) -> frozenset[int]:
        """
        @raise ValueError: C{protocol} names none, or one that does not fit a byte.
        """
        given = self.protocol
        versions = frozenset({given} if isinstance(given, int) else given)
        if not versions:
            raise ValueError("protocol: at least one version is needed")
        for version in versions:
            require_within("protocol", version, 0, 255)
        return versions

    def _newGuid(self) -> int:
        """The one that was given, or a random one, which is never 0."""
        if self.guid is not None:
            return self.guid
        return int.from_bytes(self.entropy(8), "big") or 1

    def _epoch(self) -> int:
        """
        Where a session's clock starts on the wire: random, so that its echo proves
        an address.
        """
        return int.from_bytes(self.entropy(6), "big")


@implementer(IAnswersPings)
@dataclass(kw_only=True, eq=False, repr=False)
class RakNetServerEndpoint(RakNetEndpoint, ServerEndpoint):
    """
    Listens for RakNet sessions and answers pings:
    C{RakNetServerEndpoint(reactor, port, ...)}. The arguments not named here are those
    of L{ServerEndpoint} and L{RakNetEndpoint}. With C{cookies} nobody is in C{backlog}.

    @ivar motd: the text of pongs, at most 397 bytes of UTF-8.
    @ivar cookies: peers prove their address before there is a session.
    @ivar pongData: called for each pong, in place of C{motd}: what stands behind the
        magic.
    @ivar banned: which addresses get nothing but that answer.
    @ivar limitFrequency: refuse a second session from one host within 100 ms.
    """

    motd: str = ""
    cookies: bool = True
    pongData: Callable[[], bytes] | None = None
    banned: Callable[[Address], bool] | None = None
    limitFrequency: bool = False

    def __post_init__(self, password: str) -> None:
        super().__post_init__(password)
        data = pack_text(self.motd)
        if len(data) > MAX_PONG_DATA:
            raise ValueError(f"motd: {len(data) - 2} bytes of UTF-8; {MAX_PONG_DATA - 2} at most")
        self._pongData = self.pongData or (lambda: data)

    def _listeningDemux(self) -> RakNetDemultiplexer:
        guid = self._newGuid()

        def accept(request: Request2, address: Address, now: int, validated: bool) -> RakNetEngine:
            return RakNetEngine(
                address,
                self._settings,
                now=now,
                guid=guid,
                epoch=self._epoch(),
                request=request,
                validated=validated,
            )

        return RakNetDemultiplexer(
            self._settings,
            guid,
            accept,
            pong_data=self._pongData,
            cookies=Cookies(self.entropy(32)) if self.cookies else None,
            banned=self.banned,
            limit_frequency=self.limitFrequency,
        )

    def answerPings(self) -> defer.Deferred[IListeningPort]:
        """
        Bind at once and answer pings, without any sessions.

        @return: as of C{listen}.
        """
        return defer.execute(self._answerPings)

    def _answerPings(self) -> PongPort:
        demux = RakNetDemultiplexer(
            self._settings,
            self._newGuid(),
            pong_data=self._pongData,
            banned=self.banned,
            answer_open=True,
        )
        return PongPort(
            self.reactor,
            demux,
            self.interface,
            self.port,
            self.portKind,
            self._socketOptions,
        )


@implementer(IPingable)
@dataclass(kw_only=True, eq=False, repr=False)
class RakNetClientEndpoint(RakNetEndpoint, ClientEndpoint):
    """
    Dials a RakNet listener, or pings it: C{RakNetClientEndpoint(reactor, host, port,
    ...)}. The arguments not named here are those of L{ClientEndpoint} and
    L{RakNetEndpoint}.

    @ivar timeout: seconds to wait for the peer, per address.
    @ivar guid: 64 bits that name this client; None: random for each session, with the
        highest bit set.
    """

    timeout: float = 10

    def _versions(self) -> frozenset[int]:
        """
        @raise ValueError: several: a dialler speaks one.
        """
        versions = super()._versions()
        if len(versions) > 1:
            raise ValueError(f"protocol={self.protocol!r}: a client speaks one version")
        return versions

    def _newGuid(self) -> int:
        """The one that was given, or a random negative one."""
        return super()._newGuid() | (_NEGATIVE if self.guid is None else 0)

    def _diallingSession(
        self, address: Address, now: int
    ) -> tuple[RakNetDemultiplexer, RakNetEngine]:
        guid = self._newGuid()
        engine = RakNetEngine(
            address,
            self._settings,
            now=now,
            guid=guid,
            epoch=self._epoch(),
            own_socket=True,
        )
        return RakNetDemultiplexer(self._settings, guid), engine

    def ping(self) -> defer.Deferred[Pong]:
        """
        Ask what the peer says of itself; there is no session for that.

        @return: fires with the first answer, or fails with
            C{twisted.internet.error.TimeoutError}, or with what kept the host from
            being found.
        """
        ping = Pinging(
            self.reactor,
            self.host,
            self.port,
            self.timeout,
            self._newGuid(),
            self._settings.magic,
            self._epoch(),
        )
        return ping.start()
