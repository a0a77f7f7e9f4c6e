"""
The C{rudp} command: tools for a person at a terminal. What runs for long and
unattended is a service of C{twist rudp} instead (REL-3).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.python import usage

from twisted_rudp import __version__, kernels
from twisted_rudp.service.demo import DemoOptions
from twisted_rudp.service.link import LinkOptions
from twisted_rudp.service.teaching import TeachingOptions

USAGE_ERROR = 2
"""
Exit status for a command line that is not right.
"""


class Options(TeachingOptions):
    """
    C{rudp}.
    """

    synopsis = "Usage: rudp COMMAND [options]"
    longdesc = "Tools for reliable UDP. The services are 'twist rudp'."
    examples = """
Examples:

  rudp demo
  rudp link --help
"""
    subCommands = [
        ["demo", None, DemoOptions, "A download over a bad link, with what it took."],
        ["link", None, LinkOptions, "A UDP relay that loses, delays and reorders on purpose."],
    ]

    def opt_version(self) -> None:
        """
        Show the version, and whether the fast kernels are there, and exit.
        """
        print(f"twisted_rudp {__version__}, {kernels.IMPLEMENTATION} kernels")
        sys.exit(0)

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no command was given.
        """
        if self.subCommand is None:
            raise usage.UsageError("a command is needed: demo or link")


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
        print(f"rudp: {error}\n'rudp --help' and 'rudp COMMAND --help' say more.", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    task.react(lambda reactor: Deferred.fromCoroutine(options.subOptions.run(reactor)))
