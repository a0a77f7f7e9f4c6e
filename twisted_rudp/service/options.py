"""
The command line of C{twist rudp} and C{twistd rudp}, and the services it makes.

The C{ServiceMaker} in the plugin file names this module (SVC-1).
"""

from __future__ import annotations

from typing import Any, cast

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python import usage

from twisted_rudp import __version__, kernels
from twisted_rudp.endpoints.node import CLIENTS
from twisted_rudp.interfaces import IAnswersPings
from twisted_rudp.service.announce import (
    PROFILE_HELP,
    AnnounceOptions,
    NodeAnnouncer,
    audience,
    nodeId,
    profiles,
)
from twisted_rudp.service.discoveryserver import DiscoveryServerOptions
from twisted_rudp.service.echo import EchoService
from twisted_rudp.service.forward import ForwardService
from twisted_rudp.service.pong import PongService
from twisted_rudp.service.usage import UsageOptions, count, endpoint, redacted, seconds


class CommandOptions(UsageOptions):
    """What every command has."""

    optParameters = [
        ["drain", None, 5.0, "Seconds that connections are given to end when stopping.", seconds],
        ["max-connections", None, 4096, "Connections at one time, for each --listen.", count],
        ["announce", None, None, "Be found as this node: a name, a device id or a public key."],
        ["announce-server", None, None, "Discovery server to tell, HOST or HOST:PORT."],
        ["announce-profile", None, None, f"On the local network: {PROFILE_HELP}", profiles],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.listen: list[str] = []
        self.services: list[IService] = []

    def opt_listen(self, description: str) -> None:
        """Endpoint to accept connections on, such as tcp:8080 or kcp:4000."""
        self.listen.append(description)

    def running(self, listen: str) -> dict[str, Any]:
        """
        The bounds of a service and its announcer, as its constructor takes them.

        @param listen: the description of what it listens on.
        @raise usage.UsageError: what was said about announcing is not right.
        """
        return {
            "limit": self["max-connections"],
            "drain": self["drain"],
            "announcer": self._announcer(listen),
        }

    def _announcer(self, listen: str) -> NodeAnnouncer | None:
        if self["announce"] is None:
            if self["announce-server"] is not None:
                raise usage.UsageError("--announce-server says where, and --announce as whom")
            return None
        scheme = listen.partition(":")[0]
        if scheme not in CLIENTS:
            raise usage.UsageError(
                f"--announce: what listens on {scheme} cannot be dialled by node:; that is for"
                f" {', '.join(CLIENTS)}"
            )
        id = nodeId("announce", self["announce"])
        return NodeAnnouncer(self.clock(), id, audience(self, "announce-"), scheme)

    def clock(self) -> IReactorTime:
        """The reactor."""
        from twisted.internet import reactor

        return cast(IReactorTime, reactor)


class ForwardOptions(CommandOptions):
    """C{twist rudp forward}."""

    synopsis = "[options] --listen ENDPOINT --to ENDPOINT [--listen ENDPOINT --to ENDPOINT ...]"
    longdesc = (
        "Carry every connection accepted on one endpoint over a connection to another."
        " Both may be any stream endpoint that Twisted knows. The first --listen belongs to"
        " the first --to, and so on."
    )
    examples = r"""
A web server behind a lossy link; where the browser is:

  twist rudp forward --listen tcp:8080:interface=127.0.0.1 --to kcp:host=example.org:port=4000

and where the web server is:

  twist rudp forward --listen kcp:4000 --to tcp:127.0.0.1:80

Inside a value a colon is written '\:', as in 'kcp:host=2001\:db8\:\:1:port=4000'.
As a daemon: twistd --pidfile=rudp.pid --logfile=rudp.log rudp forward ...
"""

    def __init__(self) -> None:
        super().__init__()
        self.to: list[str] = []

    def opt_to(self, description: str) -> None:
        """Endpoint to connect to, such as kcp:host=example.org:port=4000."""
        self.to.append(description)

    def postOptions(self) -> None:
        """
        Make a service of every pair.

        @raise usage.UsageError: a pair is not complete or not an endpoint.
        """
        if not self.listen or len(self.listen) != len(self.to):
            raise usage.UsageError(
                f"every --listen needs its --to: there are {len(self.listen)} and {len(self.to)}"
            )
        for near, far in zip(self.listen, self.to, strict=True):
            service = ForwardService(
                self.clock(),
                f"forward {redacted(near)} -> {redacted(far)}",
                endpoint("listen", serverFromString, near),
                endpoint("to", clientFromString, far),
                **self.running(near),
            )
            self.services.append(service)


class EchoOptions(CommandOptions):
    """C{twist rudp echo}."""

    synopsis = "[options] --listen ENDPOINT [--listen ENDPOINT ...]"
    longdesc = "Send back what arrives, to try a link out."
    examples = """
On one machine:

  twist rudp echo --listen kcp:4000

On another, and then any program that speaks TCP to port 7000:

  twist rudp forward --listen tcp:7000 --to kcp:host=example.org:port=4000

In one local network the second needs no address, if the first has --announce alice:

  twist rudp forward --listen tcp:7000 --to node:alice
"""

    def postOptions(self) -> None:
        """
        Make a service of every endpoint.

        @raise usage.UsageError: there is none, or one is not an endpoint.
        """
        if not self.listen:
            raise usage.UsageError("there is no --listen")
        for description in self.listen:
            service = EchoService(
                self.clock(),
                f"echo {redacted(description)}",
                endpoint("listen", serverFromString, description),
                **self.running(description),
            )
            self.services.append(service)


class PongOptions(UsageOptions):
    """C{twist rudp raknet-pong}."""

    synopsis = "[options] --listen ENDPOINT --motd TEXT"
    longdesc = "Answer RakNet pings, without any sessions."
    examples = r"""
While the real server is away:

  twist rudp raknet-pong --listen raknet:19132 --motd 'MCPE;Back at noon;685;1.21;0;0'

A text of that form is shown in Bedrock's list of servers.
"""
    optParameters = [
        ["listen", None, "raknet:19132", "Endpoint to answer on."],
        ["motd", None, "", "What to answer, at most 397 bytes."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.services: list[IService] = []

    def postOptions(self) -> None:
        """
        Make the service.

        @raise usage.UsageError: this is no endpoint that could answer pings.
        """
        from twisted.internet import reactor

        description = self["listen"]
        if self["motd"]:
            description += ":motd=" + quoteStringArgument(self["motd"])  # type: ignore[no-untyped-call]
        server = endpoint("listen", serverFromString, description)
        if not IAnswersPings.providedBy(server):
            raise usage.UsageError(f"--listen {description}: this kind answers no pings")
        clock = cast(IReactorTime, reactor)
        self.services.append(PongService(clock, f"pong {redacted(self['listen'])}", server))


class Options(UsageOptions):
    """C{twist rudp}."""

    synopsis = "COMMAND [options]"
    longdesc = "Streams over reliable UDP, between any two stream endpoints of Twisted."
    examples = """
To see it work on one machine, in two terminals; then connect to TCP port 7000:

  twist rudp echo --listen kcp:4000
  twist rudp forward --listen tcp:7000 --to kcp:127.0.0.1:4000

'twist rudp forward --help' says more. The arguments of kcp: are in the manual under
"Endpoint reference". 'rudp link --help' shows how to put a bad link in between.
"""

    subCommands: list[list[Any]] = [
        ["forward", None, ForwardOptions, "Carry connections from one endpoint to another."],
        ["echo", None, EchoOptions, "Send back what arrives."],
        ["announce", None, AnnounceOptions, "Make a program known to others."],
        ["discovery-server", None, DiscoveryServerOptions, "Remember and tell who is where."],
        ["raknet-pong", None, PongOptions, "Answer RakNet pings, without any sessions."],
    ]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no command was given.
        """
        if self.subCommand is None:
            *names, last = sorted(name for name, *_ in self.subCommands)
            raise usage.UsageError(f"a command is needed: {', '.join(names)} or {last}")


class Services(MultiService):
    """The services of one command line."""

    _log = Logger()

    def startService(self) -> None:
        """Say what is running, and whether the fast kernels are there."""
        self._log.info(
            "twisted_rudp {version}, {kernels} kernels",
            version=__version__,
            kernels=kernels.IMPLEMENTATION,
        )
        super().startService()  # type: ignore[no-untyped-call]


def makeService(options: Options) -> IService:
    """The services of the command that was given; nothing is opened yet (SVC-2)."""
    parent = Services()  # type: ignore[no-untyped-call]
    for service in options.subOptions.services:
        service.setServiceParent(parent)
    return parent
