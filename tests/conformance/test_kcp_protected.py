"""
KCP passes the suite with encryption and FEC too: all of it on the simulated network, and
what meets the port on real sockets.
"""

from __future__ import annotations

from typing import Any

from tests.conformance.everywhere import PORT_TOPICS, Ours, Simulated
from tests.conformance.test_kcp import CAPABILITIES
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.testing.conformance import Capability, RealSockets, Simulation, makeTestCases

PROTECTION: dict[str, Any] = {
    "crypt": "aes-128-gcm",
    "password": "of the suite",
    "dataShards": 10,
    "parityShards": 3,
}

protected = Ours(
    "ProtectedKCP",
    CAPABILITIES | Capability.REFUSES,
    KCPServerEndpoint,
    KCPClientEndpoint,
    **PROTECTION,
)
simulated = Simulated(
    "SimulatedProtectedKCP", CAPABILITIES, KCPServerEndpoint, KCPClientEndpoint, **PROTECTION
)
globals().update(makeTestCases(protected, RealSockets, __name__, PORT_TOPICS))
globals().update(makeTestCases(simulated, Simulation, __name__))
