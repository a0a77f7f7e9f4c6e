"""Settings and options of a KCP session, the named profiles, and what may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from twisted_rudp.core.checking import LONGEST_SECONDS, nanoseconds, require_flag, require_within
from twisted_rudp.core.engine import SECOND
from twisted_rudp.kcp.fec import FEC_OVERHEAD
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS
from twisted_rudp.kcp.wire import HEADER_SIZE

MAXIMUM_WINDOW = 65_535
"""The wire's window field has 16 bits (kcp.md 1.6)."""

MAXIMUM_MTU = 65_507
"""Longest payload of a UDP datagram over IPv4."""

_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "nodelay": (0, 2),
        "interval": (10, 5_000),
        "resend": (0, 1_000),
        "nc": (0, 1),
        "sndwnd": (1, MAXIMUM_WINDOW),
        "rcvwnd": (1, MAXIMUM_WINDOW),
        "mtu": (HEADER_SIZE + 1, MAXIMUM_MTU),
        "dead_link": (0, 1_000_000),
        "probe_wait": (1, 120_000),
    }
)

CONGESTION = ("tolerant", "kcp-go")
"""The congestion windows there are."""


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What both directions of a session go by. Times are milliseconds, windows are
    segments.

    @ivar nodelay: 0: least timeout 100, a segment's timeout grows by a whole
        one at each expiry. 1 or 2: least timeout 30, it grows by half a one.
    @ivar interval: allowance for the peer's timer, 10 .. 5000; no timeout is
        less than the round trip and this.
    @ivar resend: send a segment again once so many later ones were
        acknowledged; 0 never does that.
    @ivar nc: 1 switches congestion control off.
    @ivar congestion: how loss is judged: C{tolerant}, up to an eighth for noise
        (L{TolerantWindow<twisted_rudp.core.congestion.TolerantWindow>} if C{nc} is
        0), or C{kcp-go}, as the original does, whose window shrinks at every loss.
    @ivar sndwnd: most segments in flight, 1 .. 65535.
    @ivar rcvwnd: most segments held for the application, 1 .. 65535.
    @ivar mtu: longest datagram of the ARQ, its 24-byte headers included and
        what encryption and FEC add excluded; 25 .. 65507.
    @ivar stream: bytes without borders; False: messages.
    @ivar dead_link: end the session when a segment was sent so often (kcp-go
        marks it at 20); 0 never does, and is best: kcp.md 10.8.
    @ivar probe_wait: a window of 0 is first asked about after this.
    """

    nodelay: int = 1
    interval: int = 10
    resend: int = 2
    nc: int = 0
    congestion: str = "tolerant"
    sndwnd: int = 1024
    rcvwnd: int = 1024
    mtu: int = 1400
    stream: bool = True
    dead_link: int = 0
    probe_wait: int = 500

    def __post_init__(self) -> None:
        """
        @raise ValueError: a value is out of its range.
        """
        for name, (least, most) in _RANGES.items():
            require_within(name, getattr(self, name), least, most)
        require_flag("stream", self.stream)
        if self.congestion not in CONGESTION:
            raise ValueError(
                f"congestion={self.congestion!r} is not one of {', '.join(CONGESTION)}"
            )

    @property
    def mss(self) -> int:
        """Payload bytes of a full segment."""
        return self.mtu - HEADER_SIZE

    @property
    def minimum_timeout(self) -> int:
        """Least retransmission timeout (kcp.md 1.3)."""
        return 30 if self.nodelay else 100


def payload_mtu(mtu: int, headers: int) -> int:
    """
    What the ARQ may fill of datagrams of at most C{mtu} bytes.

    @param headers: what encryption and FEC take of them.
    @raise ValueError: such datagrams do not exist, or have no room for data.
    """
    require_within("mtu", mtu, HEADER_SIZE + 1, MAXIMUM_MTU)
    if mtu - headers <= HEADER_SIZE:
        raise ValueError(
            f"mtu={mtu!r} leaves nothing for data: crypt and FEC take {headers} bytes,"
            f" KCP {HEADER_SIZE}"
        )
    return mtu - headers


PROFILES: Mapping[str, Settings] = MappingProxyType(
    {
        # nodelay 1, interval 10, resend 2, windows 1024, congestion window on.
        "default": Settings(),
        # kcptun's tuples with its client windows grown to our default.
        "normal": Settings(nodelay=0, interval=40, resend=2, nc=1),
        "fast": Settings(nodelay=0, interval=30, resend=2, nc=1),
        "fast2": Settings(nodelay=1, interval=20, resend=2, nc=1),
        "fast3": Settings(nodelay=1, interval=10, resend=2, nc=1),
    }
)
"""
Named profiles. C{default} is the product's own: immediate retransmission with
congestion control. C{normal} to C{fast3} are kcptun's modes, from patient to
eager, all without congestion control. All have windows of 1024 segments.
"""


LONGEST = LONGEST_SECONDS * SECOND

MAXIMUM_COPIES = 16

_OPTION_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "data_shards": (0, MAXIMUM_SHARDS - 1),
        "parity_shards": (0, MAXIMUM_SHARDS - 1),
        "dup": (0, MAXIMUM_COPIES),
        "rate_limit": (0, 1 << 50),
        "read_timeout": (0, LONGEST),
        "write_timeout": (0, LONGEST),
    }
)


class SessionRule(Enum):
    """What a listener tells sessions of one address apart by (kcp.md 5.3)."""

    CONVERSATION = "conversation"
    """Each conversation is a session: the second seed's rule."""

    ADDRESS = "address"
    """One session an address; other conversations are refused while it lives:
    the first seed's rule."""

    REPLACE = "replace"
    """One session an address; a new conversation ends the old session: kcp-go's
    rule today. Whoever can forge an address can end its session."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """
    Options of one session.

    @ivar data_shards: data packets of an FEC group; 0: nothing is sent with
        FEC. What comes with FEC is understood in any case.
    @ivar parity_shards: parity packets of a group; 0: as above.
    @ivar always_parity: send parity also after pauses (kcp.md 3.2).
    @ivar dup: send each datagram so often again, to test networks.
    @ivar rate_limit: bytes of UDP payload a second; 0: no limit.
    @ivar write_delay: let written data wait for the next interval, so that more
        can join it.
    @ivar ack_no_delay: acknowledge at the end of each turn in which data came.
        False: let an acknowledgement wait up to an interval for company.
    @ivar read_timeout: nanoseconds without data from the peer after which the
        session ends; 0: none.
    @ivar write_timeout: nanoseconds for which nothing of what was written is
        acknowledged after which the session ends; 0: none.
    """

    data_shards: int = 0
    parity_shards: int = 0
    always_parity: bool = False
    dup: int = 0
    rate_limit: int = 0
    write_delay: bool = False
    ack_no_delay: bool = True
    read_timeout: int = 0
    write_timeout: int = 0

    def __post_init__(self) -> None:
        """
        @raise ValueError: a value is out of its range, or only one of the two
            shard numbers is given.
        """
        for name, (least, most) in _OPTION_RANGES.items():
            require_within(name, getattr(self, name), least, most)
        for name in ("always_parity", "write_delay", "ack_no_delay"):
            require_flag(name, getattr(self, name))
        if bool(self.data_shards) != bool(self.parity_shards):
            raise ValueError(
                f"dataShards={self.data_shards}, parityShards={self.parity_shards}:"
                " FEC needs both, and without it both are 0"
            )
        if self.data_shards + self.parity_shards > MAXIMUM_SHARDS:
            raise ValueError(
                f"dataShards={self.data_shards}, parityShards={self.parity_shards}:"
                f" together more than {MAXIMUM_SHARDS}"
            )

    @property
    def protects(self) -> bool:
        """What is sent is sent with FEC."""
        return bool(self.data_shards)

    @property
    def overhead(self) -> int:
        """Bytes that FEC adds to a datagram."""
        return FEC_OVERHEAD if self.data_shards else 0


_SETTINGS = {
    "congestion": "congestion",
    "deadLink": "dead_link",
    "interval": "interval",
    "mtu": "mtu",
    "nc": "nc",
    "nodelay": "nodelay",
    "rcvwnd": "rcvwnd",
    "resend": "resend",
    "sndwnd": "sndwnd",
}
_OPTIONS = {
    "ackNoDelay": "ack_no_delay",
    "alwaysParity": "always_parity",
    "dup": "dup",
    "rateLimit": "rate_limit",
    "readTimeout": "read_timeout",
    "writeDelay": "write_delay",
    "writeTimeout": "write_timeout",
}
_SECONDS = frozenset({"read_timeout", "write_timeout"})


def apply(
    changes: Mapping[str, Any], settings: Settings, options: SessionOptions, headers: int
) -> tuple[Settings, SessionOptions]:
    """
    What a session's settings and options become.

    @param changes: the time limits are seconds, C{mtu} is the session's.
    @param headers: what FEC and encryption take of it.
    @raise ValueError: a name is not known or cannot be changed, or a value is out
        of its range.
    """
    changeable = _SETTINGS.keys() | _OPTIONS.keys()
    unknown = sorted(changes.keys() - changeable)
    if unknown:
        known = ", ".join(sorted(changeable))
        raise ValueError(f"{unknown[0]} cannot be changed while a session runs; {known} can")
    arq = {_SETTINGS[name]: changes[name] for name in changes.keys() & _SETTINGS.keys()}
    if "mtu" in arq:
        arq["mtu"] = payload_mtu(arq["mtu"], headers)
    if "nc" in arq:
        arq["nc"] = int(arq["nc"])
    rest = {_OPTIONS[name]: changes[name] for name in changes.keys() & _OPTIONS.keys()}
    for name in rest.keys() & _SECONDS:
        rest[name] = nanoseconds(name, rest[name])
    return replace(settings, **arq), replace(options, **rest)
