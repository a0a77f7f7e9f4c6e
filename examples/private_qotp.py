"""
A QOTP server for some clients only, each known by its key.

    rudp keygen alice.key >> friends.txt
    python examples/private_qotp.py serve qotp:port=4000:seed=example friends.txt
    python examples/private_qotp.py greet qotp:host=127.0.0.1:port=4000:keyFile=alice.key

Whose key is not in the file is refused, and is told so. The file is read again when it has
changed. For a password in place of keys add password=... to both endpoints.
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_rudp.errors import AuthenticationFailed


class Greeting(Protocol):
    """Knows whom it talks to before anything is said."""

    def connectionMade(self) -> None:
        key = self.transport.facts()["peer_key"]
        print(f"{key[:8]} has come in", flush=True)
        self.transport.write(f"hello {key[:8]}".encode())
        self.transport.loseConnection()


async def serve(reactor, description, friends):
    """Greet friends, until interrupted."""
    endpoint = serverFromString(reactor, f"{description}:allowedKeys={friends}")
    port = await endpoint.listen(Factory.forProtocol(Greeting))
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


class Greeted(Protocol):
    """Prints what it is told."""

    def __init__(self) -> None:
        self.text = b""
        self.done: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.text += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        print(self.text.decode(errors="replace"))
        self.done.callback(None)


async def greet(reactor, description):
    """Connect, and say what came of it."""
    endpoint = clientFromString(reactor, description)
    try:
        greeted = await connectProtocol(endpoint, Greeted())
    except AuthenticationFailed as problem:
        print(f"refused: {problem}")
    else:
        await greeted.done


COMMANDS = {"serve": serve, "greet": greet}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
