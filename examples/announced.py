"""
A service that announces itself, and a client that needs its name only.

    python examples/announced.py serve kcp:port=0 clock
    python examples/announced.py ask node:clock:transports=kcp
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.service import discoveryOf


class Clock(Protocol):
    """Tells how long it has been running."""

    def connectionMade(self) -> None:
        seconds = self.factory.reactor.seconds() - self.factory.began
        self.transport.write(f"running for {seconds:.0f} s".encode())
        self.transport.loseConnection()


async def serve(reactor, description, name):
    """Listen and be found, until interrupted."""
    factory = Factory.forProtocol(Clock)
    factory.reactor, factory.began = reactor, reactor.seconds()
    port = await serverFromString(reactor, description).listen(factory)
    number = port.getHost().port
    announced = discoveryOf(reactor).announce(
        NodeId.from_text(name), [f"{description.partition(':')[0]}://0.0.0.0:{number}"]
    )
    print(f"{name} is on port {number}", flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", announced.release)
    await Deferred()


class Listening(Protocol):
    """Collects everything until the end."""

    def __init__(self) -> None:
        self.text = b""
        self.ended: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.text += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self.text.decode())


async def ask(reactor, description):
    """Print what the service says."""
    endpoint = clientFromString(reactor, description)
    listening = await connectProtocol(endpoint, Listening())
    print(await listening.ended)


COMMANDS = {"serve": serve, "ask": ask}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
