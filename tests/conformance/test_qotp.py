"""QOTP passes the suite on each of the three datagram ports and on the simulated network."""

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
