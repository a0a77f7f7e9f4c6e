"""Round-trip times, after RFC 6298 and RFC 9002 section 5, in nanoseconds."""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.engine import SECOND

_USELESS: Final = 30 * SECOND
"""A longer round trip is a clock's fault and says nothing of the network."""

LEAST_AGE: Final = 10 * SECOND
"""After so long without a shorter one the least round trip is the newest: paths get longer."""

_BACK_OFF: Final = 1.5
_MOST_BACK_OFFS: Final = 32


class RoundTrip:
    """
    Estimates the round trip from unambiguous samples: of transmissions that have numbers
    of their own.

    @ivar latest: the newest sample; 0 before the first.
    @ivar smoothed: mean; 0 before the first sample.
    @ivar variation: mean deviation from it.
    @ivar least: the shortest sample of the last L{LEAST_AGE}; 0 before the first.
    @ivar timeout: how long to wait for an acknowledgement.
    """

    __slots__ = (
        "_allowance",
        "_granularity",
        "_initial",
        "_least_at",
        "_maximum",
        "_minimum",
        "latest",
        "least",
        "smoothed",
        "timeout",
        "variation",
    )

    def __init__(
        self,
        initial: int,
        minimum: int,
        maximum: int,
        granularity: int = 0,
        allowance: int = 0,
    ) -> None:
        """
        @param initial: C{timeout} before there is a sample.
        @param minimum: least C{timeout}.
        @param maximum: largest C{timeout}.
        @param granularity: what four deviations count for at least.
        @param allowance: how long the peer may keep an acknowledgement back.
        """
        self._minimum = minimum
        self._maximum = maximum
        self._granularity = granularity
        self._allowance = allowance
        self._initial = initial
        self.reset()

    def reset(self) -> None:
        """Forget all samples: the path is another one."""
        self._least_at = 0
        self.latest = 0
        self.smoothed = 0
        self.variation = 0
        self.least = 0
        self.timeout = self._initial

    def sample(self, elapsed: int, now: int) -> bool:
        """
        Take in one measured round trip.

        @return: False if it was of no use: not above 0, or longer than half a minute.
        """
        if not 0 < elapsed <= _USELESS:
            return False
        self.latest = elapsed
        if self.smoothed:
            error = abs(elapsed - self.smoothed)
            self.variation = self.variation * 3 // 4 + error // 4
            self.smoothed = self.smoothed * 7 // 8 + elapsed // 8
        else:
            self.smoothed, self.variation = elapsed, elapsed // 2
        slack = 4 * self.variation
        if slack < self._granularity:
            slack = self._granularity
        wanted = self.smoothed + slack + self._allowance
        if wanted < self._minimum:
            wanted = self._minimum
        self.timeout = wanted if wanted < self._maximum else self._maximum
        if not self.least or elapsed <= self.least or now - self._least_at >= LEAST_AGE:
            self.least, self._least_at = elapsed, now
        return True

    def backed_off(self, repeats: int) -> int:
        """The timeout of what has expired C{repeats} times already."""
        if not repeats:
            return self.timeout
        longer = int(self.timeout * _BACK_OFF ** min(repeats, _MOST_BACK_OFFS))
        return min(longer, self._maximum)
