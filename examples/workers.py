"""
An echo in several processes that share one UDP port.

    python examples/workers.py kcp:4000:crypt=null 4
    python examples/echo.py ask kcp:host=127.0.0.1:port=4000 "hello over there"
"""

from __future__ import annotations

import sys

from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

from twisted_rudp.service.workers import runWorkers


def serve(reactor, endpoint):
    """Called in each worker."""
    endpoint.listen(Factory.forProtocol(Echo))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    runWorkers(serve, sys.argv[1], workers=int(sys.argv[2]))
