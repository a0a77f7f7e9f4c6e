"""
Files over QOTP, each on a stream of its own, with progress.

    python examples/files_over_qotp.py serve qotp:port=4000:seed=example /tmp/received
    python examples/files_over_qotp.py send qotp:host=127.0.0.1:port=4000 README.rst setup.cfg

Add serverKey=KEY to what follows "send", with the key that the server prints, and you
know who gets your files.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.python.failure import Failure


class Receiving(LineReceiver):
    """One stream: a line with name and size, then the file. Answers with its digest."""

    delimiter = b"\n"
    MAX_LENGTH = 1000

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.digest = sha256()
        self.left = 0

    def lineReceived(self, line: bytes) -> None:
        name, _, size = line.decode(errors="replace").rpartition(" ")
        # The peer chooses the name, but not where the file goes.
        self.file = open(self.directory / Path(name or "unnamed").name, "wb")  # noqa: SIM115
        self.left = int(size)
        self.setRawMode()
        self.rawDataReceived(b"")

    def rawDataReceived(self, data: bytes) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.left -= len(data)
        if self.left <= 0:
            self.file.close()
            self.transport.write(self.digest.hexdigest().encode())
            self.transport.loseConnection()


class Receiver(Protocol):
    """The connection itself: all it does is to take the streams that the peer opens."""

    def connectionMade(self) -> None:
        directory = self.factory.directory
        streams = Factory()
        streams.buildProtocol = lambda address: Receiving(directory)
        self.transport.acceptStreams(streams)


async def serve(reactor, description, directory):
    """Take files, until interrupted."""
    endpoint = serverFromString(reactor, description)
    factory = Factory.forProtocol(Receiver)
    factory.directory = Path(directory)
    port = await endpoint.listen(factory)
    print(f"serverKey={endpoint.publicKey.hex()}", flush=True)
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


class Sending(Protocol):
    """Sends one file and compares the digest that comes back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.digest = sha256()
        self.sent = self.shown = 0
        self.answer = b""
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(f"{self.path.name} {self.size}\n".encode())
        # The sender reads on only as fast as the stream takes what it has read.
        sender = FileSender()
        sending = sender.beginFileTransfer(self.path.open("rb"), self.transport, self.progress)
        # The answer says what became of the file; it may be here before the sender has
        # seen the end of it.
        sending.addErrback(lambda failure: None)

    def progress(self, data: bytes) -> bytes:
        self.digest.update(data)
        self.sent += len(data)
        quarter = 4 * self.sent // max(self.size, 1)
        if quarter > self.shown:
            self.shown = quarter
            print(f"{self.path.name}: {25 * quarter} %", flush=True)
        return data

    def dataReceived(self, data: bytes) -> None:
        self.answer += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        good = self.answer.decode(errors="replace") == self.digest.hexdigest()
        print(f"{self.path.name}: {'arrived' if good else 'failed'}", flush=True)
        self.done.callback(None)


async def send(reactor, description, *paths):
    """Send all files at once."""
    endpoint = clientFromString(reactor, description)
    connection = await connectProtocol(endpoint, Protocol())
    facts = connection.transport.facts()
    if not facts["peer_key_proved"]:
        print("nobody knows who gets these files: no serverKey was given")
    sending = []
    for path in paths:
        streams = Factory()
        streams.buildProtocol = lambda address, path=path: Sending(Path(path))
        sending.append(connection.transport.openStream(streams).done)
    await gatherResults(sending)
    connection.transport.loseConnection()


COMMANDS = {"serve": serve, "send": send}

if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
