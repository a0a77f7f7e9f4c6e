"""
Announced addresses: URLs that are checked and completed before anybody sees them
(discovery.md 3.4).

Nothing is resolved here. A name in an address stays a name, for whoever dials it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import parse_qsl

from twisted_rudp.discovery.v4 import LONGEST_URL, MAX_EXAMINED

MAX_KEPT = 32
"""Addresses kept of one announcement."""

ANY_TRANSPORT = "udp"
"""Scheme of an address whose transport was not told: v1 announces ports only."""

_URL = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:\[([0-9A-Fa-f:.]+)(?:%25([A-Za-z0-9_.~-]{1,32}))?\]|([^\[\]/?#@:\s\x00-\x1f\x7f]*))"
    r":([0-9]{1,5})((?:[/?#][^\s\x00-\x1f\x7f]*)?)"
)


@dataclass(frozen=True)
class Address:
    """
    An address that can be dialled.

    @ivar scheme: the transport, in lower case, or L{ANY_TRANSPORT}.
    @ivar host: an IP literal, with its zone behind a C{%}, or a name.
    @ivar rest: path and query as announced. What they say is for people: nobody is
        talked into other settings by an announcement.
    """

    scheme: str
    host: str
    port: int
    rest: str = ""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the query. C{urlsplit} would raise for some paths."""
        query = self.rest.partition("#")[0].partition("?")[2]
        return tuple(name for name, _ in parse_qsl(query, keep_blank_values=True))

    def __str__(self) -> str:
        host = self.host
        if ":" in host:
            host = f"[{host.replace('%', '%25')}]"
        return f"{self.scheme}://{host}:{self.port}{self.rest}"


def parse(url: str) -> Address:
    """
    C{scheme://host:port} with anything from C{/}, C{?} or C{#} on behind it. The host
    may be empty or unspecified.

    @raise ValueError: anything else, also user names, a port out of range, and characters
        that do not print, such as those that reverse the direction of a text.
    """
    found = _URL.fullmatch(url) if url.isprintable() else None
    if found is None or len(url.encode("utf-8", "replace")) > LONGEST_URL:
        raise ValueError(f"{url[:100]!r} is not scheme://host:port")
    scheme, literal, zone, name, port, rest = found.groups()
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"port {port} in {url[:100]!r}")
    host = name
    if literal is not None:
        IPv6Address(literal)
        host = f"{literal}%{zone}" if zone else literal
    return Address(scheme.lower(), host, int(port), rest)


def normalised(urls: Iterable[str], source: str, loopback: bool = False) -> tuple[Address, ...]:
    """
    The addresses of an announcement that are worth dialling, in the order they came.

    @param source: where the datagram came from, an IP literal with its zone; it
        takes the place of an unspecified host.
    @param loopback: keep announced loopback addresses, for tests on one machine.
    """
    kept: dict[Address, None] = {}
    for number, url in enumerate(urls):
        if number >= MAX_EXAMINED or len(kept) >= MAX_KEPT:
            break
        try:
            address = _completed(parse(url), source, loopback)
        except ValueError:
            continue
        kept[address] = None
    return tuple(kept)


def _completed(address: Address, source: str, loopback: bool) -> Address:
    """
    @raise ValueError: not an address to dial from here.
    """
    ip = _ip(address.host)
    if filled_in(address):
        taken = _ip(source)
        if taken is None:
            raise ValueError(source)
        _check_family(address.scheme, taken)
        return Address(address.scheme, source, address.port, address.rest)
    if ip is not None:
        _check_family(address.scheme, ip)
        if ip.is_multicast or str(ip) == "255.255.255.255":
            raise ValueError("nobody's own address")
        if ip.is_loopback and not loopback:
            raise ValueError("the sender's loopback address")
    return address


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return ip if mapped is None else mapped


def _check_family(scheme: str, ip: IPv4Address | IPv6Address) -> None:
    """A scheme that ends in 4 or 6 allows one family only."""
    if scheme[-1] in "46" and scheme[-1] != str(ip.version):
        raise ValueError(f"{scheme} with {ip}")


def served(address: Address) -> frozenset[int]:
    """
    The IP versions that a listener can be reached by, from the address it is announced
    with: as a socket is bound to it, C{0.0.0.0} is IPv4, and C{[::]} or no host is both.
    A name may be both.
    """
    ip = _ip(address.host)
    if ip is None or (ip.version == 6 and ip.is_unspecified):
        versions = {4, 6}
    else:
        versions = {ip.version}
    suffix = address.scheme[-1]
    return frozenset(versions & {int(suffix)} if suffix in "46" else versions)


def filled_in(address: Address) -> bool:
    """Whether its host is to be taken from the announcement's sender."""
    ip = _ip(address.host)
    return not address.host or (ip is not None and ip.is_unspecified)
