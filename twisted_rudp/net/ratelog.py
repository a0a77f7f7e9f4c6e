"""A log for what a peer or the network can cause at any rate (LOG-2)."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

INTERVAL: Final = 60.0
"""Seconds between two lines of one kind."""

KINDS: Final = 100
"""So many kinds are told apart; the one that was quiet for longest is forgotten first."""


class RateLimitedLog:
    """
    Logs each kind of thing at once, and the same kind again only after an interval, then
    with the number of times that were not logged.
    """

    __slots__ = ("_clock", "_interval", "_log", "_quietUntil", "_unsaid")

    def __init__(self, clock: IReactorTime, log: Logger, interval: float = INTERVAL) -> None:
        """
        @param interval: seconds between two lines of one kind.
        """
        self._clock = clock
        self._log = log
        self._interval = interval
        self._quietUntil: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, kind: str, format: str, level: Any = LogLevel.warn, **values: Any) -> None:
        """
        Log a line if its kind is not quiet.

        @param kind: what counts as the same thing; may hold a peer's own words.
        @param format: as for a C{Logger}, with C{values}.
        """
        unsaid = self._due(kind)
        if unsaid is not None:
            self._log.emit(level, format + _more(unsaid), **values)

    def failure(
        self, kind: str, format: str, failure: Failure | None = None, **values: Any
    ) -> None:
        """As L{note}, with the traceback of C{failure} or of the exception being handled."""
        unsaid = self._due(kind)
        if unsaid is not None:
            self._log.failure(format + _more(unsaid), failure, **values)

    def clear(self, kind: str) -> bool:
        """
        It is over: the next one of this kind is logged at once.

        @return: whether it had been logged.
        """
        self._unsaid.pop(kind, None)
        return self._quietUntil.pop(kind, None) is not None

    def _due(self, kind: str) -> int | None:
        """
        @return: how many were not logged since the last line; None if this one is not
            to be logged either.
        """
        now = self._clock.seconds()
        quietUntil = self._quietUntil.get(kind)
        # A wall clock that was set back must not make a kind quiet for long.
        if quietUntil is not None and now < quietUntil <= now + self._interval:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return None
        self._quietUntil.pop(kind, None)
        self._quietUntil[kind] = now + self._interval
        if len(self._quietUntil) > KINDS:
            oldest = next(iter(self._quietUntil))
            del self._quietUntil[oldest]
            self._unsaid.pop(oldest, None)
        return self._unsaid.pop(kind, 0)


def _more(unsaid: int) -> str:
    return f" ({unsaid} more times since it was last logged)" if unsaid else ""
