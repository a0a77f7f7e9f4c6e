"""Conversations that were here and must not come again for a while (kcp.md 5.4)."""

from __future__ import annotations

from itertools import islice

from twisted_rudp.core.engine import Key

MOST = 65_536
"""Entries kept; the oldest goes first."""


class Blacklist:
    """
    Keys with the time until which no new session is opened for them. A key is
    listed when its session begins, and again when that ends, so that the time
    counts from the end.

    @param duration: nanoseconds; 0: nothing is listed.
    """

    __slots__ = ("_duration", "_until")

    def __init__(self, duration: int) -> None:
        self._duration = duration
        self._until: dict[Key, int] = {}

    def add(self, key: Key, now: int) -> None:
        """List a key from now on."""
        if not self._duration:
            return
        until = self._until
        until.pop(key, None)
        until[key] = now + self._duration
        # In the order of their ends, so the lapsed are in front.
        for old in tuple(islice(until, 2)):
            if until[old] <= now or len(until) > MOST:
                del until[old]

    def has(self, key: Key, now: int) -> bool:
        """No session is to be opened for this key."""
        return now < self._until.get(key, 0)

    def __len__(self) -> int:
        return len(self._until)
