"""
Command lines that explain themselves: help with examples, and numbers that are
refused with what would be right.
"""

from __future__ import annotations

from twisted.python import usage


class TeachingOptions(usage.Options):
    """
    Options whose help ends with examples. L{usage.Options} would fill a
    C{longdesc} with them into one paragraph.
    """

    examples = ""

    def getUsage(self, width: int | None = None) -> str:
        """
        The help text.
        """
        return f"{super().getUsage(width)}\n{self.examples.strip()}\n"


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
