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
    Options whose help ends with examples. L{usage.Options} would fill a
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
        """
        The help text.
        """
        return f"{super().getUsage(width)}\n{self.examples.strip()}\n"


def _naming(option: str, coerce: Callable[[str], Any]) -> Callable[[str], Any]:
    """
    A coercion that says which option it refuses.
    """

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


def seconds(given: str) -> float:
    """
    A time to wait, at most an hour.

    @raise ValueError: it is none.
    """
    try:
        value = float(given)
    except ValueError:
        value = -1
    if not 0 <= value <= 3600:
        raise ValueError(f"{given!r} is not a number of seconds from 0 to 3600")
    return value
