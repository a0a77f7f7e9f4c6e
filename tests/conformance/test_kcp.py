"""KCP passes the suite on each of the three datagram ports and on the simulated network."""

from __future__ import annotations

from tests.conformance.everywhere import makeEverywhere
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.testing.conformance import Capability

CAPABILITIES = (
    Capability.HALF_CLOSE | Capability.RESETS | Capability.NAMES | Capability.COUNTS_DATAGRAMS
)

globals().update(
    makeEverywhere("KCP", CAPABILITIES, KCPServerEndpoint, KCPClientEndpoint, __name__)
)
