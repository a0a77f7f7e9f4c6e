"""The command line of C{rudp link}."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore
from twisted.python import usage

from twisted_rudp.service.link import IDLE, MAX_CLIENTS, Link
from twisted_rudp.service.teaching import TeachingOptions, number, whole
from twisted_rudp.testing.impairments import BurstLoss, Impairments


def hostAndPort(given: str) -> tuple[str, int]:
    """
    C{10.0.0.1:4000}, C{[::1]:4000} or C{:4000}, the last on all IPv4 addresses.

    @raise ValueError: it is none of these.
    """
    host, colon, port = given.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{given!r}: an IPv6 address goes in brackets, as in [::1]:4000")
    if not colon:
        raise ValueError(f"{given!r} is not HOST:PORT")
    return host, whole(0, 65535, "a UDP port")(port)


percent = number(0, 100, "a percentage")
milliseconds = number(0, 60_000, "milliseconds")


class LinkOptions(TeachingOptions):
    """C{rudp link}."""

    synopsis = "--to HOST:PORT [--listen HOST:PORT] [options]"
    longdesc = (
        "Relay UDP to a server and back through a link that is as bad as you like. Point"
        " the client at the listening port. The impairments apply in each direction, so"
        " --delay=50 makes a round trip of 100 ms; the same seed gives the same losses."
        " Stop it with Ctrl-C to see what became of the datagrams."
    )

    optParameters = [
        ["listen", "l", "127.0.0.1:0", "Address that clients send to."],
        ["to", "t", None, "Address of the server, an IP literal."],
        ["loss", None, 0.0, "Percent of datagrams lost.", percent],
        ["burst", None, 0.0, "Percent of datagrams lost in bursts.", number(0, 99, "a percentage")],
        [
            "burst-length",
            None,
            4.0,
            "Datagrams in a burst, on average.",
            number(1, 10_000, "a length"),
        ],
        ["delay", None, 0.0, "Milliseconds that each way takes.", milliseconds],
        ["jitter", None, 0.0, "Up to so many milliseconds more.", milliseconds],
        ["reorder", None, 0.0, "Percent of datagrams held back.", percent],
        ["reorder-delay", None, 10.0, "Milliseconds they are held back.", milliseconds],
        ["duplicate", None, 0.0, "Percent of datagrams that arrive twice.", percent],
        ["rate", None, None, "Mbit/s of the bottleneck.", number(0.001, 100_000, "Mbit/s")],
        [
            "queue",
            None,
            None,
            "Bytes that may wait before the bottleneck; default: 100 ms at its rate.",
            whole(1, 1 << 40, "bytes"),
        ],
        ["mtu", None, None, "Longest UDP payload that passes.", whole(1, 65507, "bytes")],
        ["seed", None, 0, "Where the dice start.", whole(0, 1 << 63, "a seed")],
        ["max-clients", None, MAX_CLIENTS, "Clients at one time.", whole(1, 60_000, "a number")],
        ["idle", None, IDLE, "Seconds until a silent client is forgotten.", number(1, 86400, "s")],
    ]

    listenAddress: tuple[str, int]
    targetAddress: tuple[str, int]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no server, or options that make no sense.
        """
        if self["to"] is None:
            raise usage.UsageError("there is no --to, the server to relay to")
        if self["queue"] is not None and self["rate"] is None:
            raise usage.UsageError("--queue is before a bottleneck, which --rate makes")
        self.listenAddress = self._address("listen")
        self.targetAddress = self._address("to")

    def _address(self, option: str) -> tuple[str, int]:
        try:
            return hostAndPort(self[option])
        except ValueError as problem:
            raise usage.UsageError(f"--{option}: {problem}") from problem

    def impairments(self) -> Impairments:
        """What was asked for, of the way to the server."""
        rate = None if self["rate"] is None else self["rate"] * 1e6 / 8
        queue = self["queue"]
        if rate is not None and queue is None:
            # Room for one full datagram at least, or a slow link would carry nothing.
            queue = max(65507, round(rate / 10))
        return Impairments(
            seed=self["seed"],
            loss=self["loss"] / 100,
            burst=self._burst(),
            delay=self["delay"] / 1000,
            jitter=self["jitter"] / 1000,
            reorder=self["reorder"] / 100,
            reorder_delay=self["reorder-delay"] / 1000,
            duplicate=self["duplicate"] / 100,
            rate=rate,
            queue=queue,
            mtu=self["mtu"],
        )

    def _burst(self) -> BurstLoss | None:
        """
        The chain whose bad state lasts C{--burst-length} datagrams and holds
        C{--burst} percent of all.
        """
        share = self["burst"] / 100
        if not share:
            return None
        leave = 1 / self["burst-length"]
        return BurstLoss(enter=min(1.0, leave * share / (1 - share)), leave=leave)

    def link(self, reactor: Any) -> Link:
        """
        The link, not yet started.

        @raise usage.UsageError: the server is not an IP literal.
        """
        try:
            return Link(
                reactor,
                *self.listenAddress,
                *self.targetAddress,
                impairments=self.impairments(),
                maxClients=self["max-clients"],
                idleTimeout=self["idle"],
            )
        except ValueError as problem:
            raise usage.UsageError(f"--to: {problem}") from problem


def runLink(reactor: Any, options: LinkOptions) -> Deferred[None]:
    """
    Relay until the reactor stops, then print what was seen. For C{task.react}.

    @return: never fires.

    @raise usage.UsageError: an address cannot be had.
    """
    link = options.link(reactor)
    try:
        link.start()
    except CannotListenError as problem:
        raise usage.UsageError(f"--listen: {problem}") from problem
    # Flushed, for a script that waits to learn the port.
    print(f"Relaying from UDP port {link.port} to {options['to']}.", flush=True)

    def finish() -> Deferred[None]:
        for name, value in link.statistics().items():
            if value:
                print(f"{name:>24}: {value}")
        return link.stop()

    cast(IReactorCore, reactor).addSystemEventTrigger("before", "shutdown", finish)
    return Deferred()
