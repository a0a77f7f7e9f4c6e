"""Pings, and whether the peer is still there (raknet.md 11.1 and 11.2)."""

from __future__ import annotations

from twisted_rudp.raknet.arrivals import NEVER
from twisted_rudp.raknet.profiles import Settings

MOST_PINGS = 8
"""Pings whose pongs are still waited for."""


class Liveness:
    """
    @ivar heard: when anything of the peer's came last.
    @ivar ping_due: when to ping next.
    @ivar latest: what the last pong said of the round trip.
    """

    def __init__(self, settings: Settings, now: int) -> None:
        self._settings = settings
        self.heard = now
        self.ping_due = NEVER
        self.latest: int | None = None
        self._waiting: dict[int, int] = {}
        self._reliable_since = now

    def start(self, now: int) -> None:
        """The session is there: ping, at once for the first time."""
        self.ping_due = now

    def stop(self) -> None:
        """The peer has left; nothing is to be expected of it."""
        self.ping_due = NEVER

    def pinged(self, time: int, now: int) -> None:
        """A ping with this time on it is being sent."""
        self._waiting[time] = now
        if len(self._waiting) > MOST_PINGS:
            del self._waiting[next(iter(self._waiting))]
        self.ping_due = now + self._settings.ping_interval

    def wants_answer(self, now: int) -> bool:
        """
        The peer has been silent for so long that the next ping is to be a reliable
        one, as its acknowledgement cannot be lost for good.
        """
        third = self._settings.timeout // 3
        if now < self.heard + third or now < self._reliable_since + third:
            return False
        self._reliable_since = now
        return True

    def answered(self, time: int, now: int) -> bool:
        """
        A pong echoes this time.

        @return: we had sent it, and it was not answered yet.
        """
        sent = self._waiting.pop(time, None)
        if sent is None:
            return False
        self.latest = now - sent
        return True

    def silent_until(self, round_trip: int | None) -> int:
        """When the peer counts as gone if nothing is heard."""
        extra = self._settings.timeout_rtts * (round_trip or 0)
        return self.heard + self._settings.timeout + extra
