"""What a session does beside its ARQ: the rest of kcp-go's options (kcp.md 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from twisted_rudp.core.checking import LONGEST_SECONDS, require_flag, require_within
from twisted_rudp.core.engine import SECOND
from twisted_rudp.kcp.fec_wire import FEC_OVERHEAD
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS

LONGEST = LONGEST_SECONDS * SECOND

MAXIMUM_COPIES = 16

_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
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
        for name, (least, most) in _RANGES.items():
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
