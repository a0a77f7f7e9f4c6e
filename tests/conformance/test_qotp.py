"""QOTP passes the suite on the simulated network and on real sockets."""

from __future__ import annotations

from tests.conformance.everywhere import makeEverywhere
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.testing.conformance import Capability

CAPABILITIES = (
    Capability.HALF_CLOSE | Capability.RESETS | Capability.NAMES | Capability.COUNTS_DATAGRAMS
)

globals().update(
    makeEverywhere("QOTP", CAPABILITIES, QOTPServerEndpoint, QOTPClientEndpoint, __name__)
)
