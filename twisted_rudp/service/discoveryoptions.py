"""
The command lines of discovery: of C{twist rudp announce} and C{discovery-server}, and
what other commands share with them.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import PROFILES, V4, Profile
from twisted_rudp.discovery.published import Publication
from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.discovery.servertable import LIFE, MAX_NODES, MAX_PER_SOURCE, ServerTable
from twisted_rudp.discovery.urls import Address, parse
from twisted_rudp.discovery.v1 import SERVER_PORT
from twisted_rudp.endpoints.diallers import DIALLERS, transportOf
from twisted_rudp.endpoints.node import lanProfiles, serverAddress
from twisted_rudp.net.addresses import isLiteral
from twisted_rudp.service.announcing import Announcer, AnnounceService, Audience
from twisted_rudp.service.rendezvous import DiscoveryServerService
from twisted_rudp.service.teaching import TeachingOptions, count, whole

PROFILE_HELP = f"{', '.join(PROFILES)}, divided by commas, or none; v4 if left out."


def profiles(given: str) -> tuple[Profile, ...]:
    """
    Coerces C{--profile}.

    @raise ValueError: there is no such profile.
    """
    return lanProfiles(given)


def profilesOf(options: usage.Options, name: str = "profile") -> tuple[Profile, ...]:
    """What was given for C{--profile}, or what is usual. Twisted coerces no defaults."""
    given: tuple[Profile, ...] | None = options[name]
    return (V4,) if given is None else given


def theReactor() -> Any:
    """The reactor that the program runs with."""
    from twisted.internet import reactor

    return reactor


def transport(given: str) -> str:
    """
    Coerces C{--transport}.

    @raise ValueError: C{node:} does not know it.
    """
    if given not in DIALLERS:
        raise ValueError(
            f"{given!r} is not one of {', '.join(DIALLERS)}; --url announces anything"
        )
    return given


def checkParameters(url: str) -> None:
    """
    What is said about one of our transports is said in the words of its endpoint.

    @raise usage.UsageError: it is not.
    """
    address = parse(url)
    dialler = DIALLERS.get(transportOf(address.scheme))
    if dialler is None:
        return
    for name in address.parameters:
        if name not in dialler.arguments:
            raise usage.UsageError(f"--url {url}: {name!r} is no argument of {address.scheme}:")


class AnnounceOptions(TeachingOptions):
    """C{twist rudp announce}."""

    synopsis = "[options] --id ID (--port PORT | --url URL ...)"
    longdesc = (
        "Announce a program that listens, on the local network and to a discovery server,"
        " so that 'node:ID' and 'rudp lookup ID' find it. ID is a name, a device id or the"
        " 64 hexadecimal digits of a public key. A name proves nothing to those who connect."
    )
    optParameters = [
        ["id", None, None, "Whom to announce."],
        ["port", None, None, "UDP port that it listens on, over IPv4.", whole(1, 65535, "a port")],
        ["transport", None, "kcp", f"What it speaks there: {', '.join(DIALLERS)}.", transport],
        ["server", None, None, "Discovery server to tell, HOST or HOST:PORT."],
        ["profile", None, None, f"How to announce on the local network: {PROFILE_HELP}", profiles],
    ]
    examples = """
A program that listens for KCP on port 4000, as alice:

  twist rudp announce --id alice --port 4000

To a discovery server only, and where a Syncthing finds it, with whole addresses:

  twist rudp announce --id alice --port 4000 --profile none --server rendezvous.example.org
  twist rudp announce --id DEVICE-ID --profile syncthing --url tcp://[::]:22000
"""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.urls: list[str] = []
        self.services: list[IService] = []

    def opt_url(self, url: str) -> None:
        """Address, as kcp://0.0.0.0:4000; may be repeated. 0.0.0.0 is our IPv4, [::] is both."""
        self.urls.append(url)

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: something is missing or not right.
        """
        if self["id"] is None:
            raise usage.UsageError("there is no --id")
        if self["port"] is not None:
            self.urls.insert(0, str(Address(self["transport"], "0.0.0.0", self["port"])))
        if not self.urls:
            raise usage.UsageError("there is neither --port nor --url")
        id = nodeId("id", self["id"])
        try:
            Publication(id, tuple(self.urls))
        except ValueError as problem:
            raise usage.UsageError(str(problem)) from problem
        for url in self.urls:
            checkParameters(url)
        announcer = Announcer(theReactor(), id, audience(self))
        self.services.append(AnnounceService(announcer, self.urls))


def nodeId(option: str, text: str) -> NodeId:
    """
    @raise usage.UsageError: not an id.
    """
    try:
        return NodeId.from_text(text)
    except ValueError as problem:
        raise usage.UsageError(f"--{option} {text}: {problem}") from problem


def audience(options: usage.Options, prefix: str = "") -> Audience:
    """
    C{--profile} and C{--server} of a command.

    @param prefix: what their names begin with.
    @raise usage.UsageError: nobody is left to be told, or the server is none.
    """
    server = options[f"{prefix}server"]
    chosen = profilesOf(options, f"{prefix}profile")
    if not chosen and server is None:
        raise usage.UsageError(f"--{prefix}profile none needs a --{prefix}server")
    if server is None:
        return Audience(chosen)
    try:
        return Audience(chosen, serverAddress(server))
    except ValueError as problem:
        raise usage.UsageError(f"--{prefix}server: {problem}") from problem


class DiscoveryServerOptions(TeachingOptions):
    """C{twist rudp discovery-server}."""

    longdesc = (
        "Remember who announces itself and tell who asks, with the protocol of Syncthing's"
        " first discovery server. Nobody has to prove anything: use it where the id is a key,"
        " or among friends."
    )
    optParameters = [
        ["interface", None, "::", "Address to listen on; :: is all of both families."],
        ["port", None, SERVER_PORT, "UDP port.", whole(0, 65535, "a port")],
        ["file", None, None, "Where the table is kept between runs."],
        ["life", None, int(LIFE), "Seconds that an announcement holds.", count],
        ["max-nodes", None, MAX_NODES, "Addresses remembered at one time.", count],
        ["max-per-source", None, MAX_PER_SOURCE, "Of these, from one address.", count],
    ]
    optFlags = [
        ["by-network", None, "Limit each /24 and /64 instead of each address."],
        ["full-queries", None, "Do not answer queries that are shorter than the answer."],
    ]
    examples = """
On a machine that all others reach:

  twist rudp discovery-server --file nodes.txt

and on other machines, whoever wants to be found and whoever looks for it:

  twist rudp echo --listen kcp:4000 --announce alice --announce-server rendezvous.example.org
  rudp lookup --server rendezvous.example.org alice
"""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.services: list[IService] = []

    def postOptions(self) -> None:
        """
        Make the service.

        @raise usage.UsageError: the interface is none.
        """
        if not isLiteral(self["interface"]):
            raise usage.UsageError(f"--interface {self['interface']}: an IP address is needed")
        table = ServerTable(
            life=self["life"], nodes=self["max-nodes"], per_source=self["max-per-source"]
        )
        server = DiscoveryServer(
            theReactor(),
            interface=self["interface"],
            port=self["port"],
            table=table,
            file=self["file"],
            byNetwork=bool(self["by-network"]),
            fullQueries=bool(self["full-queries"]),
        )
        self.services.append(DiscoveryServerService(server))
