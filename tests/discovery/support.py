"""What the tests of discovery share."""

from __future__ import annotations

from ipaddress import ip_interface
from random import Random
from typing import Any

from zope.interface import implementer

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.networks import Interface
from twisted_rudp.discovery.nodes import Node, Removal
from twisted_rudp.discovery.service import Discovery, share
from twisted_rudp.discovery.urls import Address, parse
from twisted_rudp.interfaces import INodeBrowser
from twisted_rudp.testing import MemoryHost, MemoryNetwork


def key(number: int) -> NodeId:
    """The id of a node that has a key."""
    return NodeId(number.to_bytes(32, "big"))


def addresses(*urls: str) -> tuple[Address, ...]:
    """Checked addresses."""
    return tuple(parse(url) for url in urls)


@implementer(INodeBrowser)
class Log:
    """A browser that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def nodeAdded(self, node: Node) -> None:
        self.events.append(("added", node.id, *map(str, node.addresses)))

    def nodeUpdated(self, node: Node) -> None:
        self.events.append(("updated", node.id, *map(str, node.addresses)))

    def nodeRemoved(self, id: NodeId, reason: Removal) -> None:
        self.events.append(("removed", id, reason))

    def take(self) -> list[tuple[Any, ...]]:
        """What it was told since the last time."""
        events, self.events = self.events, []
        return events


def interfacesOf(host: MemoryHost) -> list[Interface]:
    """One network interface with the addresses of a simulated host."""
    number = int(host.address.rpartition(".")[2])
    texts = [f"{a}/{'64' if ':' in a else '16'}" for a in host.addresses]
    configured = [ip_interface(text) for text in [*texts, f"fe80::{number:x}/64"]]
    return [Interface("eth0", 2, tuple(configured))]


class Lan:
    """A simulated network with discovery on each host, both families apart."""

    def __init__(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self._unseen = 0.0

    def clocks(self) -> tuple[float, float]:
        """The wall clock, which is that of the reactors, and one that never steps."""
        wall = self.network.clock.seconds()
        return wall, wall - self._unseen

    def sleep(self, seconds: float) -> None:
        """All machines sleep; or their clocks are set back, if it is less than nothing."""
        self.network.clock.rightNow += seconds
        self._unseen += seconds

    def host(self, name: str) -> MemoryHost:
        """Add a machine."""
        host = self.network.host(name)
        host.bindV6Only = True
        share(host.reactor, self.discovery(host))
        return host

    def discovery(self, host: MemoryHost, **options: Any) -> Discovery:
        """Discovery for a machine, the same each time."""
        random = Random(host.name)
        return Discovery(
            host.reactor,
            entropy=random.randbytes,
            random=random,
            enumerate=lambda: interfacesOf(host),
            clocks=self.clocks,
            **options,
        )

    def sent(self, destination: str) -> list[tuple[float, bytes]]:
        """What went to one address, and when."""
        seen = [t for t in self.network.trace if t.destination[0] == destination]
        return [(t.time, t.data) for t in seen]
