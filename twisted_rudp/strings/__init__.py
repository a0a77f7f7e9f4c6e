"""
Endpoint descriptions: the arguments of C{kcp:}, C{kcptun:}, C{qotp:}, C{raknet:}, C{node:}
and C{mux:}, and the parsers that the plugin registers.
"""

from twisted_rudp.strings.mux import MuxParser
from twisted_rudp.strings.node import NodeParser
from twisted_rudp.strings.parser import EndpointParser, Role, Transport
from twisted_rudp.strings.transports import EVERY, KCP, KCPTUN, QOTP, RAKNET, TRANSPORTS

__all__ = [
    "EVERY",
    "KCP",
    "KCPTUN",
    "QOTP",
    "RAKNET",
    "TRANSPORTS",
    "EndpointParser",
    "MuxParser",
    "NodeParser",
    "Role",
    "Transport",
]
