"""
Token buckets: how often somebody may ask for something.
"""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted_rudp.core.engine import SECOND, Address


class TokenBuckets:
    """
    A bucket for each name, with a bound on how many names are remembered; the one
    unused for longest is forgotten first, and is then full again.
    """

    __slots__ = ("_buckets", "_burst", "_capacity", "_rate")

    def __init__(self, rate: float, burst: float, capacity: int = 4096) -> None:
        """
        @param rate: tokens a second.
        @param burst: tokens in a full bucket.
        @param capacity: names remembered.
        """
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: dict[Hashable, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: Hashable, now: int, count: int = 1) -> bool:
        """
        Take tokens, all or none.

        @return: they were there.
        """
        tokens, then = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + max(now - then, 0) * self._rate / SECOND)
        allowed = tokens >= count
        self._buckets[name] = (tokens - count if allowed else tokens, now)
        if len(self._buckets) > self._capacity:
            del self._buckets[next(iter(self._buckets))]
        return allowed


def network_of(address: Address) -> Hashable:
    """
    What one host can choose freely counts as one: an IPv4 address, an IPv6 /64.
    """
    ip = _ip(address)
    return ip.packed[:8] if isinstance(ip, IPv6Address) else ip.packed


def is_loopback(address: Address) -> bool:
    """
    Whether an address is this machine's own.
    """
    return _ip(address).is_loopback


def _ip(address: Address) -> IPv4Address | IPv6Address:
    ip = ip_address(str(address[0]).partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
