"""
Dialers that were answered and have not proved that they got the answer (W5): a small
record each, in a bounded table, for a short time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from heapq import heappop, heappush
from typing import NamedTuple

from twisted_rudp.core.engine import MILLISECOND, SECOND, Address
from twisted_rudp.core.limits import network_of
from twisted_rudp.qotp.crypto import Cipher
from twisted_rudp.qotp.opening import Secrets
from twisted_rudp.qotp.outlet import Sealer

MAX_HALF_OPEN = 4096
LIFETIME = 5 * SECOND

REPEATS = (200 * MILLISECOND, 400 * MILLISECOND, 800 * MILLISECOND)
"""Waits before an answer is given again. The release's dialler may say its opening
message once only, and an answer is so much shorter than it that all four together
stay below its length."""

EXCHANGES_PER_SECOND = 2000
"""Key exchanges, some 50 us each, that unknown peers can make us do."""

EXCHANGES_PER_NETWORK = 200
"""Of these for one IPv4 address or IPv6 /64."""

MAX_NETWORKS = 4096


class HalfOpen(NamedTuple):
    """
    What is kept of a dialler that was answered.

    @ivar sealer: which counts our answers.
    @ivar answer: what they say.
    @ivar opening: for K0; None in the in-band form.
    """

    address: Address
    secrets: Secrets
    cipher: Cipher
    opening: Cipher | None
    sealer: Sealer
    answer: bytes

    def datagram(self) -> bytes:
        """The answer, under a number of its own."""
        ((datagram, _),) = self.sealer.seal([self.answer])
        return datagram


class HalfOpenTable:
    """The records of one socket by connection id. When it is full the oldest goes."""

    def __init__(self, limit: int = MAX_HALF_OPEN) -> None:
        self._limit = limit
        self._records: dict[bytes, tuple[int, HalfOpen]] = {}
        self._repeats: list[tuple[int, int, bytes]] = []

    def __len__(self) -> int:
        return len(self._records)

    def get(self, name: bytes) -> HalfOpen | None:
        """The record of a connection id."""
        found = self._records.get(name)
        return None if found is None else found[1]

    def put(self, name: bytes, record: HalfOpen, now: int) -> None:
        """Enter or renew a record."""
        if self._records.pop(name, None) is None:
            self._schedule(name, 0, now)
        if len(self._records) >= self._limit:
            del self._records[next(iter(self._records))]
        self._records[name] = (now + LIFETIME, record)

    def _schedule(self, name: bytes, times: int, now: int) -> None:
        if times < len(REPEATS) and len(self._repeats) < self._limit:
            heappush(self._repeats, (now + REPEATS[times], times, name))

    def pop(self, name: bytes) -> None:
        """It has become a connection."""
        self._records.pop(name, None)

    def deadline(self) -> int | None:
        """When the oldest lapses, or an answer is to be given again."""
        if not self._records:
            return None
        oldest = next(iter(self._records.values()))[0]
        return min(oldest, self._repeats[0][0]) if self._repeats else oldest

    def again(self, now: int) -> Iterator[HalfOpen]:
        """Those whose answer is to be repeated now."""
        while self._repeats and self._repeats[0][0] <= now:
            _, times, name = heappop(self._repeats)
            record = self.get(name)
            if record is not None:
                self._schedule(name, times + 1, now)
                yield record

    def lapse(self, now: int) -> int:
        """
        Drop what is too old.

        @return: how many that were.
        """
        before = len(self._records)
        while self._records:
            name, (until, _) = next(iter(self._records.items()))
            if until > now:
                break
            del self._records[name]
        return before - len(self._records)


class ExchangeLimit:
    """How many key exchanges unknown peers may ask for, in all and from one network."""

    def __init__(
        self, total: int = EXCHANGES_PER_SECOND, each: int = EXCHANGES_PER_NETWORK
    ) -> None:
        self._total = total
        self._each = each
        self._second = -1
        self._used = 0
        self._networks: dict[Hashable, int] = {}

    def allow(self, address: Address, now: int) -> bool:
        """Count one, if it is allowed."""
        if now // SECOND != self._second:
            self._second = now // SECOND
            self._used = 0
            self._networks.clear()
        network = network_of(address)
        used = self._networks.get(network, 0)
        full = network not in self._networks and len(self._networks) >= MAX_NETWORKS
        if self._used >= self._total or used >= self._each or full:
            return False
        self._used += 1
        self._networks[network] = used + 1
        return True
