"""
A question whose end is the end of the stream: the server counts bytes until the
client has closed its half, and answers on the other half.

    python examples/half_close.py serve kcp:port=4000:interface=127.0.0.1
    echo "how long is this" | python examples/half_close.py ask kcp:host=127.0.0.1:port=4000
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class Counting(Protocol):
    """Answers with the length of the question."""

    def __init__(self) -> None:
        self.count = 0

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)

    def readConnectionLost(self) -> None:
        self.transport.write(f"{self.count} bytes\n".encode())
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


@implementer(IHalfCloseableProtocol)
class Asking(Protocol):
    """Sends the question, closes its half, and reads to the end of the answer."""

    def __init__(self, question: bytes) -> None:
        self.question = question
        self.answer = b""
        self.answered: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.question)
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.answer += data

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.answered.callback(self.answer)


async def serve(reactor, description):
    """Answer, until interrupted."""
    port = await serverFromString(reactor, description).listen(Factory.forProtocol(Counting))
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


async def ask(reactor, description):
    """Send standard input and print the answer."""
    question = sys.stdin.buffer.read()
    asking = await connectProtocol(clientFromString(reactor, description), Asking(question))
    print((await asking.answered).decode(), end="")


COMMANDS = {"serve": serve, "ask": ask}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
