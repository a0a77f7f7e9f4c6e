"""
TLS over KCP: the server has a certificate, the client checks it.

    python examples/tls_over_kcp.py serve kcp:port=4000:interface=127.0.0.1 server.pem
    python examples/tls_over_kcp.py ask kcp:host=127.0.0.1:port=4000 localhost authorities "hello"

C{server.pem} holds a private key and a certificate; C{authorities} is a folder with the
certificates that the client trusts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet import ssl, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    clientFromString,
    connectProtocol,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure


async def serve(reactor, description, pem):
    """Send everything back over TLS, until interrupted."""
    certificate = ssl.PrivateCertificate.loadPEM(Path(pem).read_bytes())
    factory = TLSMemoryBIOFactory(certificate.options(), False, Factory.forProtocol(Echo))
    port = await serverFromString(reactor, description).listen(factory)
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
        if self.answer:
            self.answered.callback(self.answer)
        else:
            self.answered.errback(reason)


async def ask(reactor, description, name, authorities, text):
    """Print what comes back from the server whose certificate is for this name."""
    inner = quoteStringArgument(description)
    string = (
        f"tls:host={name}:port=0:trustRoots={quoteStringArgument(authorities)}:endpoint={inner}"
    )
    asking = await connectProtocol(clientFromString(reactor, string), Asking(text.encode()))
    print((await asking.answered).decode())


COMMANDS = {"serve": serve, "ask": ask}

if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
