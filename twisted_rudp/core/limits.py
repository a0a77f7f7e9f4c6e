"""How often somebody may ask for something, and who counts as one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address
from typing import Final

from twisted_rudp.core.engine import SECOND, Address

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins inside IPv6."""


def network_of(address: Address) -> Hashable:
    """
    What one host can choose freely counts as one: an IPv4 address, an IPv6 /64. Asked
    for each datagram of a flood, so nothing is parsed that need not be.
    """
    host = str(address[0])
    if ":" not in host:
        return host
    packed = IPv6Address(host).packed
    return ".".join(map(str, packed[12:])) if packed.startswith(_MAPPED) else packed[:8]


def is_loopback(address: Address) -> bool:
    """Whether an address is this machine's own."""
    ip = ip_address(str(address[0]).partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback


class TokenBuckets:
    """
    A bucket for each name, with a bound on how many names are remembered; the one
    unused for longest is forgotten first, and is then full again. So the bound is also
    one on what changing forged addresses can gain.
    """

    __slots__ = ("_buckets", "_burst", "_capacity", "_rate", "_welcome")

    def __init__(
        self, rate: float, burst: float, capacity: int = 4096, welcome: int = 0
    ) -> None:
        """
        @param rate: tokens a second.
        @param burst: tokens in a full bucket.
        @param capacity: names remembered.
        @param welcome: tokens beyond a full bucket that a new name has once.
        """
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._welcome = welcome
        # A dict finds its oldest name by walking over those deleted before it.
        self._buckets: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: Hashable, now: int, count: int = 1) -> bool:
        """
        Take tokens, all or none.

        @param now: nanoseconds.
        @return: they were there.
        """
        known = self._buckets.pop(name, None)
        if known is None:
            tokens: float = self._burst + self._welcome
        else:
            tokens, then = known
            if tokens < self._burst and now > then:
                tokens = min(self._burst, tokens + (now - then) * self._rate / SECOND)
        allowed = tokens >= count
        self._buckets[name] = (tokens - count if allowed else tokens, now)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return allowed
