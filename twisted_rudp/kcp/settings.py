"""Settings of a KCP session, the named profiles, and what may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from twisted_rudp.core.settings import (
    Choice,
    Flag,
    Integer,
    Seconds,
    changeable,
    check,
    engine_option,
    require_within,
)
from twisted_rudp.core.settings import apply as applied
from twisted_rudp.kcp.fec import FEC_OVERHEAD
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS
from twisted_rudp.kcp.wire import HEADER_SIZE

MAXIMUM_WINDOW: Final = 65_535
"""The wire's window field has 16 bits (kcp.md 1.6)."""

FIRST_WINDOW: Final = 1_024
"""Segments of a window that was not chosen."""

RECEIVE_BYTES: Final = 12 << 20
"""What such a receive window may grow to: 100 Mbit/s over 200 ms with a loss of 5 % want ten
million bytes, because much waits behind the gaps."""

USUAL_MTU: Final = 1_500
"""What kcp-go sends at most: a peer's segments may be somewhat longer than ours."""

MAXIMUM_MTU: Final = 65_507
"""Longest payload of a UDP datagram over IPv4."""

MAXIMUM_COPIES: Final = 16

FEC: TypeAlias = Literal["fixed", "auto", "reduced"]
"""Whether the numbers of FEC stay."""

Congestion: TypeAlias = Literal["bbr", "cubic", "kcp-go"]
"""The congestion controllers there are."""


class SessionRule(Enum):
    """How a listener tells sessions of one address apart (kcp.md 5.3)."""

    CONVERSATION = "conversation"
    """Each conversation is a session; an address may have several."""

    ADDRESS = "address"
    """One session an address; other conversations are refused while it lives."""

    REPLACE = "replace"
    """One session an address; a new conversation ends the old session: kcp-go's
    rule today. Whoever can forge an address can end its session."""


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Settings of the ARQ. Times are milliseconds, windows are segments. Those of which people
    choose are described where they are declared; some have more to them:

    @ivar nodelay: 0: least timeout 100, a segment's timeout grows by a whole
        one at each expiry. 1 or 2: least timeout 30, it grows by half a one.
    @ivar interval: allowance for the peer's timer; no timeout is less than the round trip and
        this.
    @ivar mtu: longest datagram of the ARQ, its 24-byte headers included and
        what encryption and FEC add excluded.
    @ivar stream: bytes without borders; False: messages.
    @ivar dead_link: kcp-go marks a segment at 20 transmissions; see kcp.md 10.8 for why 0 is
        best.
    @ivar eager: what is not acknowledged in its time is sent again at once, not only when
        something later was acknowledged.
    @ivar probe_wait: a window of 0 is first asked about after this.
    """

    nodelay: int = engine_option(
        Integer(0, 2), 1, "How eagerly lost segments are retransmitted.", changeable=True
    )
    interval: int = engine_option(
        Integer(10, 5_000), 10, "KCP update interval in milliseconds.", changeable=True
    )
    resend: int = engine_option(
        Integer(0, 1_000),
        2,
        "Retransmit a segment after this many later ones were acknowledged; 0: never.",
        changeable=True,
    )
    nc: bool = engine_option(
        Flag(),
        False,
        "Switch congestion control off and send what both windows allow.",
        changeable=True,
    )
    sndwnd: int = engine_option(
        Integer(0, MAXIMUM_WINDOW),
        0,
        "Send window in segments; 0: what the path and the peer take.",
        changeable=True,
    )
    rcvwnd: int = engine_option(
        Integer(0, MAXIMUM_WINDOW),
        0,
        "Receive window in segments; 0: begins with 1024 and grows with what comes, up to 12 MB.",
        changeable=True,
    )
    congestion: Congestion = engine_option(
        Choice(Congestion),
        "bbr",
        "C{bbr} sends at the rate that the path delivers and tells noise from overflow, C{cubic} is"
        " TCP's usual window, C{kcp-go} shrinks its window at every loss as the original does. The"
        " first two take C{nodelay}, C{interval} and C{resend} as they are by default; with others"
        " kcp-go's window is used.",
        changeable=True,
    )
    dead_link: int = engine_option(
        Integer(0, 1_000_000),
        0,
        "Close after this many transmissions of one segment; 0 (recommended): never.",
        changeable=True,
    )
    mtu: int = engine_option(
        Integer(HEADER_SIZE + 1, MAXIMUM_MTU),
        1400,
        "Longest UDP payload in bytes, with what encryption and FEC add; kcp-go reads up to 1500,"
        " since 5.7 up to 1472.",
        changeable=True,
    )
    stream: bool = True
    eager: bool = False
    probe_wait: int = 500

    def __post_init__(self) -> None:
        """
        @raise ValueError: a value is out of its range.
        """
        check(self)
        require_within("stream", self.stream, 0, 1)
        require_within("probe_wait", self.probe_wait, 1, 120_000)

    @property
    def mss(self) -> int:
        """Payload bytes of a full segment."""
        return self.mtu - HEADER_SIZE

    @property
    def paced(self) -> bool:
        """
        Whether the session goes by rate and order of sending, not as kcp-go does. Who chooses
        one of kcp-go's numbers wants kcp-go.
        """
        return (
            not self.nc
            and self.congestion != "kcp-go"
            and (self.nodelay, self.interval, self.resend) == (1, 10, 2)
        )

    @property
    def send_window(self) -> int:
        """Most numbers in use at a time."""
        return self.sndwnd or (MAXIMUM_WINDOW if self.paced else FIRST_WINDOW)

    @property
    def receive_window(self) -> int:
        """Segments that the receive window begins with."""
        return self.rcvwnd or FIRST_WINDOW

    @property
    def widest_receive_window(self) -> int:
        """Segments that the receive window may grow to."""
        widest = RECEIVE_BYTES // max(self.mtu, USUAL_MTU)
        return self.rcvwnd or min(max(widest, FIRST_WINDOW), MAXIMUM_WINDOW)

    @property
    def minimum_timeout(self) -> int:
        """Least retransmission timeout (kcp.md 1.3)."""
        return 30 if self.nodelay else 100


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session does beside its ARQ (kcp.md 5.1). Times are nanoseconds."""

    data_shards: int = engine_option(
        Integer(0, MAXIMUM_SHARDS - 1),
        0,
        "Data packets of an FEC group; 0: send without FEC. What comes with FEC is understood in"
        " any case.",
    )
    parity_shards: int = engine_option(
        Integer(0, MAXIMUM_SHARDS - 1), 0, "Parity packets of an FEC group."
    )
    fec: FEC = engine_option(
        Choice(FEC),
        "fixed",
        "C{auto} begins with these groups and changes them as loss, rate and round trip are"
        " measured, towards peers of this library that follow: with C{profile=interactive} so"
        " that few messages are late, otherwise so that most losses are repaired with as little"
        " parity as possible, from 1 in 32 up to half of the data. C{fixed} keeps them."
        " C{reduced} keeps them too, and leaves out parity of bulk while little has to be sent"
        " again, which any receiver understands.",
    )
    always_parity: bool = engine_option(
        Flag(), False, "Send parity after pauses too, as kcp-go did until 5.6.5.", changeable=True
    )
    dup: int = engine_option(
        Integer(0, MAXIMUM_COPIES),
        0,
        "Send every datagram this many more times, to test networks.",
        changeable=True,
    )
    rate_limit: int = engine_option(
        Integer(0, 10**12),
        0,
        "Most bytes of UDP payload to send in a second; 0: no limit.",
        changeable=True,
    )
    write_delay: bool = engine_option(
        Flag(),
        False,
        "Let written data wait for the next interval, so that more can join it.",
        changeable=True,
    )
    ack_no_delay: bool = engine_option(
        Flag(),
        True,
        "Acknowledge at the end of each turn in which data came; C{no} waits up to an interval.",
        changeable=True,
    )
    read_timeout: int = engine_option(
        Seconds(0),
        0,
        "Seconds without data from the peer until the session ends; 0: never.",
        changeable=True,
    )
    write_timeout: int = engine_option(
        Seconds(0),
        0,
        "Seconds without an acknowledgement of written data until the session ends; 0: never.",
        changeable=True,
    )

    def __post_init__(self) -> None:
        """
        @raise ValueError: a value is out of its range, or only one of the two
            shard numbers is given.
        """
        check(self)
        if bool(self.data_shards) != bool(self.parity_shards):
            raise ValueError(
                f"dataShards={self.data_shards}, parityShards={self.parity_shards}:"
                " FEC needs both, and without it both are 0"
            )
        if self.fec == "auto" and not self.data_shards:
            raise ValueError("fec='auto': give dataShards and parityShards to begin with")
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


ProfileName: TypeAlias = Literal[
    "default", "bulk", "interactive", "normal", "fast", "fast2", "fast3"
]

PROFILES: Mapping[str, Settings] = MappingProxyType(
    {
        # nodelay 1, interval 10, resend 2, windows 1024, congestion window on.
        "default": Settings(),
        "bulk": Settings(),
        "interactive": Settings(eager=True),
        # kcptun's tuples with its client windows grown to our default.
        "normal": Settings(nodelay=0, interval=40, resend=2, nc=True),
        "fast": Settings(nodelay=0, interval=30, resend=2, nc=True),
        "fast2": Settings(nodelay=1, interval=20, resend=2, nc=True),
        "fast3": Settings(nodelay=1, interval=10, resend=2, nc=True),
    }
)
"""
Named profiles. C{default} and C{bulk} are the product's own: paced, with congestion control.
C{interactive} is for small messages that must not be late. C{normal} to C{fast3} are kcptun's
modes, from patient to eager, all without congestion control and with windows of 1024 segments.
"""

PROFILE_OPTIONS: Mapping[str, SessionOptions] = MappingProxyType(
    {"interactive": SessionOptions(data_shards=2, parity_shards=1, fec="auto")}
)
"""What profiles say beside L{PROFILES}. Two messages and their parity are half as much again on
the wire, and of three datagrams any one may be lost; with what is measured that changes."""


def reconfigure(
    changes: Mapping[str, Any], settings: Settings, options: SessionOptions, headers: int
) -> tuple[Settings, SessionOptions]:
    """
    What a running session's settings and options become.

    @param changes: by the names that people write; C{mtu} is the session's.
    @param headers: what FEC and encryption take of it.
    @raise ValueError: a name is not known or cannot be changed, or a value is out
        of its range.
    """
    known = changeable(Settings, SessionOptions)
    unknown = sorted(changes.keys() - known.keys())
    if unknown:
        raise ValueError(
            f"{unknown[0]} cannot be changed while a session runs; {', '.join(known)} can"
        )
    for name, value in changes.items():
        known[name].check(value)
    if "mtu" in changes:
        changes = {**changes, "mtu": payload_mtu(changes["mtu"], headers)}
    return applied(settings, changes), applied(options, changes)
