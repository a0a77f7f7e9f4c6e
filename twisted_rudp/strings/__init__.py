"""
Endpoint descriptions: everything a person may type behind C{kcp:}, C{qotp:}, C{raknet:}
and C{node:}, and the parsers that Twisted's plugins are made of.
"""

from twisted_rudp.strings.node import NodeParser
from twisted_rudp.strings.parser import EndpointParser, Role, Transport
from twisted_rudp.strings.transports import KCP, QOTP, RAKNET, TRANSPORTS

__all__ = [
    "KCP",
    "QOTP",
    "RAKNET",
    "TRANSPORTS",
    "EndpointParser",
    "NodeParser",
    "Role",
    "Transport",
]
