"""
QOTP passes the suite on each of the three datagram ports and on the simulated
network.
"""

from __future__ import annotations

from typing import Any

from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
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


class QOTP(Transport):
    """
    QOTP between our own ends.
    """

    capabilities = _CAPABILITIES | Capability.REFUSES
    portKind = "auto"

    def server(self, reactor: Any, port: int, interface: str) -> QOTPServerEndpoint:
        return QOTPServerEndpoint(reactor, port, interface=interface, portKind=self.portKind)

    def client(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
    ) -> QOTPClientEndpoint:
        return QOTPClientEndpoint(
            reactor, host, port, timeout=timeout, bindAddress=bindAddress, portKind=self.portKind
        )


class SegmentingQOTP(QOTP):
    """
    With the kernel's segmentation.
    """

    name = "SegmentingQOTP"
    portKind = "gso"


class PlainQOTP(QOTP):
    """
    On a descriptor of its own, without it.
    """

    name = "PlainQOTP"
    portKind = "plain"


class StockQOTP(QOTP):
    """
    On Twisted's own UDP port, which hears of no refusal (UDP-5).
    """

    name = "StockQOTP"
    portKind = "stock"
    capabilities = _CAPABILITIES


class SimulatedQOTP(StockQOTP):
    """
    On the simulated network.
    """

    name = "SimulatedQOTP"
    portKind = "auto"


globals().update(makeTestCases(SegmentingQOTP(), RealSockets, __name__))
globals().update(makeTestCases(PlainQOTP(), RealSockets, __name__))
globals().update(makeTestCases(StockQOTP(), RealSockets, __name__))
globals().update(makeTestCases(SimulatedQOTP(), Simulation, __name__))
