"""
KCP endpoints: any Twisted stream protocol over KCP.

C{KCPServerEndpoint(reactor, 4000)} and C{KCPClientEndpoint(reactor, host, 4000)}
work as they are, at full speed, and talk to C{kcp.Dial} and C{kcp.Listen} of
kcp-go. Each argument has the same name in the endpoint strings C{kcp:...}.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.logger import Logger

from twisted_rudp.core.checking import nanoseconds, require_choice, require_flag, require_within
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import SECOND, Address, Demultiplexer
from twisted_rudp.core.serial import MASK32
from twisted_rudp.endpoints.base import (
    ClientEndpoint,
    Endpoint,
    ServerEndpoint,
    idleNanoseconds,
    profiled,
)
from twisted_rudp.kcp import snmp
from twisted_rudp.kcp.crypto import (
    CIPHERS,
    XOR_REACH,
    Secret,
    from_hex,
    from_password,
    make_crypt,
    overhead_of,
)
from twisted_rudp.kcp.demux import Accept, Blacklist, KCPDemultiplexer, Rules
from twisted_rudp.kcp.life import Role
from twisted_rudp.kcp.session import KCPSession
from twisted_rudp.kcp.settings import PROFILES, SessionOptions, SessionRule, payload_mtu
from twisted_rudp.kcp.snmp import SNMPCounters
from twisted_rudp.net.connect import MakeSession, Mode, binding
from twisted_rudp.net.table import Limits
from twisted_rudp.net.udp.options import LARGEST_BUFFER
from twisted_rudp.net.udp.port import SocketOptions


def secretFor(
    crypt: str | None, key: str | None, password: str | None, keyFile: str | None
) -> Secret:
    """
    The cipher and its key, of which at most one source is given.

    @raise ValueError: something about them is not right; repeats no secret.
    """
    given = [
        name
        for name, value in (("key", key), ("password", password), ("keyFile", keyFile))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: give one of them")
    if keyFile is not None:
        try:
            key = Path(keyFile).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "not a text file"
            raise ValueError(f"keyFile={keyFile!r}: {problem}") from None
    if key is not None:
        return Secret(crypt, from_hex(key))
    if password is not None:
        if not password:
            raise ValueError("password: an empty one protects nothing")
        return Secret(crypt, from_password(password))
    return Secret(crypt, None)


IDLE_TIMEOUT = 60.0
"""Seconds of silence after which a peer counts as gone; it is probed at a third and
at two thirds of them."""

FIRST_CONV = 1
"""Instead of 0, which some listeners take for "give me one"."""

BUFFER = 4 << 20
"""Bytes asked of the system for each direction of a socket."""


@dataclass(kw_only=True, eq=False, repr=False)
class KCPEndpoint(Endpoint):
    """
    One side of KCP.

    @ivar profile: C{default}, C{normal}, C{fast}, C{fast2} or C{fast3}; see
        L{PROFILES<twisted_rudp.kcp.settings.PROFILES>}. The following, if given,
        take the place of the profile's numbers:
    @ivar nodelay: 0, 1 or 2.
    @ivar interval: milliseconds, 10 to 5000.
    @ivar resend: later acknowledgements that make a segment lost; 0: never.
    @ivar nc: no congestion window.
    @ivar sndwnd: send window in segments.
    @ivar rcvwnd: receive window in segments.
    @ivar congestion: C{tolerant} or C{kcp-go}, where C{nc} is not set; see
        L{Settings<twisted_rudp.kcp.settings.Settings>}.
    @ivar deadLink: end the session when one segment was sent so often; 0: never,
        which is best.
    @ivar mtu: longest UDP payload, what FEC and encryption add included; kcp-go
        reads up to 1500, since 5.7 up to 1472.
    @ivar mode: C{stream} or C{messages}.
    @ivar crypt: name of the cipher, one of
        L{CIPHERS<twisted_rudp.kcp.crypto.CIPHERS>} or C{null}. Left out: C{aes}
        with a key, C{null} without.
    @ivar key: in hexadecimal digits. Like C{password} it cannot be read afterwards.
    @ivar password: makes the key as kcptun's C{--key} does.
    @ivar keyFile: a file with the key in hexadecimal digits.
    @ivar dataShards: data packets of an FEC group; 0: send without FEC.
    @ivar parityShards: parity packets of a group.
    @ivar alwaysParity: send parity after pauses too.
    @ivar dup: send each datagram so often again, to test networks.
    @ivar rateLimit: bytes a second; 0: no limit.
    @ivar writeDelay: let what is written wait for the next interval.
    @ivar ackNoDelay: acknowledge at the end of each turn; False: wait up to an
        interval for company.
    @ivar readTimeout: seconds without data from the peer until the session ends;
        0: never.
    @ivar writeTimeout: seconds for which nothing of what was written is
        acknowledged until the session ends; 0: never.
    @ivar dscp: 0 to 63.
    @ivar readBuffer: bytes asked of the system for what was not read yet.
    @ivar writeBuffer: the same for what could not leave yet.
    @ivar idleTimeout: seconds of silence until a peer counts as gone.
    """

    profile: str = "default"
    nodelay: int | None = None
    interval: int | None = None
    resend: int | None = None
    nc: bool | None = None
    sndwnd: int | None = None
    rcvwnd: int | None = None
    congestion: str | None = None
    deadLink: int | None = None
    mtu: int = 1400
    mode: str = "stream"
    crypt: str | None = None
    key: InitVar[str | None] = None
    password: InitVar[str | None] = None
    keyFile: str | None = None
    dataShards: int = 0
    parityShards: int = 0
    alwaysParity: bool = False
    dup: int = 0
    rateLimit: int = 0
    writeDelay: bool = False
    ackNoDelay: bool = True
    readTimeout: float = 0
    writeTimeout: float = 0
    dscp: int = 0
    readBuffer: int = BUFFER
    writeBuffer: int = BUFFER
    idleTimeout: float = IDLE_TIMEOUT

    _log = Logger()

    def __post_init__(self, key: str | None, password: str | None) -> None:
        super().__post_init__()
        self._secret = secretFor(self.crypt, key, password, self.keyFile)
        self._options = SessionOptions(
            data_shards=self.dataShards,
            parity_shards=self.parityShards,
            always_parity=self.alwaysParity,
            dup=self.dup,
            rate_limit=self.rateLimit,
            write_delay=self.writeDelay,
            ack_no_delay=self.ackNoDelay,
            read_timeout=nanoseconds("readTimeout", self.readTimeout),
            write_timeout=nanoseconds("writeTimeout", self.writeTimeout),
        )
        self._overhead = overhead_of(self._secret.crypt)
        self._mode = require_choice("mode", self.mode, Mode)
        if self.nc is not None:
            require_flag("nc", self.nc)
        self._settings = profiled(
            PROFILES,
            self.profile,
            nodelay=self.nodelay,
            interval=self.interval,
            resend=self.resend,
            nc=None if self.nc is None else int(self.nc),
            sndwnd=self.sndwnd,
            rcvwnd=self.rcvwnd,
            congestion=self.congestion,
            dead_link=self.deadLink,
            mtu=self._kcpMTU(),
            stream=self._mode is Mode.STREAM,
        )
        require_within("dscp", self.dscp, 0, 63)
        require_within("readBuffer", self.readBuffer, 1, LARGEST_BUFFER)
        require_within("writeBuffer", self.writeBuffer, 1, LARGEST_BUFFER)
        self._socketOptions = SocketOptions(
            dscp=self.dscp or None,
            receiveBuffer=self.readBuffer,
            sendBuffer=self.writeBuffer,
        )
        self._idleTimeout = idleNanoseconds(self.idleTimeout)

    def _kcpMTU(self) -> int:
        """
        What encryption and FEC leave of C{mtu}.

        @raise ValueError: that is too little.
        """
        left = payload_mtu(self.mtu, self._overhead + self._options.overhead)
        if self._secret.crypt == "xor" and self.mtu > XOR_REACH:
            raise ValueError(f"mtu={self.mtu!r}: crypt=xor covers {XOR_REACH} bytes")
        return left

    def _demux(
        self,
        accept: Accept | None = None,
        cookies: Cookies | None = None,
        rules: Rules | None = None,
    ) -> KCPDemultiplexer:
        """A demultiplexer with cipher contexts of its own."""
        secret = self._secret
        if secret.crypt in CIPHERS and CIPHERS[secret.crypt].slow:
            self._log.warn(
                "crypt={crypt} is computed in Python, some hundred times slower than aes",
                crypt=secret.crypt,
            )
        return KCPDemultiplexer(
            accept,
            cookies,
            self._settings.rcvwnd,
            crypt=make_crypt(secret.crypt, secret.reveal(), self.entropy),
            rules=rules or Rules(),
            snmp=SNMPCounters(snmp.process),
        )

    def _randomConv(self) -> int:
        """A conversation that the peer most likely has not; never 0."""
        return int.from_bytes(self.entropy(4), "little") or FIRST_CONV

    def _engine(
        self, demux: KCPDemultiplexer, conv: int, address: Address, now: int, **named: Any
    ) -> KCPSession:
        """A session for a socket with this demultiplexer."""
        return KCPSession(
            conv,
            address,
            self._settings,
            now=now,
            epoch=int.from_bytes(self.entropy(4), "little"),
            idle_timeout=self._idleTimeout,
            options=self._options,
            overhead=self._overhead,
            snmp=demux.snmp,
            signs=demux.signs,
            **named,
        )


REUSE_PAUSE = 40
"""
Seconds for which a conversation that was asked for cannot be had again from the same
port: four times the longest linger (kcp-close.md 7.3).
"""


@dataclass(kw_only=True, eq=False, repr=False)
class KCPServerEndpoint(KCPEndpoint, ServerEndpoint):
    """
    Listens for KCP sessions: C{KCPServerEndpoint(reactor, port, ...)}. The arguments
    not named here are those of L{ServerEndpoint} and L{KCPEndpoint}.

    @ivar perHost: how much of C{backlog} one IPv4 address or IPv6 /64 may take.
    @ivar sessions: C{conversation}, C{address} or C{replace}; see
        L{SessionRule<twisted_rudp.kcp.settings.SessionRule>}.
    @ivar blacklist: seconds after its end for which a conversation is not let in
        again; 0: only the few that its tombstone lasts.
    @ivar requireSn0: a session begins with segment 0 or a window probe.
    """

    perHost: int = 32
    sessions: str = "conversation"
    blacklist: float = 0
    requireSn0: bool = False

    def __post_init__(self, key: str | None, password: str | None) -> None:
        super().__post_init__(key, password)
        require_within("perHost", self.perHost, 1, 65_535)
        require_flag("requireSn0", self.requireSn0)
        self._rules = Rules(
            require_choice("sessions", self.sessions, SessionRule),
            nanoseconds("blacklist", self.blacklist),
            self.requireSn0,
        )

    def _limits(self) -> Limits:
        return replace(super()._limits(), perHost=self.perHost)

    def _listeningDemux(self) -> KCPDemultiplexer:
        cookies = Cookies(self.entropy(32))

        def accept(conv: int, address: Address, now: int) -> KCPSession:
            return self._engine(demux, conv, address, now, role=Role.LISTENER, cookies=cookies)

        demux = self._demux(accept, cookies, self._rules)
        return demux

    def _dialler(self, demux: Demultiplexer) -> MakeSession:
        assert isinstance(demux, KCPDemultiplexer)

        def dial(address: Address, now: int) -> tuple[KCPDemultiplexer, KCPSession]:
            conv = self._randomConv()
            return demux, self._engine(demux, conv, address, now, role=Role.DIALLER)

        return dial


@dataclass(kw_only=True, eq=False, repr=False)
class KCPClientEndpoint(KCPEndpoint, ClientEndpoint):
    """
    Dials a KCP listener: C{KCPClientEndpoint(reactor, host, port, ...)}. The arguments
    not named here are those of L{ClientEndpoint} and L{KCPEndpoint}.

    @ivar waitForPeer: connected when the peer has answered; False: at once, which
        tells nothing about the peer.
    @ivar conv: the conversation, 32 bits, for peers that go by a number agreed on,
        as many programs on the C library do. Left out: a random one for each
        connection, which is best. Between two connections from one port of ours
        with the same number there must be L{REUSE_PAUSE} seconds.
    """

    waitForPeer: bool = True
    conv: int | None = None

    def __post_init__(self, key: str | None, password: str | None) -> None:
        super().__post_init__(key, password)
        require_flag("waitForPeer", self.waitForPeer)
        if self.conv is not None:
            require_within("conv", self.conv, 0, MASK32)
        self._pinned = self.conv is not None and binding(self.bindAddress)[1] != 0
        self._recent = Blacklist(REUSE_PAUSE * SECOND)

    def _diallingSession(self, address: Address, now: int) -> tuple[KCPDemultiplexer, KCPSession]:
        """
        A session with a conversation of its own, and a demultiplexer for it.

        @raise error.ConnectBindError: the conversation that was asked for was in use
            from this port just now: the peer would take the new session for the old
            one, and acknowledge what it never delivers (kcp-close.md 7.3).
        """
        conv = self.conv
        if conv is None:
            conv = self._randomConv()
        elif self._pinned and self._recent.has((address, conv), self._now()):
            text = f"conv={conv} was in use from this port less than {REUSE_PAUSE} s ago"
            raise error.ConnectBindError(None, text)  # type: ignore[no-untyped-call]
        demux = self._demux()
        engine = self._engine(
            demux,
            conv,
            address,
            now,
            role=Role.DIALLER,
            own_socket=True,
            wait_for_peer=self.waitForPeer,
            over=self._remember if self._pinned else None,
        )
        return demux, engine

    def _remember(self, key: tuple[Address, int]) -> None:
        """A session is over."""
        self._recent.add(key, self._now())

    def _now(self) -> int:
        return int(self.reactor.seconds() * SECOND)
