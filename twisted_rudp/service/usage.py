"""Command lines: help with examples, checked numbers, and endpoint descriptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.python import usage


class UsageOptions(usage.Options):
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


_SECRET = re.compile(r"\b(\w*(?:key|password|secret|seed|seedHex))=(?:\\.|[^:\\])*", re.IGNORECASE)

_COLON = re.compile(r"(?<!\\):")

_UNCHECKED = frozenset({"tcp", "tcp6", "ssl", "tls"})
"""Twisted's own, which take any number for a port until they bind or connect."""


def endpoint(option: str, parse: Callable[[Any, str], Any], description: str) -> Any:
    """
    Parse an endpoint description that was given for an option (SVC-7).

    @param parse: C{serverFromString} or C{clientFromString}.
    @raise usage.UsageError: it is none. Other people's parsers answer with a
        ValueError, or with what fell out of them on bad arguments.
    """
    from twisted.internet import reactor

    try:
        if parse is serverFromString:
            _checkPort(description, position=0, lowest=0)
        else:
            _checkPort(description, position=1, lowest=1)
        return parse(reactor, description)
    except TypeError as error:
        why = f"an argument is missing or too many ({error})"
    except (ValueError, LookupError, OSError, RuntimeError) as error:
        why = str(error)
    raise usage.UsageError(f"--{option} {redacted(description)}: {why}")


def redacted(description: str) -> str:
    """An endpoint description for the log, without the values of keys and passwords (LOG-3)."""
    return _SECRET.sub(r"\1=...", description)


def _checkPort(description: str, position: int, lowest: int) -> None:
    """
    @param position: of the port among the arguments without names.
    @raise ValueError: it is no port.
    """
    kind, *arguments = _COLON.split(description)
    if kind not in _UNCHECKED:
        return
    plain = [argument for argument in arguments if "=" not in argument]
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    port = named.get("port", plain[position] if len(plain) > position else None)
    if port is None:
        return
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1
    if not lowest <= number <= 65535:
        raise ValueError(
            f"{kind}: port={port[:100]!r} is invalid: expected an integer from {lowest} to 65535"
        )
