"""A machine on a simulated network."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from .port import Address, MemoryUDPPort, canonical, isForMany, isLoopback, parseIP
from .reactor import MemoryUDPReactor
from .resolver import MemoryResolver

EPHEMERAL = range(49152, 65536)
"""The numbers given to port 0 (RFC 6335 section 6)."""


class HostNetwork(Protocol):
    """What a host needs of the network it is on; see L{MemoryNetwork
    <twisted_rudp.testing.network.MemoryNetwork>}."""

    clock: Clock
    resolver: MemoryResolver

    def carry(
        self,
        sender: MemoryHost,
        port: MemoryUDPPort,
        source: Address,
        destination: Address,
        datagram: bytes,
    ) -> None:
        """Take a datagram from a port of a host to wherever it is for."""


class MemoryHost:
    """
    A machine on a L{MemoryNetwork<twisted_rudp.testing.network.MemoryNetwork>}, which
    makes it.

    Besides its own addresses it has C{127.0.0.1} and C{::1}.

    @ivar reactor: what programs on this host run with.
    @ivar ports: its open UDP sockets.
    @ivar mtu: bytes of the longest UDP payload its interface takes; longer writes
        raise C{twisted.internet.error.MessageLengthError}. None: what UDP takes.
    @ivar receiveBuffer: bytes that may wait in each socket for the program; more
        are dropped. None: without bound.
    @ivar writeErrors: for a destination's IP literal, the C{errno} with which writes
        to there fail (C{"*"}: to anywhere).
    @ivar bindV6Only: C{"::"} takes no IPv4, like Linux's setting of that name.
    """

    def __init__(
        self,
        network: HostNetwork,
        name: str,
        addresses: tuple[str, ...],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.network = network
        self.name = name
        self.addresses = addresses
        self.ports: list[MemoryUDPPort] = []
        self.mtu: int | None = None
        self.receiveBuffer: int | None = None
        self.writeErrors: dict[str, int] = {}
        self.bindV6Only = False
        self.reactor = MemoryUDPReactor(self, network.resolver, entropy)
        self._ips = [parseIP(address) for address in addresses]
        self._own = frozenset(map(canonical, addresses))
        self._ephemeral = EPHEMERAL.start
        self._mapped: dict[Address, Address] = {}

    def __repr__(self) -> str:
        return f"<MemoryHost {self.name} {' '.join(self.addresses)}>"

    @property
    def clock(self) -> Clock:
        """The time of the network."""
        return self.network.clock

    @property
    def address(self) -> str:
        """Its first address."""
        return self.addresses[0]

    def rebind(self, inside: Address, outside: Address | None) -> None:
        """
        Let a NAT give one of this host's sockets another address from now on. What
        is sent to the address it had before, also what is under way, is lost.

        @param inside: the socket's own address.
        @param outside: what the network sees instead; None takes the NAT away.
        """
        if outside is None:
            self._mapped.pop(inside, None)
        else:
            self._mapped[inside] = outside

    # the ports' side

    def has(self, address: str) -> bool:
        """Whether an IP literal is one of its addresses, or of loopback."""
        ip = parseIP(address)
        return ip.is_loopback or ip in self._ips

    def bind(self, port: MemoryUDPPort, number: int) -> int:
        """
        Enter a port.

        @return: its number.
        @raise CannotListenError: the address is taken or not this host's.
        """
        ip = parseIP(port.interface)
        if not (ip.is_unspecified or ip.is_loopback or ip in self._ips):
            raise self._cannotListen(port, number, errno.EADDRNOTAVAIL)
        if number:
            if not self._free(port, number):
                raise self._cannotListen(port, number, errno.EADDRINUSE)
        else:
            number = self._ephemeralNumber(port)
        self.ports.append(port)
        return number

    def unbind(self, port: MemoryUDPPort) -> None:
        """Give a port's address back."""
        self.ports.remove(port)

    def send(self, port: MemoryUDPPort, datagram: bytes, destination: Address) -> None:
        """
        Put a datagram on the network.

        @raise OSError: as C{writeErrors} says, or no address to send from.
        """
        if self.writeErrors:
            code = self.writeErrors.get(destination[0], self.writeErrors.get("*"))
            if code is not None:
                raise OSError(code, os.strerror(code))
        target = (canonical(destination[0]), destination[1])
        inside = (sourceFor(self.addresses, port.interface, target[0]), port.port)
        self.network.carry(self, port, self._mapped.get(inside, inside), target, datagram)

    def inside(self, destination: Address) -> Address | None:
        """
        The inner address that a datagram to C{destination} is for, or None if that
        address is not of this host.
        """
        if not self._mapped:
            return destination if canonical(destination[0]) in self._own else None
        for inner, outer in self._mapped.items():
            if outer == destination:
                return inner
        if destination in self._mapped or canonical(destination[0]) not in self._own:
            return None
        return destination

    def takers(self, destination: Address) -> list[MemoryUDPPort]:
        """
        The ports that take what is sent to C{destination}: all that want it for a
        broadcast or a group, else the most exactly bound one or none.
        """
        if isForMany(destination[0]):
            return [p for p in self.ports if p.takes(destination)]
        inner = destination if isLoopback(destination[0]) else self.inside(destination)
        if inner is None:
            return []
        own = parseIP(inner[0])
        ports = [p for p in self.ports if p.port == inner[1] and p.covers(own)]
        if len(ports) > 1:
            ports.sort(key=lambda p: parseIP(p.interface).is_unspecified)
        return ports[:1]

    def _ephemeralNumber(self, port: MemoryUDPPort) -> int:
        for _ in EPHEMERAL:
            number = self._ephemeral
            self._ephemeral = number + 1 if number + 1 in EPHEMERAL else EPHEMERAL.start
            if self._free(port, number):
                return number
        raise self._cannotListen(port, 0, errno.EADDRINUSE)

    def _free(self, port: MemoryUDPPort, number: int) -> bool:
        return not any(p.port == number and p.clashes(port) for p in self.ports)

    @staticmethod
    def _cannotListen(port: MemoryUDPPort, number: int, code: int) -> CannotListenError:
        problem = OSError(code, os.strerror(code))
        return CannotListenError(  # type: ignore[no-untyped-call]
            port.interface, number, problem
        )


@lru_cache(maxsize=1024)
def sourceFor(addresses: tuple[str, ...], interface: str, destination: str) -> str:
    """
    What a host with these addresses sends from.

    @param interface: where the port is bound.
    @raise OSError: the host has no address of that family.
    """
    target = parseIP(destination)
    own = parseIP(interface)
    if not own.is_unspecified:
        return str(own)
    if target.is_loopback:
        return destination
    for ip in map(parseIP, addresses):
        if ip.version == target.version:
            return str(ip)
    raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
