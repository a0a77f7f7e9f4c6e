"""
RakNet passes the suite on each of the three datagram ports and on the simulated
network.
"""

from __future__ import annotations

from typing import Any

from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing.conformance import (
    Capability,
    RealSockets,
    Simulation,
    Transport,
    makeTestCases,
)

_CAPABILITIES = (
    Capability.RESETS | Capability.NAMES | Capability.COUNTS_DATAGRAMS
)


class RakNet(Transport):
    """
    RakNet between our own ends.
    """

    capabilities = _CAPABILITIES | Capability.REFUSES
    portKind = "auto"

    def server(self, reactor: Any, port: int, interface: str) -> RakNetServerEndpoint:
        return RakNetServerEndpoint(reactor, port, interface=interface, portKind=self.portKind)

    def client(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
    ) -> RakNetClientEndpoint:
        return RakNetClientEndpoint(
            reactor, host, port, timeout=timeout, bindAddress=bindAddress, portKind=self.portKind
        )


class SegmentingRakNet(RakNet):
    """
    With the kernel's segmentation.
    """

    name = "SegmentingRakNet"
    portKind = "gso"


class PlainRakNet(RakNet):
    """
    On a descriptor of its own, without it.
    """

    name = "PlainRakNet"
    portKind = "plain"


class StockRakNet(RakNet):
    """
    On Twisted's own UDP port, which hears of no refusal (UDP-5).
    """

    name = "StockRakNet"
    portKind = "stock"
    capabilities = _CAPABILITIES


class SimulatedRakNet(StockRakNet):
    """
    On the simulated network.
    """

    name = "SimulatedRakNet"
    portKind = "auto"


globals().update(makeTestCases(SegmentingRakNet(), RealSockets, __name__))
globals().update(makeTestCases(PlainRakNet(), RealSockets, __name__))
globals().update(makeTestCases(StockRakNet(), RealSockets, __name__))
globals().update(makeTestCases(SimulatedRakNet(), Simulation, __name__))
