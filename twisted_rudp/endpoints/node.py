"""
Connect to a node instead of an address: discovery finds its addresses, and they are raced
as C{HostnameEndpoint} does.

An announcement gives addresses and transports only. Ciphers, keys and profiles come from
the caller, so no announcement can select a weaker one. Where the id is a key, only a
transport that verifies the key is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum, auto
from importlib import import_module
from inspect import signature
from typing import Any, Self

from twisted.internet import error
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.settings import REQUIRED, Option, Seconds, Text
from twisted_rudp.discovery.client import Addresses, DirectoryClient
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import SERVER, Candidate, Source
from twisted_rudp.discovery.profiles import PROFILES, Profile
from twisted_rudp.discovery.service import Candidates, Discovery, Lease, discoveryOf
from twisted_rudp.discovery.urls import ANY_TRANSPORT, Address
from twisted_rudp.discovery.v1 import SERVER_PORT
from twisted_rudp.endpoints.base import Layer
from twisted_rudp.errors import NodeNotFound
from twisted_rudp.net.connect import ATTEMPT_DELAY, Race
from twisted_rudp.net.usercode import callUser


@dataclass(frozen=True)
class TransportClient:
    """
    How one transport is dialled.

    @ivar module: where its client endpoint is; imported when it is needed.
    @ivar endpoint: the class, called with reactor, host and port.
    @ivar proof: the argument that takes the key which the peer must prove, where the
        transport can do that.
    """

    module: str
    endpoint: str
    proof: str | None = None

    @property
    def arguments(self) -> frozenset[str]:
        """What can be set, by the names that its endpoint uses."""
        constructor = getattr(import_module(self.module), self.endpoint)
        return frozenset(signature(constructor).parameters) - {"reactor", "host", "port"}

    def make(self, reactor: Any, address: Address, options: Mapping[str, Any]) -> Any:
        """
        The endpoint for an address.

        @raise ValueError: an option is not right.
        """
        constructor = getattr(import_module(self.module), self.endpoint)
        return constructor(reactor, address.host, address.port, **options)


CLIENTS: dict[str, TransportClient] = {
    "kcp": TransportClient("twisted_rudp.endpoints.kcp", "KCPClientEndpoint"),
    "qotp": TransportClient("twisted_rudp.endpoints.qotp", "QOTPClientEndpoint", proof="serverKey"),
    "raknet": TransportClient("twisted_rudp.endpoints.raknet", "RakNetClientEndpoint"),
}
"""The transports by the scheme of their announced addresses."""


def transportOf(scheme: str) -> str:
    """
    The transport of an announced address: C{kcp4} and C{kcp6} are C{kcp}, over one family
    (discovery.md 3.4).
    """
    return scheme[:-1] if scheme[-1] in "46" else scheme


def transportsFor(id: NodeId, given: str | Sequence[str] | None) -> tuple[str, ...]:
    """
    What may be dialled for an id.

    @param given: what the caller wants, or None.
    @raise ValueError: a transport that does not exist, or none that checks the key.
    """
    checking = [name for name, dialler in CLIENTS.items() if dialler.proof is not None]
    if given is None:
        wanted = list(CLIENTS) if id.name is not None else checking
        if not wanted:
            raise ValueError(
                "transports: none of this version proves a key: name those to dial without proof"
            )
    else:
        wanted = given.split(",") if isinstance(given, str) else list(given)
    for name in wanted:
        if name not in CLIENTS:
            raise ValueError(f"transports: {name!r} is not one of {', '.join(CLIENTS)}")
    if id.name is None:
        wanted = [name for name in wanted if name in checking] or wanted
    return tuple(dict.fromkeys(wanted))



MOST_ATTEMPTS = 32
"""Addresses tried in one connect, whatever was announced."""

MOST_QUERIES = 4
"""Queries to the discovery server in one connect, after all known addresses have failed."""


class State(Enum):
    """How far an attempt is."""

    LOOKING = auto()
    """No address is known."""

    DIALLING = auto()
    """Addresses are being dialled."""

    ASKING = auto()
    """All have failed; the server may know another."""

    DONE = auto()
    """The Deferred has fired or is firing."""


class NodeConnection:
    """
    One call of C{connect}.

    @ivar deferred: what the caller waits for.
    """

    def __init__(
        self,
        reactor: Any,
        discovery: Discovery,
        endpoint: NodeClientEndpoint,
        factory: IProtocolFactory,
        server: DirectoryClient | None,
    ) -> None:
        self.deferred: Deferred[IProtocol] = Deferred(self._cancelled)
        self._reactor = reactor
        self._discovery = discovery
        self._endpoint = endpoint
        self._factory = factory
        self._server = server
        self._state = State.LOOKING
        self._tried: set[Address] = set()
        self._race: Race[Address, Deferred[IProtocol]] = Race(
            reactor, ATTEMPT_DELAY, self._dial, self._lineUp
        )
        self._lined = False
        self._attempted: Counter[Source] = Counter()
        self._answers: list[Candidate] = []
        self._queries = 0
        self._looking: Deferred[Any] | None = None
        self._lease = discovery.listen(endpoint.profiles)
        self._end = reactor.seconds() + endpoint.timeout
        self._call: IDelayedCall = reactor.callLater(endpoint.timeout, self._timedOut)

    def start(self) -> None:
        """Begin with the registry."""
        # Longer than ours, so that the end is decided in one place.
        patience = self._endpoint.timeout + 1
        looking = self._discovery.lookup(
            self._endpoint.id, patience, self._endpoint.profiles, self._server
        )
        self._looking = looking
        looking.addCallbacks(self._found, self._fail)

    def _found(self, candidates: Candidates) -> None:
        self._looking = None
        self._dialAll(candidates)

    def _dialAll(self, candidates: Sequence[Candidate]) -> None:
        self._lineUp()
        if not self._lined:
            shown = ", ".join(sorted({each.address.scheme for each in candidates}))
            ours = ", ".join(self._endpoint.transports)
            self._exhausted(
                _failure(NodeNotFound(f"the node is announced for {shown}, not for {ours}"))
            )
            return
        self._state = State.DIALLING
        self._race.dialNext()

    def _lineUp(self) -> None:
        """
        Enter the next address, of those announced until now: first where the node was
        reached before, then the best address of the source with the fewest attempts. A
        source that announces many addresses delays each of the others by one attempt.
        """
        if self._lined or len(self._tried) >= MOST_ATTEMPTS:
            return
        known = self._discovery.registry.candidates(self._endpoint.id)
        left = [
            (not each.reached, self._attempted[each.source], number, address, each.source)
            for number, each in enumerate((*known, *self._answers))
            for address in self._endpoint.dialled([each.address])
            if address not in self._tried
        ]
        if left:
            _, _, _, address, source = min(left, key=lambda each: each[:3])
            self._tried.add(address)
            self._attempted[source] += 1
            self._lined = self._race.enter([address])

    def _dial(self, address: Address) -> None:
        self._lined = False
        left = max(0.001, self._end - self._reactor.seconds())
        endpoint = callUser(self._endpoint.endpointFor, address, left)
        if isinstance(endpoint, Failure):
            self._fail(endpoint)
            return
        attempt: Deferred[IProtocol] = endpoint.connect(self._factory)
        self._race.attempts.append(attempt)
        attempt.addCallbacks(
            self._connected,
            self._failed,
            callbackArgs=(attempt, address),
            errbackArgs=(attempt,),
        )

    def _connected(
        self, protocol: IProtocol, winner: Deferred[IProtocol], address: Address
    ) -> None:
        self._discovery.registry.succeeded(self._endpoint.id, address)
        self._finish(winner)
        self.deferred.callback(protocol)

    def _failed(self, failure: Failure, attempt: Deferred[IProtocol]) -> None:
        if self._state is State.DIALLING and not self._race.failed(attempt):
            self._exhausted(failure)

    def _exhausted(self, failure: Failure) -> None:
        """
        No known address answers. Ask the server, again as long as it answers with other
        addresses: it may know several, of which some are forged.
        """
        server = self._server
        if server is None or self._queries >= MOST_QUERIES:
            self._fail(failure)
            return
        self._queries += 1
        self._state = State.ASKING
        asking = self._discovery.ask(self._endpoint.id, server)
        self._looking = asking

        def answered(addresses: Addresses) -> None:
            self._looking = None
            source = Source(SERVER, server.host)
            self._answers = [Candidate(address, source, 0.0) for address in addresses]
            self._lineUp()
            if self._lined:
                self._dialAll(self._answers)
            else:
                self._fail(failure)

        asking.addCallbacks(answered, lambda missed: self._fail(failure))

    # the end

    def _timedOut(self) -> None:
        id = self._endpoint.id.text
        problem: Exception
        if self._tried:
            problem = error.TimeoutError(  # type: ignore[no-untyped-call]
                string=f"no answer from the node {id}"
            )
        else:
            problem = NodeNotFound(f"nobody has announced the node {id}")
        self._fail(_failure(problem))

    def _fail(self, failure: Failure) -> None:
        if self._state is State.DONE:
            return
        self._finish()
        self.deferred.errback(failure)

    def _cancelled(self, deferred: Deferred[IProtocol]) -> None:
        self._finish()
        address = HostnameAddress(self._endpoint.id.text.encode("utf-8"), 0)
        deferred.errback(error.ConnectingCancelledError(address))  # type: ignore[no-untyped-call]

    def _finish(self, winner: Deferred[IProtocol] | None = None) -> None:
        """Let go of everything but what has been connected."""
        self._state = State.DONE
        if self._call.active():
            self._call.cancel()
        attempts = self._race.finish(winner)
        looking, self._looking = self._looking, None
        for attempt in attempts:
            attempt.cancel()
        if looking is not None:
            looking.cancel()
        self._lease.release()


def _failure(problem: Exception) -> Failure:
    return Failure(problem)  # type: ignore[no-untyped-call]


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
            raise ValueError(f"lan: {name!r} is not one of {', '.join(PROFILES)} or none")
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


_OPTIONS: Mapping[str, Option] = {
    name: Option(kind, default, meaning, name=name)
    for name, kind, default, meaning in (
        (
            "id",
            Text("a device id, 64 hexadecimal digits of a public key, or a name"),
            REQUIRED,
            "The node.",
        ),
        (
            "server",
            Text("C{host} or C{host:port}"),
            None,
            "Discovery server to ask beside the local network.",
        ),
        (
            "transports",
            Text("transports, divided by commas"),
            None,
            "What may be dialled. Left out: for a key what can prove it, for a name all.",
        ),
        (
            "timeout",
            Seconds(0.001, 3600),
            30.0,
            "Seconds for finding and connecting together.",
        ),
        (
            "lan",
            Text("C{v4}, C{v1}, C{syncthing}, divided by commas, or C{none}"),
            "v4",
            "Where to listen on the local network.",
        ),
    )
}


@implementer(IStreamClientEndpoint)
class NodeClientEndpoint:
    """Looks a node up and dials it."""

    @classmethod
    def options(cls) -> Mapping[str, Option]:
        """What can be written in an endpoint string beside the options of the transports."""
        return _OPTIONS

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
        try:
            self._server = None if server is None else serverAddress(server)
        except ValueError as problem:
            raise ValueError(f"server: {problem}") from None
        self._profiles = lanProfiles(lan)
        if not self._profiles and self._server is None:
            raise ValueError("lan='none' needs a server, or there is nobody to ask")
        self._transports = transportsFor(self._id, transports)
        self._options = dict(options or {})
        if not timeout > 0:
            raise ValueError(f"timeout={timeout!r} is not a positive number of seconds")
        self._timeout = timeout
        self._discovery = discovery
        self._layer: Layer | None = None

    @property
    def reactor(self) -> Any:
        """Where time, sockets and names come from."""
        return self._reactor

    def carryingStreams(self, layer: Layer) -> Self:
        """
        This endpoint with sessions that carry many streams.

        @param layer: what does that where the transport itself does not.
        """
        other = copy(self)
        other._layer = layer
        return other

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
        connecting = NodeConnection(self._reactor, discovery, self, factory, server)
        connecting.start()
        return connecting.deferred

    def hold(self) -> Lease:
        """
        Keep discovery running, so that what was announced once is known at the next
        C{connect}; without it each one may wait for an announcement.

        @return: to be released.
        """
        discovery = self._discovery or discoveryOf(self._reactor)
        return discovery.listen(self._profiles)

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
        dialler = CLIENTS[address.scheme]
        options = {**self._options.get(address.scheme, {}), "timeout": timeout}
        if dialler.proof is not None and self._id.name is None:
            options[dialler.proof] = self._id.key
        endpoint = dialler.make(self._reactor, address, options)
        return endpoint if self._layer is None else endpoint.carryingStreams(self._layer)
