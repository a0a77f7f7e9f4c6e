"""
A network in memory: hosts with addresses, links that impair what crosses them, a
clock that moves from event to event.

A test in outline::

    network = MemoryNetwork(seed=1)
    client, server = network.host("client"), network.host("server")
    network.impair(Impairments(delay=0.02, loss=0.05), client, server)
    listening = KCPServerEndpoint(server.reactor, 4000).listen(factory)
    connecting = KCPClientEndpoint(client.reactor, server.address, 4000).connect(factory)
    network.run(connecting)

Everything random comes from one seed, also what endpoints on the hosts' reactors draw: the
same program gives the same trace, to the byte.
"""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_rudp.tracing.pcapng import LARGEST_CAPTURE, Capture

from .clock import EventClock
from .host import MemoryHost
from .impairments import Fate, Impairments
from .port import Address, MemoryUDPPort, isForMany, isLoopback, parseIP
from .resolver import MemoryResolver
from .stepping import Condition, runFor, runUntil, step

_T = TypeVar("_T")


class Traced(NamedTuple):
    """A datagram that was sent."""

    time: float
    """When, in seconds."""

    source: Address
    """The address it came from, as the receiver sees it."""

    destination: Address
    """The address it was sent to."""

    data: bytes

    fate: Fate

    arrivals: tuple[float, ...]
    """The times at which its copies arrive or arrived; empty if it was lost."""


class MemoryNetwork:
    """
    Hosts, the links between them and the clock.

    @ivar clock: the time of all hosts, in seconds from 0.
    @ivar random: the one source of randomness; give it to what needs some.
    @ivar resolver: where all hosts look names up.
    @ivar trace: the datagrams sent, oldest first; the newest C{traceLimit} of them.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        seed: int = 0,
        delay: float = 0.001,
        traceLimit: int = 100_000,
    ) -> None:
        """
        @param delay: seconds that a datagram takes where no other L{Impairments} are
            set.
        """
        self.clock = EventClock() if clock is None else clock
        self._seed = seed
        self.random = random.Random(seed)
        self.resolver = MemoryResolver(self.clock)
        self.hosts: list[MemoryHost] = []
        self.trace: deque[Traced] = deque(maxlen=traceLimit)
        self._capture: Capture | None = None
        self._default = Impairments(delay=delay)
        self._links: dict[tuple[MemoryHost, MemoryHost], Impairments] = {}

    def host(self, name: str, *addresses: str) -> MemoryHost:
        """
        Add a machine, and register its name with the resolver.

        @param addresses: IP literals, IPv4 and IPv6. Without any it gets one of each.
        @raise ValueError: an address is none, or another host's.
        """
        number = len(self.hosts) + 1
        addresses = addresses or (f"10.0.{number >> 8}.{number & 255}", f"fd00::{number:x}")
        taken = {parseIP(address) for host in self.hosts for address in host.addresses}
        for address in addresses:
            if parseIP(address) in taken:
                raise ValueError(f"{address} belongs to another host")
        entropy = random.Random(f"{self._seed} {number}").randbytes
        host = MemoryHost(self, name, addresses, entropy)
        self.hosts.append(host)
        self.resolver.register(name, *addresses)
        return host

    # links

    def link(self, source: MemoryHost, destination: MemoryHost) -> Impairments:
        """The live L{Impairments} of one direction; what is assigned to it acts at once."""
        pair = (source, destination)
        if pair not in self._links:
            self._links[pair] = self._default.reseeded(self.random.getrandbits(32))
        return self._links[pair]

    def setLink(
        self, source: MemoryHost, destination: MemoryHost, impairments: Impairments
    ) -> None:
        """Use these very L{Impairments} in one direction."""
        self._links[source, destination] = impairments

    def impair(self, impairments: Impairments, *hosts: MemoryHost) -> None:
        """
        Use these settings between these hosts, in all directions, each with a seed of
        its own. Without hosts, between all of them, also those to come.
        """
        if not hosts:
            self._default = impairments
        for source in hosts or self.hosts:
            for destination in hosts or self.hosts:
                if source is not destination:
                    seed = self.random.getrandbits(32)
                    self.setLink(source, destination, impairments.reseeded(seed))

    def cut(self, one: MemoryHost, other: MemoryHost) -> None:
        """Cut the wire between two hosts: nothing sent from now on arrives."""
        self.link(one, other).cut = self.link(other, one).cut = True

    def mend(self, one: MemoryHost, other: MemoryHost) -> None:
        """Undo L{cut}."""
        self.link(one, other).cut = self.link(other, one).cut = False

    # time

    def step(self) -> bool:
        """
        Run the next event only.

        @return: whether there was one.
        """
        return step(self.clock)

    def run(self, until: Condition | Deferred[_T], limit: float = 60.0) -> None:
        """
        Run event by event until a condition holds.

        @param until: a function without arguments or a C{Deferred}.
        @param limit: seconds of simulated time to wait at most.
        @raise twisted_rudp.testing.stepping.NotReached: it did not come about.
        """
        runUntil(self.clock, until, limit)

    def runFor(self, seconds: float) -> None:
        """Run event by event for so much simulated time."""
        runFor(self.clock, seconds)

    # captures

    def capture(self, path: str, limit: int = LARGEST_CAPTURE) -> Capture:
        """
        Write what is sent from now on to a pcapng file, at the time when it is sent. What
        does not arrive has a comment that says why.

        @param limit: bytes of the file; what comes then is not written.
        @return: what is being written; to be closed by the caller.
        @raise OSError: the file cannot be written.
        """
        self._capture = Capture(path, limit)
        return self._capture

    # the hosts' side

    def carry(
        self,
        sender: MemoryHost,
        port: MemoryUDPPort,
        source: Address,
        destination: Address,
        datagram: bytes,
    ) -> None:
        """
        Take a datagram from a port of a host to wherever it is for.

        @param source: what the receiver sees of the port's address.
        """
        now = self.clock.seconds()
        receivers = self._receivers(sender, destination)
        if not receivers:
            self._note(Traced(now, source, destination, datagram, Fate.NOBODY, ()))
        for receiver in receivers:
            link = self.link(sender, receiver)
            delays = link.fate(now, len(datagram), datagram)
            arrivals = tuple(now + delay for delay in delays)
            traced = Traced(now, source, destination, datagram, link.last_fate, arrivals)
            self._note(traced)
            for delay in delays:
                self.clock.callLater(delay, self._arrive, sender, port, receiver, traced)

    def _note(self, traced: Traced) -> None:
        self.trace.append(traced)
        if self._capture is not None:
            comment = "" if traced.fate is Fate.DELIVERED else traced.fate.value
            self._capture.datagram(*traced[:4], comment)

    def _receivers(self, sender: MemoryHost, destination: Address) -> list[MemoryHost]:
        if isForMany(destination[0]):
            return [host for host in self.hosts if host is not sender]
        if isLoopback(destination[0]):
            return [sender]
        return [host for host in self.hosts if host.inside(destination) is not None]

    def _arrive(
        self, sender: MemoryHost, port: MemoryUDPPort, receiver: MemoryHost, traced: Traced
    ) -> None:
        """Hand a copy to the port that has its address by now."""
        takers = receiver.takers(traced.destination)
        for taker in takers:
            taker.arrive(traced.data, traced.source)
        if not takers:
            back = self.link(receiver, sender)
            if not back.cut:
                self.clock.callLater(back.delay, port.refused, traced.destination)
