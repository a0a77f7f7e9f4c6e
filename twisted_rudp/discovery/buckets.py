"""
Token buckets, one for each of many strangers, in bounded memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class TokenBuckets:
    """
    Allows each key so many events at once and so many a second afterwards.

    A key that was not used for longest is forgotten when there are too many, and then
    begins with a full bucket again. So the number of keys is also a bound on what
    changing forged addresses can gain.
    """

    def __init__(self, capacity: float, rate: float, keys: int, welcome: int = 0) -> None:
        """
        @param capacity: tokens in a full bucket; an event takes one.
        @param rate: tokens a second.
        @param keys: buckets kept.
        @param welcome: events of a new key that cost nothing.
        """
        self._capacity = capacity
        self._rate = rate
        self._keys = keys
        self._welcome = welcome
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """
        @param now: seconds.
        @return: whether there was a token.
        """
        known = self._buckets.pop(key, None)
        if known is None:
            tokens = self._capacity + self._welcome
        else:
            tokens, since = known
            if tokens < self._capacity:
                elapsed = max(0.0, now - since)
                tokens = min(self._capacity, tokens + elapsed * self._rate)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - allowed, now)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return allowed
