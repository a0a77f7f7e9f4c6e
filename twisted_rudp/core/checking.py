"""
Checks of what people give as settings. Each error names the setting, its value and
what would be right.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TypeVar

from twisted_rudp.core.engine import SECOND

_Choice = TypeVar("_Choice", bound=Enum)

LONGEST_SECONDS = 10**9
"""Three decades; what is longer is meant to be for ever."""


def written(name: str) -> str:
    """A setting's name as people write it: C{dead_link} is C{deadLink} to them."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def require_within(name: str, value: int, least: int, most: int) -> None:
    """
    @raise ValueError: C{value} is no integer, or not in C{least} .. C{most}.
    """
    if not isinstance(value, int):
        raise ValueError(f"{written(name)}={value!r} is not an integer")
    if not least <= value <= most:
        raise ValueError(f"{written(name)}={value!r} is not within {least} .. {most}")


def require_flag(name: str, value: bool) -> None:
    """
    A word such as C{"no"} would count as yes.

    @raise ValueError: C{value} is neither a boolean nor 0 or 1.
    """
    if not isinstance(value, int) or value not in (0, 1):
        raise ValueError(f"{written(name)}={value!r} is neither True nor False")


def require_choice(name: str, value: str, choices: type[_Choice]) -> _Choice:
    """
    @param choices: the values of which are the words that may be given.
    @raise ValueError: C{value} is none of them.
    """
    try:
        return choices(value)
    except ValueError:
        words = ", ".join(str(each.value) for each in choices)
        raise ValueError(f"{name}={value!r} is not one of {words}") from None


def nanoseconds(name: str, seconds: float, least: float = 0) -> int:
    """
    A span that people give in seconds.

    @raise ValueError: it is no number, not finite, or not in C{least} ..
        L{LONGEST_SECONDS}.
    """
    real = isinstance(seconds, (int, float)) and math.isfinite(seconds)
    if not real or not least <= seconds <= LONGEST_SECONDS:
        raise ValueError(
            f"{name}={seconds!r} is not a number of seconds within {least:g} .. {LONGEST_SECONDS}"
        )
    return int(seconds * SECOND)
