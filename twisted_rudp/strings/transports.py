"""
The transports whose endpoints can be written as strings. What may be written for each is
declared by its endpoint classes. Another transport is another L{Transport}.
"""

from __future__ import annotations

from twisted_rudp.strings.parser import Role, Transport


def _transport(prefix: str, name: str) -> Transport:
    """A transport whose endpoint classes are called as all of ours are."""
    module = f"twisted_rudp.endpoints.{prefix}"
    return Transport(
        prefix=prefix,
        server=Role(module, f"{name}ServerEndpoint", ("port", "interface"), required=1),
        client=Role(module, f"{name}ClientEndpoint", ("host", "port"), required=2),
    )


KCP = _transport("kcp", "KCP")
QOTP = _transport("qotp", "QOTP")
RAKNET = _transport("raknet", "RakNet")

KCPTUN = _transport("kcptun", "KCPTun")

TRANSPORTS = (KCP, QOTP, RAKNET)
"""Those a node can be reached by."""

EVERY = (*TRANSPORTS, KCPTUN)
