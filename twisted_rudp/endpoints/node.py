"""
Connecting to a node instead of an address: discovery finds out where it may be, and the
addresses are raced as C{HostnameEndpoint} does.

An announcement gives addresses and transports only. Ciphers, keys and profiles come from
whoever dials, so that nobody can be talked into a weaker one; and where the id is a
key, only the transport that checks it is dialled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import PROFILES, Profile
from twisted_rudp.discovery.service import Discovery, discoveryOf
from twisted_rudp.discovery.urls import ANY_TRANSPORT, Address
from twisted_rudp.discovery.v1 import SERVER_PORT
from twisted_rudp.endpoints import diallers
from twisted_rudp.endpoints.diallers import transportOf, transportsFor
from twisted_rudp.endpoints.nodeconnecting import Connecting


def lanProfiles(names: str) -> tuple[Profile, ...]:
    """
    The profiles with these names, divided by commas; C{none} for none.

    @raise ValueError: there is no such profile.
    """
    if names == "none":
        return ()
    chosen = []
    for name in names.split(","):
        if name not in PROFILES:
            raise ValueError(f"{name!r} is not one of {', '.join(PROFILES)} or none")
        chosen.append(PROFILES[name])
    return tuple(dict.fromkeys(chosen))


def serverAddress(text: str) -> tuple[str, int]:
    """
    C{host}, C{host:port}, C{[address]:port} of a discovery server.

    @raise ValueError: it is none of these.
    """
    host, port = text, str(SERVER_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not HOST, HOST:PORT or [ADDRESS]:PORT")
        port = rest[1:] or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    if not host or not 1 <= number <= 65535:
        raise ValueError(f"{text!r} is not HOST, HOST:PORT or [ADDRESS]:PORT")
    return host, number


@implementer(IStreamClientEndpoint)
class NodeClientEndpoint:
    """Looks a node up and dials it."""

    def __init__(
        self,
        reactor: Any,
        id: str | NodeId,
        *,
        server: str | None = None,
        transports: str | Sequence[str] | None = None,
        timeout: float = 30,
        lan: str = "v4",
        options: Mapping[str, Mapping[str, Any]] | None = None,
        discovery: Discovery | None = None,
    ) -> None:
        """
        @param id: a device id, 64 hexadecimal digits of a key, or a name.
        @param server: a discovery server to ask besides the local network.
        @param transports: those that may be dialled, in the order of preference;
            text is divided at commas. Left out: for a name all there are, for a key
            only those that check it. Where one of them checks it, the others are not
            dialled.
        @param timeout: seconds for finding and connecting together.
        @param lan: discovery profiles, C{v4}, C{v1}, C{syncthing}, divided by commas, or
            C{none}.
        @param options: for each transport, arguments of its client endpoint. What an
            announcement says about them has no effect.
        @param discovery: the reactor's own when left out.
        @raise ValueError: an argument is not right; names it.
        """
        self._reactor = reactor
        self._id = id if isinstance(id, NodeId) else NodeId.from_text(id)
        self._server = None if server is None else serverAddress(server)
        self._profiles = lanProfiles(lan)
        if not self._profiles and self._server is None:
            raise ValueError("lan='none' needs a server, or there is nobody to ask")
        self._transports = transportsFor(self._id, transports)
        self._options = dict(options or {})
        if not timeout > 0:
            raise ValueError(f"timeout={timeout!r} is not a positive number of seconds")
        self._timeout = timeout
        self._discovery = discovery

    def __repr__(self) -> str:
        return f"<NodeClientEndpoint {self._id.text}>"

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Find the node and dial it.

        @return: fires with the protocol; fails with
            L{NodeNotFound<twisted_rudp.errors.NodeNotFound>}, or as the last address
            that was dialled did. May be cancelled.
        """
        discovery = self._discovery or discoveryOf(self._reactor)
        server = None if self._server is None else discovery.server(*self._server)
        connecting = Connecting(self._reactor, discovery, self, factory, server)
        connecting.start()
        return connecting.deferred

    @property
    def id(self) -> NodeId:
        """The node."""
        return self._id

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Where it is looked for on the local network."""
        return self._profiles

    @property
    def timeout(self) -> float:
        """Seconds for everything."""
        return self._timeout

    @property
    def transports(self) -> tuple[str, ...]:
        """Those that may be dialled."""
        return self._transports

    def dialled(self, addresses: Sequence[Address]) -> list[Address]:
        """
        What to dial for announced addresses: only our transports, and each of them
        where the transport was not told.
        """
        chosen: dict[Address, None] = {}
        for address in addresses:
            for transport in self._transports:
                if transportOf(address.scheme) in (transport, ANY_TRANSPORT):
                    chosen[Address(transport, address.host, address.port)] = None
        return list(chosen)

    def endpointFor(self, address: Address, timeout: float) -> Any:
        """
        The endpoint for one address, set up by our own options.

        @raise ValueError: an option is not right.
        """
        dialler = diallers.DIALLERS[address.scheme]
        options = {**self._options.get(address.scheme, {}), "timeout": timeout}
        if dialler.proof is not None and self._id.name is None:
            options[dialler.proof] = self._id.key
        return dialler.make(self._reactor, address, options)
