"""
KCP endpoints: any Twisted stream protocol over KCP.

C{KCPServerEndpoint(reactor, 4000)} and C{KCPClientEndpoint(reactor, host, 4000)}
work as they are, at full speed, and talk to C{kcp.Dial} and C{kcp.Listen} of
kcp-go. Each argument has the same name in the endpoint strings C{kcp:...}.
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
from twisted_rudp.kcp.engine import KCPEngine, Role
from twisted_rudp.kcp.gate import KCPGate
from twisted_rudp.kcp.profiles import PROFILES, Settings
from twisted_rudp.net.admission import Limits
from twisted_rudp.net.connecting import connect
from twisted_rudp.net.listening import DRAIN_TIMEOUT, ListeningPort, listen
from twisted_rudp.net.making import Mode
from twisted_rudp.net.port import PortKind, SocketOptions

IDLE_TIMEOUT = 60.0
"""Seconds of silence after which a peer counts as gone; it is probed at a third and
at two thirds of them."""

Entropy = Callable[[int], bytes]


def settingsFor(
    profile: str = "default",
    *,
    nodelay: int | None = None,
    interval: int | None = None,
    resend: int | None = None,
    nc: bool | None = None,
    sndwnd: int | None = None,
    rcvwnd: int | None = None,
    mtu: int = 1400,
    mode: str = Mode.STREAM,
) -> Settings:
    """
    A named profile with what was given by name in its place.

    @raise ValueError: names the argument, its value and what would be right.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r} is not one of {', '.join(PROFILES)}")
    given: dict[str, Any] = {
        "nodelay": nodelay,
        "interval": interval,
        "resend": resend,
        "nc": None if nc is None else int(nc),
        "sndwnd": sndwnd,
        "rcvwnd": rcvwnd,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(
        PROFILES[profile], mtu=mtu, stream=Mode(mode) is Mode.STREAM, **changes
    )


class _Endpoint:
    """
    What both sides have in common. Nothing is opened before C{listen} or
    C{connect} (EP-4).
    """

    def __init__(
        self,
        reactor: Any,
        *,
        mode: str,
        dscp: int,
        idleTimeout: float,
        portKind: str,
        entropy: Entropy,
        **settings: Any,
    ) -> None:
        self._reactor = reactor
        self._settings = settingsFor(mode=mode, **settings)
        self._mode = mode
        self._socketOptions = SocketOptions(dscp=dscp or None)
        if idleTimeout <= 0:
            raise ValueError(f"idleTimeout={idleTimeout!r} is not a positive number of seconds")
        self._idleTimeout = int(idleTimeout * SECOND)
        if portKind != "auto":
            PortKind(portKind)
        self._portKind = portKind
        self._entropy = entropy

    def _epoch(self) -> int:
        return int.from_bytes(self._entropy(4), "little")


@implementer(IStreamServerEndpoint)
class KCPServerEndpoint(_Endpoint):
    """
    Listens for KCP sessions.
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
        profile: str = "default",
        nodelay: int | None = None,
        interval: int | None = None,
        resend: int | None = None,
        nc: bool | None = None,
        sndwnd: int | None = None,
        rcvwnd: int | None = None,
        mtu: int = 1400,
        mode: str = "stream",
        dscp: int = 0,
        idleTimeout: float = IDLE_TIMEOUT,
        portKind: str = "auto",
        entropy: Entropy = os.urandom,
    ) -> None:
        """
        @param port: 0 to 65535; 0: any free one.
        @param interface: an IP literal; C{""}: all IPv4 addresses; C{"::"}: all of
            both families.
        @param backlog: sessions whose peer has not answered yet (EP-7).
        @param maxSessions: all sessions.
        @param drainTimeout: seconds given to live sessions when the port stops.
        @param profile: C{default}, C{normal}, C{fast}, C{fast2} or C{fast3}; see
            L{PROFILES<twisted_rudp.kcp.profiles.PROFILES>}. The following, if
            given, take the place of the profile's numbers:
        @param nodelay: 0, 1 or 2.
        @param interval: milliseconds, 10 to 5000.
        @param resend: later acknowledgements that make a segment lost; 0: never.
        @param nc: no congestion window.
        @param sndwnd: send window in segments.
        @param rcvwnd: receive window in segments.
        @param mtu: longest UDP payload; kcp-go reads up to 1500.
        @param mode: C{stream} or C{messages}.
        @param dscp: 0 to 63.
        @param idleTimeout: seconds of silence until a peer counts as gone.
        @param portKind: C{auto}, C{gso}, C{plain} or C{stock}.
        @param entropy: source of random bytes.
        @raise ValueError: an argument is not right; names it.
        """
        super().__init__(
            reactor,
            profile=profile,
            nodelay=nodelay,
            interval=interval,
            resend=resend,
            nc=nc,
            sndwnd=sndwnd,
            rcvwnd=rcvwnd,
            mtu=mtu,
            mode=mode,
            dscp=dscp,
            idleTimeout=idleTimeout,
            portKind=portKind,
            entropy=entropy,
        )
        self._port = port
        self._interface = interface
        self._limits = Limits(backlog=backlog, maxSessions=maxSessions)
        self._drainTimeout = drainTimeout

    def __repr__(self) -> str:
        return f"<KCPServerEndpoint {self._interface or '*'}:{self._port}>"

    def listen(self, factory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        """
        Bind at once and give each session to a protocol of C{factory}.

        @return: fires, or fails with C{CannotListenError}, before this returns
            (EP-2).
        """
        return defer.execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> ListeningPort:
        cookies = Cookies(self._entropy(32))

        def accept(conv: int, address: Address, now: int) -> KCPEngine:
            return KCPEngine(
                conv,
                address,
                self._settings,
                now=now,
                epoch=self._epoch(),
                role=Role.LISTENER,
                cookies=cookies,
                idle_timeout=self._idleTimeout,
            )

        return listen(
            self._reactor,
            factory,
            KCPGate(accept, cookies, self._settings.rcvwnd),
            interface=self._interface,
            port=self._port,
            portKind=self._portKind,
            socketOptions=self._socketOptions,
            limits=self._limits,
            drainTimeout=self._drainTimeout,
            mode=self._mode,
        )


@implementer(IStreamClientEndpoint)
class KCPClientEndpoint(_Endpoint):
    """
    Dials a KCP listener.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        timeout: float = 30,
        bindAddress: Any = None,
        waitForPeer: bool = True,
        profile: str = "default",
        nodelay: int | None = None,
        interval: int | None = None,
        resend: int | None = None,
        nc: bool | None = None,
        sndwnd: int | None = None,
        rcvwnd: int | None = None,
        mtu: int = 1400,
        mode: str = "stream",
        dscp: int = 0,
        idleTimeout: float = IDLE_TIMEOUT,
        portKind: str = "auto",
        entropy: Entropy = os.urandom,
    ) -> None:
        """
        The arguments not named here are those of L{KCPServerEndpoint}.

        @param host: a name or an IP literal.
        @param port: 1 to 65535.
        @param timeout: seconds to wait for the peer, per address.
        @param bindAddress: a local address, or with a port as a pair (EP-5).
        @param waitForPeer: connected when the peer has answered; False: at once,
            which tells nothing about the peer.
        @raise ValueError: an argument is not right; names it.
        """
        super().__init__(
            reactor,
            profile=profile,
            nodelay=nodelay,
            interval=interval,
            resend=resend,
            nc=nc,
            sndwnd=sndwnd,
            rcvwnd=rcvwnd,
            mtu=mtu,
            mode=mode,
            dscp=dscp,
            idleTimeout=idleTimeout,
            portKind=portKind,
            entropy=entropy,
        )
        self._host = host
        self._port = port
        self._timeout = timeout
        self._bindAddress = bindAddress
        self._waitForPeer = waitForPeer

    def __repr__(self) -> str:
        return f"<KCPClientEndpoint {self._host}:{self._port}>"

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

    def _session(self, address: Address, now: int) -> tuple[KCPGate, KCPEngine]:
        """
        A session with a conversation of its own: a number used again on the same
        port would be taken for the old one (kcp_close 7.3).
        """
        conv = int.from_bytes(self._entropy(4), "little")
        engine = KCPEngine(
            conv,
            address,
            self._settings,
            now=now,
            epoch=self._epoch(),
            role=Role.DIALLER,
            own_socket=True,
            wait_for_peer=self._waitForPeer,
            idle_timeout=self._idleTimeout,
        )
        return KCPGate(), engine
