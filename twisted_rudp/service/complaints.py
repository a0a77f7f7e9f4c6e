"""Telling the operator what is wrong once, however often it happens."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

INTERVAL = 30.0
"""
Seconds between two log lines about the same thing. A unknown peer can cause
complaints at any rate; he fills no log with them (LOG-2).
"""

_KINDS = 100


class Complaints:
    """
    Logs a complaint at once, the same one again only after L{INTERVAL}, then
    with the number of those in between.
    """

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._quietUntil: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def complain(self, about: str, reason: str) -> None:
        """
        @param about: what is wrong, in words; complaints with the same words
            and reason are one complaint.
        """
        complaint = f"{about}: {reason}"
        now = self._clock.seconds()
        if now < self._quietUntil.get(complaint, now):
            self._unsaid[complaint] = self._unsaid.get(complaint, 0) + 1
            return
        unsaid = self._unsaid.pop(complaint, 0)
        self._remember(complaint, now)
        self._log.error(
            "{about}: {reason} ({unsaid} more times since it was last said)"
            if unsaid
            else "{about}: {reason}",
            about=about,
            reason=reason,
            unsaid=unsaid,
        )

    def _remember(self, complaint: str, now: float) -> None:
        """
        Keep the newest L{_KINDS} complaints; a reason may hold an address, so
        that their number is not bounded by itself.
        """
        self._quietUntil.pop(complaint, None)
        self._quietUntil[complaint] = now + INTERVAL
        if len(self._quietUntil) > _KINDS:
            oldest = next(iter(self._quietUntil))
            del self._quietUntil[oldest]
            self._unsaid.pop(oldest, None)
