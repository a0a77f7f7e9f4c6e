"""C{twist rudp discovery-server}: its command line and its service."""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from twisted_rudp.discovery.redisstore import RedisStore, openStore
from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.discovery.servertable import LIFE, MAX_NODES, MAX_PER_SOURCE, ServerTable
from twisted_rudp.discovery.v1 import SERVER_PORT
from twisted_rudp.net.addresses import isLiteral
from twisted_rudp.service.announce import theReactor
from twisted_rudp.service.listening import startupError
from twisted_rudp.service.usage import ServiceOptions, count, whole


class DiscoveryServerService(Service):
    """
    A discovery server. It binds before privileges are dropped (SVC-3); if the address
    cannot be bound, the program ends (SVC-4).
    """

    _log = Logger()

    def __init__(self, server: DiscoveryServer) -> None:
        self.server = server

    def privilegedStartService(self) -> None:
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listen()

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._listen()

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the file is written and the socket is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        counters = self.server.snapshot().counters
        shown = {name.rpartition(".")[2]: count for name, count in counters.items()}
        self._log.info(
            "discovery server: stopped: {tally}",
            tally=" ".join(f"{name}={count}" for name, count in shown.items()),
        )
        return self.server.stop()

    def _listen(self) -> None:
        """
        @raise CannotStart: the address cannot be bound.
        """
        if self.server.listening:
            return
        try:
            self.server.start()
        except CannotListenError as problem:
            raise startupError("discovery server", "--interface, --port", problem) from problem
        self._log.info(
            "discovery server: listening on {host.host} port {host.port} ({host.type})",
            host=self.server.getHost(),
        )


class DiscoveryServerOptions(ServiceOptions):
    """C{twist rudp discovery-server}."""

    longdesc = (
        "Store the addresses of nodes that announce themselves and answer queries about them, with"
        " the protocol of Syncthing's first discovery server. Announcements are not"
        " authenticated: use it where ids are keys, or among people who trust each other."
    )
    optParameters = [
        ["interface", None, "::", "Address to listen on; :: is all IPv4 and IPv6 addresses."],
        ["port", None, SERVER_PORT, "UDP port.", whole(0, 65535, "a port")],
        ["file", None, None, "File that keeps the table between runs."],
        ["registry", None, None, "Redis to share with other servers: redis://HOST:PORT/DATABASE."],
        ["registry-password-file", None, None, "File with the password for it."],
        ["life", None, int(LIFE), "Seconds for which an announcement is valid.", count],
        ["max-nodes", None, MAX_NODES, "Addresses stored at one time.", count],
        ["max-per-source", None, MAX_PER_SOURCE, "Addresses stored for one source address.", count],
    ]
    optFlags = [
        ["by-network", None, "Apply limits to each /24 and /64 instead of each address."],
        ["full-queries", None, "Ignore queries that are shorter than the answer."],
    ]
    examples = """
On a machine that all others can reach:

  twist rudp discovery-server --file nodes.txt

and on other machines, the program to be found and the one that looks it up:

  twist rudp echo --listen kcp:4000 --announce alice --announce-server rendezvous.example.org
  rudp lookup --server rendezvous.example.org alice

On each of several machines with one name:

  twist rudp discovery-server --registry redis://10.0.0.5/3
"""

    def postOptions(self) -> None:
        """
        Make the service.

        @raise usage.UsageError: the interface is invalid.
        """
        if not isLiteral(self["interface"]):
            raise usage.UsageError(f"--interface {self['interface']}: expected an IP address")
        table = ServerTable(
            life=self["life"], nodes=self["max-nodes"], per_source=self["max-per-source"]
        )
        server = DiscoveryServer(
            theReactor(),
            interface=self["interface"],
            port=self["port"],
            table=table,
            file=self["file"],
            store=self._store(table),
            byNetwork=bool(self["by-network"]),
            fullQueries=bool(self["full-queries"]),
        )
        self.services.append(DiscoveryServerService(server))

    def _store(self, table: ServerTable) -> RedisStore | None:
        """
        What C{--registry} asks for.

        @raise usage.UsageError: it is invalid, or txredisapi is missing.
        """
        url, file = self["registry"], self["registry-password-file"]
        if url is None:
            if file is not None:
                raise usage.UsageError("--registry-password-file requires --registry")
            return None
        if self["file"] is not None:
            raise usage.UsageError("--file and --registry cannot be given together")
        try:
            password = None if file is None else Path(file).read_text(encoding="utf-8").strip()
            return openStore(theReactor(), url, table, password)
        except OSError as problem:
            raise usage.UsageError(
                f"--registry-password-file {file}: {problem.strerror}"
            ) from None
        except ValueError as problem:
            raise usage.UsageError(f"--registry: {problem}") from None
        except ImportError:
            raise usage.UsageError(
                "--registry needs the package txredisapi: pip install 'twisted_rudp[redis]'"
            ) from None
