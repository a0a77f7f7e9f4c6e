"""What all connections of one endpoint have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from twisted_rudp.core.engine import SECOND
from twisted_rudp.qotp.keys import Secrets
from twisted_rudp.qotp.wire import MTU

IDLE_TIMEOUT: Final = 30 * SECOND

CONGESTION: Final = ("bbr", "cubic", "release")
"""The congestion controllers there are."""

SOCKET_LIMIT: Final = 256 << 20


class Budget:
    """
    What all connections of one socket may keep altogether (W6).

    @ivar free: bytes that nobody has reserved.
    """

    __slots__ = ("free",)

    def __init__(self, limit: int = SOCKET_LIMIT) -> None:
        self.free = limit

    def reserve(self, wanted: int) -> int:
        """
        @return: how much of it was given.
        """
        given = max(min(wanted, self.free), 0)
        self.free -= given
        return given


@dataclass(frozen=True)
class Settings:
    """
    What all connections of one endpoint have in common.

    @ivar entropy: random bytes.
    @ivar mtu: longest UDP payload, the same at both ends.
    @ivar idle_timeout: nanoseconds of silence after which a peer counts as gone.
    @ivar roaming: follow a peer to another address.
    @ivar early_data: a listener takes what the release's dialler says in its first
        datagram, which could be a replay.
    @ivar congestion: C{bbr}, as fast as the network delivers; C{cubic}, as TCP does; or
        C{release}, what the release does.
    @ivar budget: what all of them may keep.
    @ivar key_log: is given the keys of each connection.
    """

    entropy: Callable[[int], bytes]
    mtu: int = MTU
    idle_timeout: int = IDLE_TIMEOUT
    roaming: bool = True
    early_data: bool = False
    congestion: str = "bbr"
    budget: Budget = field(default_factory=Budget)
    key_log: Callable[[bytes, Secrets], None] | None = None

    def __post_init__(self) -> None:
        if self.congestion not in CONGESTION:
            names = ", ".join(CONGESTION)
            raise ValueError(f"congestion={self.congestion!r} is not one of {names}")
