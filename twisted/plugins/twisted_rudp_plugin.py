"""
What Twisted finds of this package: endpoint strings and C{twist rudp}.

Every Twisted program that looks for plugins imports this module, so it imports
no transport and no service (STR-9, SVC-1).
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

from twisted_rudp.strings import (
    KCP,
    KCPTUN,
    QOTP,
    RAKNET,
    EndpointParser,
    MuxParser,
    NodeParser,
)

kcp = EndpointParser(KCP)
kcptun = EndpointParser(KCPTUN)
qotp = EndpointParser(QOTP)
raknet = EndpointParser(RAKNET)

node = NodeParser()

mux = MuxParser()

rudp = ServiceMaker(
    "twisted_rudp services",
    "twisted_rudp.service.options",
    "Forward or echo streams over reliable UDP.",
    "rudp",
)
