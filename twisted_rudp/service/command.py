"""
The C{rudp} command: tools for a person at a terminal. Long-running services are
commands of C{twist rudp} instead (REL-3).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_rudp import __version__, kernels
from twisted_rudp.service.browse import BrowseOptions, LookupOptions, runBrowse, runLookup
from twisted_rudp.service.demo import DemoOptions, runDemo
from twisted_rudp.service.keygen import KeygenOptions, runKeygen
from twisted_rudp.service.link import LinkOptions, runLink
from twisted_rudp.service.ping import PingOptions, runPing
from twisted_rudp.service.usage import UsageOptions

USAGE_ERROR = 2
"""Exit status for a command line that is not right."""


TOOLS: Mapping[str, Callable[[Any, Any], Deferred[None] | None]] = {
    "demo": runDemo,
    "keygen": runKeygen,
    "link": runLink,
    "ping": runPing,
    "browse": lambda reactor, options: ensureDeferred(runBrowse(reactor, options)),
    "lookup": lambda reactor, options: ensureDeferred(runLookup(reactor, options)),
}
"""What runs each command; called with the reactor and the command's options."""


class Options(UsageOptions):
    """C{rudp}."""

    synopsis = "Usage: rudp COMMAND [options]"
    longdesc = "Tools for reliable UDP. The services are 'twist rudp'."
    examples = """
Examples:

  rudp demo
  rudp link --help
  rudp ping raknet:host=example.org:port=19132
"""
    subCommands = [
        ["demo", None, DemoOptions, "A download over a bad link, with what it took."],
        ["keygen", None, KeygenOptions, "A new identity key for QOTP, or the public part of one."],
        ["link", None, LinkOptions, "A UDP relay that loses, delays and reorders on purpose."],
        ["browse", None, BrowseOptions, "The nodes that announce themselves here."],
        ["lookup", None, LookupOptions, "Where a node may be reached."],
        ["ping", None, PingOptions, "What a server says of itself."],
    ]

    def opt_version(self) -> None:
        """Show the version, and whether the fast kernels are there, and exit."""
        print(f"twisted_rudp {__version__}, {kernels.IMPLEMENTATION} kernels")
        sys.exit(0)

    def tool(self) -> tuple[Callable[[Any, Any], Deferred[None] | None], usage.Options]:
        """What runs the command that was given, and its options."""
        assert self.subCommand is not None
        return TOOLS[self.subCommand], self.subOptions

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no command was given.
        """
        if self.subCommand is None:
            *names, last = sorted(TOOLS)
            raise usage.UsageError(f"a command is needed: {', '.join(names)} or {last}")


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run one command and exit.

    @param arguments: instead of the process's own.
    """
    options = Options()  # type: ignore[no-untyped-call]
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options.parseOptions(given)  # type: ignore[no-untyped-call]
    except usage.UsageError as error:
        sys.exit(_refused(error))
    task.react(_run, options.tool())


def _run(
    reactor: Any, tool: Callable[[Any, Any], Deferred[None] | None], options: usage.Options
) -> Deferred[None]:
    """
    Run a tool; what it finds wrong with its options only then ends it like a
    command line that is not right.
    """
    running: Deferred[Any] = maybeDeferred(tool, reactor, options)
    return running.addErrback(_endWith)


def _endWith(failure: Failure) -> Failure:
    if isinstance(failure.value, usage.UsageError):
        raise SystemExit(_refused(failure.value))
    return failure


def _refused(error: usage.UsageError) -> int:
    print(f"rudp: {error}\n'rudp --help' and 'rudp COMMAND --help' say more.", file=sys.stderr)
    return USAGE_ERROR
