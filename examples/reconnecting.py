"""
A client that stays connected: Twisted's C{ClientService} over any endpoint. It sends a
line every second and says when the connection comes and goes.

    python examples/echo.py serve kcp:port=4000:interface=127.0.0.1
    python examples/reconnecting.py kcp:host=127.0.0.1:port=4000:idleTimeout=5
"""

from __future__ import annotations

import sys

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure


class Ticking(LineOnlyReceiver):
    """Sends a line every second."""

    delimiter = b"\n"

    def connectionMade(self) -> None:
        print("connected", flush=True)
        self.number = 0
        self.ticking = task.LoopingCall(self.tick)
        self.ticking.clock = self.factory.reactor
        self.ticking.start(1.0)

    def tick(self) -> None:
        self.number += 1
        self.sendLine(b"tick %d" % self.number)

    def lineReceived(self, line: bytes) -> None:
        print(line.decode(), flush=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ticking.stop()
        print(f"lost: {reason.getErrorMessage()}", flush=True)


async def main(reactor, description):
    """Stay connected, until interrupted."""
    factory = Factory.forProtocol(Ticking)
    factory.reactor = reactor
    service = ClientService(
        clientFromString(reactor, description),
        factory,
        retryPolicy=backoffPolicy(initialDelay=0.5, maxDelay=30.0),
        clock=reactor,
    )
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    await Deferred()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    task.react(main, sys.argv[1:])
