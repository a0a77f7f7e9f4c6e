"""
RakNet endpoints: any Twisted stream protocol over RakNet, or messages.

C{RakNetServerEndpoint(reactor, 19132)} and C{RakNetClientEndpoint(reactor, host,
19132)} work as they are. Each argument has the same name in the endpoint strings
C{raknet:...}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import SECOND, Address
from twisted_rudp.endpoints.pinging import Pinging, PongPort
from twisted_rudp.interfaces import IAnswersPings, IPingable, Pong
from twisted_rudp.net.admission import Limits
from twisted_rudp.net.connecting import connect
from twisted_rudp.net.listening import DRAIN_TIMEOUT, ListeningPort, listen
from twisted_rudp.net.making import Mode
from twisted_rudp.net.port import PortKind, SocketOptions
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.gate import MAX_PONG_DATA, RakNetGate
from twisted_rudp.raknet.offline import Request2
from twisted_rudp.raknet.pongs import pack_text
from twisted_rudp.raknet.profiles import PROFILES, PROTOCOL, Settings

Entropy = Callable[[int], bytes]

_NEGATIVE = 1 << 63
"""The highest bit of a GUID, which those of Bedrock clients have: newest go-raknet
refuses any other client, and then its host for ten seconds."""


def settingsFor(
    profile: str = "default",
    *,
    protocol: int = PROTOCOL,
    mtu: int | None = None,
    mode: str = Mode.STREAM,
    userId: int | None = None,
    password: str = "",
    idleTimeout: float | None = None,
) -> Settings:
    """
    A named profile with what was given by name in its place.

    @raise ValueError: names the argument, its value and what would be right.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r} is not one of {', '.join(PROFILES)}")
    if idleTimeout is not None and idleTimeout <= 0:
        raise ValueError(f"idleTimeout={idleTimeout!r} is not a positive number of seconds")
    base = PROFILES[profile]
    given: dict[str, Any] = {
        "mtu": mtu,
        "mtu_min": None if mtu is None else min(mtu, base.mtu_min),
        "user_id": userId,
        "timeout": None if idleTimeout is None else int(idleTimeout * SECOND),
    }
    return replace(
        base,
        protocol=protocol,
        accepted=frozenset({protocol}),
        stream=Mode(mode) is Mode.STREAM,
        password=password.encode(),
        **{name: value for name, value in given.items() if value is not None},
    )


class _Endpoint:
    """
    What both sides have in common. Nothing is opened before C{listen},
    C{connect} or a ping (EP-4).
    """

    def __init__(
        self,
        reactor: Any,
        *,
        settings: Settings | None,
        mode: str,
        guid: int | None,
        dscp: int,
        portKind: str,
        entropy: Entropy,
        **numbers: Any,
    ) -> None:
        self._reactor = reactor
        if settings is None:
            self._settings = settingsFor(mode=mode, **numbers)
        else:
            self._settings = replace(settings, stream=Mode(mode) is Mode.STREAM)
        if guid is not None and not 0 <= guid < 1 << 64:
            raise ValueError(f"guid={guid!r} is not a number of 64 bits")
        self._mode = mode
        self._guid = guid
        self._socketOptions = SocketOptions(dscp=dscp or None)
        if portKind != "auto":
            PortKind(portKind)
        self._portKind = portKind
        self._entropy = entropy

    def _newGuid(self) -> int:
        """
        The one that was given, or a random one, which is never 0.
        """
        if self._guid is not None:
            return self._guid
        return int.from_bytes(self._entropy(8), "big") or 1

    def _epoch(self) -> int:
        """
        Where a session's clock starts on the wire: random, so that its echo proves
        an address.
        """
        return int.from_bytes(self._entropy(6), "big")


@implementer(IStreamServerEndpoint, IAnswersPings)
class RakNetServerEndpoint(_Endpoint):
    """
    Listens for RakNet sessions and answers pings.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        *,
        interface: str = "",
        backlog: int = 128,
        maxSessions: int = 4096,
        drainTimeout: float = DRAIN_TIMEOUT,
        motd: str = "",
        cookies: bool = True,
        guid: int | None = None,
        protocol: int = PROTOCOL,
        profile: str = "default",
        mtu: int | None = None,
        mode: str = "stream",
        userId: int | None = None,
        password: str = "",
        dscp: int = 0,
        idleTimeout: float | None = None,
        portKind: str = "auto",
        entropy: Entropy = os.urandom,
        settings: Settings | None = None,
        pongData: Callable[[], bytes] | None = None,
        banned: Callable[[Address], bool] | None = None,
        limitFrequency: bool = False,
    ) -> None:
        """
        @param port: 0 to 65535; 0: any free one.
        @param interface: an IP literal; C{""}: all IPv4 addresses; C{"::"}: all of
            both families.
        @param backlog: sessions whose peer has not proved its address (EP-7); with
            cookies there are none.
        @param maxSessions: all sessions.
        @param drainTimeout: seconds given to live sessions when the port stops.
        @param motd: the text of pongs, at most 397 bytes of UTF-8.
        @param cookies: peers prove their address before there is a session.
        @param guid: 64 bits that name this server; None: random.
        @param protocol: the version that is accepted.
        @param profile: C{default} or C{seed}; see
            L{PROFILES<twisted_rudp.raknet.profiles.PROFILES>}.
        @param mtu: longest IP packet agreed to, as the wire counts it.
        @param mode: C{stream} or C{messages}.
        @param userId: first byte of the messages that carry a stream.
        @param password: what peers must know; not a protection against listeners.
        @param dscp: 0 to 63.
        @param idleTimeout: seconds of silence until a peer counts as gone; None: as
            the profile says.
        @param portKind: C{auto}, C{gso}, C{plain} or C{stock}.
        @param entropy: source of random bytes.
        @param settings: all numbers of a session, in place of C{protocol} to
            C{idleTimeout} but C{mode}.
        @param pongData: called for each pong, in place of C{motd}: what stands
            behind the magic.
        @param banned: which addresses get nothing but that answer.
        @param limitFrequency: refuse a second session from one host within 100 ms.
        @raise ValueError: an argument is not right; names it.
        """
        super().__init__(
            reactor,
            settings=settings,
            mode=mode,
            guid=guid,
            dscp=dscp,
            portKind=portKind,
            entropy=entropy,
            profile=profile,
            protocol=protocol,
            mtu=mtu,
            userId=userId,
            password=password,
            idleTimeout=idleTimeout,
        )
        data = pack_text(motd)
        if len(data) > MAX_PONG_DATA:
            raise ValueError(f"motd: {len(data) - 2} bytes of UTF-8; {MAX_PONG_DATA - 2} at most")
        self._port = port
        self._interface = interface
        self._limits = Limits(backlog=backlog, maxSessions=maxSessions)
        self._drainTimeout = drainTimeout
        self._cookies = cookies
        self._pongData = pongData or (lambda: data)
        self._banned = banned
        self._limitFrequency = limitFrequency

    def __repr__(self) -> str:
        return f"<RakNetServerEndpoint {self._interface or '*'}:{self._port}>"

    def listen(self, factory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        """
        Bind at once and give each session to a protocol of C{factory}.

        @return: fires, or fails with C{CannotListenError}, before this returns
            (EP-2).
        """
        return defer.execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> ListeningPort:
        guid = self._newGuid()

        def accept(request: Request2, address: Address, now: int, proved: bool) -> RakNetEngine:
            return RakNetEngine(
                address,
                self._settings,
                now=now,
                guid=guid,
                epoch=self._epoch(),
                request=request,
                proved=proved,
            )

        gate = RakNetGate(
            self._settings,
            guid,
            accept,
            pong_data=self._pongData,
            cookies=Cookies(self._entropy(32)) if self._cookies else None,
            banned=self._banned,
            limit_frequency=self._limitFrequency,
        )
        return listen(
            self._reactor,
            factory,
            gate,
            interface=self._interface,
            port=self._port,
            portKind=self._portKind,
            socketOptions=self._socketOptions,
            limits=self._limits,
            drainTimeout=self._drainTimeout,
            mode=self._mode,
        )

    def answerPings(self) -> defer.Deferred[IListeningPort]:
        """
        Bind at once and answer pings, without any sessions.

        @return: as of C{listen}.
        """
        return defer.execute(self._answerPings)

    def _answerPings(self) -> PongPort:
        gate = RakNetGate(
            self._settings,
            self._newGuid(),
            pong_data=self._pongData,
            banned=self._banned,
            answer_open=True,
        )
        return PongPort(
            self._reactor,
            gate,
            self._interface,
            self._port,
            self._portKind,
            self._socketOptions,
        )


@implementer(IStreamClientEndpoint, IPingable)
class RakNetClientEndpoint(_Endpoint):
    """
    Dials a RakNet listener, or pings it.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        timeout: float = 10,
        bindAddress: Any = None,
        guid: int | None = None,
        protocol: int = PROTOCOL,
        profile: str = "default",
        mtu: int | None = None,
        mode: str = "stream",
        userId: int | None = None,
        password: str = "",
        dscp: int = 0,
        idleTimeout: float | None = None,
        portKind: str = "auto",
        entropy: Entropy = os.urandom,
        settings: Settings | None = None,
    ) -> None:
        """
        The arguments not named here are those of L{RakNetServerEndpoint}.

        @param host: a name or an IP literal.
        @param port: 1 to 65535.
        @param timeout: seconds to wait for the peer, per address.
        @param bindAddress: a local address, or with a port as a pair (EP-5).
        @param guid: 64 bits that name this client; None: random for each session,
            with the highest bit set.
        @param protocol: the version that is spoken.
        @raise ValueError: an argument is not right; names it.
        """
        super().__init__(
            reactor,
            settings=settings,
            mode=mode,
            guid=guid,
            dscp=dscp,
            portKind=portKind,
            entropy=entropy,
            profile=profile,
            protocol=protocol,
            mtu=mtu,
            userId=userId,
            password=password,
            idleTimeout=idleTimeout,
        )
        self._host = host
        self._port = port
        self._timeout = timeout
        self._bindAddress = bindAddress

    def _newGuid(self) -> int:
        """
        The one that was given, or a random negative one.
        """
        return super()._newGuid() | (_NEGATIVE if self._guid is None else 0)

    def __repr__(self) -> str:
        return f"<RakNetClientEndpoint {self._host}:{self._port}>"

    def connect(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """
        Dial, each attempt on a socket of its own.

        @return: fires with the protocol when the peer has answered; fails as
            CONN-6 says.
        """
        return connect(
            self._reactor,
            factory,
            self._host,
            self._port,
            timeout=self._timeout,
            bindAddress=self._bindAddress,
            session=self._session,
            portKind=self._portKind,
            socketOptions=self._socketOptions,
            mode=self._mode,
        )

    def ping(self) -> defer.Deferred[Pong]:
        """
        Ask what the peer says of itself; there is no session for that.

        @return: fires with the first answer, or fails with
            C{twisted.internet.error.TimeoutError}, or with what kept the host from
            being found.
        """
        ping = Pinging(
            self._reactor,
            self._host,
            self._port,
            self._timeout,
            self._newGuid(),
            self._settings.magic,
            self._epoch(),
        )
        return ping.start()

    def _session(self, address: Address, now: int) -> tuple[RakNetGate, RakNetEngine]:
        guid = self._newGuid()
        engine = RakNetEngine(
            address,
            self._settings,
            now=now,
            guid=guid,
            epoch=self._epoch(),
            own_socket=True,
        )
        return RakNetGate(self._settings, guid), engine
