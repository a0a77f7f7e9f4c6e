"""
Endpoint descriptions on command lines: what is wrong with one is said in a line that
names the option and the argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.python import usage

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
            f"{kind}: port={port[:100]!r} is not right: an integer from {lowest} to 65535 is"
            " expected"
        )
