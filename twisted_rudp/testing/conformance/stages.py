"""
Where a conformance test plays: real sockets on loopback, or the simulated network.

A test never sleeps and never looks at a clock. It waits for a C{Deferred} or for a
condition, which is asked again after each callback into the test's own objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from ..network import MemoryNetwork

_T = TypeVar("_T")

Condition = Callable[[], object]
"""Fulfilled when it returns something true."""


class Stage(ABC):
    """
    Two places with a reactor each, and a way to wait.

    @cvar simulated: time, losses and names are in the test's hand.
    @cvar bulk: bytes that make a transfer big here.
    @ivar serverReactor: for what listens.
    @ivar clientReactor: for what dials.
    @ivar serverHost: the IP literal under which the client reaches the server.
    @ivar clientHost: the IP literal of the client.
    """

    simulated: ClassVar[bool] = False
    bulk: ClassVar[int] = 1_000_000

    serverReactor: Any
    clientReactor: Any
    serverHost: str
    clientHost: str

    @abstractmethod
    def until(self, condition: Condition, limit: float = 60.0) -> Awaitable[None]:
        """
        Wait for a condition.

        @param limit: seconds of simulated time to wait at most. On real sockets the
            test's own timeout is the limit.
        """

    @abstractmethod
    def result(self, deferred: Deferred[_T], limit: float = 60.0) -> Awaitable[_T]:
        """Wait for a C{Deferred} and have its result."""

    @abstractmethod
    def settle(self) -> Awaitable[None]:
        """Let everything happen that is going to happen without further doing."""

    def changed(self) -> None:
        """To be called after whatever may have fulfilled a condition."""

    def leftovers(self) -> list[str]:
        """What is still there after the test has closed everything, described for a person."""
        return []


class RealSockets(Stage):
    """The global reactor and 127.0.0.1. What is left over is found by trial itself."""

    bulk = 10_000_000

    SETTLING_TURNS = 20
    """Loopback hands data over within the C{send}; after so many turns of the
    reactor all that was sent has been read and answered."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.serverReactor = self.clientReactor = reactor
        self.serverHost = self.clientHost = "127.0.0.1"
        self._waiting: list[tuple[Condition, Deferred[None]]] = []
        self._checking = False

    def until(self, condition: Condition, limit: float = 60.0) -> Deferred[None]:
        """
        See L{Stage.until}. The test goes on in a turn of its own, never inside the
        callback that fulfilled the condition.
        """
        fulfilled: Deferred[None] = Deferred()
        self._waiting.append((condition, fulfilled))
        self.changed()
        return fulfilled

    def result(self, deferred: Deferred[_T], limit: float = 60.0) -> Deferred[_T]:
        return deferred

    async def settle(self) -> None:
        for _ in range(self.SETTLING_TURNS):
            await deferLater(self.serverReactor, 0)

    def changed(self) -> None:
        if self._waiting and not self._checking:
            self._checking = True
            self.serverReactor.callLater(0, self._check)

    def _check(self) -> None:
        self._checking = False
        for entry in list(self._waiting):
            condition, fulfilled = entry
            if condition():
                self._waiting.remove(entry)
                fulfilled.callback(None)


class Simulation(Stage):
    """
    Two hosts on a L{MemoryNetwork}.

    @ivar network: the network; its links are the test's to impair.
    """

    simulated = True

    SETTLING_TIME = 2.0
    """Seconds of simulated time."""

    def __init__(self) -> None:
        self.network = MemoryNetwork(seed=1, delay=0.005)
        self.server = self.network.host("server")
        self.client = self.network.host("client")
        self.serverReactor = self.server.reactor
        self.clientReactor = self.client.reactor
        self.serverHost = self.server.address
        self.clientHost = self.client.address

    def until(self, condition: Condition, limit: float = 60.0) -> Deferred[None]:
        self.network.run(condition, limit)
        return succeed(None)

    def result(self, deferred: Deferred[_T], limit: float = 60.0) -> Deferred[_T]:
        self.network.run(deferred, limit)
        return deferred

    def settle(self) -> Deferred[None]:
        self.network.runFor(self.SETTLING_TIME)
        return succeed(None)

    def leftovers(self) -> list[str]:
        """Timers and sockets, after what is under way has arrived."""
        self.network.runFor(self.SETTLING_TIME)
        ports = [port for host in self.network.hosts for port in host.ports]
        triggers = [host for host in self.network.hosts if host.reactor.triggers]
        return [repr(thing) for thing in [*ports, *triggers, *self.network.clock.calls]]
