"""Pacing: sending at a rate, in bursts that the kernel cuts."""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.timers import NEVER

BURST: Final = 1_000_000
"""Nanoseconds: what the rate gives in so long leaves together."""

LATE: Final = 6_000_000
"""Nanoseconds that a wake-up may come late without a loss of rate."""

NEAR: Final = 2_000_000
"""Nanoseconds: on shorter round trips acknowledgements come as often as a timer would, and such
paths hold a window."""

_LARGEST_BURST: Final = 131_072
"""Bytes: two runs. To wait for more gains nothing; on a loopback, where a round trip takes 50 us
and a rate is gigabytes, what it gives in L{BURST} is more than any window."""

_FEWEST: Final = 10
"""Datagrams of credit that any rate may save up."""

_SECOND: Final = 1_000_000_000


class Pacer:
    """
    Saves up credit at the rate of the controller. Whole bursts leave at a time: one
    system call and one wake-up carry what the rate gives in L{BURST}.

    @ivar credit: bytes that may leave now.
    """

    __slots__ = ("_at", "_mss", "credit")

    def __init__(self, mss: int, credit: int) -> None:
        """
        @param mss: bytes of a full datagram.
        @param credit: bytes that may leave before there is a rate.
        """
        self._mss = mss
        self._at = 0
        self.credit = float(credit)

    def allowed(self, now: int, rate: float) -> int:
        """
        How many bytes may leave now: nothing, or at least half of a burst.

        @param rate: bytes a second; 0.0: no limit.
        """
        if rate <= 0.0:
            self._at = now
            return 1 << 40
        burst = min(rate * BURST / _SECOND, float(_LARGEST_BURST))
        most = max(rate * LATE / _SECOND, 3 * burst, float(_FEWEST * self._mss))
        credit = self.credit + (now - self._at) * rate / _SECOND
        self.credit = credit if credit < most else most
        self._at = now
        if self.credit < self._mss or self.credit < burst / 2:
            return 0
        return int(self.credit)

    def spent(self, size: int) -> None:
        """So many bytes have left. The credit may become negative by a datagram."""
        self.credit -= size

    def wake(self, now: int, rate: float, bursts: float = 1.0) -> int:
        """
        When so many bursts may leave, if nothing does before.

        @param bursts: 2 where an acknowledgement is likely to come before that, so that
            its turn sends and no timer is needed.
        """
        if rate <= 0.0:
            return NEVER
        burst = min(rate * BURST / _SECOND, float(_LARGEST_BURST))
        wanted = max(bursts * burst, float(self._mss))
        missing = wanted - self.credit
        if missing <= 0.0:
            return now
        return now + int(missing * _SECOND / rate) + 1
