"""
Counters, read from outside: by session, by port, for the whole process.

Nothing is pushed and nothing is collected here: what has counters registers
in L{ports}, and a snapshot asks it. Reading never changes what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import ref

from twisted.internet.address import IPv4Address, IPv6Address

from twisted_rudp import kernels


@dataclass(frozen=True)
class SessionStats:
    """
    One session at one moment.

    @ivar peer: its raw address.
    @ivar state: the name of its L{SessionState<twisted_rudp.net.session.SessionState>}.
    @ivar facts: as L{facts<twisted_rudp.interfaces.IRUDPTransport.facts>}.
    @ivar counters: under the transport's own names.
    @ivar number: its number on its port.
    @ivar age: seconds since it began.
    @ivar handshake: seconds that its handshake took; None while it lasts.
    """

    peer: tuple[Any, ...]
    state: str
    facts: Mapping[str, Any]
    counters: Mapping[str, int]
    number: int = 0
    age: float = 0.0
    handshake: float | None = None


@dataclass(frozen=True)
class PortStats:
    """
    One socket at one moment.

    @ivar host: its own C{IAddress}; None before it was bound.
    @ivar counters: of the hub, the demultiplexer (C{"demux."} in front) and the datagram
        port (C{"port."} in front).
    @ivar sessions: those it has now.
    @ivar facts: what the socket is: its kind, whether the kernel cuts and joins runs,
        the sizes of its buffers as asked for and as the system granted them, in bytes,
        and its DSCP.
    """

    host: IPv4Address | IPv6Address | None
    counters: Mapping[str, int]
    sessions: tuple[SessionStats, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceStats:
    """
    One service at one moment.

    @ivar description: what it does, with its endpoints.
    @ivar facts: what it is now.
    @ivar counters: what it has done.
    """

    description: str
    facts: Mapping[str, Any]
    counters: Mapping[str, int]


@dataclass(frozen=True)
class ProcessStats:
    """
    All sockets of this process at one moment.

    @ivar kernels: which implementation of L{twisted_rudp.kernels} is in use.
    @ivar ports: each that has sessions or waits for them.
    @ivar counters: the sums of those of C{ports}, name by name.
    @ivar compiled: the modules on the way of a datagram are compiled.
    @ivar services: those that have counters of their own.
    """

    kernels: str
    ports: tuple[PortStats, ...]
    counters: Mapping[str, int] = field(default_factory=dict)
    compiled: bool = False
    services: tuple[ServiceStats, ...] = ()


class Source(Protocol):
    """Something with counters and sessions."""

    def snapshot(self) -> PortStats: ...


class Registration:
    """
    What a source keeps as long as it is to be asked. Sources themselves cannot be referred to
    weakly where they are compiled; this module is not.
    """

    __slots__ = ("__weakref__", "source")

    def __init__(self, source: Source) -> None:
        self.source = source


class Registry:
    """The sources that are alive. It keeps none of them alive."""

    def __init__(self) -> None:
        self._registrations: dict[ref[Registration], None] = {}

    def add(self, source: Source) -> Registration:
        """
        Ask C{source} from now on.

        @return: it is asked as long as somebody has this; nobody but the source should.
        """
        registration = Registration(source)
        self._registrations[ref(registration, self._gone)] = None
        return registration

    def discard(self, registration: Registration | None) -> None:
        """Ask its source no more. Harmless if it is not known."""
        if registration is not None:
            self._registrations.pop(ref(registration), None)

    def _gone(self, registration: ref[Registration]) -> None:
        self._registrations.pop(registration, None)

    def sources(self) -> list[Source]:
        """Those that are alive, in the order in which they were added."""
        living = [registration() for registration in list(self._registrations)]
        return [registration.source for registration in living if registration is not None]

    def snapshot(self) -> ProcessStats:
        """
        @return: every source, and the sums of the counters that they have in common.
        """
        taken = tuple(source.snapshot() for source in self.sources())
        sums = total(port.counters for port in taken)
        return ProcessStats(
            kernels.IMPLEMENTATION, taken, sums, kernels.COMPILED, services.snapshot()
        )


def total(counters: Any) -> dict[str, int]:
    """Add up several mappings of counters, name by name."""
    sums: dict[str, int] = {}
    for each in counters:
        for name, count in each.items():
            sums[name] = sums.get(name, 0) + count
    return sums


class ServiceSource(Protocol):
    """A service with counters of its own."""

    def snapshot(self) -> ServiceStats: ...


class ServiceRegistry:
    """The services that run. It keeps none of them alive."""

    def __init__(self) -> None:
        self._services: dict[ref[ServiceSource], None] = {}

    def add(self, service: ServiceSource) -> None:
        """Ask C{service} from now on."""
        self._services[ref(service, self._gone)] = None

    def discard(self, service: ServiceSource) -> None:
        """Ask it no more. Harmless if it is not known."""
        self._services.pop(ref(service), None)

    def _gone(self, service: ref[ServiceSource]) -> None:
        self._services.pop(service, None)

    def snapshot(self) -> tuple[ServiceStats, ...]:
        """All of them, in the order in which they were added."""
        living = [service for each in list(self._services) if (service := each()) is not None]
        return tuple(service.snapshot() for service in living)


services = ServiceRegistry()
"""The services of this process that have counters of their own."""

ports = Registry()
"""The sockets of this process that have sessions or wait for them."""
