"""
KCP endpoints: any Twisted stream protocol over KCP.

C{KCPServerEndpoint(reactor, 4000)} and C{KCPClientEndpoint(reactor, host, 4000)}
work as they are, at full speed, and talk to C{kcp.Dial} and C{kcp.Listen} of
kcp-go. Each argument has the same name in the endpoint strings C{kcp:...}.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from twisted.internet import error
from twisted.logger import Logger

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import SECOND, Address, Demultiplexer
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.serial import MASK32
from twisted_rudp.core.settings import (
    Choice,
    FileName,
    Flag,
    Integer,
    Seconds,
    Text,
    apply,
    option,
    option_from,
    option_of,
)
from twisted_rudp.endpoints.base import (
    ClientEndpoint,
    Endpoint,
    ModeName,
    ServerEndpoint,
    documented,
)
from twisted_rudp.kcp import snmp
from twisted_rudp.kcp.crypto import (
    CIPHERS,
    WITHOUT_KEY,
    XOR_REACH,
    CipherName,
    Secret,
    from_hex,
    from_password,
    make_crypt,
    overhead_of,
)
from twisted_rudp.kcp.demux import Accept, Blacklist, KCPDemultiplexer, Rules
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.mismatch import MismatchSigns
from twisted_rudp.kcp.receiver import UNLIMITED, ReceiveBudget
from twisted_rudp.kcp.settings import (
    FEC,
    PROFILE_OPTIONS,
    PROFILES,
    Congestion,
    ProfileName,
    SessionOptions,
    SessionRule,
    Settings,
    payload_mtu,
)
from twisted_rudp.kcp.snmp import SNMPCounters
from twisted_rudp.net.connect import MakeSession, Mode, binding
from twisted_rudp.net.table import Limits
from twisted_rudp.net.udp.options import SOCKET_SETTINGS
from twisted_rudp.net.udp.port import SocketOptions

FIRST_CONV = 1
"""Instead of 0, which some listeners take for "give me one"."""

REUSE_PAUSE = 40
"""
Seconds for which a conversation that was asked for cannot be had again from the same
port: four times the longest linger (kcp-close.md 7.3).
"""

SessionRuleName: TypeAlias = Literal["conversation", "address", "replace"]


def secretFor(
    crypt: str | None, key: str | bytes | None, password: str | None, keyFile: str | None
) -> Secret:
    """
    The cipher and its key, of which at most one source is given.

    @raise ValueError: they do not go together, or one is invalid; repeats no secret.
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
            digits = Path(keyFile).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "not a text file"
            raise ValueError(f"keyFile={keyFile!r}: {problem}") from None
        try:
            key = from_hex(digits)
        except ValueError:
            raise ValueError(
                f"keyFile={keyFile!r}: pairs of hexadecimal digits are expected"
            ) from None
    if key is not None:
        return Secret(crypt, from_hex(key) if isinstance(key, str) else bytes(key))
    if password is not None:
        if not password:
            raise ValueError("password: an empty one protects nothing")
        return Secret(crypt, from_password(password))
    return Secret(crypt, None)


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class KCPEndpoint(Endpoint):
    """One side of KCP."""

    profile: ProfileName = option(
        Choice(ProfileName),
        "default",
        "Named set of the numbers that follow. C{bulk} is another name of C{default},"
        " C{interactive} sends small messages with FEC, up to half as much again, and repeats them"
        " as soon as they are late; the others are kcptun's.",
    )
    nodelay: int | None = option_from(Settings, "nodelay", profiled=True)
    interval: int | None = option_from(Settings, "interval", profiled=True)
    resend: int | None = option_from(Settings, "resend", profiled=True)
    nc: bool | None = option_from(Settings, "nc", profiled=True)
    sndwnd: int | None = option_from(Settings, "sndwnd", profiled=True)
    rcvwnd: int | None = option_from(Settings, "rcvwnd", profiled=True)
    congestion: Congestion | None = option_from(Settings, "congestion", profiled=True)
    deadLink: int | None = option_from(Settings, "deadLink", profiled=True)
    mtu: int = option_from(Settings, "mtu")
    mode: ModeName = option(
        Choice(ModeName), "stream", "Bytes without borders, or messages that keep theirs."
    )
    crypt: CipherName | None = option(
        Choice(CipherName),
        None,
        "Cipher, by kcptun's name. Left out: C{aes} with a key, C{null} without. C{salsa20} needs"
        " the extra C{legacy}; C{twofish}, C{tea} and C{xtea} are computed in Python and slow.",
    )
    key: InitVar[str | bytes | None] = option(
        Text("hexadecimal digits"),
        None,
        "The key itself; a program may give bytes. In a command line everybody on the machine"
        " sees it.",
        secret=True,
    )
    password: InitVar[str | None] = option(
        Text("any text"),
        None,
        "Password that the key is derived from, as kcptun derives it from its C{--key}.",
        secret=True,
    )
    keyFile: str | None = option(
        FileName(), None, "File that holds the key in hexadecimal digits."
    )
    dataShards: int | None = option_from(SessionOptions, "dataShards", profiled=True)
    parityShards: int | None = option_from(SessionOptions, "parityShards", profiled=True)
    fec: FEC | None = option_from(SessionOptions, "fec", profiled=True)
    alwaysParity: bool = option_from(SessionOptions, "alwaysParity")
    dup: int = option_from(SessionOptions, "dup")
    rateLimit: int = option_from(SessionOptions, "rateLimit")
    writeDelay: bool = option_from(SessionOptions, "writeDelay")
    ackNoDelay: bool = option_from(SessionOptions, "ackNoDelay")
    readTimeout: float = option_from(SessionOptions, "readTimeout")
    writeTimeout: float = option_from(SessionOptions, "writeTimeout")
    dscp: int = option_of(SOCKET_SETTINGS["dscp"])
    readBuffer: int = option_of(SOCKET_SETTINGS["readBuffer"])
    writeBuffer: int = option_of(SOCKET_SETTINGS["writeBuffer"])
    idleTimeout: float = option(
        Seconds(0.1),
        60.0,
        "Seconds without anything from the peer, or without an acknowledgement of what was sent,"
        " until it counts as gone.",
    )
    keepAlive: float = option(
        Seconds(0),
        15.0,
        "Seconds of silence after which the peer is probed, until it answers; 0: only as often as"
        " C{idleTimeout} needs. Address translators forget a silent peer, some after 30 seconds.",
    )

    _log = Logger()

    def __post_init__(self, key: str | bytes | None, password: str | None) -> None:
        super().__post_init__()
        self._secret = secretFor(self.crypt, key, password, self.keyFile)
        given = self._given()
        if self.fec is None and (self.dataShards is not None or self.parityShards is not None):
            # Numbers that are given explicitly stay, whatever the profile says.
            given = {**given, "fec": "fixed"}
        self._options = apply(PROFILE_OPTIONS.get(self.profile, SessionOptions()), given)
        self._overhead = overhead_of(self._secret.crypt)
        self._warned = False
        self._mode = Mode(self.mode)
        profile = replace(PROFILES[self.profile], stream=self._mode is Mode.STREAM)
        self._settings = apply(profile, {**given, "mtu": self._kcpMTU()})
        self._socketOptions = SocketOptions(
            dscp=self.dscp or None,
            receiveBuffer=self.readBuffer,
            sendBuffer=self.writeBuffer,
        )

    @property
    def settings(self) -> Settings:
        """The settings of the ARQ that come of the arguments."""
        return self._settings

    @property
    def authenticates(self) -> bool:
        """There is a key, and a cipher that hides it."""
        return self._secret.crypt not in (*WITHOUT_KEY, "xor")

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
        budget: ReceiveBudget = UNLIMITED,
    ) -> KCPDemultiplexer:
        """A demultiplexer with cipher contexts of its own."""
        secret = self._secret
        self._warn(secret.crypt)
        return KCPDemultiplexer(
            accept,
            cookies,
            self._settings.receive_window,
            crypt=make_crypt(secret.crypt, secret.reveal(), self.entropy),
            rules=rules or Rules(),
            budget=budget,
            snmp=SNMPCounters(snmp.process),
            signs=MismatchSigns(self._layer is not None),
        )

    def _warn(self, crypt: str) -> None:
        """Say once what a person may not expect of the cipher."""
        warning = None
        if self.crypt is None and crypt == "null":
            warning = (
                "nothing is encrypted or authenticated: anyone on the path can read and forge data;"
                " give a key, or crypt=null to confirm"
            )
        elif crypt == "xor":
            warning = "crypt=xor hides nothing from anybody who looks twice; take aes-128-gcm"
        elif crypt in CIPHERS and CIPHERS[crypt].slow:
            warning = f"crypt={crypt} is computed in Python, some hundred times slower than aes"
        if warning is not None and not self._warned:
            self._warned = True
            self._log.warn("{endpoint}: {text}", endpoint=repr(self), text=warning)

    def _randomConv(self) -> int:
        """A conversation that the peer most likely has not; never 0."""
        return int.from_bytes(self.entropy(4), "little") or FIRST_CONV

    def _engine(
        self, demux: KCPDemultiplexer, conv: int, address: Address, now: int, **named: Any
    ) -> KCPEngine:
        """A session for a socket with this demultiplexer."""
        return KCPEngine(
            conv,
            address,
            self._settings,
            now=now,
            epoch=int.from_bytes(self.entropy(4), "little"),
            idle_timeout=int(self.idleTimeout * SECOND),
            keep_alive=int(self.keepAlive * SECOND),
            options=self._options,
            overhead=self._overhead,
            cipher=None if self._secret.crypt == "null" else self._secret.crypt,
            snmp=demux.snmp,
            signs=demux.signs,
            budget=demux.budget,
            **named,
        )


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class KCPServerEndpoint(KCPEndpoint, ServerEndpoint):
    """Listens for KCP sessions: C{KCPServerEndpoint(reactor, port, ...)}."""

    perHost: int = option(
        Integer(1, 65_535), 32, "How much of C{backlog} one IPv4 address or IPv6 /64 may take."
    )
    sessions: SessionRuleName = option(
        Choice(SessionRuleName),
        "conversation",
        "How sessions from one address are distinguished; C{address}: there is one, C{replace}:"
        " there is one and a new one ends it, as kcp-go has it.",
    )
    blacklist: float = option(
        Seconds(0),
        0.0,
        "Seconds for which a conversation that ended is not let in again; 0: only while its late"
        " datagrams are answered.",
    )
    receiveLimit: int = option(
        Integer(1 << 20, 1 << 40),
        256 << 20,
        "Most bytes of received data that all sessions of the port keep together for applications"
        " that do not read. A session of its own keeps at most C{rcvwnd} times C{mtu}.",
    )
    requireSn0: bool = option(
        Flag(), False, "Only the first segment or a window probe opens a session."
    )

    roaming: bool = option(
        Flag(),
        True,
        "Follow a peer of this library whose NAT has given it another address, once it has"
        " answered there.",
    )

    def __post_init__(self, key: str | bytes | None, password: str | None) -> None:
        super().__post_init__(key, password)
        self._rules = Rules(
            SessionRule(self.sessions),
            int(self.blacklist * SECOND),
            self.requireSn0,
            self.roaming,
        )

    def _limits(self) -> Limits:
        return replace(super()._limits(), perHost=self.perHost)

    def _listeningDemux(self) -> KCPDemultiplexer:
        cookies = self._cookies()

        def accept(conv: int, address: Address, now: int) -> KCPEngine:
            return self._engine(demux, conv, address, now, role=Role.SERVER, cookies=cookies)

        demux = self._demux(accept, cookies, self._rules, ReceiveBudget(self.receiveLimit))
        return demux

    def _dialler(self, demux: Demultiplexer) -> MakeSession:
        assert isinstance(demux, KCPDemultiplexer)

        def dial(address: Address, now: int) -> tuple[KCPDemultiplexer, KCPEngine]:
            conv = self._randomConv()
            return demux, self._engine(demux, conv, address, now, role=Role.CLIENT)

        return dial


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class KCPClientEndpoint(KCPEndpoint, ClientEndpoint):
    """Dials a KCP listener: C{KCPClientEndpoint(reactor, host, port, ...)}."""

    waitForPeer: bool = option(
        Flag(),
        True,
        "Connected only when the peer has answered; C{no}: at once, which says nothing about the"
        " peer.",
    )
    conv: int | None = option(
        Integer(0, MASK32),
        None,
        "Conversation, for peers that go by a number agreed on. Left out: a random one for each"
        " connection, which is best.",
    )

    def __post_init__(self, key: str | bytes | None, password: str | None) -> None:
        super().__post_init__(key, password)
        self._pinned = self.conv is not None and binding(self.bindAddress)[1] != 0
        self._recent = Blacklist(REUSE_PAUSE * SECOND)

    def _diallingSession(self, address: Address, now: int) -> tuple[KCPDemultiplexer, KCPEngine]:
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
            role=Role.CLIENT,
            own_socket=True,
            wait_for_peer=self.waitForPeer,
            over=self._remember if self._pinned else None,
        )
        return demux, engine

    def _remember(self, key: tuple[Address, int]) -> None:
        """Note the conversation of a session that has ended."""
        self._recent.add(key, self._now())

    def _now(self) -> int:
        return int(self.reactor.seconds() * SECOND)
