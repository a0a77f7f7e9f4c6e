"""
Two peers that reach each other through NATs, each with one UDP socket.

Each shows its key, tells the other its key and its address as the world sees it (by
telephone, or by discovery), and both call:

    python examples/peers_over_qotp.py key "my secret"
    python examples/peers_over_qotp.py talk "my secret" 4001 203.0.113.2 4002 KEY "hello"
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_rudp.endpoints.qotppeer import QOTPPeer


class Talking(Protocol):
    """Says one thing, hears one thing."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.heard = b""
        self.over: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.text + b"\n")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard.endswith(b"\n"):
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        print(f"the peer says: {self.heard.decode(errors='replace').strip()}", flush=True)
        self.over.callback(None)


async def key(reactor, seed):
    """Print the public key of a seed."""
    print(QOTPPeer(reactor, seed=seed).publicKey.hex())


async def talk(reactor, seed, port, host, theirPort, theirKey, text):
    """Meet the peer."""
    peer = QOTPPeer(reactor, int(port), seed=seed)
    await peer.listen(Factory.forProtocol(Protocol))
    factory = Factory()
    factory.buildProtocol = lambda address: Talking(text.encode())
    talking = await peer.punch(factory, host, int(theirPort), theirKey)
    await talking.over


COMMANDS = {"key": (key, 3), "talk": (talk, 8)}

if __name__ == "__main__":
    function, count = COMMANDS.get(" ".join(sys.argv[1:2]), (None, 0))
    if function is None or len(sys.argv) != count:
        sys.exit(__doc__)
    task.react(function, sys.argv[2:])
