"""
Arguments of endpoint descriptions: how one is written, what it means, and how
its text becomes a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address

_INTEGER = re.compile(r"[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?", re.ASCII)
_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}", re.ASCII)
_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Argument:
    """
    One argument, the same for everybody who can give it.

    @ivar name: as it stands before the C{=}, and in the endpoint's constructor.
    @ivar convert: text to value; raises C{ValueError}, without a text for
        people, for everything that C{expected} does not allow.
    @ivar expected: what may stand behind the C{=}, to follow "expected: ".
    @ivar meaning: what it is, with its unit, for the manual.
    @ivar profiled: left out, it is what the profile says.
    @ivar secret: no error text repeats its value (STR-6).
    """

    name: str
    convert: Callable[[str], Any]
    expected: str
    meaning: str
    profiled: bool = False
    secret: bool = False


def integer(name: str, low: int, high: int, meaning: str) -> Argument:
    """A whole number in ASCII digits from C{low} to C{high}."""

    def convert(given: str) -> int:
        if not _INTEGER.fullmatch(given) or not low <= int(given) <= high:
            raise ValueError(given)
        return int(given)

    return Argument(name, convert, f"an integer from {low} to {high}", meaning)


def decimal(name: str, low: float, high: float, meaning: str) -> Argument:
    """A number with or without a fraction, from C{low} to C{high}; no exponent, no infinity."""

    def convert(given: str) -> float:
        if not _DECIMAL.fullmatch(given):
            raise ValueError(given)
        value = float(given)
        if not low <= value <= high or not math.isfinite(value):
            raise ValueError(given)
        return value

    return Argument(name, convert, f"a number from {low:g} to {high:g}", meaning)


def boolean(name: str, meaning: str) -> Argument:
    """Yes or no, in the words of STR-5."""

    def convert(given: str) -> bool:
        try:
            return _BOOLEANS[given.lower()]
        except KeyError:
            raise ValueError(given) from None

    return Argument(name, convert, "yes, no, true, false, 1 or 0", meaning)


def oneOf(name: str, choices: Sequence[str], meaning: str) -> Argument:
    """One of a few words."""

    def convert(given: str) -> str:
        if given not in choices:
            raise ValueError(given)
        return given

    return Argument(name, convert, f"{', '.join(choices[:-1])} or {choices[-1]}", meaning)


def address(name: str, meaning: str) -> Argument:
    """
    An IP address literal, an IPv6 one with or without its zone. Not a name:
    binding must not wait for a resolver (EP-2).
    """

    def convert(given: str) -> str:
        if not isIPAddress(given) and not isIPv6Address(given):
            raise ValueError(given)
        return given

    return Argument(name, convert, "an IPv4 or IPv6 address", meaning)


def text(name: str, meaning: str, expected: str = "a name or an address") -> Argument:
    """Any text but the empty one. Whether a host exists is asked when connecting."""

    def convert(given: str) -> str:
        if not given:
            raise ValueError(given)
        return given

    return Argument(name, convert, expected, meaning)


def secret(name: str, meaning: str, expected: str) -> Argument:
    """Any text but the empty one, which nobody is shown."""
    return replace(text(name, meaning, expected), secret=True)


def publicKey(name: str, meaning: str) -> Argument:
    """A key that everybody may see, in hex digits."""

    def convert(given: str) -> str:
        if not _KEY.fullmatch(given):
            raise ValueError(given)
        return given

    return Argument(name, convert, "64 hex digits", meaning)


def hexadecimal(name: str, digits: int, meaning: str) -> Argument:
    """A number in hexadecimal, of at most so many digits."""
    pattern = re.compile(rf"(0x)?[0-9a-fA-F]{{1,{digits}}}", re.ASCII)

    def convert(given: str) -> int:
        if not pattern.fullmatch(given):
            raise ValueError(given)
        return int(given, 16)

    return Argument(name, convert, f"1 to {digits} hexadecimal digits", meaning)


def octets(name: str, count: int, meaning: str) -> Argument:
    """So many bytes, in hex digits."""
    pattern = re.compile(rf"[0-9a-fA-F]{{{2 * count}}}", re.ASCII)

    def convert(given: str) -> bytes:
        if not pattern.fullmatch(given):
            raise ValueError(given)
        return bytes.fromhex(given)

    return Argument(name, convert, f"{2 * count} hexadecimal digits", meaning)


def several(name: str, one: Argument, meaning: str) -> Argument:
    """Values of C{one}, joined by C{+}; a single one stays what it is."""

    def convert(given: str) -> Any:
        values = [one.convert(each) for each in given.split("+")]
        return values[0] if len(values) == 1 else frozenset(values)

    return Argument(name, convert, f"{one.expected}, or several joined by +", meaning)


def shortText(name: str, most: int, meaning: str) -> Argument:
    """Any text of at most so many bytes of UTF-8, also the empty one."""

    def convert(given: str) -> str:
        if len(given.encode("utf-8", "surrogateescape")) > most:
            raise ValueError(given)
        return given

    return Argument(name, convert, f"a text of at most {most} bytes", meaning)
