"""The settings of a session, and the profiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from twisted_rudp.core.congestion import Controller, FixedWindow
from twisted_rudp.core.congestion.bbr import BBR
from twisted_rudp.core.congestion.cubic import Cubic
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.raknet.offline import MAGIC
from twisted_rudp.raknet.wire import HEADER_BYTES, HEADER_SIZE, IP_UDP, SPLIT_SIZE, Reliability

PROTOCOL = 11

CONSERVATIVE_OVERHEAD = 60
"""What C++ takes off the MTU for a payload of any reliability (raknet.md 3)."""

SMALLEST_MTU = 400

CONGESTION = ("bbr", "cubic", "none")
"""Who decides how much is in flight, and how fast it leaves."""

_ORDERED = HEADER_SIZE + HEADER_BYTES[Reliability.RELIABLE_ORDERED]


@dataclass(frozen=True)
class Settings:
    """
    What one session does and takes. Times are nanoseconds; sizes bytes.

    @ivar stream: bytes instead of messages.
    @ivar user_id: first byte of the messages that carry a stream, 0x80 to 0xff.
    @ivar protocol: what a dialler speaks.
    @ivar accepted: what a listener takes.
    @ivar mtu: longest IP packet sent and agreed to.
    @ivar mtu_min: shortest that is agreed to.
    @ivar probes: sizes of a dialler's first requests, longest first.
    @ivar tries: requests of one size, C{probe_interval} apart.
    @ivar addresses: how many empty slots the handshake's messages carry.
    @ivar password: what a connection request must bring.
    @ivar packed: several frames to a datagram.
    @ivar extended: peers are told that we are of our own kind, which takes larger windows.
    @ivar tight: messages fill datagrams up to the last byte that their own
        headers leave; else they keep below what C++ leaves for any header.
    @ivar ack_delay: how long an acknowledgement may wait for company.
    @ivar ack_count: so many waiting datagrams end the wait.
    @ivar prompt: much at once, and the first datagrams, end the wait too.
    @ivar ack_repeats: so many earlier acknowledgements are sent again with each:
        the wire's are not cumulative, and neighbours merge into one record.
    @ivar nack_delay: how long a gap may close by itself.
    @ivar resend_factor: resend after so many mean round trips, counted in
        C{resend_interval}s; None: by mean and deviation (raknet.md 9).
    @ivar ping_interval: between unreliable pings.
    @ivar reliable_pings: pings and pongs are reliable and ordered.
    @ivar timeout: silence after which the peer is gone; C{timeout_rtts} mean round
        trips come on top.
    @ivar linger: how long the last message waits for its acknowledgement.
    @ivar stall: how long a close waits without any progress.
    @ivar congestion: C{bbr}: at the rate of the path, whatever it loses by itself;
        C{cubic}: less after each loss; C{none}: what C{window} allows.
    @ivar window: reliable frames, and datagrams, in flight.
    @ivar send_splits: split messages in flight: beyond, go-raknet closes the session
        (raknet.md 14), others stall (raknet.md 9).
    @ivar unreliable_age: unreliable messages that waited longer are thrown away.

    @ivar receive_buffer: unread bytes beyond which acknowledgements are withheld.
    @ivar jump: datagrams numbered further ahead are dropped.
    @ivar jump_ends: and they end the session.
    @ivar nack_limit: numbers asked for because of one datagram.
    @ivar reliable_window: reliable indices beyond the first missing one.
    @ivar order_limit: messages of one channel that wait for an earlier one; more end
        the session. Not below C{reliable_window}, which a peer that has no window of
        its own meets first: beyond that it is not acknowledged, and sends again.
    @ivar split_count: fragments of one message, both ways.
    @ivar splits: incomplete messages.
    @ivar split_expiry: how long one may stay incomplete without a new fragment.
    @ivar held: bytes in incomplete and waiting messages together.
    @ivar early: messages kept that overtook the end of the handshake.
    @ivar bad_limit: unreadable datagrams within C{bad_span} that end the session.
    @ivar online_rate: datagrams a second that are read; 0: all.
    """

    stream: bool = True
    user_id: int = 0xFE
    magic: bytes = MAGIC
    protocol: int = PROTOCOL
    accepted: frozenset[int] = frozenset({PROTOCOL})
    mtu: int = 1492
    mtu_min: int = 576
    probes: tuple[int, ...] = (1492, 1200, 576)
    tries: int = 4
    probe_interval: int = 500 * MILLISECOND
    addresses: int = 20
    password: bytes = field(default=b"", repr=False)

    extended: bool = True
    packed: bool = True
    tight: bool = False
    ack_delay: int = 10 * MILLISECOND
    ack_count: int = 32
    prompt: bool = True
    ack_repeats: int = 2
    nack_delay: int = 10 * MILLISECOND
    resend_factor: float | None = None
    resend_interval: int = 10 * MILLISECOND
    ping_interval: int = 2 * SECOND
    reliable_pings: bool = False
    timeout: int = 10 * SECOND
    timeout_rtts: int = 0
    linger: int = 5 * SECOND
    stall: int = 30 * SECOND
    congestion: str = "bbr"
    window: int = 2048
    send_splits: int = 16
    unreliable_age: int = SECOND

    receive_buffer: int = 1 << 19
    jump: int = 50_000
    jump_ends: bool = False
    nack_limit: int = 1000
    reliable_window: int = 8192
    order_limit: int = 8192
    split_count: int = 2048
    splits: int = 64
    split_expiry: int = 30 * SECOND
    held: int = 16 << 20
    early: int = 64
    bad_limit: int = 32
    bad_span: int = 10 * SECOND
    online_rate: int = 0

    def __post_init__(self) -> None:
        """
        @raise ValueError: names what is out of range.
        """
        for name, low, high in (
            ("user_id", 0x80, 0xFF),
            ("protocol", 0, 255),
            ("mtu_min", SMALLEST_MTU, 1492),
            ("mtu", self.mtu_min, 9000),
            ("tries", 1, 100),
            ("addresses", 10, 20),
            ("window", 1, 1 << 15),
            ("split_count", 1, 8192),
            ("send_splits", 1, 256),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}={value!r} is not in {low} to {high}")
        if self.congestion not in CONGESTION:
            choices = ", ".join(CONGESTION)
            raise ValueError(f"congestion={self.congestion!r} is none of {choices}")
        if len(self.magic) != len(MAGIC):
            raise ValueError(f"magic={self.magic!r} is not {len(MAGIC)} bytes long")
        if not self.probes or list(self.probes) != sorted(set(self.probes), reverse=True):
            raise ValueError(f"probes={self.probes!r} do not go down")

    def controller(self, datagram: int) -> Controller:
        """A congestion controller for full datagrams of so many bytes."""
        if self.congestion == "bbr":
            return BBR(datagram)
        if self.congestion == "cubic":
            return Cubic(datagram)
        return FixedWindow()

    def whole(self, mtu: int) -> int:
        """Longest message that goes unsplit at an agreed MTU."""
        if self.tight:
            return mtu - IP_UDP - _ORDERED
        return mtu - CONSERVATIVE_OVERHEAD

    def fragment(self, mtu: int) -> int:
        """Payload of a fragment at an agreed MTU."""
        if self.tight:
            return mtu - IP_UDP - _ORDERED - SPLIT_SIZE
        return mtu - CONSERVATIVE_OVERHEAD


DEFAULT = Settings()
"""Section 18 of raknet.md."""

GO_RAKNET_2023 = replace(
    DEFAULT,
    mtu=1400,
    mtu_min=500,
    probes=(1400, 1200, 576),
    extended=False,
    packed=False,
    tight=True,
    ack_delay=100 * MILLISECOND,
    ack_count=1 << 24,
    prompt=False,
    ack_repeats=0,
    nack_delay=75 * MILLISECOND,
    resend_factor=1.5,
    resend_interval=300 * MILLISECOND,
    ping_interval=200 * MILLISECOND,
    reliable_pings=True,
    timeout=5 * SECOND,
    timeout_rtts=2,
    linger=SECOND,
    stall=8 * SECOND,
    congestion="none",
    jump=2048,
    jump_ends=True,
    order_limit=2048,
    split_count=256,
    splits=256,
)
"""
The older fork of go-raknet (raknet.md 14): its tick of 100 ms as ACK delay, its multiples
of it, its window and limits. What was wrong with it on the wire (lost
duplicates, one channel, 24-bit counters) is not imitated.
"""

PROFILES = {"default": DEFAULT, "go-raknet-2023": GO_RAKNET_2023}
