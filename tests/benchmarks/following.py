"""
Follows a small write to the socket and a datagram to the protocol: how many calls it
takes, in how many files. C{python -m tests.benchmarks.following}
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet.defer import ensureDeferred, maybeDeferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

import twisted_rudp

PACKAGE = str(Path(twisted_rudp.__file__).parent)
STRINGS = {
    "kcp": ("kcp:0:interface=127.0.0.1", "kcp:host=127.0.0.1:port={}"),
    "raknet": ("raknet:0:interface=127.0.0.1", "raknet:host=127.0.0.1:port={}"),
    "qotp": ("qotp:0:interface=127.0.0.1:seed=a", "qotp:host=127.0.0.1:port={}"),
}


class Trace:
    """The functions of this package that are entered, with the depth at which."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls.append((frame.f_code.co_filename, frame.f_code.co_qualname))

    def files(self) -> set[str]:
        return {file for file, _ in self.calls}

    def text(self) -> str:
        switches = sum(a[0] != b[0] for a, b in zip(self.calls, self.calls[1:], strict=False))
        return f"{len(self.calls):5} calls {len(self.files()):3} files {switches:3} switches"

    def listing(self) -> str:
        return "\n".join(
            f"    {file.removeprefix(PACKAGE)} {name}" for file, name in self.calls
        )


class Traced(Protocol):
    """Stops a trace when data comes."""

    def __init__(self) -> None:
        self.onData: Callable[[], None] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.onData()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        pass


async def follow(reactor: Any, transport: str) -> list[tuple[str, Trace]]:
    """Count the four ways of one transport."""
    server, client = STRINGS[transport]
    accepted: list[Traced] = []

    def build() -> Traced:
        accepted.append(Traced())
        return accepted[-1]

    listening: Any = await serverFromString(reactor, server).listen(Factory.forProtocol(build))
    found: list[tuple[str, Trace]] = []
    connecting = Trace()
    text = client.format(listening.getHost().port)
    endpoint = clientFromString(reactor, text)
    sys.setprofile(connecting.note)
    protocol = await connectProtocol(endpoint, Traced())
    protocol.transport.write(b"x")
    while not accepted:
        await deferLater(reactor, 0.01)
    sys.setprofile(None)
    found.append(("connect", connecting))
    for _ in range(20):
        protocol.transport.write(bytes(100))
        await deferLater(reactor, 0.02)
        accepted[0].transport.write(bytes(100))
        await deferLater(reactor, 0.02)
    out, into = Trace(), Trace()
    sender: Any = protocol.transport.session.host.output.port
    receiver: Any = accepted[0].transport.session.host.output.port

    def profiled(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and argument.__name__ in ("sendto", "sendmsg"):
            sys.setprofile(None)
            return
        out.note(frame, event, argument)

    sys.setprofile(profiled)
    protocol.transport.write(bytes(100))
    await deferLater(reactor, 0.02)
    sys.setprofile(None)
    found.append(("write -> sendto", out))
    assert sender is not receiver

    read = receiver.doRead

    def doRead() -> None:
        sys.setprofile(into.note)
        try:
            read()
        finally:
            sys.setprofile(None)

    accepted[0].onData = lambda: sys.setprofile(None)
    receiver.doRead = doRead
    protocol.transport.write(bytes(100))
    await deferLater(reactor, 0.05)
    receiver.doRead = read
    found.append(("doRead -> dataReceived", into))
    closing = Trace()
    sys.setprofile(closing.note)
    protocol.transport.loseConnection()
    await deferLater(reactor, 1)
    sys.setprofile(None)
    found.append(("close", closing))
    await maybeDeferred(listening.stopListening)
    return found


async def main(reactor: Any) -> None:
    """Print a line for each way of each transport; with C{-v} the calls too."""
    for transport in STRINGS:
        for way, trace in await follow(reactor, transport):
            print(f"{transport:7} {way:24} {trace.text()}")
            if "-v" in sys.argv and "->" in way:
                print(trace.listing())


if __name__ == "__main__":
    react(lambda reactor: ensureDeferred(main(reactor)))
