"""What an address says about who is behind it."""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address

from twisted_rudp.core.engine import Address

_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins inside IPv6."""


def network_of(address: Address) -> Hashable:
    """
    What one host can choose freely counts as one: an IPv4 address, an IPv6 /64. Asked
    for each datagram of a flood, so nothing is parsed that need not be.
    """
    host = str(address[0])
    if ":" not in host:
        return host
    packed = IPv6Address(host).packed
    return ".".join(map(str, packed[12:])) if packed.startswith(_MAPPED) else packed[:8]


def is_loopback(address: Address) -> bool:
    """Whether an address is this machine's own."""
    ip = ip_address(str(address[0]).partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback
