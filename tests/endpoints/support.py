"""What the tests of peers that dial each other share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_rudp.testing import MemoryHost, MemoryNetwork


class Talk(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Collecting(Factory):
    """Keeps its protocols."""

    def __init__(self) -> None:
        self.built: list[Talk] = []

    def buildProtocol(self, addr: Any) -> Talk:
        self.built.append(Talk())
        return self.built[-1]


class Nats:
    """
    A NAT before each of two hosts: another address outside, and nothing comes in from
    where nothing went out to.
    """

    def __init__(
        self, network: MemoryNetwork, hosts: Sequence[MemoryHost], ports: Sequence[int]
    ) -> None:
        self.opened = [False, False]
        self.kept = 0
        self.outside = []
        for index, (host, port) in enumerate(zip(hosts, ports, strict=True)):
            outer = (f"203.0.113.{index + 1}", 7000 + index)
            host.rebind((host.address, port), outer)
            self.outside.append(outer)
            link = network.link(host, hosts[1 - index])
            link.drop_if = lambda datagram, index=index: self.passes(index)  # type: ignore[misc]

    def passes(self, index: int) -> bool:
        """Something goes from this host to the other: whether it is dropped."""
        self.opened[index] = True
        self.kept += not self.opened[1 - index]
        return not self.opened[1 - index]
