"""
An echo over any stream endpoint.

    python examples/echo.py serve kcp:port=4000:interface=127.0.0.1
    python examples/echo.py ask kcp:host=127.0.0.1:port=4000 "hello over there"
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure


async def serve(reactor, description):
    """Send everything back, until interrupted."""
    endpoint = serverFromString(reactor, description)
    port = await endpoint.listen(Factory.forProtocol(Echo))
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


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
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.answered.callback(self.answer)


async def ask(reactor, description, text):
    """Print what comes back."""
    endpoint = clientFromString(reactor, description)
    asking = await connectProtocol(endpoint, Asking(text.encode()))
    print((await asking.answered).decode())


COMMANDS = {"serve": serve, "ask": ask}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
