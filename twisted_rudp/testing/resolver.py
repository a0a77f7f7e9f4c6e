"""A name resolver whose answers and their moment are the test's decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer


@implementer(IHostResolution)
class MemoryResolution:
    """A question that was put to a L{MemoryResolver}."""

    def __init__(
        self,
        receiver: IResolutionReceiver,
        name: str,
        portNumber: int,
        addressTypes: Sequence[type[IAddress]] | None,
        transportSemantics: str,
    ) -> None:
        self.name = name
        self.portNumber = portNumber
        self.addressTypes = addressTypes
        self.transportSemantics = transportSemantics
        self._receiver: IResolutionReceiver | None = receiver

    @property
    def answered(self) -> bool:
        return self._receiver is None

    def cancel(self) -> NoReturn:
        """
        Twisted's own resolver cannot be stopped either.

        @raise NotImplementedError: always.
        """
        raise NotImplementedError("a resolution cannot be cancelled")

    def answer(self, hosts: Sequence[str]) -> None:
        """
        Give the receiver its addresses and complete. A second answer is ignored.

        @param hosts: IP literals; none at all is how a lookup fails.
        """
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        semantics = cast(Literal["TCP", "UDP"], self.transportSemantics)
        for host in hosts:
            kind = IPv6Address if isIPv6Address(host) else IPv4Address
            if self.addressTypes is None or kind in self.addressTypes:
                receiver.addressResolved(kind(semantics, host, self.portNumber))
        receiver.resolutionComplete()


@implementer(IHostnameResolver)
class MemoryResolver:
    """
    Knows the names it was told, answers after C{delay} and keeps the questions.

    @ivar delay: seconds until the answer; None answers before C{resolveHostName}
        returns, as resolvers may.
    @ivar resolutions: every question so far, oldest first.
    """

    def __init__(self, clock: IReactorTime, delay: float | None = 0.0) -> None:
        self._clock = clock
        self.delay = delay
        self.resolutions: list[MemoryResolution] = []
        self._names: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, list[MemoryResolution]] = {}

    def register(self, name: str, *hosts: str) -> None:
        """
        Let a name stand for some IP literals. Without any, its lookups fail, as
        those of unknown names do.
        """
        self._names[name] = hosts

    def hold(self, name: str) -> None:
        """Leave questions for this name without an answer until L{release}."""
        self._held.setdefault(name, [])

    def release(self, name: str) -> None:
        """Answer at once the questions held for a name, and later ones as usual."""
        for resolution in self._held.pop(name, []):
            self._answer(resolution)

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> MemoryResolution:
        """See C{IHostnameResolver.resolveHostName}."""
        resolution = MemoryResolution(
            resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
        )
        self.resolutions.append(resolution)
        resolutionReceiver.resolutionBegan(resolution)
        if hostName in self._held:
            self._held[hostName].append(resolution)
        elif self.delay is None:
            self._answer(resolution)
        else:
            self._clock.callLater(self.delay, self._answer, resolution)
        return resolution

    def _answer(self, resolution: MemoryResolution) -> None:
        name = resolution.name
        literal = isIPAddress(name) or isIPv6Address(name)
        resolution.answer((name,) if literal else self._names.get(name, ()))
