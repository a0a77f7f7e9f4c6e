"""
What a path does to the datagrams that cross it in one direction.

An L{Impairments} is a pure, seeded value: asked with the time and the length of
a datagram it says when its copies arrive. It knows no sockets and no clock, so it
serves simulated networks and proxies on real ones alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple


class Fate(StrEnum):
    """What became of a datagram; also the names of the counters."""

    DELIVERED = "delivered"
    SCRIPTED = "scripted"
    """Dropped by C{drop_indices} or C{drop_if}."""
    TOO_BIG = "too_big"
    """Longer than C{mtu}."""
    LOST = "lost"
    """Dropped by C{loss}."""
    BURST_LOST = "burst_lost"
    """Dropped in the bad state of C{burst}."""
    QUEUE_FULL = "queue_full"
    """No room before the bottleneck."""
    CUT = "cut"
    """The wire is cut."""
    NOBODY = "nobody"
    """No host has the address. No path decides this, only a network."""


class BurstLoss(NamedTuple):
    """
    Losses in bursts: the two-state chain of Gilbert and Elliott, which moves once
    for each datagram.

    With C{enter=0.01, leave=0.25, loss=1.0} about 4 % are lost, four in a row on
    average.
    """

    enter: float
    """Probability (0 to 1) of going from the good state to the bad one."""

    leave: float
    """Probability (0 to 1) of going back. Its inverse is the mean burst length."""

    loss: float = 1.0
    """Probability (0 to 1) of losing a datagram while in the bad state."""


@dataclass
class Impairments:
    """
    One direction of a path.

    All settings may be assigned while traffic flows. Sizes are bytes of UDP
    payload, times are seconds, rates are bytes per second, probabilities run from
    0 to 1. What is drawn depends only on C{seed} and on the sequence of calls.

    Jitter alone never changes the order of arrival: only C{reorder} does, so that
    each impairment can be tried by itself.
    """

    seed: int = 0

    loss: float = 0.0
    """Probability of losing a datagram, each independently."""

    burst: BurstLoss | None = None
    """Losses in bursts, besides C{loss}."""

    delay: float = 0.0
    """Time of flight."""

    jitter: float = 0.0
    """Up to this much is added to the delay, evenly distributed."""

    reorder: float = 0.0
    """Probability that a datagram is held back by C{reorder_delay}, so that later
    ones overtake it."""

    reorder_delay: float = 0.01
    """How long such a datagram is held back."""

    duplicate: float = 0.0
    """Probability that a datagram arrives twice."""

    rate: float | None = None
    """What the bottleneck carries, in bytes per second. None: no bottleneck."""

    queue: int | None = None
    """Bytes that may wait before the bottleneck; what does not fit is dropped.
    None: without bound."""

    mtu: int | None = None
    """The longest datagram that passes; longer ones are dropped without an error."""

    drop_indices: Container[int] = ()
    """Drop the datagrams with these numbers, counted from 0."""

    drop_if: Callable[[bytes], bool] | None = None
    """Drop the datagrams for which this is true."""

    cut: bool = False
    """While true nothing passes."""

    last_fate: Fate = field(default=Fate.DELIVERED, init=False)
    """What became of the datagram asked about last."""

    counters: dict[str, int] = field(init=False)
    """Datagrams by L{Fate}, and how many were C{offered}, C{duplicated} and C{reordered}."""

    _random: random.Random = field(init=False, repr=False)
    _in_burst: bool = field(default=False, init=False, repr=False)
    _idle_from: float = field(default=0.0, init=False, repr=False)
    _last_arrival: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        """
        @raise ValueError: a probability outside of 0 to 1, a negative time or size,
            or a rate that carries nothing.
        """
        probabilities = {
            "loss": self.loss,
            "reorder": self.reorder,
            "duplicate": self.duplicate,
        }
        if self.burst is not None:
            probabilities |= {f"burst.{name}": p for name, p in self.burst._asdict().items()}
        for name, probability in probabilities.items():
            if not 0.0 <= probability <= 1.0:
                raise ValueError(f"{name} is a probability from 0 to 1, not {probability!r}")
        amounts = {
            "delay": self.delay,
            "jitter": self.jitter,
            "reorder_delay": self.reorder_delay,
            "queue": self.queue or 0,
            "mtu": self.mtu or 0,
        }
        for name, amount in amounts.items():
            if not amount >= 0:
                raise ValueError(f"{name} cannot be negative: {amount!r}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate is in bytes per second and above zero, not {self.rate!r}")
        self._random = random.Random(self.seed)
        self.counters = dict.fromkeys([*Fate, "offered", "duplicated", "reordered"], 0)

    def reseeded(self, seed: int) -> Impairments:
        """
        The same settings with another seed, fresh counters and an empty queue; for
        instance for the way back.
        """
        return replace(self, seed=seed)

    def fate(self, now: float, size: int, datagram: bytes | None = None) -> list[float]:
        """
        Decide about one datagram.

        @param now: seconds, never less than in the call before.
        @param size: its length in bytes.
        @param datagram: its bytes, which C{drop_if} looks at; without them it is
            not asked.
        @return: how many seconds after C{now} its copies arrive; empty if it is lost.
        """
        counters = self.counters
        index = counters["offered"]
        counters["offered"] = index + 1
        self.last_fate = fate = self._verdict(now, index, size, datagram)
        counters[fate] += 1
        if fate is not Fate.DELIVERED:
            return []
        sent = self._through_bottleneck(now, size)
        delays = [self._delay(now, sent)]
        if self.duplicate > 0.0 and self._happens(self.duplicate):
            counters["duplicated"] += 1
            delays.append(self._delay(now, sent))
        return delays

    def _verdict(self, now: float, index: int, size: int, datagram: bytes | None) -> Fate:
        """
        Whether the datagram passes. Every random draw is made for every datagram, so
        that a scripted drop does not shift the fate of those behind it.
        """
        # What is switched off is not called: simulations ask this for each datagram.
        lost = self.loss > 0.0 and self._happens(self.loss)
        burst_lost = self.burst is not None and self._burst_takes(self.burst)
        if self.cut:
            return Fate.CUT
        if index in self.drop_indices or (
            self.drop_if is not None and datagram is not None and self.drop_if(datagram)
        ):
            return Fate.SCRIPTED
        if self.mtu is not None and size > self.mtu:
            return Fate.TOO_BIG
        if lost:
            return Fate.LOST
        if burst_lost:
            return Fate.BURST_LOST
        if self.queue is not None and self._waiting(now) + size > self.queue:
            return Fate.QUEUE_FULL
        return Fate.DELIVERED

    def _burst_takes(self, burst: BurstLoss) -> bool:
        """Move the chain one step and say whether the bad state takes this datagram."""
        if self._in_burst:
            self._in_burst = not self._happens(burst.leave)
        else:
            self._in_burst = self._happens(burst.enter)
        return self._in_burst and self._happens(burst.loss)

    def _waiting(self, now: float) -> float:
        """Bytes that have not yet left the bottleneck."""
        if self.rate is None or self._idle_from <= now:
            return 0.0
        return (self._idle_from - now) * self.rate

    def _through_bottleneck(self, now: float, size: int) -> float:
        """
        Queue the datagram.

        @return: when its last byte has left.
        """
        if self.rate is None:
            return now
        began = now if now > self._idle_from else self._idle_from
        self._idle_from = began + size / self.rate
        return self._idle_from

    def _delay(self, now: float, sent: float) -> float:
        """How long after C{now} a copy is there that left the bottleneck at C{sent}."""
        arrival = sent + self.delay
        if self.jitter:
            arrival += self._random.uniform(0.0, self.jitter)
        if self.reorder > 0.0 and self._happens(self.reorder):
            self.counters["reordered"] += 1
            arrival += self.reorder_delay
        elif arrival > self._last_arrival:
            self._last_arrival = arrival
        else:
            arrival = self._last_arrival
        return arrival - now if arrival > now else 0.0

    def _happens(self, probability: float) -> bool:
        return probability > 0.0 and self._random.random() < probability
