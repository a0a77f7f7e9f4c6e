"""kcp-go's rate limit (kcp.md 5.6)."""

from __future__ import annotations

from twisted_rudp.core.engine import SECOND

BURST = 64 * 1500
"""Bytes that may leave at once."""

_TICKS = 50
"""A timer comes this often a second at least; a fast link is not to wait for it."""


class Throttle:
    """
    A bucket of bytes that fills at a constant rate.

    @param rate: bytes a second.
    """

    __slots__ = ("_burst", "_rate", "_since", "_spent")

    def __init__(self, rate: int, now: int) -> None:
        self._rate = rate
        self._burst = max(BURST, rate // _TICKS)
        self._since = now
        self._spent = 0

    def allowance(self, now: int) -> int:
        """Bytes that may leave now; negative while too much has left."""
        filled = (now - self._since) * self._rate // SECOND
        if filled:
            self._since += filled * SECOND // self._rate
            self._spent = max(0, self._spent - filled)
        return self._burst - self._spent

    def spend(self, count: int) -> None:
        """So many bytes have left."""
        self._spent += count

    def ready(self, now: int) -> int:
        """When a full datagram may leave."""
        missing = 1500 - self.allowance(now)
        return now if missing <= 0 else now + missing * SECOND // self._rate + 1
