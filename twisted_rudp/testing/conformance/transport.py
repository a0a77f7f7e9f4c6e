"""What the author of a transport states about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Flag, auto
from typing import Any, ClassVar

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint


class Capability(Flag):
    """
    What not every wire can do. Tests that need more than a transport declares are
    not made for it.
    """

    HALF_CLOSE = auto()
    """One direction may end while the other goes on (CLOSE-9)."""

    REFUSES = auto()
    """Dialling where nobody listens fails at once and not by timeout (CONN-6)."""

    RESETS = auto()
    """The peer is told of an abort (CLOSE-7)."""

    NAMES = auto()
    """Client endpoints take host names and look them up with the reactor's
    C{nameResolver} (NAME-1)."""

    COUNTS_DATAGRAMS = auto()
    """What it sends shows on a simulated network, datagram by datagram."""


class Transport(ABC):
    """
    Makes the endpoints under test.

    @cvar name: the beginning of the names of its test cases.
    @cvar capabilities: what it can do.
    @cvar deviations: the rules it knowingly does not follow, by their number in the
        specification, with a word behind it where only a part of a rule is meant.
        Each is tested for what the transport does instead, if that is defined.
    @cvar addressType: C{type} of its addresses, C{"TCP"} or C{"UDP"} (ADDR-1).
    @cvar deadPeerLimit: seconds after which a peer that has vanished must have been
        noticed (CLOSE-5).
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capability] = Capability(0)
    deviations: ClassVar[frozenset[str]] = frozenset()
    addressType: ClassVar[str] = "UDP"
    deadPeerLimit: ClassVar[float] = 120.0

    @abstractmethod
    def server(self, reactor: Any, port: int, interface: str) -> IStreamServerEndpoint:
        """
        Where to listen.

        @param interface: an IP literal.
        """

    @abstractmethod
    def client(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
    ) -> IStreamClientEndpoint:
        """
        Where to connect to.

        @param host: an IP literal, or a name if the transport takes names.
        @param timeout: seconds to connect within.
        """

    def follows(self, rule: str) -> bool:
        """Whether the transport does as this rule says."""
        return rule not in self.deviations
