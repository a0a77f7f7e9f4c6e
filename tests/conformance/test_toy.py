"""
Toy I passes the suite on the simulated network: what a stream transport does is done
by C{net}, whatever engine is under it. It repeats nothing that is lost, so it is
tested where nothing is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.conformance.everywhere import Ours
from tests.toys.conversations import CipherDemultiplexer
from twisted_rudp.core.engine import Address, Demultiplexer, Engine
from twisted_rudp.endpoints.base import ClientEndpoint, ServerEndpoint
from twisted_rudp.testing.conformance import Capability, RealSockets, Simulation, makeTestCases

SECRET = 0x77
CAPABILITIES = (
    Capability.HALF_CLOSE | Capability.RESETS | Capability.NAMES | Capability.COUNTS_DATAGRAMS
)


@dataclass(kw_only=True, eq=False, repr=False)
class ToyServerEndpoint(ServerEndpoint):
    chance: random.Random

    def _listeningDemux(self) -> CipherDemultiplexer:
        return CipherDemultiplexer(SECRET, self.chance)


@dataclass(kw_only=True, eq=False, repr=False)
class ToyClientEndpoint(ClientEndpoint):
    chance: random.Random

    def _diallingSession(self, address: Address, now: int) -> tuple[Demultiplexer, Engine]:
        demux = CipherDemultiplexer(SECRET, self.chance)
        return demux, demux.dial(address, now)


def toy(kind: str) -> Ours:
    """Only ports of our own read the error queue (UDP-12)."""
    return Ours(
        f"Toy{kind.capitalize()}",
        CAPABILITIES if kind == "stock" else CAPABILITIES | Capability.REFUSES,
        ToyServerEndpoint,
        ToyClientEndpoint,
        portKind=kind,
        chance=random.Random(4),
    )


LOSING = ("BadLinks", "Attempts", "Vanishing")
"""Topics in which a link loses, repeats or reorders what the toy sends once."""

globals().update(makeTestCases(toy("gso"), RealSockets, __name__))
globals().update(
    {
        name: case
        for name, case in makeTestCases(toy("stock"), Simulation, __name__).items()
        if not any(topic in name for topic in LOSING)
    }
)
