"""
Addresses: what people type (NAME-1 to NAME-5), the raw tuples of the socket module, and the
objects Twisted shows to applications.

Sessions are keyed by raw tuples (ADDR-4), so a raw tuple made here equals, byte
for byte, the one C{recvmsg} gives for the same peer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final
from unicodedata import normalize

import idna
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import classImplements

from twisted_rudp.core.engine import Address

_MAPPED: Final = "::ffff:"
"""How the C library writes the first 96 bits of an IPv4 address inside IPv6."""

_NOBODYS: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""
Addresses of documentation, which no machine has. Where a socket can be bound to them, the
system lets every address be bound, and that says nothing.
"""


def isLiteral(host: str) -> bool:
    """
    Whether C{host} is an IP address, with or without a zone, and so must not go to
    the resolver (NAME-2).
    """
    return isIPAddress(host) or isIPv6Address(host)


def isOwn(host: str, bound: str, reactor: object = None) -> bool:
    """
    Whether a socket that is bound to C{bound} receives what this machine sends to C{host}.

    @param reactor: a simulated one knows the addresses of its machine.
    """
    to, own = (ip_address(each.partition("%")[0]) for each in (host, bound))
    if to == own or not own.is_unspecified:
        return to == own
    if to.is_loopback or to.is_unspecified:
        return True
    ask: Callable[[str], bool] = getattr(reactor, "isOfThisMachine", isOfThisMachine)
    return ask(host)


def isOfThisMachine(host: str) -> bool:
    """Whether an IP literal is an address of this machine: a socket can be bound to it."""
    family = familyOf(host)
    nobodys = _NOBODYS[family]
    return _isBindable(family, host) and not _isBindable(family, nobodys)


def _isBindable(family: socket.AddressFamily, host: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(parseLiteral(host, 0))
        except (OSError, ValueError):
            return False
    return True


def reachable(address: Address) -> Address:
    """
    Where to send what is for C{address}: the unspecified one means this machine, as with TCP,
    but the answers of an unconnected socket come from the loopback address.
    """
    if address[0] == "0.0.0.0":
        return ("127.0.0.1", *address[1:])
    return ("::1", *address[1:]) if address[0] == "::" else address


def familyOf(host: str) -> socket.AddressFamily:
    """
    The address family of a literal.

    @raise ValueError: C{host} is not an IP literal.
    """
    if isIPAddress(host):
        return socket.AF_INET
    if isIPv6Address(host):
        return socket.AF_INET6
    raise ValueError(f"{host!r} is not an IPv4 or IPv6 address")


def parseLiteral(host: str, port: int) -> Address:
    """
    The raw address of an IP literal.

    @param host: IPv4, IPv6, or IPv6 with a zone: C{fe80::1%eth0} or C{fe80::1%2}.
        A zone of an address that is valid everywhere is checked and then left out,
        as the kernel does.
    @param port: 0 to 65535.

    @return: C{(host, port)}, or C{(host, port, 0, scope)} for IPv6.

    @raise ValueError: not a literal, no such port, or no such zone on this machine.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"a UDP port is a number from 0 to 65535, not {port!r}")
    if familyOf(host) == socket.AF_INET:
        return (host, port)
    text, _, zone = host.partition("%")
    packed = socket.inet_pton(socket.AF_INET6, text)
    scope = _scopeOf(zone, host) if zone else 0
    return (
        socket.inet_ntop(socket.AF_INET6, packed),
        port,
        0,
        scope if _needsScope(packed) else 0,
    )


def _scopeOf(zone: str, host: str) -> int:
    if zone.isascii() and zone.isdigit():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        raise ValueError(f"there is no network interface {zone!r} (in {host!r})") from None


def _needsScope(packed: bytes) -> bool:
    """
    Link-local unicast (fe80::/10), and multicast to this interface or link (RFC 4007
    section 4).
    """
    if packed[0] == 0xFE:
        return packed[1] & 0xC0 == 0x80
    return packed[0] == 0xFF and packed[1] & 0x0F in (1, 2)


def toTwisted(raw: Address) -> IPv4Address | IPv6Address:
    """
    What an application is shown for a raw address (ADDR-1): type C{"UDP"}, IPv4 that
    came through an IPv6 socket as IPv4 (ADDR-2), flow and scope filled in (ADDR-3).
    """
    host, port = raw[0], raw[1]
    if ":" not in host:
        return IPv4Address("UDP", host, port)
    if host.startswith(_MAPPED) and isIPAddress(host[len(_MAPPED) :]):
        return IPv4Address("UDP", host[len(_MAPPED) :], port)
    return IPv6Address("UDP", host, port, *raw[2:4])


def fromTwisted(
    address: IPv4Address | IPv6Address, family: socket.AddressFamily | None = None
) -> Address:
    """
    The raw address to send to, whatever type (C{"TCP"} or C{"UDP"}) a resolver gave
    it (NAME-3).

    @param family: the family of the socket that will send; IPv4 is written as mapped
        IPv6 for an C{AF_INET6} socket. None: the address's own.

    @raise ValueError: an IPv6 address for an IPv4 socket, or a host that is no literal.
    """
    if isinstance(address, IPv4Address):
        if family == socket.AF_INET6:
            return parseLiteral(_MAPPED + address.host, address.port)
        return parseLiteral(address.host, address.port)
    if family == socket.AF_INET:
        raise ValueError(f"an IPv4 socket cannot send to {address.host!r}")
    zoned = f"{address.host}%{address.scopeID}" if address.scopeID else address.host
    host, port, _, scope = parseLiteral(zoned, address.port)
    return (host, port, address.flowInfo, scope)


def hostText(host: str | bytes) -> str:
    """
    A host's name in ASCII, or the literal that it is. What is no ASCII is encoded as
    Twisted does it, by the rules of 2008: those of 2003, which Python has, lead to
    other people's domains.

    @raise ValueError: it is neither (NAME-5).
    """
    try:
        text = host.decode("ascii") if isinstance(host, bytes) else host
        if isLiteral(text):
            return text
        name = text if text.isascii() else idna.encode(normalize("NFC", text)).decode("ascii")
        # The length of the whole and of each label.
        name.encode("idna")
    except UnicodeError:
        name = ""
    if not name or any(character.isspace() or character == "%" for character in name):
        raise ValueError(f"{host!r} is not a legal host name")
    return name


def shownAs(host: str, port: int) -> IAddress:
    """The address of a host for error messages."""
    if isLiteral(host):
        return toTwisted(parseLiteral(host, port))
    return HostnameAddress(host.encode("ascii"), port)


def resolve(reactor: Any, host: str, port: int, resolved: Callable[[list[Address]], None]) -> None:
    """
    Find the addresses of a host; a literal is its own, at once (NAME-2).

    @param reactor: an C{IReactorPluggableNameResolver}; without it there are literals
        only.
    @param resolved: called once with the addresses in the resolver's order, or with
        none. Whoever has given up ignores the call (NAME-4).
    @raise ValueError: C{port} is out of range or the literal's zone unknown.
    """
    if isLiteral(host):
        resolved([parseLiteral(host, port)])
    elif not IReactorPluggableNameResolver.providedBy(reactor):
        resolved([])
    else:
        reactor.nameResolver.resolveHostName(
            _Receiver(resolved), host, port, transportSemantics="UDP"
        )


class _Receiver:
    """Collects what a resolver finds, in whatever type it gives it (NAME-3)."""

    def __init__(self, resolved: Callable[[list[Address]], None]) -> None:
        self._resolved = resolved
        self._addresses: dict[Address, None] = {}

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Its C{cancel} may raise, so it is not kept (NAME-4)."""

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, IPv4Address | IPv6Address):
            self._addresses[fromTwisted(address)] = None

    def resolutionComplete(self) -> None:
        self._resolved(list(self._addresses))


classImplements(_Receiver, IResolutionReceiver)
