"""
The suite for a transport of ours: every topic once on the simulated network and once on
real sockets, and those that meet the datagram port on the other two kinds of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from twisted_rudp.testing.conformance import (
    TOPICS,
    Capability,
    ConformanceCase,
    RealSockets,
    Simulation,
    Transport,
    makeTestCases,
)

PORT_KINDS = {"Segmenting": "gso", "Plain": "plain", "Stock": "stock"}
"""The kinds of ports by what the names of their test cases begin with; the first has all topics."""

PORT_TOPICS = tuple(
    topic
    for topic in TOPICS
    if topic.__name__
    in {
        "Success",  # addresses, bound and dialled
        "Refused",  # the errors that a port hears of, or
        "Unanswered",  # does not
        "Listening",  # opens and closes
        "Consuming",  # more than the system's buffer takes
        "Reading",  # more than a turn reads
        "OrderlyClose",  # the last datagrams before the port goes
        "Aborting",
        "Plain",  # a datagram in each turn
    }
)
"""
What is tested on a further kind of port. All other topics are about what a session does
with its datagrams, which is the same code above every kind.
"""


class Ours(Transport):
    """A transport between our own ends, by its endpoint classes."""

    def __init__(
        self,
        name: str,
        capabilities: Capability,
        server: Callable[..., IStreamServerEndpoint],
        client: Callable[..., IStreamClientEndpoint],
        **arguments: Any,
    ) -> None:
        """
        @param arguments: for both endpoints.
        """
        self.name = name
        self.capabilities = capabilities
        self._server = server
        self._client = client
        self._arguments = arguments

    def arguments(self, reactor: Any) -> dict[str, Any]:
        """What both endpoints are given."""
        return self._arguments

    def server(self, reactor: Any, port: int, interface: str) -> IStreamServerEndpoint:
        return self._server(reactor, port, interface=interface, **self.arguments(reactor))

    def client(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
    ) -> IStreamClientEndpoint:
        return self._client(
            reactor,
            host,
            port,
            timeout=timeout,
            bindAddress=bindAddress,
            **self.arguments(reactor),
        )


class Simulated(Ours):
    """With random bytes from the network's seed, so that every run is the same."""

    def arguments(self, reactor: Any) -> dict[str, Any]:
        return {**super().arguments(reactor), "entropy": reactor.host.network.random.randbytes}


def makeEverywhere(
    name: str,
    capabilities: Capability,
    server: Callable[..., IStreamServerEndpoint],
    client: Callable[..., IStreamClientEndpoint],
    module: str,
) -> dict[str, type[ConformanceCase]]:
    """The test cases of a transport. Only ports of our own hear of a refusal (UDP-5)."""
    cases: dict[str, type[ConformanceCase]] = {}
    topics = TOPICS
    for prefix, kind in PORT_KINDS.items():
        refuses = Capability(0) if kind == "stock" else Capability.REFUSES
        ours = Ours(prefix + name, capabilities | refuses, server, client, portKind=kind)
        cases.update(makeTestCases(ours, RealSockets, module, topics))
        topics = PORT_TOPICS
    simulated = Simulated(f"Simulated{name}", capabilities, server, client)
    cases.update(makeTestCases(simulated, Simulation, module))
    return cases
