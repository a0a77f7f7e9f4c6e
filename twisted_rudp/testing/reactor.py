"""A reactor for each host of a simulated network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IReactorCore,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTime,
    IReactorUDP,
    IResolutionReceiver,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from .events import SystemEvents, Trigger
from .port import MemoryUDPPort, PortHost
from .stepping import runFor, step


@implementer(
    IReactorCore,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTime,
    IReactorUDP,
)
class MemoryUDPReactor:
    """
    What a program on a simulated host takes for its reactor.

    Time is the network's clock, the same for all hosts. It counts as running from
    the beginning until C{stop}, and is driven by
    L{MemoryNetwork<twisted_rudp.testing.network.MemoryNetwork>}.

    @ivar nameResolver: the network's
        L{MemoryResolver<twisted_rudp.testing.resolver.MemoryResolver>} unless another
        one is installed.
    @ivar entropy: the random bytes of this host's endpoints, unless they are given others.
    """

    def __init__(
        self,
        host: PortHost,
        nameResolver: IHostnameResolver,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.host = host
        self.entropy = entropy
        self.nameResolver = nameResolver
        self.running = True
        self._clock = host.clock
        self._events = SystemEvents()
        self.addSystemEventTrigger("during", "shutdown", self.crash)
        self.addSystemEventTrigger("during", "shutdown", self.disconnectAll)
        self._ownTriggers = len(self._events)

    @property
    def triggers(self) -> int:
        """How many system event triggers the program has added and not removed."""
        return max(0, len(self._events) - self._ownTriggers)

    # IReactorUDP

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
    ) -> MemoryUDPPort:
        """
        See C{IReactorUDP.listenUDP}.

        @raise twisted.internet.error.CannotListenError: the address is taken or not
            this host's.
        @raise twisted.internet.error.InvalidAddressError: C{interface} is no IP
            literal.
        """
        made = MemoryUDPPort(self.host, port, protocol, interface, maxPacketSize)
        made.startListening()
        return made

    def disconnectAll(self) -> None:
        """Take all sockets away, as a real reactor does while it shuts down."""
        reason = Failure(ConnectionLost())  # type: ignore[no-untyped-call]
        for port in list(self.host.ports):
            port.connectionLost(reason)

    # IReactorTime

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """
        @raise AssertionError: C{delay} is negative.
        """
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        return self._clock.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Everything scheduled on the clock, by whatever host."""
        return self._clock.getDelayedCalls()

    # IReactorPluggableNameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        previous, self.nameResolver = self.nameResolver, resolver
        return previous

    # IReactorFromThreads

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Call in the next turn. To be called from the test's own thread only."""
        self._clock.callLater(0, callable, *args, **kwargs)

    # IReactorCore

    def isOfThisMachine(self, host: str) -> bool:
        """Whether an IP literal is an address of this machine."""
        return self.host.has(host)

    def resolve(self, name: str, timeout: Sequence[int] = (1, 3, 11, 45)) -> Deferred[str]:
        """
        Look up one IPv4 address.

        @return: fails with C{DNSLookupError} if there is none.
        """
        receiver = _FirstAddress()
        self.nameResolver.resolveHostName(receiver, name, addressTypes=[IPv4Address])
        return receiver.found

    def run(self) -> None:
        """
        Step through the events of the whole network until C{stop} or until nothing
        is scheduled.
        """
        self.running = True
        self.fireSystemEvent("startup")
        while self.running and step(self._clock):
            pass

    def stop(self) -> None:
        """
        Shut this host's program down: C{before} triggers, then all sockets are
        lost, then C{after} triggers.
        """
        self.fireSystemEvent("shutdown")

    def crash(self) -> None:
        self.running = False

    def iterate(self, delay: float = 0) -> None:
        runFor(self._clock, delay)

    def fireSystemEvent(self, eventType: str) -> None:
        self._events.fire(eventType)

    def addSystemEventTrigger(
        self,
        phase: str,
        eventType: str,
        callable: Callable[..., Any],
        *args: object,
        **kwargs: object,
    ) -> Trigger:
        """
        See C{IReactorCore.addSystemEventTrigger}.

        @raise KeyError: there is no such phase.
        """
        return self._events.add(phase, eventType, callable, *args, **kwargs)

    def removeSystemEventTrigger(self, triggerID: Trigger) -> None:
        """
        See C{IReactorCore.removeSystemEventTrigger}.

        @raise ValueError: it has been removed or has run.
        """
        self._events.remove(triggerID)

    def callWhenRunning(
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> Trigger | None:
        """Call at once while running, else at the next start."""
        if not self.running:
            return self.addSystemEventTrigger("after", "startup", callable, *args, **kwargs)
        callable(*args, **kwargs)
        return None


@implementer(IResolutionReceiver)
class _FirstAddress:
    """Keeps the first address a resolver gives."""

    def __init__(self) -> None:
        self.found: Deferred[str] = Deferred()
        self._name = ""
        self._host: str | None = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._name = resolutionInProgress.name

    def addressResolved(self, address: IAddress) -> None:
        if self._host is None and isinstance(address, IPv4Address):
            self._host = address.host

    def resolutionComplete(self) -> None:
        if self._host is None:
            self.found.errback(DNSLookupError(self._name))
        else:
            self.found.callback(self._host)
