"""
The command line of C{twist rudp} and C{twistd rudp}, and its services.

The C{ServiceMaker} in the plugin file refers to this module (SVC-1).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.application.service import IService
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python import usage

from twisted_rudp.endpoints.mux import MuxClientEndpoint, MuxServerEndpoint
from twisted_rudp.interfaces import IAnswersPings
from twisted_rudp.net.udp.steering import MOST
from twisted_rudp.service.announce import (
    PROFILE_HELP,
    AnnounceOptions,
    announcerOf,
    profiles,
    theReactor,
)
from twisted_rudp.service.config import GENERAL, arguments, parsed, read
from twisted_rudp.service.control import Answering, Control
from twisted_rudp.service.discoveryserver import DiscoveryServerOptions
from twisted_rudp.service.echo import EchoService
from twisted_rudp.service.forward import ForwardService
from twisted_rudp.service.gathered import GatheredControl
from twisted_rudp.service.listening import PlainListeningService, StartupError
from twisted_rudp.service.places import fingerprint, placeOf
from twisted_rudp.service.pong import PongService
from twisted_rudp.service.proxyprotocol import versionNamed
from twisted_rudp.service.reverse import ReverseOptions
from twisted_rudp.service.services import Plan, Planned, Services
from twisted_rudp.service.takeover import Takeover
from twisted_rudp.service.tracing import tracing
from twisted_rudp.service.udpforward import (
    IDLE,
    UDPEndpoint,
    UDPForwardService,
    UDPTargetService,
    carrying,
    isUDP,
    parseUDP,
)
from twisted_rudp.service.usage import (
    RETIRE,
    ServiceOptions,
    UsageOptions,
    count,
    endpoint,
    number,
    redacted,
    seconds,
    whole,
    workerCount,
)
from twisted_rudp.service.workers import workersOf


class CommandOptions(ServiceOptions):
    """Options of every service that accepts connections."""

    optParameters = [
        ["drain", None, 5.0, "Seconds for connections to end when stopping.", seconds],
        RETIRE,
        ["max-connections", None, 4096, "Connections at one time, for each --listen.", count],
        ["announce", None, None, "Announce as this node: a name, a device id or a key."],
        ["announce-server", None, None, "Discovery server to announce to, HOST or HOST:PORT."],
        ["announce-profile", None, None, f"Local profiles: {PROFILE_HELP}", profiles],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listen: list[str] = []

    def opt_listen(self, description: str) -> None:
        """Endpoint to accept connections on, such as tcp:8080 or kcp:4000."""
        self.listen.append(description)

    def running(self, listen: str) -> dict[str, Any]:
        """
        The limits and the announcer of a service, for its constructor.

        @param listen: the description of its listening endpoint.
        @raise usage.UsageError: the options for announcing are invalid.
        """
        return {
            "limit": self["max-connections"],
            "drain": self["drain"],
            "announcer": announcerOf(self, self.clock(), listen),
        }

    def exposed(self, *descriptions: str) -> list[str]:
        """What to say about secrets on the command line, which every user of the machine sees."""
        if self.parent is not None and self.parent.get("config") is not None:
            return []
        if all(redacted(each) == each for each in descriptions):
            return []
        return [
            "a secret on the command line is visible in the process list: use keyFile=, or"
            " --config with { file = \"PATH\" }"
        ]

    def clock(self) -> IReactorTime:
        """The reactor."""
        from twisted.internet import reactor

        return cast(IReactorTime, reactor)


idle = number(1, 86_400, "a number of seconds")


def _udp(option: str, description: str) -> UDPEndpoint:
    """
    The address of C{udp:}, for an option.

    @raise usage.UsageError: it is invalid.
    """
    try:
        return parseUDP(description, option == "listen")
    except ValueError as problem:
        raise usage.UsageError(f"--{option} {description}: {problem}") from None


PATIENCE: Final = 30.0
"""Seconds that a connection waits for the far end, where C{--patience} says nothing else."""

CARRIERS: Final = ("kcp:", "qotp:", "raknet:", "node:")
"""How the descriptions of endpoints begin whose sessions carry datagrams."""

_PROXIED: Final = "haproxy:"
"""Before the description of an endpoint whose connections begin with a header."""


class ForwardOptions(CommandOptions):
    """C{twist rudp forward}."""

    synopsis = "[options] --listen ENDPOINT --to ENDPOINT [--listen ENDPOINT --to ENDPOINT ...]"
    longdesc = (
        "Relay each connection accepted on one endpoint over a connection to another. Both can"
        " be any stream endpoint of Twisted; one of both can be udp:, and the other carries its"
        " datagrams. The first --listen belongs to the first --to, and so on."
    )
    examples = r"""
A web server behind a lossy link. On the side of the browser:

  twist rudp forward --listen tcp:8080:interface=127.0.0.1 --to kcp:host=example.org:port=4000

and on the side of the web server:

  twist rudp forward --listen kcp:4000 --to tcp:127.0.0.1:80

WireGuard, DNS and games, over a link with losses:

  twist rudp forward --listen udp:51820 --to kcp:example.org:4000:dataShards=10:parityShards=3
  twist rudp forward --listen kcp:4000:dataShards=10:parityShards=3 --to udp:127.0.0.1:51820

Write '\:' for a colon inside a value, as in 'kcp:host=2001\:db8\:\:1:port=4000'.
As a daemon: twistd --pidfile=rudp.pid --logfile=rudp.log rudp forward ...
"""
    optParameters = [
        [
            "proxy-protocol",
            None,
            None,
            "Tell --to the peer's address by the PROXY protocol: v1 or v2.",
            versionNamed,
        ],
        ["sessions", None, 1, "With --mux: sessions that the connections share.",
         whole(1, 64, "a number")],
        ["patience", None, PATIENCE, "With --mux: seconds that a connection waits for the far end.",
         seconds],
        ["secret-file", None, None, "With --mux: file with a secret that both ends know."],
        ["udp-idle", None, IDLE, "Seconds without a datagram that end an association.", idle],
    ]  # fmt: skip
    optFlags = [["mux", None, "Carry all connections over one session, or a few."]]

    def __init__(self) -> None:
        super().__init__()
        self.to: list[str] = []

    def opt_to(self, description: str) -> None:
        """Endpoint to connect to, such as kcp:host=example.org:port=4000."""
        self.to.append(description)

    def postOptions(self) -> None:
        """
        Make a service for each pair.

        @raise usage.UsageError: a pair is incomplete, or an endpoint is invalid.
        """
        if not self.listen or len(self.listen) != len(self.to):
            raise usage.UsageError(
                f"{len(self.listen)} --listen but {len(self.to)} --to:"
                " give one --to for each --listen"
            )
        for near, far in zip(self.listen, self.to, strict=True):
            if isUDP(near) or isUDP(far):
                self.services.append(self._datagrams(near, far))
                continue
            proxied = near.startswith(_PROXIED)
            listen = near.removeprefix(_PROXIED)
            listening, connecting = self._multiplexed(
                endpoint("listen", serverFromString, listen),
                endpoint("to", clientFromString, far),
            )
            service = ForwardService(
                self.clock(),
                f"forward {redacted(near)} -> {redacted(far)}",
                listening,
                connecting,
                proxyProtocol=self["proxy-protocol"],
                proxied=proxied,
                **self.running(listen),
            )
            service.advice += self.exposed(near, far)
            service.place = placeOf(listen)
            service.patience = self["retire"]
            self.services.append(service)
            if near.startswith("stdio"):
                service.forwarding.finished = self._stop
                self._logToStandardError()

    def _multiplexed(self, near: Any, far: Any) -> tuple[Any, Any]:
        """
        Both endpoints, with a multiplexer where one of ours is to have it.

        @raise usage.UsageError: it is asked for and there is none.
        """
        if not self["mux"]:
            for name, unset in (("sessions", 1), ("patience", PATIENCE), ("secret-file", None)):
                if self[name] != unset:
                    raise usage.UsageError(f"--{name} needs --mux")
            return near, far
        ours = [hasattr(each, "carryingStreams") for each in (near, far)]
        if not any(ours):
            raise usage.UsageError(
                "--mux: one of --listen and --to has to be kcp:, qotp:, raknet: or node:"
            )
        secret = {"secretFile": self["secret-file"]}
        try:
            if ours[0]:
                near = MuxServerEndpoint(near, **secret)
            if ours[1]:
                far = MuxClientEndpoint(far, self["sessions"], self["patience"], **secret)
        except ValueError as problem:
            raise usage.UsageError(f"--mux: {problem}") from None
        return near, far

    def _datagrams(self, near: str, far: str) -> IService:
        """
        The service of a pair of which one is C{udp:}.

        @raise usage.UsageError: both are, or one is invalid.
        """
        if isUDP(near) and isUDP(far):
            raise usage.UsageError(
                f"--listen {near} --to {far}: one of both has to carry the datagrams: kcp, qotp"
                " or raknet"
            )
        option, carrier = ("to", far) if isUDP(near) else ("listen", near)
        if not carrier.startswith(CARRIERS):
            raise usage.UsageError(
                f"--{option} {redacted(carrier)}: expected kcp:, qotp:, raknet: or node:, which"
                " carry the datagrams of udp:"
            )
        if self["secret-file"] is not None:
            # Without this they would be taken for protected.
            raise usage.UsageError(
                "--secret-file: it is for connections only; protect datagrams with a key or"
                " password of kcp: or qotp:"
            )
        if self["proxy-protocol"] is not None:
            raise usage.UsageError("--proxy-protocol: datagrams of UDP have no such header")
        running = {**self.running(near), "idle": self["udp-idle"]}
        description = f"forward {redacted(near)} -> {redacted(far)}"
        service: UDPForwardService | UDPTargetService
        if isUDP(near):
            del running["announcer"]
            service = UDPForwardService(
                self.clock(),
                description,
                _udp("listen", near),
                endpoint("to", clientFromString, carrying(far)),
                **running,
            )
        else:
            service = UDPTargetService(
                self.clock(),
                description,
                endpoint("listen", serverFromString, carrying(near)),
                _udp("to", far),
                **running,
            )
            service.place = placeOf(near)
            service.patience = self["retire"]
        service.advice += self.exposed(near, far)
        return service

    def _stop(self) -> None:
        """The connection of standard input has ended, and with it the program."""
        reactor: Any = self.clock()
        reactor.callLater(0, reactor.stop)

    def _logToStandardError(self) -> None:
        """Standard output carries data: C{twist} must not log there."""
        root = self.parent.parent if self.parent is not None else None
        if root is not None and root.get("logFile") is sys.stdout:
            root["logFile"] = sys.stderr
            if not any(each.startswith("--log-format") for each in sys.argv):
                root["fileLogObserverFactory"] = textFileLogObserver


class EchoOptions(CommandOptions):
    """C{twist rudp echo}."""

    synopsis = "[options] --listen ENDPOINT [--listen ENDPOINT ...]"
    longdesc = "Send received data back, to try out a link."
    examples = """
On one machine:

  twist rudp echo --listen kcp:4000

On another; then connect any TCP program to port 7000:

  twist rudp forward --listen tcp:7000 --to kcp:host=example.org:port=4000

On a local network the second needs no address if the first has --announce alice:

  twist rudp forward --listen tcp:7000 --to node:alice
"""

    def postOptions(self) -> None:
        """
        Make a service for each endpoint.

        @raise usage.UsageError: there is none, or one is invalid.
        """
        if not self.listen:
            raise usage.UsageError("--listen is missing")
        for description in self.listen:
            service = EchoService(
                self.clock(),
                f"echo {redacted(description)}",
                endpoint("listen", serverFromString, description),
                **self.running(description),
            )
            service.advice += self.exposed(description)
            service.place = placeOf(description)
            service.patience = self["retire"]
            self.services.append(service)


class PongOptions(ServiceOptions):
    """C{twist rudp raknet-pong}."""

    synopsis = "[options] --listen ENDPOINT --motd TEXT"
    longdesc = "Answer RakNet pings, without accepting connections."
    examples = r"""
While the game server is down:

  twist rudp raknet-pong --listen raknet:19132 --motd 'MCPE;Back at noon;685;1.21;0;0'

Minecraft Bedrock shows a text of this form in its list of servers.
"""
    optParameters = [
        ["listen", None, "raknet:19132", "Endpoint to answer on."],
        ["motd", None, "", "Status text, at most 397 bytes."],
    ]

    def postOptions(self) -> None:
        """
        Make the service.

        @raise usage.UsageError: the endpoint is invalid, or does not answer pings.
        """
        from twisted.internet import reactor

        description = self["listen"]
        if self["motd"]:
            description += ":motd=" + quoteStringArgument(self["motd"])  # type: ignore[no-untyped-call]
        server = endpoint("listen", serverFromString, description)
        if not IAnswersPings.providedBy(server):
            raise usage.UsageError(f"--listen {description}: this endpoint does not answer pings")
        clock = cast(IReactorTime, reactor)
        service = PongService(clock, f"pong {redacted(self['listen'])}", server)
        service.place = placeOf(self["listen"])
        self.services.append(service)


class Options(UsageOptions):
    """C{twist rudp}."""

    synopsis = "COMMAND [options]"
    longdesc = "Services for reliable UDP, and for any other stream endpoint of Twisted."
    examples = """
To try it on one machine, run these in two terminals and connect to TCP port 7000:

  twist rudp echo --listen kcp:4000
  twist rudp forward --listen tcp:7000 --to kcp:127.0.0.1:4000

'twist rudp forward --help' has more. The manual lists the arguments of kcp: under
"Endpoint reference". 'rudp link --help' shows how to put a bad link in between.
"""

    optParameters = [
        ["config", "c", None, "File with the services to run, instead of a command."],
        ["takeover", None, None, "Control socket of a process to take the sockets over from."],
    ]

    subCommands: list[list[Any]] = [
        ["forward", None, ForwardOptions, "Relay connections from one endpoint to another."],
        ["echo", None, EchoOptions, "Send received data back."],
        ["announce", None, AnnounceOptions, "Announce another program that is already listening."],
        ["discovery-server", None, DiscoveryServerOptions, "Store and look up node addresses."],
        ["reverse", None, ReverseOptions, "Offer a service at a server that can be reached."],
        ["raknet-pong", None, PongOptions, "Answer RakNet pings, without accepting connections."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.commands: list[ServiceOptions] = []
        self.control: str | None = None
        self.metrics: str | None = None
        self.metricsPerSession = False
        self.trace: str | None = None
        self.pcap: str | None = None
        self.setLevel: Callable[[Any], None] | None = None
        self.workers = 1
        self.byHost = False
        self.level = LogLevel.info
        self.given: list[str] = []
        self.takeover: str | None = None
        self.text: str | None = None

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Keep what was given, for the workers.

        @raise usage.UsageError: it is invalid.
        """
        self.given = list(options or ())
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as problem:
            name = str(problem).removeprefix("option --").removesuffix(" not recognized")
            if name not in GENERAL or self.subCommand is not None:
                raise
            raise usage.UsageError(
                f"--{name} stands after the command; with --config, the file has it: {name} = ..."
            ) from None

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no command was given, or the configuration file is invalid.
        """
        self.takeover = self["takeover"]
        if self["config"] is not None:
            self.configure(self["config"])
        elif self.subCommand is not None:
            options = cast(ServiceOptions, self.subOptions)
            self.commands = [options]
            self.control = options["control"]
            self.metrics = options["metrics"]
            self.metricsPerSession = bool(options["metrics-per-session"])
            self.trace = options["trace"]
            self.pcap = options["pcap"]
            self.workers = workerCount(options["workers"])
            self.byHost = bool(options["workers-by-host"])
            self.takeover = self.takeover or options["takeover"]
        if self.parent is not None and "logLevel" in self.parent:
            self.level = self.parent["logLevel"]
        if self.control is not None:
            self.setLevel = self._levelSetter()
        if self.subCommand is None and self["config"] is None:
            *names, last = sorted(name for name, *_ in self.subCommands)
            raise usage.UsageError(f"expected a command: {', '.join(names)} or {last}")


    def plan(self) -> Plan:
        """What is to run."""
        return Plan(
            [
                Planned(service, command.fingerprint)
                for command in self.commands
                for service in command.services
            ],
            {
                "control": self.control,
                "metrics": self.metrics,
                "metrics-per-session": self.metricsPerSession,
                "trace": self.trace,
                "pcap": self.pcap,
                "workers": self.workers,
                "workers-by-host": self.byHost,
            },
            self.text,
        )

    def configure(self, path: str) -> None:
        """
        Take the services from a file.

        @raise usage.UsageError: it is invalid.
        """
        if self.subCommand is not None:
            raise usage.UsageError("--config has the services: give no command")
        if self.text is None:
            self.text = read(path)
        config = parsed(path, self.text)
        kinds = {name: kind for name, _, kind, _ in self.subCommands}
        numbers: Counter[str] = Counter()
        for command, *line in arguments(path, config):
            numbers[command] += 1
            options = kinds[command]()
            options.parent = self
            options.fingerprint = fingerprint([command, *line])
            try:
                options.parseOptions(line)
            except usage.UsageError as problem:
                where = f"{path}: {command} {numbers[command]}"
                raise usage.UsageError(f"--config {where}: {problem}") from None
            self.commands.append(options)
        if not self.commands:
            raise usage.UsageError(f"--config {path}: there are no services")
        for name in ("control", "metrics", "pcap", "trace"):
            value = config.get(name)
            if value is not None and not isinstance(value, str):
                raise usage.UsageError(f"--config {path}: {name}: expected a string")
        self.control = config.get("control")
        self.metrics = config.get("metrics")
        self.metricsPerSession = bool(config.get("metrics-per-session", False))
        self.trace = config.get("trace")
        self.pcap = config.get("pcap")
        workers = config.get("workers", 1)
        if not isinstance(workers, int) or not 0 <= workers <= MOST:
            raise usage.UsageError(
                f"--config {path}: workers: {workers!r} is not a number from 0 to {MOST}"
            )
        self.workers = workerCount(workers)
        self.byHost = bool(config.get("workers-by-host", False))

    def _levelSetter(self) -> Callable[[Any], None] | None:
        """
        What changes the level of C{twist}'s log: a filter before its own, which then lets
        everything pass. None where another program logs.
        """
        root = self.parent
        if root is None or "fileLogObserverFactory" not in root:
            return None
        predicate = LogLevelFilterPredicate(defaultLogLevel=root["logLevel"])
        make = root["fileLogObserverFactory"]
        root["fileLogObserverFactory"] = lambda out: FilteringLogObserver(make(out), [predicate])
        root["logLevel"] = LogLevel.debug
        return lambda level: predicate.setLogLevelForNamespace("", level)


def makeService(options: Options) -> IService:
    """
    The services of the given command or file; nothing is opened yet (SVC-2).

    @raise StartupError: options do not fit together.
    """
    reactor = theReactor()
    try:
        gathered, services = _run(reactor, options)
        if options.control is not None:
            control: Answering = gathered or Control(reactor, options.setLevel, services)
            services.controlledBy(options.control, control)
        if options.metrics is not None:
            metrics = _metricsService(options.metrics, options.metricsPerSession, gathered)
            services.addService(metrics)  # type: ignore[no-untyped-call]
    except usage.UsageError as problem:
        # Twisted expects these while it parses options only.
        raise StartupError(f"twist rudp: {problem}") from None
    return services


def _run(reactor: Any, options: Options) -> tuple[GatheredControl | None, Services]:
    """
    @return: what asks the workers, if there are any, and the services of this process.
    @raise usage.UsageError: there is nothing for workers to do.
    """
    # Before the others, whose sessions are to be traced.
    first = tracing(reactor, options.trace, options.pcap)
    path = options["config"]
    plan = options.plan()
    takeover = None if options.takeover is None else Takeover(reactor, options.takeover)
    replan = None if path is None else lambda: planned(path)
    if options.workers == 1:
        return None, Services(reactor, plan, replan, takeover, before=first)
    drains = [command["drain"] for command in options.commands if "drain" in command]
    workers, _ = workersOf(
        reactor,
        [each.service for each in plan.services],
        options.given,
        options.workers,
        options.level,
        max(drains, default=0.0),
        options.byHost,
        follows=True,
        file=plan.text,
    )
    services = Services(
        reactor,
        plan,
        replan,
        takeover,
        before=first,
        workers=workers,
        status=lambda: gathered.status(),
    )
    gathered = GatheredControl(reactor, workers, options.setLevel, services)
    return gathered, services


def planned(path: str) -> Plan:
    """
    What a configuration file says; nothing is opened.

    @raise usage.UsageError: it is invalid.
    """
    options = Options()
    options["config"] = path
    options.configure(path)
    return options.plan()


def _metricsService(
    description: str, perSession: bool, workers: GatheredControl | None
) -> IService:
    """
    @param workers: what has sessions instead of this process.
    @raise usage.UsageError: the endpoint is invalid, or prometheus-client is missing.
    """
    try:
        from twisted_rudp.service.metrics import metricsSite
    except ImportError:
        raise usage.UsageError(
            "--metrics needs the package prometheus-client: pip install 'twisted_rudp[metrics]'"
        ) from None
    server = endpoint("metrics", serverFromString, description)
    return PlainListeningService("metrics", "--metrics", server, metricsSite(perSession, workers))
