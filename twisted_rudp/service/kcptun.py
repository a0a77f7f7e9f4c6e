"""
C{rudp kcptun-client} and C{rudp kcptun-server}: kcptun's programs, with its options, its
defaults and its configuration files (C{kcp.md} section 8).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from twisted.application.service import IService, MultiService
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python import usage

from twisted_rudp.endpoints.kcptun import (
    DEFAULT_PASSWORD,
    KCPTunClientEndpoint,
    KCPTunServerEndpoint,
)
from twisted_rudp.kcp import snmp
from twisted_rudp.service.forward import ForwardService
from twisted_rudp.service.tracing import tracing
from twisted_rudp.service.usage import (
    PCAP_HELP,
    TRACE_HELP,
    WORKERS,
    WORKERS_BY_HOST,
    UsageOptions,
    number,
    whole,
    workerCount,
)
from twisted_rudp.service.workers import workersOf

_DRAIN: Final = 2.0
_CONNECTIONS: Final = 4096

MODES: Final = ("normal", "fast", "fast2", "fast3", "manual")

_GO_TIME: Final = {
    "2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M", "05": "%S", "06": "%y",
}  # fmt: skip
"""The reference time of Go, by which the name of kcptun's SNMP log is written."""

_PLACES: Final = re.compile("|".join(_GO_TIME))


class Place(NamedTuple):
    """
    A host and a range of ports.

    @ivar first: the first port.
    @ivar last: the last; the same for one port.
    """

    host: str
    first: int
    last: int


def place(given: str) -> Place:
    """
    What kcptun writes as C{host:port} or C{host:port-port}; without a host: every address.

    @raise ValueError: it is neither.
    """
    host, colon, ports = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    first, _, last = ports.partition("-")
    numbers = [
        int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        for text in (first, last or first)
    ]
    if not colon or not 1 <= numbers[0] <= numbers[1] <= 65535:
        raise ValueError(f"{given!r} is not HOST:PORT or HOST:PORT-PORT")
    return Place(host, *numbers)


def target(given: str) -> str:
    """
    C{host:port}, or the path of a UNIX socket.

    @raise ValueError: neither.
    """
    if not given.startswith("/") and place(given).first != place(given).last:
        raise ValueError(f"{given!r} is a range of ports: give one")
    return given


def _mode(given: str) -> str:
    if given not in MODES:
        raise ValueError(f"{given!r} is not one of {', '.join(MODES)}")
    return given


_size = whole(1, 1 << 30, "a size")
_flag = whole(0, 1, "a flag")

_SHARED: Final[list[list[Any]]] = [
    ["key", None, DEFAULT_PASSWORD, "Password, the same at both ends; also from KCPTUN_KEY."],
    ["crypt", None, "aes", "Cipher, the same at both ends."],
    ["mode", None, "fast", f"Profile: {', '.join(MODES)}.", _mode],
    ["QPPCount", None, 61, "Pads of QPP, the same at both ends.", whole(1, 1024, "a number")],
    ["mtu", None, 1350, "Bytes of the longest datagram.", whole(50, 65507, "a size")],
    ["ratelimit", None, 0, "Bytes a second, for each session; 0: no limit.",
     whole(0, 1 << 40, "a rate")],
    ["datashard", None, 10, "Datagrams in a group of FEC; 0: none.", whole(0, 255, "a number")],
    ["parityshard", None, 3, "Parity of each group; 0: no FEC.", whole(0, 255, "a number")],
    ["dscp", None, 0, "Differentiated services code point.", whole(0, 63, "a code point")],
    ["nodelay", None, 0, "With --mode manual.", _flag],
    ["interval", None, 50, "With --mode manual: milliseconds.", whole(10, 5000, "a time")],
    ["resend", None, 0, "With --mode manual.", whole(0, 100, "a number")],
    ["nc", None, 0, "With --mode manual: 1: no congestion window.", _flag],
    ["sockbuf", None, 4194304, "Bytes of the socket's buffers.", _size],
    ["smuxver", None, 2, "Version of smux, the same at both ends.", whole(1, 2, "a version")],
    ["smuxbuf", None, 4194304, "Bytes that all streams may hold unread.", _size],
    ["framesize", None, 8192, "Most bytes of one frame.", whole(1, 65535, "a size")],
    ["streambuf", None, 2097152, "Bytes that one stream may hold unread.", _size],
    ["keepalive", None, 10, "Seconds between two signs of life.",
     whole(1, 30, "a number of seconds")],
    ["closewait", None, None, "Accepted; half closes are carried over instead.",
     whole(0, 86400, "a number of seconds")],
    ["snmplog", None, "", "File for the counters; its name is a time format of Go."],
    ["snmpperiod", None, 60, "Seconds between two lines of it.",
     whole(1, 86400, "a number of seconds")],
    ["log", None, "", "File to log to, instead of the terminal."],
    ["config", "c", None, "JSON file of kcptun's; it goes before the command line."],
    WORKERS,
    ["trace", None, None, TRACE_HELP],
    ["pcap", None, None, PCAP_HELP],
]  # fmt: skip

_FLAGS: Final[list[list[Any]]] = [
    ["nocomp", None, "No compression, alike at both ends."],
    ["acknodelay", None, "Nothing is held back here anyway; accepted for kcptun's files."],
    ["QPP", None, "Quantum permutation pads, alike at both ends."],
    ["quiet", None, "Log warnings and errors only."],
    WORKERS_BY_HOST,
    ["tcp", None, "Refused: a raw-socket imitation of TCP is not supported."],
]

_SWITCHES: Final = frozenset(
    row[0] for row in (*_FLAGS, *_SHARED) if len(row) < 4 or row[-1] is _flag
)
"""Options that a configuration file may give as C{true} and C{false}."""

_IGNORED: Final = frozenset({"pprof", "log-level"})
"""Keys of configuration files that say nothing to this program."""


class _TunnelOptions(UsageOptions):
    """What both programs take."""

    optFlags = _FLAGS
    program = ""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.services: list[IService] = []
        self.given: list[str] = []

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Keep what was given, for the workers."""
        self.given = [self.program, *(options or ())]
        super().parseOptions(options)  # type: ignore[no-untyped-call]

    def opt_ds(self, given: str) -> None:
        """As --datashard."""
        self["datashard"] = self._coerced("datashard", given)

    def opt_ps(self, given: str) -> None:
        """As --parityshard."""
        self["parityshard"] = self._coerced("parityshard", given)

    def _coerced(self, name: str, given: str) -> Any:
        for row in self.optParameters:
            if row[0] == name and len(row) > 4:
                return row[4](given)
        return given

    def postOptions(self) -> None:
        """
        Read the configuration file and make the services.

        @raise usage.UsageError: something is invalid; names it.
        """
        if self["config"] is not None:
            self._read(self["config"])
        if self["tcp"]:
            raise usage.UsageError(
                "--tcp: datagrams that look like TCP need raw sockets and firewall rules at both"
                " ends; this program has only UDP"
            )
        if self["key"] == DEFAULT_PASSWORD and os.environ.get("KCPTUN_KEY"):
            self["key"] = os.environ["KCPTUN_KEY"]
        try:
            self._make()
        except ValueError as problem:
            raise usage.UsageError(str(problem)) from None

    def _make(self) -> None:
        """
        Make the services.

        @raise ValueError: an option is invalid.
        """
        raise NotImplementedError

    def _read(self, name: str) -> None:
        """Take the options of a file, which stand above those of the command line."""
        try:
            with open(name, encoding="utf-8") as file:
                found = json.load(file)
        except OSError as problem:
            raise usage.UsageError(f"-c {name}: {problem.strerror}") from None
        except (ValueError, RecursionError) as problem:
            raise usage.UsageError(f"-c {name}: this is not valid JSON: {problem}") from None
        if not isinstance(found, dict):
            raise usage.UsageError(f"-c {name}: expected a JSON object")
        known = {key.lower(): key for key in self}
        aliases = {"qpp-count": "QPPCount", "qppcount": "QPPCount"}
        for key, value in found.items():
            own = aliases.get(key.lower(), known.get(key.lower()))
            if key in _IGNORED:
                continue
            if own is None:
                raise usage.UsageError(f"-c {name}: {key!r} is not known")
            if own in _SWITCHES:
                if value not in (0, 1):
                    raise usage.UsageError(f"-c {name}: {key!r} is neither true nor false")
                self[own] = int(value)
            elif isinstance(value, bool):
                raise usage.UsageError(f"-c {name}: {key!r} is no flag")
            elif isinstance(value, (str, int)):
                try:
                    self[own] = self._coerced(own, str(value))
                except (ValueError, usage.UsageError) as problem:
                    raise usage.UsageError(f"-c {name}: {key}: {problem}") from None
            else:
                raise usage.UsageError(f"-c {name}: {key!r} is neither text, number nor flag")

    def endpointArguments(self) -> dict[str, Any]:
        """What the endpoints of both sides are given."""
        manual = self["mode"] == "manual"
        given: dict[str, Any] = {
            "profile": "normal" if manual else self["mode"],
            "crypt": self["crypt"],
            "password": self["key"],
            "mtu": int(self["mtu"]),
            "sndwnd": int(self["sndwnd"]),
            "rcvwnd": int(self["rcvwnd"]),
            "dataShards": int(self["datashard"]),
            "parityShards": int(self["parityshard"]),
            "dscp": int(self["dscp"]),
            "nocomp": bool(self["nocomp"]),
            # kcptun holds acknowledgements back for up to an interval by default. With its
            # windows that halves what a link of 40 ms carries, and the peer sees no difference.
            "ackNoDelay": True,
            "readBuffer": int(self["sockbuf"]),
            "writeBuffer": int(self["sockbuf"]),
            "rateLimit": int(self["ratelimit"]),
            "smuxver": int(self["smuxver"]),
            "smuxbuf": int(self["smuxbuf"]),
            "framesize": int(self["framesize"]),
            "streambuf": int(self["streambuf"]),
            "keepalive": float(self["keepalive"]),
            "qpp": bool(self["QPP"]),
            "qppCount": int(self["QPPCount"]),
        }
        if manual:
            given |= {
                "nodelay": int(self["nodelay"]),
                "interval": int(self["interval"]),
                "resend": int(self["resend"]),
                "nc": bool(int(self["nc"])),
            }
        return given

    def _forward(
        self, description: str, near: IStreamServerEndpoint, far: IStreamClientEndpoint
    ) -> None:
        self.services.append(
            ForwardService(
                _reactor(), description, near, far, limit=_CONNECTIONS, drain=_DRAIN
            )
        )


class ClientOptions(_TunnelOptions):
    """C{rudp kcptun-client}."""

    program = "kcptun-client"

    synopsis = "[options] -r HOST:PORT"
    longdesc = (
        "Accept TCP connections and carry them over one KCP session, or a few, to a server of"
        " kcptun or 'rudp kcptun-server'. Options, defaults and JSON files are kcptun's."
    )
    examples = """
Examples:

  rudp kcptun-client -l :12948 -r example.org:29900 --key secret --crypt aes --mode fast
  rudp kcptun-client -c client.json
"""
    optParameters = [
        ["localaddr", "l", ":12948", "Address to accept TCP connections on.", place],
        ["remoteaddr", "r", "vps:29900", "Server; with PORT-PORT a random one for each session.",
         place],
        ["conn", None, 1, "Sessions that the connections share.", whole(1, 1024, "a number")],
        ["autoexpire", None, 0, "Seconds until a session is replaced; 0: never.",
         number(0, 1e9, "a time")],
        ["scavengettl", None, 600, "Seconds an expired session has.", number(-1, 1e9, "a time")],
        ["sndwnd", None, 128, "Segments of the send window.", whole(1, 65535, "a window")],
        ["rcvwnd", None, 512, "Segments of the receive window.", whole(1, 65535, "a window")],
        *_SHARED,
    ]  # fmt: skip

    def _make(self) -> None:
        near, far = _placed(self["localaddr"]), _placed(self["remoteaddr"])
        endpoint = KCPTunClientEndpoint(
            _reactor(),
            far.host or "127.0.0.1",
            far.first,
            lastPort=far.last if far.last != far.first else None,
            conn=int(self["conn"]),
            autoexpire=float(self["autoexpire"]),
            scavengettl=max(float(self["scavengettl"]), 0.0),
            **self.endpointArguments(),
        )
        description = f"kcptun-client {_shown(near)} -> {_shown(far)}"
        self._forward(description, _listening(near.host, near.first), endpoint)


class ServerOptions(_TunnelOptions):
    """C{rudp kcptun-server}."""

    program = "kcptun-server"

    synopsis = "[options] -t HOST:PORT"
    longdesc = (
        "Accept the streams of kcptun's clients, or of 'rudp kcptun-client', and connect each to"
        " a target. Options, defaults and JSON files are kcptun's."
    )
    examples = """
Examples:

  rudp kcptun-server -l :29900 -t 127.0.0.1:8388 --key secret --crypt aes --mode fast
  rudp kcptun-server -l :29900-29910 -t /run/service.sock
"""
    optParameters = [
        ["listen", "l", ":29900", "Address for KCP; with PORT-PORT all of these.", place],
        ["target", "t", "127.0.0.1:12948", "Where each stream is connected to, or a UNIX path.",
         target],
        ["sndwnd", None, 1024, "Segments of the send window.", whole(1, 65535, "a window")],
        ["rcvwnd", None, 1024, "Segments of the receive window.", whole(1, 65535, "a window")],
        *_SHARED,
    ]  # fmt: skip

    def _make(self) -> None:
        near = _placed(self["listen"])
        for port in range(near.first, near.last + 1):
            endpoint = KCPTunServerEndpoint(
                _reactor(), port, interface=near.host, **self.endpointArguments()
            )
            description = f"kcptun-server {near.host or '*'}:{port} -> {self['target']}"
            self._forward(description, endpoint, _connecting(self["target"]))


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def _placed(given: Place | str) -> Place:
    """A default has not been converted."""
    return given if isinstance(given, Place) else place(given)


def _shown(where: Place) -> str:
    ports = f"{where.first}-{where.last}" if where.last != where.first else str(where.first)
    return f"{where.host or '*'}:{ports}"


def _listening(host: str, port: int) -> IStreamServerEndpoint:
    kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(_reactor(), port, interface=host)
    return endpoint


def _connecting(given: str) -> IStreamClientEndpoint:
    if given.startswith("/"):
        path: IStreamClientEndpoint = UNIXClientEndpoint(_reactor(), given)  # type: ignore[no-untyped-call]
        return path
    where = place(given)
    host = where.host or "127.0.0.1"
    # A HostnameEndpoint asks a thread also about an address that is one already.
    kind: Any = HostnameEndpoint
    if isIPv6Address(host):
        kind = TCP6ClientEndpoint
    elif isIPAddress(host):
        kind = TCP4ClientEndpoint
    endpoint: IStreamClientEndpoint = kind(_reactor(), host, where.first)
    return endpoint


class SNMPLog:
    """The counters of the process, a line at a time, as kcptun writes them."""

    def __init__(self, clock: IReactorTime, name: str) -> None:
        """
        @param name: of the file. What follows the last slash is a time format of Go, as in kcptun;
            folders are taken as they are.
        """
        self._clock = clock
        self._folder, self._format = os.path.split(name)

    def write(self) -> None:
        """Append a line, below the names of the columns if the file is new."""
        seconds = self._clock.seconds()
        now = datetime.fromtimestamp(seconds)
        name = _PLACES.sub(lambda found: now.strftime(_GO_TIME[found.group()]), self._format)
        counters = snmp.process.snapshot()
        with open(os.path.join(self._folder, name), "a", encoding="ascii") as file:
            if not file.tell():
                print("Unix", *counters, sep=",", file=file)
            print(int(seconds), *counters.values(), sep=",", file=file)


def tunnelServices(arguments: Sequence[str]) -> list[IService]:
    """The services of a command line, which begins with the name of the program."""
    options = ClientOptions() if arguments[0] == "kcptun-client" else ServerOptions()
    options.parseOptions(list(arguments[1:]))
    return options.services


def runTunnel(reactor: Any, options: _TunnelOptions) -> Deferred[None]:
    """
    Run until the reactor stops. For C{task.react}.

    @return: never fires, but fails with what ends the program at its start.
    """
    _beginLogging(options["log"], bool(options["quiet"]))
    services = options.services
    count = workerCount(int(options["workers"]))
    if count > 1:
        if options["snmplog"]:
            raise usage.UsageError("--snmplog counts one process: leave out --workers")
        level = LogLevel.warn if options["quiet"] else LogLevel.info
        workers, _ = workersOf(
            reactor, services, options.given, count, level, _DRAIN, bool(options["workers-by-host"])
        )
        services = [workers]
    else:
        services = [*tracing(reactor, options["trace"], options["pcap"]), *services]
    parent = MultiService()  # type: ignore[no-untyped-call]
    for service in services:
        service.setServiceParent(parent)  # type: ignore[no-untyped-call]
    parent.startService()  # type: ignore[no-untyped-call]
    running: Deferred[None] = Deferred()
    if options["snmplog"]:
        loop = LoopingCall(SNMPLog(reactor, options["snmplog"]).write)
        loop.clock = reactor
        loop.start(float(options["snmpperiod"]), now=False).addErrback(running.errback)
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: maybeDeferred(parent.stopService)
    )
    return running


def _beginLogging(name: str, quiet: bool) -> None:
    file = open(name, "a", encoding="utf-8") if name else sys.stderr  # noqa: SIM115
    lowest = LogLevel.warn if quiet else LogLevel.info
    observer = FilteringLogObserver(
        textFileLogObserver(file), [LogLevelFilterPredicate(defaultLogLevel=lowest)]
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)

