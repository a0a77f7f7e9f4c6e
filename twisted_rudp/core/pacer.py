"""Pacing: sending at a rate, in bursts that the kernel cuts."""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.timers import NEVER

_SHORTEST: Final = 1_000_000
_LONGEST: Final = 4_000_000
_ROUND_TRIPS: Final = 16
"""What the rate gives in one part in so many of the round trip leaves together; in 1 to 4 ms."""

_MANY: Final = 32
"""Datagrams of a burst for which no more than L{_SHORTEST} is saved up: a queue on the way may
hold hardly more."""

_RELAXED: Final = 5
_MOST_RELAXED: Final = 12_000_000
"""Bursts, and nanoseconds, after which a timer sends where acknowledgements come so often that
their turns do. A timer that is moved again and again costs a wake-up too."""

LATE: Final = 6_000_000
"""Nanoseconds that a wake-up may come late without a loss of rate; four bursts at least."""

NEAR: Final = 2_000_000
"""Nanoseconds: on shorter round trips acknowledgements come as often as a timer would, and such
paths hold a window."""

_LARGEST_BURST: Final = 131_072
"""Bytes: two runs. To wait for more gains nothing; on a loopback, where a round trip takes 50 us
and a rate is gigabytes, what it gives in L{_SHORTEST} is more than any window."""

_FEWEST: Final = 10
"""Datagrams of credit that any rate may save up."""

_SECOND: Final = 1_000_000_000


class Pacer:
    """
    Saves up credit at the rate of the controller. Whole bursts leave at a time: one
    system call and one wake-up carry what the rate gives in a small part of the round trip.

    @ivar credit: bytes that may leave now. What leaves is taken from it, and it may become
        negative by a datagram.
    """

    __slots__ = ("_at", "_mss", "_spacing", "credit")

    def __init__(self, mss: int, credit: int) -> None:
        """
        @param mss: bytes of a full datagram.
        @param credit: bytes that may leave before there is a rate.
        """
        self._mss = mss
        self._at = 0
        self._spacing = _SHORTEST
        self.credit = float(credit)

    def adapt(self, least: int) -> None:
        """
        @param least: the least round trip in nanoseconds, 0 while it is not known.
        """
        self._spacing = min(max(least // _ROUND_TRIPS, _SHORTEST), _LONGEST)

    def _burst(self, rate: float) -> float:
        """Bytes that leave together."""
        burst = rate * _SHORTEST / _SECOND
        many = float(_MANY * self._mss)
        if burst < many and self._spacing > _SHORTEST:
            return min(rate * self._spacing / _SECOND, many)
        return min(burst, float(_LARGEST_BURST))

    def allowed(self, now: int, rate: float) -> int:
        """
        How many bytes may leave now: nothing, or at least half of a burst.

        @param rate: bytes a second; 0.0: no limit.
        """
        if rate <= 0.0:
            self._at = now
            return 1 << 40
        burst = self._burst(rate)
        most = max(rate * LATE / _SECOND, 4 * burst, float(_FEWEST * self._mss))
        credit = self.credit + (now - self._at) * rate / _SECOND
        self.credit = credit if credit < most else most
        self._at = now
        if self.credit < self._mss or self.credit < burst / 2:
            return 0
        return int(self.credit)

    def wake(self, now: int, rate: float, relaxed: bool = False) -> int:
        """
        When a burst may leave, if nothing does before.

        @param relaxed: an acknowledgement is likely to come before that, and its turn sends.
        """
        if rate <= 0.0:
            return NEVER
        wanted = self._burst(rate)
        if relaxed:
            wanted = min(_RELAXED * wanted, max(rate * _MOST_RELAXED / _SECOND, wanted))
        wanted = max(wanted, float(self._mss))
        missing = wanted - self.credit
        if missing <= 0.0:
            return now
        return now + int(missing * _SECOND / rate) + 1
