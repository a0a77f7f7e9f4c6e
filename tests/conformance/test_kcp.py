"""KCP passes the suite on the simulated network and on real sockets."""

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
