"""
What the KCP endpoints of both sides have in common: their arguments, and making
demultiplexers and sessions of them.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import Any

from twisted.logger import Logger

from twisted_rudp.core.checking import nanoseconds, require_choice, require_flag, require_within
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import Address
from twisted_rudp.endpoints.base import Endpoint, idleNanoseconds, profiled
from twisted_rudp.endpoints.kcpsecret import secretFor
from twisted_rudp.kcp import snmp
from twisted_rudp.kcp.ciphers import CIPHERS, make_crypt, overhead_of
from twisted_rudp.kcp.demux import Accept, KCPDemultiplexer, Rules
from twisted_rudp.kcp.options import SessionOptions
from twisted_rudp.kcp.profiles import PROFILES, payload_mtu
from twisted_rudp.kcp.scramblers import XOR_REACH
from twisted_rudp.kcp.session import KCPSession
from twisted_rudp.kcp.snmp import Ledger
from twisted_rudp.net.making import Mode
from twisted_rudp.net.port import SocketOptions
from twisted_rudp.net.ports.changing import LARGEST_BUFFER

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
        L{PROFILES<twisted_rudp.kcp.profiles.PROFILES>}. The following, if given,
        take the place of the profile's numbers:
    @ivar nodelay: 0, 1 or 2.
    @ivar interval: milliseconds, 10 to 5000.
    @ivar resend: later acknowledgements that make a segment lost; 0: never.
    @ivar nc: no congestion window.
    @ivar sndwnd: send window in segments.
    @ivar rcvwnd: receive window in segments.
    @ivar congestion: C{tolerant} or C{kcp-go}, where C{nc} is not set; see
        L{Settings<twisted_rudp.kcp.profiles.Settings>}.
    @ivar deadLink: end the session when one segment was sent so often; 0: never,
        which is best.
    @ivar mtu: longest UDP payload, what FEC and encryption add included; kcp-go
        reads up to 1500, since 5.7 up to 1472.
    @ivar mode: C{stream} or C{messages}.
    @ivar crypt: name of the cipher, one of
        L{CIPHERS<twisted_rudp.kcp.ciphers.CIPHERS>} or C{null}. Left out: C{aes}
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
            ledger=Ledger(snmp.process),
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
            ledger=demux.ledger,
            diagnosis=demux.signs,
            **named,
        )
