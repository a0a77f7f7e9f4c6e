"""What an unknown peer causes, in the log: once, and then once a minute with a count."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

QUIET = 60.0
"""Seconds between two lines of one kind."""


class Journal:
    """Log lines by kind. The kinds are ours, so their number is bounded."""

    def __init__(self, clock: IReactorTime, log: Logger, name: str) -> None:
        """
        @param name: what the lines are about.
        """
        self._clock = clock
        self._log = log
        self._name = name
        self._quietUntil: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, kind: str, detail: object) -> None:
        """
        @param kind: a text for people, always the same for the same thing.
        @param detail: who or what it was this time.
        """
        now = self._clock.seconds()
        if now < self._quietUntil.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._quietUntil[kind] = now + QUIET
        self._log.warn(
            "{name}: {kind}: {detail} (and {unsaid} more since it was last said)",
            name=self._name,
            kind=kind,
            detail=detail,
            unsaid=self._unsaid.pop(kind, 0),
        )

    def clear(self, kind: str) -> None:
        """It is over: say so if it was said, and say it at once when it comes again."""
        if self._quietUntil.pop(kind, None) is not None:
            self._unsaid.pop(kind, None)
            self._log.info("{name}: no longer: {kind}", name=self._name, kind=kind)
