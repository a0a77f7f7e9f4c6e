"""
KCP passes the suite on each of the three datagram ports and on the simulated
network.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.testing.conformance import (
    Capability,
    RealSockets,
    Simulation,
    Transport,
    makeTestCases,
)

_CAPABILITIES = (
    Capability.HALF_CLOSE | Capability.RESETS | Capability.NAMES | Capability.COUNTS_DATAGRAMS
)


class KCP(Transport):
    """
    KCP between our own ends.
    """

    capabilities = _CAPABILITIES | Capability.REFUSES
    portKind = "auto"

    def entropy(self, reactor: Any) -> Callable[[int], bytes]:
        """
        Where the endpoints get random bytes.
        """
        return os.urandom

    def server(self, reactor: Any, port: int, interface: str) -> KCPServerEndpoint:
        return KCPServerEndpoint(
            reactor,
            port,
            interface=interface,
            portKind=self.portKind,
            entropy=self.entropy(reactor),
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
            portKind=self.portKind,
            entropy=self.entropy(reactor),
        )


class SegmentingKCP(KCP):
    """
    With the kernel's segmentation.
    """

    name = "SegmentingKCP"
    portKind = "gso"


class PlainKCP(KCP):
    """
    On a descriptor of its own, without it.
    """

    name = "PlainKCP"
    portKind = "plain"


class StockKCP(KCP):
    """
    On Twisted's own UDP port, which hears of no refusal (UDP-5).
    """

    name = "StockKCP"
    portKind = "stock"
    capabilities = _CAPABILITIES


class SimulatedKCP(StockKCP):
    """
    On the simulated network.
    """

    name = "SimulatedKCP"
    portKind = "auto"

    def entropy(self, reactor: Any) -> Callable[[int], bytes]:
        """
        From the network's seed, so that every run is the same.
        """
        randbytes: Callable[[int], bytes] = reactor.host.network.random.randbytes
        return randbytes


globals().update(makeTestCases(SegmentingKCP(), RealSockets, __name__))
globals().update(makeTestCases(PlainKCP(), RealSockets, __name__))
globals().update(makeTestCases(StockKCP(), RealSockets, __name__))
globals().update(makeTestCases(SimulatedKCP(), Simulation, __name__))
