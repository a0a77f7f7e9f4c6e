"""Spreading what a window admits over the round trip."""

from __future__ import annotations

from twisted_rudp.kcp.flights import NEVER


class Pacer:
    """
    A bucket of segments that fills at twice the window a round trip: fast enough
    for a window that doubles, slow enough for the queues of a path when an
    acknowledgement frees hundreds of segments at once.

    @ivar due: a clock at which more may be sent; L{NEVER} if nothing waits for it.
    """

    __slots__ = ("_level", "_number", "_since", "due")

    NEAR = 10
    """Milliseconds: shorter round trips are not worth pacing. Acknowledgements come
    as often as a timer would, and the queues of such paths hold a window."""

    PACE = 2
    """Windows in a round trip."""

    LEAST = 16
    """Segments that may always leave together."""

    SHARE = 1 / 16
    """Of a window, may leave together as well."""

    def __init__(self) -> None:
        self._level: float = self.LEAST
        self._since: int | None = None
        self._number = 0
        self.due = NEVER

    def admit(self, room: int, number: int, now: int, window: int, round_trip: int) -> int:
        """
        How many segments may leave now.

        @param room: how many the window admits.
        @param number: of the next segment; what was numbered since the last call has
            left.
        @param round_trip: in milliseconds, like C{now}; above 0.
        """
        if self._since is not None:
            self._level = max(self._level - (number - self._number), 0.0)
            filled = (now - self._since) * self.PACE * window / round_trip
            self._level = min(self._level + filled, max(self.LEAST, window * self.SHARE))
        self._since, self._number = now, number
        allowed = int(self._level)
        if allowed >= room:
            return room
        self.due = now + 1
        return allowed
