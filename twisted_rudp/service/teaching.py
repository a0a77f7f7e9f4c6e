"""
Command lines that explain themselves: help with examples, and numbers that are
refused with what would be right.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.python import usage


class TeachingOptions(usage.Options):
    """
    Options whose help ends with examples. C{usage.Options} would fill a
    C{longdesc} with them into one paragraph.
    """

    examples = ""

    def getUsage(self, width: int | None = None) -> str:
        """
        The help text.
        """
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
    """
    The same for whole numbers.
    """

    def coerce(given: str) -> int:
        value = int(given) if given.isascii() and given.isdigit() and len(given) < 20 else -1
        if not lowest <= value <= highest:
            raise ValueError(f"{given!r} is not {unit} from {lowest} to {highest}")
        return value

    return coerce


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
