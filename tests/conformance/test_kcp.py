"""
KCP passes the suite on each datagram port with real sockets, and on the simulated
network.
"""

from __future__ import annotations

import os
import random
from typing import Any

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.testing.conformance import (
    Capability,
    RealSockets,
    Simulation,
    Transport,
    makeTestCases,
)


class KCP(Transport):
    """
    Between two of ours, which recognise each other's mark.
    """

    capabilities = (
        Capability.HALF_CLOSE
        | Capability.RESETS
        | Capability.NAMES
        | Capability.COUNTS_DATAGRAMS
    )

    def __init__(self, portKind: str, seed: int | None = None) -> None:
        """
        @param seed: for simulated networks, where everything is to be repeatable.
        """
        self.name = f"KCP{portKind.capitalize()}"
        self._portKind = portKind
        self._entropy = os.urandom if seed is None else random.Random(seed).randbytes
        if portKind != "stock":
            # Ports of our own read the error queue (UDP-12).
            self.capabilities |= Capability.REFUSES

    def server(self, reactor: Any, port: int, interface: str) -> KCPServerEndpoint:
        return KCPServerEndpoint(
            reactor, port, interface=interface, portKind=self._portKind, entropy=self._entropy
        )

    def client(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
    ) -> KCPClientEndpoint:
        return KCPClientEndpoint(
            reactor,
            host,
            port,
            timeout=timeout,
            bindAddress=bindAddress,
            portKind=self._portKind,
            entropy=self._entropy,
        )


for _kind in ("gso", "plain", "stock"):
    globals().update(makeTestCases(KCP(_kind), RealSockets, __name__))
globals().update(makeTestCases(KCP("stock", seed=1), Simulation, __name__))
