"""Multicast as far as the port of a simulated reactor knows it: which groups it has joined."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed


class MemoryGroups:
    """
    The methods of C{IMulticastTransport}. There is one network, so interfaces are
    noted and have no effect, and a host never hears itself.

    @ivar groups: the groups joined.
    """

    def __init__(self) -> None:
        self.groups: set[str] = set()
        self._interface: Any = "0.0.0.0"
        self._loopback = True
        self._hops = 1

    def joinGroup(self, addr: str, interface: str = "") -> Deferred[None]:
        """Receive what is sent to a group."""
        self.groups.add(addr)
        return succeed(None)

    def leaveGroup(self, addr: str, interface: str = "") -> Deferred[None]:
        """Undo L{joinGroup}."""
        self.groups.discard(addr)
        return succeed(None)

    def getOutgoingInterface(self) -> Any:
        """What was set."""
        return self._interface

    def setOutgoingInterface(self, addr: Any) -> Deferred[Any]:
        """Note an interface."""
        self._interface = addr
        return succeed(addr)

    def getLoopbackMode(self) -> bool:
        """What was set."""
        return self._loopback

    def setLoopbackMode(self, mode: bool) -> None:
        """Note whether the sender wants to hear itself."""
        self._loopback = mode

    def getTTL(self) -> int:
        """What was set."""
        return self._hops

    def setTTL(self, ttl: int) -> None:
        """Note how far datagrams are to go."""
        self._hops = ttl
