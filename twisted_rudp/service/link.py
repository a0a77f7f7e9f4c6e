"""
C{rudp link}: a UDP relay that loses, delays, reorders and limits datagrams,
reproducibly for a seed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any, cast

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.net.addresses import hostText, parseLiteral, resolve
from twisted_rudp.net.udp.captured import Places
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import DatagramPort
from twisted_rudp.net.udp.reactors import IDescriptorReactor, IPortReactor
from twisted_rudp.service.linkcontrol import (
    SETTINGS,
    Console,
    LinkControl,
    Report,
    impairmentsOf,
)
from twisted_rudp.service.usage import UsageOptions, number, whole
from twisted_rudp.testing.impairments import Fate, Impairments
from twisted_rudp.tracing.pcapng import Capture

MAX_CLIENTS = 256
"""
Clients at one time, each with a socket of its own; further ones are not served. The
number is bounded because source addresses can be forged.
"""

IDLE = 60.0
"""Seconds without a datagram in either direction after which a client is removed."""

ON_THE_WAY = 65536
"""Most datagrams delayed at one time, in both directions together; others are dropped."""


class _Delays:
    """
    Delayed datagrams, with one timer for all of them.

    @ivar overflow: datagrams dropped because too many were delayed.
    """

    def __init__(self, clock: IReactorTime, limit: int = ON_THE_WAY) -> None:
        self._clock = clock
        self._limit = limit
        self._waiting: list[tuple[float, int, bytes, DatagramPort, Address]] = []
        self._numbers = count()
        self._call: IDelayedCall | None = None
        self._now = 0.0
        self.overflow = 0

    def now(self) -> float:
        """The reactor's time, made monotonic (TIME-3)."""
        self._now = max(self._now, self._clock.seconds())
        return self._now

    def send(self, delay: float, datagram: bytes, port: DatagramPort, address: Address) -> None:
        """Send after C{delay} seconds; datagrams due at the same time are sent in order."""
        if not delay and not self._waiting:
            port.send(datagram, len(datagram), address)
        elif len(self._waiting) >= self._limit:
            self.overflow += 1
        else:
            due = self.now() + delay
            heappush(self._waiting, (due, next(self._numbers), datagram, port, address))
            self._schedule()

    def _schedule(self) -> None:
        """Set the timer to the earliest datagram."""
        delay = max(0.0, self._waiting[0][0] - self.now())
        if self._call is None:
            self._call = self._clock.callLater(delay, self._arrive)
        elif self._call.getTime() > self._clock.seconds() + delay:
            self._call.reset(delay)

    def _arrive(self) -> None:
        self._call = None
        now = self.now()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, datagram, port, address = heappop(self._waiting)
            port.send(datagram, len(datagram), address)
        if self._waiting:
            self._schedule()

    def stop(self) -> None:
        """Discard all datagrams."""
        self._waiting.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None


class _End:
    """One socket of the relay."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def calledAt(self, local: bytes) -> None:
        """Answers leave from wherever routing says."""

    def patience(self) -> int:
        """What comes is looked for at once."""
        return 0

    def turnEnded(self) -> None:
        """Each datagram was relayed when it was received."""
        self._link.turnEnded()

    def portWritable(self) -> None:
        """The port queues some, and drops and counts the rest, as a router does."""

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        self._link.counts["path_errors"] += 1

    def portLost(self, failure: Failure) -> None:
        """The reactor shuts down."""


class _Front(_End):
    """The socket to which clients send."""

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        self._link.fromClient(run, size, address)


class _Back(_End):
    """The socket of one client towards the server."""

    def __init__(self, link: Link, client: Address) -> None:
        super().__init__(link)
        self.client = client
        self.heard = 0.0
        self.port: DatagramPort

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        self._link.fromServer(self, run, size, address)


class Link:
    """
    A relay between any number of clients and one server.

    Each client has a socket of its own towards the server, so the server can distinguish
    them.

    @ivar counts: C{clients} served so far, C{clients_idle} removed for idleness,
        C{forward_bytes} and C{backward_bytes} delivered, C{refused} datagrams of clients
        above the limit, C{unknown_peers} datagrams to a client's socket that are not from
        the server, C{path_errors} reported by the network.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IPortReactor | IDescriptorReactor,
        listenHost: str,
        listenPort: int,
        targetHost: str,
        targetPort: int,
        impairments: Impairments | None = None,
        backward: Impairments | None = None,
        *,
        maxClients: int = MAX_CLIENTS,
        idleTimeout: float = IDLE,
        capture: Capture | None = None,
    ) -> None:
        """
        @param listenHost: an IP literal, or C{""} for all IPv4 addresses.
        @param listenPort: 0 for any.
        @param targetHost: an IP literal.
        @param impairments: impairments towards the server; None: none.
        @param backward: impairments towards the clients; None: the same, with the next
            seed.
        @param maxClients: clients at one time.
        @param idleTimeout: seconds after which an idle client is removed.
        @param capture: notes each datagram when it comes, between client and link, with what
            became of it.

        @raise ValueError: the target is not an IP literal with a port.
        """
        self._reactor = reactor
        self._listen = (listenHost, listenPort)
        self._target = parseLiteral(targetHost, targetPort)
        self._anywhere = "" if len(self._target) == 2 else "::"
        self.forward = Impairments() if impairments is None else impairments
        self.backward = self.forward.reseeded(self.forward.seed + 1)
        if backward is not None:
            self.backward = backward
        self._maxClients = maxClients
        self._idleTimeout = idleTimeout
        self._capture = capture
        self._places: Places | None = None
        self._delays = _Delays(reactor)
        self._clients: dict[Address, _Back] = {}
        self._front: DatagramPort | None = None
        self._sweep: IDelayedCall | None = None
        self.counts = dict.fromkeys(
            (
                *("clients", "clients_idle", "refused", "unknown_peers", "path_errors"),
                *("forward_bytes", "backward_bytes"),
            ),
            0,
        )

    def start(self) -> None:
        """
        Start to relay.

        @raise CannotListenError: the listening address cannot be bound.
        """
        self._front = openPort(self._reactor, _Front(self), *self._listen)
        self._places = Places(self._front)
        self._log.info(
            "link from {host} to {target}", host=self._front.getHost(), target=self._target
        )

    @property
    def port(self) -> int:
        """
        The UDP port that clients send to.

        @raise RuntimeError: the link was not started.
        """
        if self._front is None:
            raise RuntimeError("the link was not started")
        return self._front.getHost().port

    def stop(self) -> Deferred[None]:
        """
        Stop; delayed datagrams are discarded. Harmless before L{start} and when
        repeated.

        @return: fires when all sockets are closed.
        """
        self._delays.stop()
        if self._capture is not None:
            self._capture.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        ports = [client.port for client in self._clients.values()]
        self._clients.clear()
        if self._front is None:
            return succeed(None)
        ports.append(self._front)
        return gatherResults([port.stopListening() for port in ports]).addCallback(lambda _: None)

    def statistics(self) -> Mapping[str, int]:
        """
        The link's own counters, and those of each direction as C{forward_lost},
        C{backward_delivered} and so on (see L{Impairments}).
        """
        return {
            **self.counts,
            "overflow": self._delays.overflow,
            **{f"forward_{name}": n for name, n in self.forward.counters.items()},
            **{f"backward_{name}": n for name, n in self.backward.counters.items()},
        }

    def fromClient(self, run: bytes, size: int, address: Address) -> None:
        """Relay datagrams towards the server."""
        client = self._clients.get(address) or self._admit(address)
        if client is None:
            self.counts["refused"] += -(-len(run) // size)
            return
        client.heard = self._delays.now()
        fates = self._carry(self.forward, run, size, client.port, self._target)
        self._note(address, True, run, size, fates)

    def fromServer(self, client: _Back, run: bytes, size: int, address: Address) -> None:
        """Relay datagrams of the server to a client; those of other senders are dropped."""
        if address != self._target or self._front is None:
            self.counts["unknown_peers"] += -(-len(run) // size)
            return
        client.heard = self._delays.now()
        fates = self._carry(self.backward, run, size, self._front, client.client)
        self._note(client.client, False, run, size, fates)

    def _carry(
        self, way: Impairments, run: bytes, size: int, port: DatagramPort, address: Address
    ) -> list[Fate]:
        """
        Send datagrams on, as the impairments of that direction have it.

        @return: what became of each.
        """
        now = self._delays.now()
        fates = []
        for start in range(0, len(run), size):
            datagram = run[start : start + size]
            for delay in way.fate(now, len(datagram), datagram):
                self._delays.send(delay, datagram, port, address)
            fates.append(way.last_fate)
            if way.last_fate is Fate.DELIVERED:
                self.counts["forward_bytes" if way is self.forward else "backward_bytes"] += len(
                    datagram
                )
        return fates

    def _note(
        self, client: Address, forward: bool, run: bytes, size: int, fates: Sequence[Fate]
    ) -> None:
        """Write datagrams to the capture, as they are between the client and this link."""
        if self._capture is None or self._places is None:
            return
        own = self._places.towards(client)
        source, destination = (client, own) if forward else (own, client)
        now = self._delays.now()
        for start, fate in zip(range(0, len(run), size), fates, strict=True):
            comment = "" if fate is Fate.DELIVERED else fate.value
            datagram = run[start : start + size]
            self._capture.datagram(now, source, destination, datagram, comment)

    def turnEnded(self) -> None:
        """Let readers of the capture see what has come."""
        if self._capture is not None:
            self._capture.flush()

    def _admit(self, address: Address) -> _Back | None:
        """
        Open a socket for a new client.

        @return: None at the limit of clients, or if no socket can be opened.
        """
        if len(self._clients) >= self._maxClients:
            return None
        client = _Back(self, address)
        try:
            client.port = openPort(self._reactor, client, self._anywhere)
        except CannotListenError as problem:
            self._log.debug("no socket for {client}: {reason}", client=address, reason=problem)
            return None
        self._clients[address] = client
        self.counts["clients"] += 1
        if self._sweep is None:
            self._sweep = self._reactor.callLater(self._idleTimeout, self._forgetIdle)
        return client

    def _forgetIdle(self) -> None:
        self._sweep = None
        longAgo = self._delays.now() - self._idleTimeout
        for client in list(self._clients.values()):
            if client.heard <= longAgo:
                del self._clients[client.client]
                client.port.stopListening()
                self.counts["clients_idle"] += 1
        if self._clients:
            self._sweep = self._reactor.callLater(self._idleTimeout, self._forgetIdle)


def hostAndPort(given: str) -> tuple[str, int]:
    """
    C{10.0.0.1:4000}, C{[::1]:4000} or C{:4000}, the last for all IPv4 addresses.

    @raise ValueError: any other form.
    """
    host, colon, port = given.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{given!r}: write an IPv6 address in brackets, as in [::1]:4000")
    if not colon:
        raise ValueError(f"{given!r} is not HOST:PORT")
    return host, whole(0, 65535, "a UDP port")(port)


class LinkOptions(UsageOptions):
    """C{rudp link}."""

    synopsis = "--to HOST:PORT [--listen HOST:PORT] [options]"
    longdesc = (
        "Relay UDP between clients and a server over an impaired link. Connect the client to"
        " the listening port. The impairments apply to each direction: --delay=50 makes a"
        " round trip of 100 ms. The same seed gives the same losses. Stop it with Ctrl-C to"
        " see the statistics."
    )

    optParameters = [
        ["listen", "l", "127.0.0.1:0", "Address to listen on."],
        ["to", "t", None, "Address of the server."],
        *([each.name, None, each.default, each.help, each.coerce] for each in SETTINGS),
        *(
            [f"back-{each.name}", None, None, "The same, towards the clients.", each.coerce]
            for each in SETTINGS
        ),
        ["seed", None, 0, "Random seed.", whole(0, 1 << 63, "a seed")],
        ["max-clients", None, MAX_CLIENTS, "Clients at one time.", whole(1, 60_000, "a number")],
        ["idle", None, IDLE, "Seconds until an idle client is removed.", number(1, 86400, "s")],
        ["pcap", None, None, "File to write all datagrams to, in the format pcapng."],
        ["every", None, None, "Print the counters each so many seconds.", number(0.1, 3600, "s")],
    ]
    optFlags = [["interactive", "i", "Read changes from standard input; 'help' shows them."]]

    listenAddress: tuple[str, int]
    targetAddress: tuple[str, int]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no server, or options that contradict each other.
        """
        if self["to"] is None:
            raise usage.UsageError("--to is missing: the address of the server")
        for queue, values in (("queue", self.settings()), ("back-queue", self.settings("back-"))):
            if values["queue"] is not None and values["rate"] is None:
                raise usage.UsageError(f"--{queue} requires --rate")
        self.listenAddress = self._address("listen")
        self.targetAddress = self._address("to")

    def _address(self, option: str) -> tuple[str, int]:
        try:
            return hostAndPort(self[option])
        except ValueError as problem:
            raise usage.UsageError(f"--{option}: {problem}") from problem

    def settings(self, direction: str = "") -> dict[str, Any]:
        """
        The settings of one direction by name.

        @param direction: C{""} towards the server, C{"back-"} towards the clients.
        """
        return {
            each.name: self[each.name]
            if self[direction + each.name] is None
            else self[direction + each.name]
            for each in SETTINGS
        }

    def impairments(self, direction: str = "") -> Impairments:
        """The impairments of one direction, each with a seed of its own."""
        return impairmentsOf(self.settings(direction), self["seed"] + bool(direction))

    def _capture(self) -> Capture | None:
        """
        The capture that was asked for.

        @raise usage.UsageError: its file cannot be written.
        """
        path = self["pcap"]
        if path is None:
            return None

        def failed(problem: OSError) -> None:
            print(f"rudp: {path}: {problem}; nothing more is written", file=sys.stderr)

        try:
            return Capture(path, failed=failed)
        except OSError as problem:
            raise usage.UsageError(f"--pcap {path}: {problem.strerror}") from None

    def link(
        self,
        reactor: Any,
        listen: tuple[str, int] | None = None,
        target: tuple[str, int] | None = None,
    ) -> Link:
        """
        The link, not yet started.

        @param listen: the address that was given, or the one of the name that was given.
        @param target: the same of the server.
        @raise usage.UsageError: the server is not an IP literal.
        """
        try:
            return Link(
                reactor,
                *(listen or self.listenAddress),
                *(target or self.targetAddress),
                impairments=self.impairments(),
                backward=self.impairments("back-"),
                maxClients=self["max-clients"],
                idleTimeout=self["idle"],
                capture=self._capture(),
            )
        except ValueError as problem:
            raise usage.UsageError(f"--to: {problem}") from problem


def runLink(reactor: Any, options: LinkOptions) -> Deferred[None]:
    """
    Relay until the reactor stops, then print the statistics. For C{task.react}.

    @return: never fires, or fails with a C{usage.UsageError}: a name has no address, or an
        address cannot be bound.
    """
    places = gatherResults(
        [
            _resolved(reactor, "listen", *options.listenAddress),
            _resolved(reactor, "to", *options.targetAddress),
        ],
        consumeErrors=True,
    )
    places.addErrback(_first)
    return places.addCallback(lambda found: _relay(reactor, options, *found))


def _first(failure: Failure) -> Failure:
    """What failed, of several."""
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure


def _resolved(reactor: Any, option: str, host: str, port: int) -> Deferred[tuple[str, int]]:
    """The address of a host; C{""}, all of them, is one."""
    if not host:
        return succeed((host, port))
    found: Deferred[list[Address]] = Deferred()

    def first(addresses: list[Address]) -> tuple[str, int]:
        if not addresses:
            raise usage.UsageError(f"--{option}: {host!r} has no address")
        # Both ends of a link on one machine are to mean the same by localhost.
        name, number, *rest = min(addresses, key=len)
        # A zone is the last of the four parts of an address of IPv6.
        return (f"{name}%{rest[1]}" if rest and rest[1] else name), number

    try:
        resolve(reactor, hostText(host) if "%" not in host else host, port, found.callback)
    except ValueError as problem:
        return fail(usage.UsageError(f"--{option}: {problem}"))
    return found.addCallback(first)


def _relay(
    reactor: Any, options: LinkOptions, listen: tuple[str, int], target: tuple[str, int]
) -> Deferred[None]:
    """
    Relay until the reactor stops.

    @raise usage.UsageError: an address cannot be bound.
    """
    link = options.link(reactor, listen, target)
    try:
        link.start()
    except CannotListenError as problem:
        raise usage.UsageError(f"--listen: {problem}") from problem
    # Flushed, for scripts that read the port from it.
    print(f"Relaying from UDP port {link.port} to {options['to']}.", flush=True)
    report: LoopingCall | None = None
    if options["every"] is not None:
        report = LoopingCall(Report(link, reactor).show)
        report.clock = reactor
        report.start(options["every"], now=False)
    if options["interactive"]:
        console = Console(LinkControl(link, options.settings(), options.settings("back-")))
        StandardIO(console, reactor=reactor)  # type: ignore[no-untyped-call]

    def finish() -> Deferred[None]:
        if report is not None:
            report.stop()
        for name, value in link.statistics().items():
            if value:
                print(f"{name:>24}: {value}")
        return link.stop()

    cast(IReactorCore, reactor).addSystemEventTrigger("before", "shutdown", finish)
    return Deferred()
