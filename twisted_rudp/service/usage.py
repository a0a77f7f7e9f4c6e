"""Command lines: help with examples, checked numbers, and endpoint descriptions."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.application.service import IService
from twisted.internet.endpoints import serverFromString
from twisted.python import usage

from twisted_rudp import __version__, kernels
from twisted_rudp.net.udp.steering import MOST


class UsageOptions(usage.Options):
    """
    Options whose help ends with examples, which C{usage.Options} would reflow into one
    paragraph. Errors of coercion name the option.
    """

    examples = ""
    _helping = False
    optParameters: Sequence[Sequence[Any]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.optParameters = [
            [*row[:4], _naming(row[0], row[4])] if len(row) > 4 else row
            for row in vars(cls).get("optParameters", ())
        ]

    def parseArgs(self, *rest: str) -> None:
        """
        @raise usage.UsageError: there are arguments besides the options.
        """
        if rest:
            raise usage.UsageError(f"unexpected argument {rest[0]!r}")

    def getSynopsis(self) -> str:
        """The command with its parents' names, and its own synopsis."""
        names: list[str] = []
        above = self.parent
        while above is not None:
            names.insert(0, above.subCommand or "")
            above = above.parent
        program = os.path.basename(sys.argv[0])
        if program == "__main__.py":
            program = "twist"
        return " ".join(["Usage:", program, *names, getattr(self, "synopsis", "[options]")])

    def getUsage(self, width: int | None = None) -> str:
        """
        The help text, if it was asked for. Twisted shows it after a usage error too; there
        the error would scroll off, so the text is one line.
        """
        if not self._helping:
            return "Add --help to the command for its options.\n"
        parts = [super().getUsage(width).rstrip(), self.examples.strip()]
        return "\n\n".join(filter(None, parts)) + "\n"

    def opt_help(self) -> None:
        """Show this help and exit."""
        self._helping = True
        print(self)
        sys.exit(0)

    def opt_version(self) -> None:
        """Show the version and the kernels in use, and exit."""
        print(f"twisted_rudp {__version__}, {kernels.description()}")
        sys.exit(0)


def whole(lowest: int, highest: int, unit: str) -> Callable[[str], int]:
    """A coercion for an option that takes a whole number."""

    def coerce(given: str) -> int:
        value = int(given) if given.isascii() and given.isdigit() and len(given) < 20 else -1
        if not lowest <= value <= highest:
            raise ValueError(f"{given!r} is not {unit} from {lowest} to {highest}")
        return value

    return coerce


def number(lowest: float, highest: float, unit: str) -> Callable[[str], float]:
    """
    A coercion for an option that takes a number.

    @param unit: what the number counts, for the error.
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


def _naming(option: str, coerce: Callable[[str], Any]) -> Callable[[str], Any]:
    """A coercion whose errors name the option."""

    def named(given: str) -> Any:
        try:
            return coerce(given)
        except ValueError as error:
            raise usage.UsageError(f"--{option}: {error}") from None

    return named


def count(given: str) -> int:
    """
    A positive integer.

    @raise ValueError: anything else.
    """
    if not given.isascii() or not given.isdigit() or len(given) > 9 or int(given) == 0:
        raise ValueError(f"{given!r} is not a positive integer")
    return int(given)


TRACE_HELP: Final = "Directory to write a qlog file for each session to."
PCAP_HELP: Final = "File to write all UDP datagrams to, in the format pcapng."

WORKERS: Final = [
    "workers",
    None,
    1,
    "Processes that share the connections; 0: one for each processor.",
    whole(0, MOST, "a number"),
]
"""An option of all programs that accept connections."""

WORKERS_BY_HOST: Final = [
    "workers-by-host",
    None,
    "With --workers: one process for all KCP and RakNet sessions of an IP address.",
]
"""A flag of the same programs."""


RETIRE: Final = [
    "retire",
    None,
    86400.0,
    "Seconds for connections to go on after a reload or takeover.",
    number(0, 10**7, "a number of seconds"),
]
"""An option of all services that accept connections."""


def workerCount(given: int) -> int:
    """How many processes that option asks for."""
    return given or os.cpu_count() or 1


class ServiceOptions(UsageOptions):
    """
    Options of every service.

    @ivar services: those of this command line.
    @ivar fingerprint: tells whether two command lines of a configuration file are the same.
    """

    optParameters = [
        ["control", None, None, "Path of a control socket to open, for 'rudp status'."],
        ["metrics", None, None, "Endpoint to serve metrics for Prometheus on."],
        ["takeover", None, None, "Control socket of a process to take the sockets over from."],
        ["trace", None, None, TRACE_HELP],
        ["pcap", None, None, PCAP_HELP],
        WORKERS,
    ]
    optFlags = [
        ["metrics-per-session", None, "Export metrics of each session, too."],
        WORKERS_BY_HOST,
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.services: list[IService] = []
        self.fingerprint = ""


seconds = number(0, 3600, "a number of seconds")
"""A time to wait, at most an hour."""


_SECRET = re.compile(
    r"\b((?!serverKey=)\w*(?:key|password|secret|seed|seedHex))=(?:\\.|[^:\\])*", re.IGNORECASE
)
"""An argument of an endpoint that is secret. The key of a server is public."""

_COLON = re.compile(r"(?<!\\):")

_UNCHECKED = frozenset({"tcp", "tcp6", "ssl", "tls"})
"""Twisted's endpoints, which do not check the range of a port when they are parsed."""


def endpoint(option: str, parse: Callable[[Any, str], Any], description: str) -> Any:
    """
    Parse the endpoint description given for an option (SVC-7).

    @param option: its name; C{endpoint} for an argument without a name.

    @param parse: C{serverFromString} or C{clientFromString}.
    @raise usage.UsageError: it is invalid. The parsers of other packages raise a
        C{ValueError}, or whatever their code raises for bad arguments.
    """
    from twisted.internet import reactor

    try:
        if parse is serverFromString:
            if description.startswith("node:"):
                raise ValueError("node: only connects; listen on kcp:, qotp: or raknet:")
            _checkPort(description, position=0, lowest=0)
        else:
            _checkPort(description, position=1, lowest=1)
        return parse(reactor, description)
    except TypeError as error:
        why = f"missing or unexpected arguments ({error})"
    except (ValueError, LookupError, OSError, RuntimeError) as error:
        why = str(error)
    shown = f"--{option} " if option != "endpoint" else ""
    raise usage.UsageError(f"{shown}{redacted(description)}: {why}")


def redacted(description: str) -> str:
    """An endpoint description for the log, without the values of keys and passwords (LOG-3)."""
    return _SECRET.sub(r"\1=...", description)


def _checkPort(description: str, position: int, lowest: int) -> None:
    """
    @param position: of the port among the arguments without names.
    @raise ValueError: it is not a port.
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


def printable(text: str) -> str:
    """A text of somebody else, without characters that control a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)
