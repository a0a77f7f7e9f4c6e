"""
A TCP service reached through an encrypted KCP session with FEC, which repairs a
lossy link without asking for everything twice.

    python examples/encrypted_tunnel.py serve kcp:port=4000:interface=127.0.0.1
    python examples/encrypted_tunnel.py ask kcp:host=127.0.0.1:port=4000 "hello over there"

C{serve} is the far end of the tunnel; the TCP service behind it is an echo of
its own. C{ask} is the near end: it listens on a TCP port, and one TCP client
asks there. Nothing but L{PROTECTION} says that the tunnel is encrypted, and it
must be the same on both ends.
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    connectProtocol,
    serverFromString,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.portforward import ProxyFactory
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure

PROTECTION = ":crypt=aes-128-gcm:password=only an example:dataShards=10:parityShards=3"


class Pipe(Protocol):
    """One end of a pair of connections; what comes goes out at the other."""

    other: Pipe

    def dataReceived(self, data: bytes) -> None:
        self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.other.transport.loseConnection()


class Near(Pipe):
    """A TCP client of the tunnel; not read before the far end is there."""

    def __init__(self, far) -> None:
        self.far = far

    def connectionMade(self) -> None:
        self.transport.pauseProducing()
        opening = connectProtocol(self.far, Pipe())
        opening.addCallbacks(self.opened, lambda failure: self.transport.abortConnection())

    def opened(self, other: Pipe) -> None:
        self.other, other.other = other, self
        self.transport.registerProducer(other.transport, True)
        other.transport.registerProducer(self.transport, True)
        self.transport.resumeProducing()


class Asking(Protocol):
    """Sends one text and collects as many bytes as it has."""

    def __init__(self, question: bytes) -> None:
        self.question = question
        self.answer = b""
        self.answered: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.question)

    def dataReceived(self, data: bytes) -> None:
        self.answer += data
        if len(self.answer) >= len(self.question):
            self.answered.callback(self.answer)


async def serve(reactor, description):
    """Carry every session to the echo, until interrupted."""
    echo = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(Echo)
    )
    endpoint = serverFromString(reactor, description + PROTECTION)
    port = await endpoint.listen(ProxyFactory("127.0.0.1", echo.getHost().port))
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


async def ask(reactor, description, text):
    """Open the near end, ask through it over TCP, print what comes back."""
    far = clientFromString(reactor, description + PROTECTION)
    factory = Factory()
    factory.buildProtocol = lambda address: Near(far)
    near = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    client = TCP4ClientEndpoint(reactor, "127.0.0.1", near.getHost().port)
    asking = await connectProtocol(client, Asking(text.encode()))
    print((await asking.answered).decode())


COMMANDS = {"serve": serve, "ask": ask}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
