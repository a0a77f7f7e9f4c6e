"""
KCP endpoints: any Twisted stream protocol over KCP.

C{KCPServerEndpoint(reactor, 4000)} and C{KCPClientEndpoint(reactor, host, 4000)}
work as they are, at full speed, and talk to C{kcp.Dial} and C{kcp.Listen} of
kcp-go. Each argument has the same name in the endpoint strings C{kcp:...}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import defer, error
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
from twisted_rudp.core.serial import MASK32
from twisted_rudp.endpoints.kcpbase import BUFFER, IDLE_TIMEOUT, Entropy, KCPEndpoint
from twisted_rudp.kcp.blacklist import Blacklist
from twisted_rudp.kcp.checking import nanoseconds, require_choice, require_flag, require_within
from twisted_rudp.kcp.engine import Role
from twisted_rudp.kcp.gate import KCPGate, Rules
from twisted_rudp.kcp.options import SessionRule
from twisted_rudp.kcp.session import KCPSession
from twisted_rudp.net.admission import Limits
from twisted_rudp.net.connecting import binding, connect
from twisted_rudp.net.listening import DRAIN_TIMEOUT, ListeningPort, listen

REUSE_PAUSE = 40
"""
Seconds for which a conversation that was asked for cannot be had again from the same
port: four times the longest linger (kcp_close 7.3).
"""

FIRST_CONV = 1
"""Instead of 0, which some listeners take for "give me one"."""


@implementer(IStreamServerEndpoint)
class KCPServerEndpoint(KCPEndpoint):
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
        perHost: int = 32,
        sessions: str = "conversation",
        blacklist: float = 0,
        requireSn0: bool = False,
        drainTimeout: float = DRAIN_TIMEOUT,
        profile: str = "default",
        nodelay: int | None = None,
        interval: int | None = None,
        resend: int | None = None,
        nc: bool | None = None,
        sndwnd: int | None = None,
        rcvwnd: int | None = None,
        congestion: str | None = None,
        deadLink: int | None = None,
        mtu: int = 1400,
        mode: str = "stream",
        crypt: str | None = None,
        key: str | None = None,
        password: str | None = None,
        keyFile: str | None = None,
        dataShards: int = 0,
        parityShards: int = 0,
        alwaysParity: bool = False,
        dup: int = 0,
        rateLimit: int = 0,
        writeDelay: bool = False,
        ackNoDelay: bool = True,
        readTimeout: float = 0,
        writeTimeout: float = 0,
        dscp: int = 0,
        readBuffer: int = BUFFER,
        writeBuffer: int = BUFFER,
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
        @param perHost: how much of C{backlog} one IPv4 address or IPv6 /64 may
            take.
        @param sessions: C{conversation}, C{address} or C{replace}; see
            L{SessionRule<twisted_rudp.kcp.options.SessionRule>}.
        @param blacklist: seconds after its end for which a conversation is not
            let in again; 0: only the few that its tombstone lasts.
        @param requireSn0: a session begins with segment 0 or a window probe.
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
        @param congestion: C{tolerant} or C{kcp-go}, where C{nc} is not set; see
            L{Settings<twisted_rudp.kcp.profiles.Settings>}.
        @param deadLink: end the session when one segment was sent so often; 0:
            never, which is best.
        @param mtu: longest UDP payload, what FEC and encryption add included;
            kcp-go reads up to 1500, since 5.7 up to 1472.
        @param mode: C{stream} or C{messages}.
        @param crypt: name of the cipher, one of
            L{CIPHERS<twisted_rudp.kcp.ciphers.CIPHERS>} or C{null}. Left out: C{aes}
            with a key, C{null} without.
        @param key: in hexadecimal digits.
        @param password: makes the key as kcptun's C{--key} does.
        @param keyFile: a file with the key in hexadecimal digits.
        @param dataShards: data packets of an FEC group; 0: send without FEC.
        @param parityShards: parity packets of a group.
        @param alwaysParity: send parity after pauses too.
        @param dup: send each datagram so often again, to test networks.
        @param rateLimit: bytes a second; 0: no limit.
        @param writeDelay: let what is written wait for the next interval.
        @param ackNoDelay: acknowledge at the end of each turn; False: wait up to
            an interval for company.
        @param readTimeout: seconds without data from the peer until the session
            ends; 0: never.
        @param writeTimeout: seconds for which nothing of what was written is
            acknowledged until the session ends; 0: never.
        @param dscp: 0 to 63.
        @param readBuffer: bytes asked of the system for what was not read yet;
            what it granted is among the port's facts.
        @param writeBuffer: the same for what could not leave yet.
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
            congestion=congestion,
            deadLink=deadLink,
            mtu=mtu,
            mode=mode,
            crypt=crypt,
            key=key,
            password=password,
            keyFile=keyFile,
            dataShards=dataShards,
            parityShards=parityShards,
            alwaysParity=alwaysParity,
            dup=dup,
            rateLimit=rateLimit,
            writeDelay=writeDelay,
            ackNoDelay=ackNoDelay,
            readTimeout=readTimeout,
            writeTimeout=writeTimeout,
            dscp=dscp,
            readBuffer=readBuffer,
            writeBuffer=writeBuffer,
            idleTimeout=idleTimeout,
            portKind=portKind,
            entropy=entropy,
        )
        require_within("port", port, 0, 65_535)
        for name, count in (
            ("backlog", backlog),
            ("maxSessions", maxSessions),
            ("perHost", perHost),
        ):
            require_within(name, count, 1, 1_000_000)
        require_flag("requireSn0", requireSn0)
        rule = require_choice("sessions", sessions, SessionRule)
        nanoseconds("drainTimeout", drainTimeout)
        self._port = port
        self._interface = interface
        self._limits = Limits(backlog=backlog, perHost=perHost, maxSessions=maxSessions)
        self._rules = Rules(rule, nanoseconds("blacklist", blacklist), requireSn0)
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

        def accept(conv: int, address: Address, now: int) -> KCPSession:
            return self._engine(gate, conv, address, now, role=Role.LISTENER, cookies=cookies)

        gate = self._gate(accept, cookies, self._rules)
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


@implementer(IStreamClientEndpoint)
class KCPClientEndpoint(KCPEndpoint):
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
        conv: int | None = None,
        profile: str = "default",
        nodelay: int | None = None,
        interval: int | None = None,
        resend: int | None = None,
        nc: bool | None = None,
        sndwnd: int | None = None,
        rcvwnd: int | None = None,
        congestion: str | None = None,
        deadLink: int | None = None,
        mtu: int = 1400,
        mode: str = "stream",
        crypt: str | None = None,
        key: str | None = None,
        password: str | None = None,
        keyFile: str | None = None,
        dataShards: int = 0,
        parityShards: int = 0,
        alwaysParity: bool = False,
        dup: int = 0,
        rateLimit: int = 0,
        writeDelay: bool = False,
        ackNoDelay: bool = True,
        readTimeout: float = 0,
        writeTimeout: float = 0,
        dscp: int = 0,
        readBuffer: int = BUFFER,
        writeBuffer: int = BUFFER,
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
        @param conv: the conversation, 32 bits, for peers that go by a number agreed
            on, as many programs on the C library do. Left out: a random one for each
            connection, which is best. Between two connections from one port of ours
            with the same number there must be L{REUSE_PAUSE} seconds.
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
            congestion=congestion,
            deadLink=deadLink,
            mtu=mtu,
            mode=mode,
            crypt=crypt,
            key=key,
            password=password,
            keyFile=keyFile,
            dataShards=dataShards,
            parityShards=parityShards,
            alwaysParity=alwaysParity,
            dup=dup,
            rateLimit=rateLimit,
            writeDelay=writeDelay,
            ackNoDelay=ackNoDelay,
            readTimeout=readTimeout,
            writeTimeout=writeTimeout,
            dscp=dscp,
            readBuffer=readBuffer,
            writeBuffer=writeBuffer,
            idleTimeout=idleTimeout,
            portKind=portKind,
            entropy=entropy,
        )
        require_within("port", port, 1, 65_535)
        require_flag("waitForPeer", waitForPeer)
        nanoseconds("timeout", timeout, least=0.001)
        if conv is not None:
            require_within("conv", conv, 0, MASK32)
        self._host = host
        self._port = port
        self._conv = conv
        self._recent = Blacklist(REUSE_PAUSE * SECOND)
        self._pinned = conv is not None and binding(bindAddress)[1] != 0
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

    def _session(self, address: Address, now: int) -> tuple[KCPGate, KCPSession]:
        """
        A session with a conversation of its own, and a gate for it.

        @raise error.ConnectBindError: the conversation that was asked for was in use
            from this port just now: the peer would take the new session for the old
            one, and acknowledge what it never delivers (kcp_close 7.3).
        """
        conv = self._conv
        if conv is None:
            conv = int.from_bytes(self._entropy(4), "little") or FIRST_CONV
        elif self._pinned and self._recent.has((address, conv), self._now()):
            text = f"conv={conv} was in use from this port less than {REUSE_PAUSE} s ago"
            raise error.ConnectBindError(None, text)  # type: ignore[no-untyped-call]
        gate = self._gate()
        engine = self._engine(
            gate,
            conv,
            address,
            now,
            role=Role.DIALLER,
            own_socket=True,
            wait_for_peer=self._waitForPeer,
            over=self._remember if self._pinned else None,
        )
        return gate, engine

    def _remember(self, key: tuple[Address, int]) -> None:
        """
        A session is over.
        """
        self._recent.add(key, self._now())

    def _now(self) -> int:
        return int(self._reactor.seconds() * SECOND)
