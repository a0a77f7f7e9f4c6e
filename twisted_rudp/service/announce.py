"""C{twist rudp announce}, and C{--announce} of the services that listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python import usage

from twisted_rudp.discovery.announcement import Publication
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import PROFILES, V4, Profile
from twisted_rudp.discovery.service import Lease, discoveryOf
from twisted_rudp.discovery.urls import Address, parse
from twisted_rudp.endpoints.node import CLIENTS, lanProfiles, serverAddress, transportOf
from twisted_rudp.service.usage import ServiceOptions, whole

PROFILE_HELP = f"{', '.join(PROFILES)}, separated by commas, or none. Default: v4."


def profiles(given: str) -> tuple[Profile, ...]:
    """
    Coerces C{--profile}.

    @raise ValueError: there is no such profile.
    """
    return lanProfiles(given)


def profilesOf(options: usage.Options, name: str = "profile") -> tuple[Profile, ...]:
    """The value of C{--profile}, or its default. Twisted does not coerce defaults."""
    given: tuple[Profile, ...] | None = options[name]
    return (V4,) if given is None else given


def theReactor() -> Any:
    """The installed reactor."""
    from twisted.internet import reactor

    return reactor


def transport(given: str) -> str:
    """
    Coerces C{--transport}.

    @raise ValueError: C{node:} has no such transport.
    """
    if given not in CLIENTS:
        raise ValueError(
            f"{given!r} is not one of {', '.join(CLIENTS)}; use --url for others"
        )
    return given


def checkParameters(url: str) -> None:
    """
    Check the parameters of a URL of one of our transports.

    @raise usage.UsageError: the transport's endpoint has no such argument.
    """
    address = parse(url)
    dialler = CLIENTS.get(transportOf(address.scheme))
    if dialler is None:
        return
    for name in address.parameters:
        if name not in dialler.arguments:
            raise usage.UsageError(f"--url {url}: {address.scheme}: has no argument {name!r}")


class AnnounceOptions(ServiceOptions):
    """C{twist rudp announce}."""

    synopsis = "[options] --id ID (--port PORT | --url URL ...)"
    longdesc = (
        "Announce a program that is already listening, on the local network and to a discovery"
        " server, so that 'node:ID' and 'rudp lookup ID' find it. ID is a name, a device id or"
        " a public key of 64 hexadecimal digits. Clients cannot verify a name."
    )
    optParameters = [
        ["id", None, None, "Id or name of the node."],
        ["port", None, None, "UDP port of the program, over IPv4.", whole(1, 65535, "a port")],
        ["transport", None, "kcp", f"Its transport: {', '.join(CLIENTS)}.", transport],
        ["server", None, None, "Discovery server to announce to, HOST or HOST:PORT."],
        ["profile", None, None, f"Profiles of the local network: {PROFILE_HELP}", profiles],
    ]
    examples = """
A program that listens for KCP on port 4000, under the name alice:

  twist rudp announce --id alice --port 4000

To a discovery server only; and for Syncthing, with complete addresses:

  twist rudp announce --id alice --port 4000 --profile none --server rendezvous.example.org
  twist rudp announce --id DEVICE-ID --profile syncthing --url tcp://[::]:22000
"""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def opt_url(self, url: str) -> None:
        """Address, such as kcp://0.0.0.0:4000; [::] stands for IPv4 and IPv6. May be repeated."""
        self.urls.append(url)

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: an option is missing or invalid.
        """
        if self["id"] is None:
            raise usage.UsageError("--id is missing")
        if self["port"] is not None:
            self.urls.insert(0, str(Address(self["transport"], "0.0.0.0", self["port"])))
        if not self.urls:
            raise usage.UsageError("--port or --url is missing")
        id = nodeId("id", self["id"])
        try:
            Publication(id, tuple(self.urls))
        except ValueError as problem:
            raise usage.UsageError(str(problem)) from problem
        for url in self.urls:
            checkParameters(url)
        announcer = NodeAnnouncer(theReactor(), id, audience(self))
        self.services.append(AnnounceService(announcer, self.urls))


def nodeId(option: str, text: str) -> NodeId:
    """
    @raise usage.UsageError: not a valid id.
    """
    try:
        return NodeId.from_text(text)
    except ValueError as problem:
        raise usage.UsageError(f"--{option} {text}: {problem}") from problem


def audience(options: usage.Options, prefix: str = "") -> Audience:
    """
    C{--profile} and C{--server} of a command.

    @param prefix: what their names begin with.
    @raise usage.UsageError: there is neither a profile nor a server, or the server is invalid.
    """
    server = options[f"{prefix}server"]
    chosen = profilesOf(options, f"{prefix}profile")
    if not chosen and server is None:
        raise usage.UsageError(f"--{prefix}profile none requires --{prefix}server")
    if server is None:
        return Audience(chosen)
    try:
        return Audience(chosen, serverAddress(server))
    except ValueError as problem:
        raise usage.UsageError(f"--{prefix}server: {problem}") from problem


@dataclass(frozen=True)
class Audience:
    """
    Where a node is announced.

    @ivar profiles: those of the local network.
    @ivar server: address and port of a discovery server, or None.
    """

    profiles: tuple[Profile, ...]
    server: tuple[str, int] | None = None


class NodeAnnouncer:
    """Announces one node."""

    _log = Logger()

    def __init__(self, reactor: Any, id: NodeId, audience: Audience, scheme: str = "") -> None:
        """
        @param scheme: the transport, for L{begin}.
        """
        self._reactor = reactor
        self._id = id
        self._audience = audience
        self._scheme = scheme
        self._lease: Lease | None = None

    def begin(self, host: IAddress) -> None:
        """Announce a listener at C{host}."""
        if isinstance(host, IPv4Address | IPv6Address):
            if ip_address(host.host.partition("%")[0]).is_loopback:
                self._log.warn(
                    "{host} is a loopback address: only programs on this machine can connect",
                    host=host.host,
                )
            self.announce([str(Address(self._scheme, host.host, host.port))])
        else:
            self._log.error("cannot announce {host}: it has no port", host=host)

    def announce(self, urls: Sequence[str]) -> None:
        """
        Announce addresses until L{end}.

        @raise ValueError: they cannot be announced.
        """
        discovery = discoveryOf(self._reactor)
        server = self._audience.server
        self._lease = discovery.announce(
            self._id,
            urls,
            self._audience.profiles,
            None if server is None else discovery.server(*server),
        )
        ways = [f"{way} ({status})" for way, status in discovery.status().items()]
        if server is not None:
            ways.append(f"server {server[0]} port {server[1]}")
        self._log.info(
            "announcing {id} at {urls} by {ways}",
            id=self._id.text,
            urls=", ".join(urls),
            ways=", ".join(ways),
        )

    def end(self) -> Deferred[None]:
        """
        Stop announcing. Harmless when repeated.

        @return: fires when that is done.
        """
        lease, self._lease = self._lease, None
        return succeed(None) if lease is None else lease.release()


class AnnounceService(Service):
    """Announces another program that is already listening."""

    def __init__(self, announcer: NodeAnnouncer, urls: Sequence[str]) -> None:
        self._announcer = announcer
        self._urls = urls

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._announcer.announce(self._urls)

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the announcement is withdrawn.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self._announcer.end()


def announcerOf(options: usage.Options, reactor: Any, listen: str) -> NodeAnnouncer | None:
    """
    What C{--announce}, C{--announce-server} and C{--announce-profile} ask for.

    @param listen: the description of the endpoint that is announced.
    @raise usage.UsageError: they are invalid.
    """
    if options["announce"] is None:
        if options["announce-server"] is not None:
            raise usage.UsageError("--announce-server requires --announce")
        return None
    scheme = listen.partition(":")[0]
    if scheme not in CLIENTS:
        raise usage.UsageError(
            f"--announce: node: cannot connect to a {scheme}: endpoint, only to"
            f" {', '.join(CLIENTS)}"
        )
    id = nodeId("announce", options["announce"])
    return NodeAnnouncer(reactor, id, audience(options, "announce-"), scheme)
