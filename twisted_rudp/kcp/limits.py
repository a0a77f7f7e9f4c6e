"""What an application limits beyond the ARQ: a rate, and how long nothing may move (kcp.md 5.6)."""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.settings import SessionOptions

RATE_BURST: Final = 64 * 1500
"""Bytes that may leave at once under a rate limit (kcp.md 5.6)."""

RATE_TICKS: Final = 50
"""A timer comes this often a second at least; a fast link is not to wait for it."""


class RateLimit:
    """A bucket of bytes that fills at a constant rate (kcp.md 5.6)."""

    __slots__ = ("_burst", "_rate", "_since", "_spent")

    def __init__(self, rate: int, now: int) -> None:
        """
        @param rate: bytes a second.
        """
        self._rate = rate
        self._burst = max(RATE_BURST, rate // RATE_TICKS)
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


class TimeLimits:
    """How long nothing may come, and nothing that was written may be acknowledged."""

    __slots__ = ("_read_since", "_written_since")

    def __init__(self) -> None:
        self._read_since = NEVER
        self._written_since = NEVER

    def came(self, now: int) -> None:
        """The session is connected, or something has come."""
        self._read_since = now

    def waits(self, waiting: bool, now: int) -> bool:
        """
        Whether something of what was written waits to be acknowledged.

        @return: it does from now on.
        """
        if not waiting:
            self._written_since = NEVER
        elif self._written_since == NEVER:
            self._written_since = now
            return True
        return False

    def deadline(self, options: SessionOptions, moved: int) -> int:
        """
        When the first of the limits is reached.

        @param moved: when something was acknowledged last.
        """
        return min(self._read_until(options), self._written_until(options, moved))

    def reached(self, options: SessionOptions, moved: int, now: int) -> str | None:
        """What has not happened for too long, in words; None: nothing of that kind."""
        if now >= self._read_until(options):
            return f"nothing came for {options.read_timeout / SECOND:g} seconds"
        if now >= self._written_until(options, moved):
            what = "of what was written was acknowledged"
            return f"nothing {what} for {options.write_timeout / SECOND:g} seconds"
        return None

    def _read_until(self, options: SessionOptions) -> int:
        if not options.read_timeout or self._read_since == NEVER:
            return NEVER
        return self._read_since + options.read_timeout

    def _written_until(self, options: SessionOptions, moved: int) -> int:
        if not options.write_timeout or self._written_since == NEVER:
            return NEVER
        return max(self._written_since, moved) + options.write_timeout
