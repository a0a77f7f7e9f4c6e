"""
Spreading what a window admits over the round trip.
"""

from __future__ import annotations

from twisted_rudp.kcp.flights import NEVER


class Pacer:
    """
    A bucket of segments that fills at twice the window a round trip: fast enough
    for a window that doubles, slow enough for the queues of a path when an
    acknowledgement frees hundreds of segments at once.

    @ivar due: a clock at which more may be sent; L{NEVER} if nothing waits for it.
    """

    __slots__ = ("_level", "_since", "due")

    NEAR = 10
    """Milliseconds: shorter round trips are not paced. Acknowledgements come as often
    as the timer would, and the queues of such paths hold a window."""

    PACE = 2
    """Windows in a round trip."""

    LEAST = 16
    """Segments that may always leave together."""

    SHARE = 1 / 16
    """Of a window, may leave together as well."""

    def __init__(self) -> None:
        self._level: float = self.LEAST
        self._since: int | None = None
        self.due = NEVER

    def allowance(self, now: int, window: int, round_trip: int) -> int:
        """
        How many segments may leave now.

        @param round_trip: in milliseconds, like C{now}.
        """
        most = max(self.LEAST, window * self.SHARE)
        elapsed = now - (now if self._since is None else self._since)
        filled = elapsed * self.PACE * window / round_trip
        self._level = min(self._level + filled, most)
        self._since = now
        return int(self._level)

    def spend(self, count: int) -> None:
        """
        So many have left.
        """
        self._level -= count
