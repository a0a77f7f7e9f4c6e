"""
RakNet endpoints: any Twisted stream protocol over RakNet, or messages.

C{RakNetServerEndpoint(reactor, 19132)} and C{RakNetClientEndpoint(reactor, host,
19132)} work as they are. Each argument has the same name in the endpoint strings
C{raknet:...}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import InitVar, dataclass, replace
from typing import Any, Literal, TypeAlias

from twisted.internet import defer
from zope.interface import implementer

from twisted_rudp.core.engine import SECOND, Address
from twisted_rudp.core.settings import (
    Choice,
    Flag,
    HexBytes,
    HexNumber,
    InCode,
    Integer,
    Seconds,
    Several,
    ShortText,
    option,
    option_of,
)
from twisted_rudp.endpoints.base import (
    ClientEndpoint,
    Endpoint,
    ModeName,
    ServerEndpoint,
    documented,
)
from twisted_rudp.endpoints.pinging import Pinging, PongPort
from twisted_rudp.interfaces import IAnswersPings, IPingable, Pong
from twisted_rudp.net.connect import Mode
from twisted_rudp.net.udp.options import SOCKET_SETTINGS
from twisted_rudp.net.udp.port import SocketOptions
from twisted_rudp.net.udp.steering import Share
from twisted_rudp.raknet.demux import MAX_PONG_DATA, RakNetDemultiplexer
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.offline import MAGIC, Request2, pack_text
from twisted_rudp.raknet.settings import PROFILES, PROTOCOL, Settings

_NEGATIVE = 1 << 63
"""The highest bit of a GUID, which those of Bedrock clients have: newest go-raknet
refuses any other client, and then its host for ten seconds."""


ProfileName: TypeAlias = Literal["default", "go-raknet-2023"]

Congestion: TypeAlias = Literal["bbr", "cubic", "none"]

_VERSION = Integer(0, 255)


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class RakNetEndpoint(Endpoint):
    """One side of RakNet."""

    guid: int | None = option(
        HexNumber(16), None, "Number of 64 bits that names this end. Left out: a random one."
    )
    protocol: int | Collection[int] = option(
        Several(_VERSION),
        PROTOCOL,
        "Versions of the protocol that are accepted: 11 for today's Bedrock.",
    )
    magic: bytes | None = option(
        HexBytes(len(MAGIC)),
        None,
        "Marks datagrams outside of sessions, for games with their own. Left out: the usual one.",
    )
    profile: ProfileName = option(
        Choice(ProfileName), "default", "Named set of a session's numbers."
    )
    mtu: int | None = option(
        Integer(400, 1492),
        None,
        "Longest IP packet as the wire counts it: UDP payload and 28 bytes.",
        profiled=True,
    )
    mode: ModeName = option(
        Choice(ModeName), "stream", "Bytes without borders, or messages that keep theirs."
    )
    userId: int | None = option(
        HexNumber(2, low=0x80),
        None,
        "First byte of the messages that carry a stream.",
        profiled=True,
    )
    password: InitVar[str] = option(
        ShortText(255),
        "",
        "What a connection request must bring; sent in the clear.",
        secret=True,
    )
    dscp: int = option_of(SOCKET_SETTINGS["dscp"])
    idleTimeout: float | None = option(
        Seconds(0.1),
        None,
        "Seconds without anything from the peer until it counts as gone.",
        profiled=True,
    )
    congestion: Congestion | None = option(
        Choice(Congestion),
        None,
        "Congestion control: C{bbr}, at the rate of the path; C{cubic}, less after each loss;"
        " C{none}, what the window of numbers allows.",
        profiled=True,
    )
    settings: Settings | None = option(
        InCode("settings of the engine"),
        None,
        "All numbers of a session, in place of C{protocol}, C{magic}, C{profile}, C{mtu},"
        " C{userId}, C{password}, C{congestion} and C{idleTimeout}.",
    )

    def __post_init__(self, password: str) -> None:
        super().__post_init__()
        self.options()["password"].check(password)
        self._mode = Mode(self.mode)
        self._settings = replace(
            self.settings or self._profiled(password), stream=self._mode is Mode.STREAM
        )
        self._socketOptions = SocketOptions(dscp=self.dscp or None)

    def _profiled(self, password: str) -> Settings:
        versions = self._versions()
        magic = bytes.fromhex(self.magic) if isinstance(self.magic, str) else self.magic
        given = {
            "protocol": max(versions),
            "accepted": versions,
            "magic": magic,
            "user_id": self.userId,
            "password": password.encode(),
            "congestion": self.congestion,
            "timeout": None if self.idleTimeout is None else int(self.idleTimeout * SECOND),
        }
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        chosen = replace(PROFILES[self.profile], **changes)
        if self.mtu is None:
            return chosen
        return replace(chosen, mtu=self.mtu, mtu_min=min(self.mtu, chosen.mtu_min))

    def _versions(self) -> frozenset[int]:
        """The versions as a set."""
        given = self.protocol
        return frozenset({given} if isinstance(given, int) else given)

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


@documented
@implementer(IAnswersPings)
@dataclass(kw_only=True, eq=False, repr=False)
class RakNetServerEndpoint(RakNetEndpoint, ServerEndpoint):
    """
    Listens for RakNet sessions and answers pings:
    C{RakNetServerEndpoint(reactor, port, ...)}. With C{cookies} nobody is in C{backlog}.
    """

    motd: str = option(ShortText(MAX_PONG_DATA - 2), "", "Text of the answers to pings.")
    cookies: bool = option(Flag(), True, "Peers validate their address before there is a session.")
    pongData: Callable[[], bytes | str] | None = option(
        InCode("a function without arguments"),
        None,
        "Called for each answer to a ping, in place of C{motd}: a text, or its bytes with or"
        " without their length in front.",
    )
    banned: Callable[[Address], bool] | None = option(
        InCode("a function of an address"),
        None,
        "Which addresses get nothing but the answer that says so.",
    )
    limitFrequency: bool = option(
        Flag(), False, "Refuse a second session from one host within 100 ms."
    )

    def __post_init__(self, password: str) -> None:
        super().__post_init__(password)
        data = pack_text(self.motd)
        self._pongData = self.pongData or (lambda: data)

    def share(self, share: Share) -> None:
        """See L{ServerEndpoint.share}. The GUID is that of all the processes."""
        super().share(share)
        if self.guid is None:
            self.guid = int.from_bytes(share.derive(b"guid", 8), "big") or 1

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
            cookies=self._cookies() if self.cookies else None,
            banned=self.banned,
            limit_frequency=self.limitFrequency,
        )

    # More than the interface promises: type checkers let a caller use all of the port.
    def answerPings(self) -> defer.Deferred[PongPort]:  # type: ignore[override]
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
            self._listeningSocket(),
        )


@documented
@implementer(IPingable)
@dataclass(kw_only=True, eq=False, repr=False)
class RakNetClientEndpoint(RakNetEndpoint, ClientEndpoint):
    """
    Dials a RakNet listener, or pings it: C{RakNetClientEndpoint(reactor, host, port,
    ...)}. Random GUIDs have the highest bit set.
    """

    protocol: int | Collection[int] = option(
        _VERSION, PROTOCOL, "Version of the protocol: 11 for today's Bedrock."
    )

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
