"""A test that leaves nothing behind over TCP leaves nothing behind over any transport."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase


class Echo(Protocol):
    """Answers."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Asker(Protocol):
    """Tells of the first answer."""

    def __init__(self) -> None:
        self.answered: defer.Deferred[None] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        if not self.answered.called:
            self.answered.callback(None)


class CleanTests(TestCase):
    """
    Trial fails a test that leaves sockets or timers. As most tests of programs do, these
    close one end and stop the port; they do not wait for the other end.
    """

    transport = "tcp"

    async def end(self, how: str, exchange: bool, server: bool = False) -> None:
        accepted: list[Echo] = []

        def build() -> Echo:
            accepted.append(Echo())
            return accepted[-1]

        text = f"{self.transport}:0:interface=127.0.0.1"
        listening: Any = await serverFromString(reactor, text).listen(
            Factory.forProtocol(build)  # type: ignore[arg-type]
        )
        text = f"{self.transport}:host=127.0.0.1:port={listening.getHost().port}"
        asker = await connectProtocol(clientFromString(reactor, text), Asker())
        if exchange:
            asker.transport.write(b"x")
            await asker.answered
        ending: Any = accepted[0] if server else asker
        getattr(ending.transport, how)()
        await listening.stopListening()

    async def test_lose(self) -> None:
        """The client closes, after an exchange or at once."""
        for exchange in (True, False):
            await self.end("loseConnection", exchange)

    async def test_abort(self) -> None:
        """The client gives up, after an exchange or at once."""
        for exchange in (True, False):
            await self.end("abortConnection", exchange)

    async def test_server(self) -> None:
        """The server closes or gives up."""
        for how in ("loseConnection", "abortConnection"):
            await self.end(how, True, True)


class CleanKCPTests(CleanTests):
    """The same over KCP."""

    transport = "kcp"


class CleanRakNetTests(CleanTests):
    """The same over RakNet."""

    transport = "raknet"


class CleanQOTPTests(CleanTests):
    """The same over QOTP."""

    transport = "qotp"
