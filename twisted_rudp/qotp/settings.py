"""What all connections of one endpoint have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from twisted_rudp.core.settings import Choice, Flag, Integer, Seconds, check, engine_option
from twisted_rudp.qotp.authentication import Policy
from twisted_rudp.qotp.keys import Secrets
from twisted_rudp.qotp.wire import MTU

LEAST_MTU: Final = 508
LARGEST_MTU: Final = 65_507

Congestion: TypeAlias = Literal["bbr", "cubic", "release"]
"""The congestion controllers there are."""

SOCKET_LIMIT: Final = 256 << 20

MOST_GIVERS: Final = 4
"""So many are asked to give to one who needs more than there is."""


class Keeper(Protocol):
    """A part of what all connections of one socket may keep."""

    @property
    def spare(self) -> int:
        """Bytes reserved that nothing uses, and that others who have less may get."""

    def give_back(self, size: int) -> None:
        """Return so much of that to the budget."""


class Budget:
    """
    What all connections of one socket may keep altogether (W6). Who has much and does not use it
    gives to who has little: an idle connection costs nothing, and some of them must not leave the
    others without a window.

    @ivar free: bytes that nobody has reserved.
    """

    __slots__ = ("_large", "free")

    def __init__(self, limit: int = SOCKET_LIMIT) -> None:
        self.free = limit
        self._large: dict[Keeper, None] = {}

    def reserve(self, wanted: int, has: int = 0) -> int:
        """
        @param has: bytes that who asks has reserved already.
        @return: how much of it was given.
        """
        if wanted > self.free and self._large:
            self._collect(wanted, has)
        given = max(min(wanted, self.free), 0)
        self.free -= given
        return given

    def enter(self, keeper: Keeper) -> None:
        """It has reserved more than connections do at first."""
        self._large[keeper] = None

    def leave(self, keeper: Keeper) -> None:
        """It has not, or not any more."""
        self._large.pop(keeper, None)

    def _collect(self, wanted: int, has: int) -> None:
        """Have those give who have most to spare, as long as they keep more than who asks gets."""
        for _ in range(MOST_GIVERS):
            giver = max(self._large, key=_spare)
            size = min(wanted - self.free, (giver.spare - has - self.free) // 2)
            if size <= 0:
                return
            giver.give_back(size)
            if self.free >= wanted or not self._large:
                return


def _spare(keeper: Keeper) -> int:
    return keeper.spare


@dataclass(frozen=True)
class Settings:
    """
    What all connections of one endpoint have in common; times are nanoseconds. Those of which
    people choose are described where they are declared.

    @ivar entropy: random bytes.
    @ivar early_data: a listener takes what the release's dialler says in its first
        datagram, which could be a replay.
    @ivar budget: what all of them may keep.
    @ivar key_log: is given the keys of each connection.
    @ivar policy: who may talk to us.
    """

    entropy: Callable[[int], bytes]
    mtu: int = engine_option(
        Integer(LEAST_MTU, LARGEST_MTU),
        MTU,
        "Longest UDP payload in bytes; the same at both ends.",
    )
    roaming: bool = engine_option(
        Flag(), True, "Follow a peer whose address has changed, once it has answered there."
    )
    idle_timeout: int = engine_option(
        Seconds(0.1), 30.0, "Seconds without anything from the peer until it counts as gone."
    )
    keep_alive: int = engine_option(
        Seconds(0.1),
        15.0,
        "Seconds of silence after which the peer is asked for a sign of life, at least each second"
        " until it answers; at most a third of C{idleTimeout}. NATs forget a mapping after 30 to"
        " 120 seconds.",
    )
    congestion: Congestion = engine_option(
        Choice(Congestion),
        "bbr",
        "Congestion control: C{bbr} sends as fast as the network delivers, C{cubic} as TCP does,"
        " C{release} as Go qotp v0.2.19 does, for comparison.",
    )
    early_data: bool = False
    budget: Budget = field(default_factory=Budget)
    key_log: Callable[[bytes, Secrets], None] | None = None
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        check(self)
