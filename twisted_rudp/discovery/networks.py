"""The network interfaces of this machine, enumerated for each use because they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

import ifaddr


@dataclass(frozen=True)
class Interface:
    """
    A network interface that has addresses.

    @ivar index: the system's number for it, the scope of link-local addresses.
    """

    name: str
    index: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...]

    @property
    def loopback(self) -> bool:
        """Whether it leads nowhere but here."""
        return all(address.is_loopback for address in self.addresses)

    @property
    def link_local(self) -> bool:
        """Whether it has an IPv6 link-local address, and so can send to a link's group."""
        return any(a.version == 6 and a.is_link_local for a in self.addresses)


Enumerate = Callable[[], Sequence[Interface]]


def interfaces() -> list[Interface]:
    """All interfaces that have an address now, by index."""
    found = []
    for adapter in ifaddr.get_adapters():
        addresses = tuple(
            ip_interface(f"{ip.ip if isinstance(ip.ip, str) else ip.ip[0]}/{ip.network_prefix}")
            for ip in adapter.ips
        )
        if addresses and adapter.index is not None:
            found.append(Interface(adapter.name, adapter.index, addresses))
    return sorted(found, key=lambda interface: interface.index)


LIMITED_BROADCAST = "255.255.255.255"


def broadcasts(interfaces: Iterable[Interface]) -> list[str]:
    """
    Where to broadcast: each IPv4 network's own address for it. Where there is none, the
    loopback network, so that programs on a machine without a network find each other;
    and the limited broadcast, which needs a route, if not even that is there.
    """
    near: dict[str, None] = {}
    far: dict[str, None] = {}
    for interface in interfaces:
        for address in interface.addresses:
            if isinstance(address, IPv4Interface) and address.network.prefixlen <= 30:
                chosen = near if address.is_loopback else far
                chosen[str(address.network.broadcast_address)] = None
    return list(far or near) or [LIMITED_BROADCAST]


def on_link(source: str, interfaces: Iterable[Interface]) -> bool:
    """
    Whether an address is in a network that this machine is in.

    @param source: an IP literal, with or without zone.
    """
    ip = ip_address(source.partition("%")[0])
    if ip.version == 6 and ip.is_link_local:
        return True
    return any(
        ip in address.network for interface in interfaces for address in interface.addresses
    )


def is_own(source: str, interfaces: Iterable[Interface]) -> bool:
    """Whether an address is this machine's."""
    ip = ip_address(source.partition("%")[0])
    return any(
        ip == address.ip for interface in interfaces for address in interface.addresses
    )
