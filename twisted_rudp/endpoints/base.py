"""
What the endpoints of every transport have in common: the arguments that say where the
socket is and who may use it, and listening and connecting with them.

A transport derives one class that takes the arguments of both its sides and makes its
demultiplexers and engines, and from that and from L{ServerEndpoint} and L{ClientEndpoint} its two
endpoints. Each argument is declared once, as a field of a dataclass; the constructor is
made from the fields.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from twisted_rudp.core.checking import nanoseconds, require_choice, require_within
from twisted_rudp.core.engine import Address, Demultiplexer, Engine
from twisted_rudp.net.connect import MakeSession, Mode, connect
from twisted_rudp.net.listen import DRAIN_TIMEOUT, ListeningPort, listen
from twisted_rudp.net.table import Limits
from twisted_rudp.net.udp.port import PortKind, SocketOptions

Entropy = Callable[[int], bytes]
"""So many random bytes, as C{os.urandom} gives them."""

Numbers = TypeVar("Numbers")


@dataclass(kw_only=True, eq=False, repr=False)
class Endpoint:
    """
    One side of any transport. Nothing is opened before C{listen} or C{connect} (EP-4).
    The arguments can be read afterwards, but for secrets, and not changed.

    @ivar reactor: where time, sockets and names come from.
    @ivar portKind: C{auto}, C{gso}, C{plain} or C{stock}; see
        L{openPort<twisted_rudp.net.udp.open.openPort>}.
    @ivar entropy: source of random bytes.
    """

    reactor: Any = field(kw_only=False)
    portKind: str = "auto"
    entropy: Entropy = os.urandom

    def __post_init__(self) -> None:
        """
        @raise ValueError: an argument is not right; names it.
        """
        self._check()
        self._socketOptions = SocketOptions()
        self._mode = Mode.STREAM

    def _check(self) -> None:
        """
        See whether the arguments that all transports have are right.

        @raise ValueError: one is not; names it.
        """
        if self.portKind != "auto":
            require_choice("portKind", self.portKind, PortKind)


@implementer(IStreamServerEndpoint)
@dataclass(kw_only=True, eq=False, repr=False)
class ServerEndpoint(Endpoint, ABC):
    """
    Listens.

    @ivar port: 0 to 65535; 0: any free one.
    @ivar interface: an IP literal; C{""}: all IPv4 addresses; C{"::"}: all of both
        families.
    @ivar backlog: sessions whose peer has not answered yet (EP-7).
    @ivar maxSessions: all sessions.
    @ivar drainTimeout: seconds given to live sessions when the port stops.
    """

    port: int = field(kw_only=False)
    interface: str = ""
    backlog: int = 128
    maxSessions: int = 4096
    drainTimeout: float = DRAIN_TIMEOUT

    def _check(self) -> None:
        super()._check()
        require_within("port", self.port, 0, 65_535)
        require_within("backlog", self.backlog, 1, 65_535)
        require_within("maxSessions", self.maxSessions, 1, 1_000_000)
        nanoseconds("drainTimeout", self.drainTimeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.interface or '*'}:{self.port}>"

    def listen(self, factory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        """
        Bind at once and give each session to a protocol of C{factory}.

        @return: fires, or fails with C{CannotListenError}, before this returns
            (EP-2).
        """
        return defer.execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> ListeningPort:
        demux = self._listeningDemux()
        return listen(
            self.reactor,
            factory,
            demux,
            interface=self.interface,
            port=self.port,
            portKind=self.portKind,
            socketOptions=self._socketOptions,
            limits=self._limits(),
            drainTimeout=self.drainTimeout,
            mode=self._mode,
            dial=self._dialler(demux),
        )

    def _dialler(self, demux: Demultiplexer) -> MakeSession | None:
        """
        What makes the sessions that are dialled from the port of this demultiplexer; None:
        there are none.
        """
        return None

    def _limits(self) -> Limits:
        return Limits(backlog=self.backlog, maxSessions=self.maxSessions)

    @abstractmethod
    def _listeningDemux(self) -> Demultiplexer:
        """A demultiplexer for one socket, which makes the engines of those who come."""


@implementer(IStreamClientEndpoint)
@dataclass(kw_only=True, eq=False, repr=False)
class ClientEndpoint(Endpoint, ABC):
    """
    Dials.

    @ivar host: a name or an IP literal.
    @ivar port: 1 to 65535.
    @ivar timeout: seconds to wait for the peer, per address.
    @ivar bindAddress: a local address, or with a port as a pair (EP-5).
    """

    host: str = field(kw_only=False)
    port: int = field(kw_only=False)
    timeout: float = 30
    bindAddress: Any = None

    def _check(self) -> None:
        super()._check()
        require_within("port", self.port, 1, 65_535)
        nanoseconds("timeout", self.timeout, least=0.001)

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
            self.port,
            timeout=self.timeout,
            bindAddress=self.bindAddress,
            session=self._diallingSession,
            portKind=self.portKind,
            socketOptions=self._socketOptions,
            mode=self._mode,
        )

    @abstractmethod
    def _diallingSession(self, address: Address, now: int) -> tuple[Demultiplexer, Engine]:
        """A demultiplexer and an engine for one attempt, which has its socket for itself."""


def profiled(profiles: Mapping[str, Numbers], profile: str, **given: Any) -> Numbers:
    """
    A named profile with what was given by name in its place.

    @param given: C{None} stands for what the profile says.
    @raise ValueError: names the argument, its value and what would be right.
    """
    if profile not in profiles:
        raise ValueError(f"profile={profile!r} is not one of {', '.join(profiles)}")
    changes = {name: value for name, value in given.items() if value is not None}
    chosen: Any = profiles[profile]
    return replace(chosen, **changes)  # type: ignore[no-any-return]


def idleNanoseconds(idleTimeout: float) -> int:
    """
    @param idleTimeout: seconds.
    @raise ValueError: they are not positive.
    """
    return nanoseconds("idleTimeout", idleTimeout, least=0.001)
