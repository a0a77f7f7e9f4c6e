"""Settings of a KCP session and the named profiles (kcp.md 1.3 and 8.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from twisted_rudp.core.checking import require_flag, require_within
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
