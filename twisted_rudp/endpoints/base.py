"""
What the endpoints of every transport have in common: the arguments that say where the
socket is and who may use it, and listening and connecting with them.

A transport derives one class that takes the arguments of both its sides and makes its
demultiplexers and engines, and from that and from L{ServerEndpoint} and L{ClientEndpoint} its two
endpoints. Each argument is declared once, as a field of a dataclass
(L{twisted_rudp.core.settings}): the constructor, its checks, the help of the class, the endpoint
strings and the tables of the manual are made from the fields.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from textwrap import fill
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import Address, Demultiplexer, Engine
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.settings import (
    Choice,
    Flag,
    InCode,
    Integer,
    IPAddress,
    Option,
    Seconds,
    Text,
    declared,
    option,
    options_of,
)
from twisted_rudp.mux.layer import LayeredDemultiplexer, Wrap
from twisted_rudp.net.connect import MakeSession, Mode, connect
from twisted_rudp.net.handover import Predecessor
from twisted_rudp.net.listen import DRAIN_TIMEOUT, ListeningPort, listen
from twisted_rudp.net.schedule import systemTime
from twisted_rudp.net.table import Limits
from twisted_rudp.net.udp.options import cannotListen
from twisted_rudp.net.udp.port import SocketOptions
from twisted_rudp.net.udp.steering import Share, Steering
from twisted_rudp.net.udp.systemd import initialEnvironment, passedDescriptor

Entropy = Callable[[int], bytes]
"""So many random bytes, as C{os.urandom} gives them."""

Layer: TypeAlias = Callable[[Role], Wrap]
"""What is put around the engines of one socket, on which this side has this role."""

ModeName: TypeAlias = Literal["stream", "messages"]
PortKindName: TypeAlias = Literal["auto", "gso", "plain", "stock"]

_C = TypeVar("_C", bound="type[Endpoint]")


def documented(cls: _C) -> _C:
    """A class decorator: the docstring, which C{help} shows, names every argument."""
    lines = [cls.__doc__ or "", ""]
    for each in cls.options().values():
        text = f"@param {each.name}: {each.described()}"
        lines.append(fill(text, 88, initial_indent="    ", subsequent_indent="        "))
    cls.__doc__ = "\n".join([*lines, "    "])
    return cls


@dataclass(kw_only=True, eq=False, repr=False)
class Endpoint:
    """
    One side of any transport. Nothing is opened before C{listen} or C{connect} (EP-4).
    The arguments can be read afterwards, but for secrets, and not changed.
    """

    reactor: Any = field(
        kw_only=False,
        metadata=declared(InCode("a reactor"), "Where time, sockets and names come from."),
    )
    portKind: PortKindName = option(
        Choice(PortKindName),
        "auto",
        "How the socket is read and written: C{gso} with the kernel's segmentation, C{plain}"
        " without it, C{stock} by Twisted's own UDP port, C{auto} the best that works.",
    )
    entropy: Entropy = option(
        InCode("a function from a number to so many bytes"),
        os.urandom,
        "Source of random bytes.",
    )

    def __post_init__(self) -> None:
        """
        @raise ValueError: an argument is invalid; names it.
        """
        self._check()
        if self.entropy is os.urandom:
            # A simulated reactor has its own, so that the same program gives the same bytes.
            self.entropy = getattr(self.reactor, "entropy", os.urandom)
        self._socketOptions = SocketOptions()
        self._share: Share | None = None
        self._predecessor: Predecessor | None = None
        self._mode = Mode.STREAM
        self._layer: Layer | None = None

    @property
    def authenticates(self) -> bool:
        """Only peers that know a key of ours get a session."""
        return False

    def carryingStreams(self, layer: Layer) -> Self:
        """
        This endpoint with sessions that carry many streams.

        @param layer: what does that where the transport itself does not.
        @raise ValueError: they carry many streams already, or messages.
        """
        if self._layer is not None:
            raise ValueError("mux: this endpoint has a multiplexer already")
        if self._mode is not Mode.STREAM:
            raise ValueError(f"mux: mode={self._mode.value!r} is invalid: expected stream")
        other = copy(self)
        other._layer = layer
        return other

    def _check(self) -> None:
        """
        See whether each argument that can be read is possible. 0 and 1 become booleans, which
        compiled code insists on.

        @raise ValueError: one is not; names it.
        """
        for name, value in self._given().items():
            each = self.options()[name]
            each.check(value)
            if isinstance(each.kind, Flag) and value is not None:
                setattr(self, name, bool(value))

    def _given(self) -> dict[str, Any]:
        """The arguments by name, but for secrets."""
        return {
            name: getattr(self, name) for name, each in self.options().items() if not each.secret
        }

    @classmethod
    def options(cls) -> Mapping[str, Option]:
        """The arguments of the constructor, by name; those that all transports have come last."""
        every = options_of(cls)
        common = options_of(Endpoint)
        return {
            **{name: each for name, each in every.items() if name not in common},
            **{name: every[name] for name in common},
        }


@implementer(IStreamServerEndpoint)
@dataclass(kw_only=True, eq=False, repr=False)
class ServerEndpoint(Endpoint, ABC):
    """Listens."""

    steering: ClassVar[Steering] = Steering.ADDRESS
    """What decides to which of several processes a datagram goes."""

    port: int = field(
        kw_only=False,
        metadata=declared(
            Integer(0, 65_535), "UDP port to listen on; 0 lets the system choose one."
        ),
    )
    interface: str = option(
        IPAddress(),
        "",
        "Local address to listen on; C{::}: all addresses of both families. Left out: all of IPv4.",
    )
    backlog: int = option(
        Integer(1, 65_535), 128, "Most sessions whose peer has not answered yet."
    )
    maxSessions: int = option(
        Integer(1, 1_000_000), 4096, "Most sessions at one time, validated or not."
    )
    sessionsPerHost: int | None = option(
        Integer(1, 1_000_000),
        None,
        "Most sessions with one IPv4 address or IPv6 /64, this machine's own aside. Left out: a"
        " quarter of C{maxSessions}, but not less than 64.",
    )
    drainTimeout: float = option(
        Seconds(0),
        DRAIN_TIMEOUT,
        "Seconds that open sessions are given when the port stops listening.",
    )

    fd: int | None = option(
        Integer(0, 1 << 20),
        None,
        "Descriptor of a bound UDP socket to use instead of binding C{port}, which is then"
        " ignored.",
    )
    systemd: str | None = option(
        Text("a name or a number"),
        None,
        "Socket of a socket unit to use instead: its name (C{FileDescriptorName=}, by default that"
        " of the unit), or its number from 0. The port is then ignored.",
    )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.interface or '*'}:{self.port}>"

    def share(self, share: Share) -> None:
        """
        Listen as one of several processes; see L{twisted_rudp.service.workers}. To be called
        before C{listen}.

        @raise ValueError: the endpoint has a socket already.
        """
        if self.fd is not None or self.systemd is not None:
            raise ValueError("fd cannot be shared by several processes")
        self._share = share

    def _cookies(self) -> Cookies:
        """Cookies of one port. A process accepts those of the others that share the address."""
        share = self._share
        if share is None:
            return Cookies(self.entropy(32), began=0)
        return Cookies(share.derive(b"cookies" + share.generation, 32), began=systemTime())

    def _listeningSocket(self) -> SocketOptions:
        """
        The options of the socket to listen on.

        @raise CannotListenError: systemd has passed no such socket.
        """
        descriptor = self.fd if self._share is None else self._share.descriptor
        if self.systemd is not None and self._predecessor is None:
            try:
                descriptor = passedDescriptor(self.systemd, initialEnvironment(), os.getpid())
            except OSError as problem:
                where = (self.interface or "0.0.0.0", self.port)
                raise cannotListen(where, problem) from problem
        return replace(self._socketOptions, descriptor=descriptor)

    # More than the interface promises: type checkers let a caller use all of the port.
    def listen(  # type: ignore[override]
        self, factory: IProtocolFactory
    ) -> defer.Deferred[ListeningPort]:
        """
        Bind at once and give each session to a protocol of C{factory}.

        @return: fires, or fails with C{CannotListenError}, before this returns
            (EP-2).
        """
        return defer.execute(self._listen, factory)

    def listenAfter(
        self, predecessor: Predecessor, factory: IProtocolFactory
    ) -> defer.Deferred[ListeningPort]:
        """
        The same on the socket of a predecessor, whose sessions go on: see
        L{ListeningPredecessor<twisted_rudp.net.listen.ListeningPredecessor>}. Where the
        socket is, and how it is read, stays what it was.
        """
        self._predecessor = predecessor
        try:
            return defer.execute(self._listen, factory)
        finally:
            self._predecessor = None

    def _listen(self, factory: IProtocolFactory) -> ListeningPort:
        demux = self._listeningDemux()
        # With a layer a server dials nobody. Answers to what a shared port dialled would go to
        # any of the processes.
        alone = self._layer is None and self._share is None
        dial = self._dialler(demux) if alone else None
        if self._layer is not None:
            demux = LayeredDemultiplexer(demux, self._layer(Role.SERVER))
        return listen(
            self.reactor,
            factory,
            demux,
            interface=self.interface,
            port=self.port,
            portKind=self.portKind,
            socketOptions=self._listeningSocket(),
            limits=self._limits(),
            drainTimeout=self.drainTimeout,
            mode=self._mode,
            dial=dial,
            predecessor=self._predecessor,
        )

    def _dialler(self, demux: Demultiplexer) -> MakeSession | None:
        """
        What makes the sessions that are dialled from the port of this demultiplexer; None:
        there are none.
        """
        return None

    def _limits(self) -> Limits:
        return Limits(
            backlog=self.backlog,
            maxSessions=self.maxSessions,
            sessionsPerHost=self.sessionsPerHost,
        )

    @abstractmethod
    def _listeningDemux(self) -> Demultiplexer:
        """A demultiplexer for one socket, which makes the engines of those who come."""


@implementer(IStreamClientEndpoint)
@dataclass(kw_only=True, eq=False, repr=False)
class ClientEndpoint(Endpoint, ABC):
    """Dials."""

    host: str = field(
        kw_only=False,
        metadata=declared(Text("a name or an address"), "Name or address of the peer."),
    )
    port: int = field(kw_only=False, metadata=declared(Integer(1, 65_535), "UDP port of the peer."))
    timeout: float = option(
        Seconds(0.001), 30.0, "Seconds to wait for the peer while connecting, for each address."
    )
    bindAddress: Any = option(
        IPAddress(),
        None,
        "Local address to send from; a program may give a pair with a port.",
    )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}:{self.port}>"

    def connect(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """
        Dial, each attempt on a socket of its own.

        @return: fires with the protocol when the peer has answered; fails as
            CONN-6 says.
        """
        return connect(
            self.reactor,
            factory,
            self.host,
            self._peerPort(),
            timeout=self.timeout,
            bindAddress=self.bindAddress,
            session=self._layeredSession,
            portKind=self.portKind,
            socketOptions=self._socketOptions,
            mode=self._mode,
        )

    def _layeredSession(self, address: Address, now: int) -> tuple[Demultiplexer, Engine]:
        demux, engine = self._diallingSession(address, now)
        if self._layer is None:
            return demux, engine
        wrap = self._layer(Role.CLIENT)
        return LayeredDemultiplexer(demux, wrap), wrap(engine, now)

    def _peerPort(self) -> int:
        """The port to dial this time."""
        return self.port

    @abstractmethod
    def _diallingSession(self, address: Address, now: int) -> tuple[Demultiplexer, Engine]:
        """A demultiplexer and an engine for one attempt, which has its socket for itself."""
