"""
KCP passes the suite with encryption and FEC too.
"""

from __future__ import annotations

from typing import Any

from tests.conformance.test_kcp import KCP, SimulatedKCP
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.testing.conformance import RealSockets, Simulation, makeTestCases

PROTECTION: dict[str, Any] = {
    "crypt": "aes-128-gcm",
    "password": "of the suite",
    "dataShards": 10,
    "parityShards": 3,
}


class ProtectedKCP(KCP):
    """
    On real sockets, with the best port there is.
    """

    name = "ProtectedKCP"

    def server(self, reactor: Any, port: int, interface: str) -> KCPServerEndpoint:
        return KCPServerEndpoint(
            reactor, port, interface=interface, portKind=self.portKind, **PROTECTION
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
            **PROTECTION,
        )


class SimulatedProtectedKCP(ProtectedKCP, SimulatedKCP):
    """
    On the simulated network.
    """

    name = "SimulatedProtectedKCP"


globals().update(makeTestCases(ProtectedKCP(), RealSockets, __name__))
globals().update(makeTestCases(SimulatedProtectedKCP(), Simulation, __name__))
