"""
The C{rudp} command: tools for a person at a terminal. Long-running services are
commands of C{twist rudp} instead (REL-3).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_rudp.service.browse import BrowseOptions, LookupOptions, runBrowse, runLookup
from twisted_rudp.service.connect import ConnectOptions, runConnect
from twisted_rudp.service.decode import DecodeOptions, runDecode
from twisted_rudp.service.demo import DemoOptions, runDemo
from twisted_rudp.service.doctor import DoctorOptions, runDoctor
from twisted_rudp.service.files import ReceiveOptions, SendOptions, runReceive, runSend
from twisted_rudp.service.kcptun import ClientOptions, ServerOptions, runTunnel
from twisted_rudp.service.keygen import KeygenOptions, runKeygen
from twisted_rudp.service.link import LinkOptions, runLink
from twisted_rudp.service.ping import PingOptions, runPing
from twisted_rudp.service.plot import PlotOptions, runPlot
from twisted_rudp.service.status import (
    BanOptions,
    ConfigureOptions,
    KickOptions,
    LogLevelOptions,
    ReloadOptions,
    StatusOptions,
    TopOptions,
    TraceOptions,
    runRequest,
    runStatus,
    runTop,
)
from twisted_rudp.service.usage import UsageOptions

USAGE_ERROR = 2
"""Exit status for an invalid command line."""

UNREAD = 1
"""Exit status when nobody reads what is printed."""


TOOLS: Mapping[str, Callable[[Any, Any], Deferred[None] | None]] = {
    "connect": runConnect,
    "decode": runDecode,
    "demo": runDemo,
    "doctor": runDoctor,
    "kcptun-client": runTunnel,
    "kcptun-server": runTunnel,
    "keygen": runKeygen,
    "link": runLink,
    "ping": runPing,
    "recv": lambda reactor, options: ensureDeferred(runReceive(reactor, options)),
    "send": lambda reactor, options: ensureDeferred(runSend(reactor, options)),
    "plot": runPlot,
    "status": runStatus,
    "top": lambda reactor, options: ensureDeferred(runTop(reactor, options)),
    "kick": runRequest,
    "ban": runRequest,
    "configure": runRequest,
    "log-level": runRequest,
    "reload": runRequest,
    "trace": runRequest,
    "browse": lambda reactor, options: ensureDeferred(runBrowse(reactor, options)),
    "lookup": lambda reactor, options: ensureDeferred(runLookup(reactor, options)),
}
"""The function of each command, called with the reactor and the command's options."""


class Options(UsageOptions):
    """C{rudp}."""

    synopsis = "COMMAND [options]"
    longdesc = "Tools for reliable UDP. Long-running services are commands of 'twist rudp'."
    examples = """
Examples:

  rudp demo
  rudp link --help
  rudp ping raknet:host=example.org:port=19132
"""
    subCommands = [
        ["decode", None, DecodeOptions, "Print the datagrams of a capture in words."],
        ["doctor", None, DoctorOptions, "Find out what is not as it should be."],
        ["demo", None, DemoOptions, "Download over a bad link and print the statistics."],
        ["kcptun-client", None, ClientOptions, "Carry TCP connections to a server of kcptun."],
        ["kcptun-server", None, ServerOptions, "Serve clients of kcptun."],
        ["keygen", None, KeygenOptions, "Create a key for QOTP, or show its public part."],
        ["connect", None, ConnectOptions, "Relay standard input and output to an endpoint."],
        ["send", None, SendOptions, "Send files and directories over any transport."],
        ["recv", None, ReceiveOptions, "Receive what 'rudp send' sends."],
        ["link", None, LinkOptions, "Relay UDP with loss, delay and reordering."],
        ["browse", None, BrowseOptions, "Show the nodes announced on the local network."],
        ["lookup", None, LookupOptions, "Print the addresses of a node."],
        ["status", None, StatusOptions, "Show the sessions of a running program."],
        ["top", None, TopOptions, "Watch the sessions of a running program."],
        ["kick", None, KickOptions, "End a session of a running program."],
        ["ban", None, BanOptions, "Ban an address from a running program."],
        ["configure", None, ConfigureOptions, "Change settings of a session."],
        ["log-level", None, LogLevelOptions, "Change the log level of a running program."],
        ["reload", None, ReloadOptions, "Have a running program read its configuration again."],
        ["trace", None, TraceOptions, "Trace the sessions of a running program."],
        ["plot", None, PlotOptions, "Draw rate, window, round trip and losses of a trace."],
        ["ping", None, PingOptions, "Ask a RakNet server for its status."],
    ]

    def tool(self) -> tuple[Callable[[Any, Any], Deferred[None] | None], usage.Options]:
        """The function of the given command, and its options."""
        assert self.subCommand is not None
        return TOOLS[self.subCommand], self.subOptions

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no command was given.
        """
        if self.subCommand is None:
            *names, last = sorted(TOOLS)
            raise usage.UsageError(f"expected a command: {', '.join(names)} or {last}")


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run one command and exit.

    @param arguments: used instead of the process's own.
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
    """Run a tool. A usage error that it raises ends the program as one found while parsing."""
    running: Deferred[Any] = maybeDeferred(tool, reactor, options)
    # Now: at its end, Python would only complain when nobody reads any more.
    running.addCallback(lambda _: sys.stdout.flush())
    return running.addErrback(_endWith)


def _endWith(failure: Failure) -> Failure:
    if isinstance(failure.value, usage.UsageError):
        raise SystemExit(_refused(failure.value))
    if isinstance(failure.value, BrokenPipeError):
        # As after "| head": who reads has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(UNREAD)
    return failure


def _refused(error: usage.UsageError) -> int:
    print(f"rudp: {error}\nSee 'rudp --help' and 'rudp COMMAND --help'.", file=sys.stderr)
    return USAGE_ERROR
