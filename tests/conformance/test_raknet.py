"""RakNet passes the suite on the simulated network and on real sockets."""

from __future__ import annotations

from tests.conformance.everywhere import makeEverywhere
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing.conformance import Capability

CAPABILITIES = Capability.RESETS | Capability.NAMES | Capability.COUNTS_DATAGRAMS

globals().update(
    makeEverywhere("RakNet", CAPABILITIES, RakNetServerEndpoint, RakNetClientEndpoint, __name__)
)
