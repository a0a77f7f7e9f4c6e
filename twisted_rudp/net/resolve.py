"""From what a person calls a host to raw addresses (NAME-1 to NAME-5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unicodedata import normalize

import idna
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import classImplements

from twisted_rudp.core.engine import Address
from twisted_rudp.net.addresses import fromTwisted, isLiteral, parseLiteral, toTwisted


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
