"""
The header with which each stream of a multiplexed session begins: for which request it was
opened, and whose connection it carries (C{mux.md} section 4).

The protocols here stand at the beginning of a stream only, and then give it to another one.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol

from twisted_rudp.mux.control import ControlError, Origin, pack_origin, unpack_origin

FORWARD = 0
"""The request of a stream that a client opens of itself."""


def originOf(address: object, request: int = FORWARD) -> Origin:
    """The header for the connection of somebody at an address."""
    if isinstance(address, IPv4Address | IPv6Address):
        return Origin(request, int(address.port), str(address.host))
    return Origin(request, 0, "")


def addressOf(origin: Origin) -> IPv4Address | IPv6Address | None:
    """The address in a header; None if there is none. It was accepted somewhere by TCP."""
    try:
        host = ip_address(origin.host.partition("%")[0])
    except ValueError:
        return None
    kind = IPv4Address if host.version == 4 else IPv6Address
    return kind("TCP", str(host), origin.port)


class Opening(Protocol):
    """
    Sends the header, and gives the stream to its protocol.

    @ivar protocol: to which it belongs from then on.
    """

    def __init__(self, protocol: Any, origin: Origin) -> None:
        self.protocol = protocol
        self._origin = origin

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(pack_origin(self._origin))
        transport.protocol = self.protocol
        self.protocol.makeConnection(transport)


class OpeningFactory(Factory):
    """Makes the protocols of another factory, with a header before what they say."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, request: int = FORWARD) -> None:
        """
        @param factory: its C{origin()}, if it has one, is the address of whose connection this
            is.
        """
        self._factory = factory
        self._request = request

    def buildProtocol(self, addr: IAddress | None) -> Opening | None:
        # Factories take None where there is no address, as everywhere in Twisted.
        factory: Any = self._factory
        protocol = factory.buildProtocol(addr)
        if protocol is None:
            return None
        origin: Callable[[], object] = getattr(self._factory, "origin", lambda: None)
        return Opening(protocol, originOf(origin(), self._request))


class Accepting(Protocol):
    """Receives the header, and gives the stream to the protocol that is made for it."""

    def __init__(self, choose: Callable[[Origin], IProtocol | None]) -> None:
        """
        @param choose: makes the protocol; None: the stream is not wanted.
        """
        self._choose = choose
        self._heard = b""

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        transport: Any = self.transport
        try:
            found = unpack_origin(self._heard)
        except ControlError:
            transport.abortConnection()
            return
        if found is None:
            return
        origin, end = found
        protocol: Any = self._choose(origin)
        if protocol is None:
            transport.abortConnection()
            return
        rest, self._heard = self._heard[end:], b""
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            # It may have paused, or closed.
            transport.giveBack(rest)


class AcceptingFactory(Factory):
    """Builds the protocols of streams that the peer opens."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, believed: bool) -> None:
        """
        @param factory: makes the protocols that get the streams.
        @param believed: pass it the addresses in the headers; otherwise they are ignored.
        """
        self._factory: Any = factory
        self._believed = believed

    def buildProtocol(self, addr: IAddress | None) -> Accepting:
        def choose(origin: Origin) -> IProtocol | None:
            if origin.request != FORWARD:
                return None
            told = addressOf(origin) if self._believed else None
            protocol: IProtocol | None = self._factory.buildProtocol(told or addr)
            return protocol

        return Accepting(choose)
