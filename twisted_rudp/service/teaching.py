"""
Command lines that explain themselves: help with examples, and numbers that are
refused with what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.python import usage


class TeachingOptions(usage.Options):
    """
    Options whose help ends with examples. C{usage.Options} would fill a
    C{longdesc} with them into one paragraph. Its complaints name the option.
    """

    examples = ""
    optParameters: Sequence[Sequence[Any]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.optParameters = [
            [*row[:4], _naming(row[0], row[4])] if len(row) > 4 else row
            for row in vars(cls).get("optParameters", ())
        ]

    def parseArgs(self, *rest: str) -> None:
        """
        @raise usage.UsageError: there is something beside the options.
        """
        if rest:
            raise usage.UsageError(f"{rest[0]!r} belongs to no option")

    def getUsage(self, width: int | None = None) -> str:
        """The help text."""
        return f"{super().getUsage(width)}\n{self.examples.strip()}\n"


def number(lowest: float, highest: float, unit: str) -> Callable[[str], float]:
    """
    A coercion for an option that takes a number.

    @param unit: what the number counts, for the message.
    """

    def coerce(given: str) -> float:
        try:
            value = float(given)
        except ValueError:
            value = float("nan")
        if not lowest <= value <= highest:
            raise ValueError(f"{given!r} is not {unit} from {lowest:g} to {highest:g}")
        return value

    return coerce


def whole(lowest: int, highest: int, unit: str) -> Callable[[str], int]:
    """The same for whole numbers."""

    def coerce(given: str) -> int:
        value = int(given) if given.isascii() and given.isdigit() and len(given) < 20 else -1
        if not lowest <= value <= highest:
            raise ValueError(f"{given!r} is not {unit} from {lowest} to {highest}")
        return value

    return coerce


def _naming(option: str, coerce: Callable[[str], Any]) -> Callable[[str], Any]:
    """A coercion that says which option it refuses."""

    def named(given: str) -> Any:
        try:
            return coerce(given)
        except ValueError as error:
            raise usage.UsageError(f"--{option}: {error}") from None

    return named


def count(given: str) -> int:
    """
    A number of things, at least one.

    @raise ValueError: it is none.
    """
    if not given.isascii() or not given.isdigit() or len(given) > 9 or int(given) == 0:
        raise ValueError(f"{given!r} is not a whole number from 1 on")
    return int(given)


seconds = number(0, 3600, "a number of seconds")
"""A time to wait, at most an hour."""
