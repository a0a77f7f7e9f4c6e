"""C{rudp browse} and C{rudp lookup}: the nodes that discovery knows."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python import usage
from zope.interface import implementer

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import Node, Removal
from twisted_rudp.discovery.service import Discovery, discoveryOf
from twisted_rudp.errors import NodeNotFound
from twisted_rudp.interfaces import INodeBrowser
from twisted_rudp.service.announce import (
    PROFILE_HELP,
    audience,
    nodeId,
    profiles,
    profilesOf,
)
from twisted_rudp.service.usage import UsageOptions, printable, seconds

_log = Logger()

GATHERING = 0.3
"""Seconds to wait after the first answer for those from other sources."""

NOT_FOUND = 1
"""Exit status when the node was not found."""


class BrowseOptions(UsageOptions):
    """C{rudp browse}."""

    longdesc = (
        "Show the nodes announced on the local network: a table on a terminal, otherwise a line"
        " for each node that appears (+), changes (~) or disappears (-). Announces nothing, but"
        " asks nodes to announce themselves now."
    )
    optParameters = [
        ["profile", None, None, f"Profiles to listen to: {PROFILE_HELP}", profiles],
        ["seconds", None, None, "Stop after this many seconds.", seconds],
    ]
    optFlags = [
        ["check-hops", None, "Ignore announcements that a router has forwarded; for profile v4."],
    ]
    examples = """
Nodes of this package, and nodes of Syncthing:

  rudp browse
  rudp browse --profile syncthing --seconds 60
"""

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: there is no profile.
        """
        self.profiles = profilesOf(self)
        if not self.profiles:
            raise usage.UsageError("--profile none: there is nothing to listen to")


class LookupOptions(UsageOptions):
    """C{rudp lookup}."""

    synopsis = "[options] ID"
    longdesc = (
        "Print the addresses of a node, the best first, each with its source. Announcements are not"
        " authenticated."
    )
    optParameters = [
        ["profile", None, None, f"Profiles to listen to: {PROFILE_HELP}", profiles],
        ["server", None, None, "Discovery server to ask, HOST or HOST:PORT."],
        ["timeout", None, 10.0, "Longest wait in seconds.", seconds],
    ]
    examples = """
In the local network, and at a server:

  rudp lookup alice
  rudp lookup --profile none --server rendezvous.example.org alice
"""
    id: NodeId

    def parseArgs(self, *ids: str) -> None:
        """
        @raise usage.UsageError: not exactly one id.
        """
        if len(ids) != 1:
            raise usage.UsageError("expected one ID: a name, a device id or a public key")
        self.id = nodeId("ID", ids[0])

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: there is neither a profile nor a server.
        """
        self.audience = audience(self)


@implementer(INodeBrowser)
class LinePrinter:
    """Prints a line for each event."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def nodeAdded(self, node: Node) -> None:
        self._write("+", node)

    def nodeUpdated(self, node: Node) -> None:
        self._write("~", node)

    def nodeRemoved(self, id: NodeId, reason: Removal) -> None:
        print("-", id.text, reason.value, file=self._out, flush=True)

    def _write(self, mark: str, node: Node) -> None:
        shown = (printable(str(address)) for address in node.addresses)
        print(mark, node.id.text, *shown, file=self._out, flush=True)


def table(nodes: list[Node], status: dict[str, str]) -> str:
    """All nodes for a terminal, with the age of each announcement."""
    shown = [f"{len(nodes)} nodes ({', '.join(f'{k}: {v}' for k, v in status.items())})", ""]
    for node in nodes:
        shown.append(node.id.text)
        shown.extend(
            f"    {printable(str(each.address)):40} {each.age:4.0f} s  {each.source.via}"
            for each in node.candidates
        )
    return "\n".join(shown)


async def runBrowse(reactor: Any, options: BrowseOptions, out: TextIO | None = None) -> None:
    """Show nodes for C{--seconds}, or until interrupted."""
    out = sys.stdout if out is None else out
    checked = options["check-hops"]
    discovery = Discovery(reactor, checkHops=True) if checked else discoveryOf(reactor)
    lease = discovery.listen(options.profiles)
    discovery.solicit(options.profiles)
    if out.isatty():
        drawing = LoopingCall(_draw, discovery, out)
        drawing.clock = reactor
        drawing.start(1).addErrback(
            lambda failure: _log.failure("cannot draw the table of nodes", failure)
        )
    else:
        discovery.registry.browse(LinePrinter(out))
    waiting: Deferred[None] = Deferred()
    if options["seconds"] is not None:
        waiting = deferLater(reactor, options["seconds"], lambda: None)
    await waiting
    if out.isatty():
        drawing.stop()
    await lease.release()


def _draw(discovery: Discovery, out: TextIO) -> None:
    nodes = discovery.registry.snapshot()
    # Cursor home, the table, then clear the rest of the previous one.
    drawn = table(nodes, discovery.status()).replace("\n", "\x1b[K\n")
    out.write(f"\x1b[H{drawn}\x1b[K\n\x1b[J")
    out.flush()


async def runLookup(reactor: Any, options: LookupOptions) -> None:
    """
    Print the addresses of a node.

    @raise SystemExit: it was not found.
    """
    discovery = discoveryOf(reactor)
    asked = options.audience
    server = None if asked.server is None else discovery.server(*asked.server)
    lease = discovery.listen(asked.profiles)
    try:
        await discovery.lookup(options.id, options["timeout"], asked.profiles, server)
        await deferLater(reactor, GATHERING, lambda: None)
        found = discovery.registry.candidates(options.id)
    except NodeNotFound as problem:
        print(f"rudp: {problem}", file=sys.stderr)
        raise SystemExit(NOT_FOUND) from None
    finally:
        await lease.release()
    for candidate in found:
        address = printable(str(candidate.address))
        print(f"{address:40} {candidate.source.via} {candidate.source.host}")
