"""
Connections that go on for long over a link that loses, repeats and reorders::

    python -m tests.benchmarks.soak --minutes 20

For each transport clients echo pieces of all lengths through a L{Link} over real sockets,
byte for byte compared, pause, close and come again, beside a client that is idle all the
time. It ends with an error if a byte is wrong, a connection is lost, an exchange takes too
long, a port is left, or memory goes on growing.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol

from twisted_rudp.service.link import Link
from twisted_rudp.testing.impairments import Impairments

TRANSPORTS = ("kcp", "raknet", "qotp")
CLIENTS = 3
LONGEST = 60.0
"""Seconds that an exchange may take."""
PIECES = (1, 100, 1399, 20_000, 300_000)
MOST_GROWTH = 40_000
"""KB that the process may grow by after its first third."""
IMPAIRMENTS = Impairments(delay=0.01, jitter=0.01, loss=0.05, reorder=0.02, duplicate=0.02, seed=1)


class Echo(Protocol):
    """The server's end."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Asking(Protocol):
    """The client's end."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.wanted = 0
        self.waiting: Deferred[None] | None = None
        self.lost: Deferred[None] = Deferred()
        self.reason: Any = None

    async def ask(self, data: bytes) -> bool:
        """Have data echoed; whether the same came back."""
        assert self.transport is not None
        self.received.clear()
        self.wanted = len(data)
        self.waiting = Deferred()
        self.transport.write(data)
        await self.waiting
        return self.received == data

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.waiting is not None and len(self.received) >= self.wanted:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)

    def connectionLost(self, reason: Any) -> None:
        if self.waiting is not None:
            self.waiting.errback(reason)
        self.reason = reason
        self.lost.callback(None)


class Soak:
    """One transport."""

    def __init__(self, reactor: Any, name: str, end: float, seed: int) -> None:
        self._reactor = reactor
        self._chance = random.Random(seed)
        self._end = end
        self.name = name
        self.exchanges = self.connections = self.bytes = 0
        self.longest = 0.0
        self.wrong: list[str] = []

    async def run(self) -> None:
        """Until the end."""
        factory = Factory.forProtocol(Echo)
        factory.noisy = False
        listening = serverFromString(self._reactor, f"{self.name}:0:interface=127.0.0.1")
        port = await listening.listen(factory)
        number = port.getHost().port
        link = Link(self._reactor, "127.0.0.1", 0, "127.0.0.1", number, IMPAIRMENTS)
        link.start()
        self._dialling = clientFromString(
            self._reactor, f"{self.name}:127.0.0.1:{link.port}:timeout=30"
        )
        clients = [Deferred.fromCoroutine(self._client()) for _ in range(CLIENTS)]
        await gatherResults([*clients, Deferred.fromCoroutine(self._idle())], consumeErrors=True)
        await maybeDeferred(port.stopListening)
        await maybeDeferred(link.stop)

    async def _connect(self) -> Asking:
        factory: Any = Factory.forProtocol(Asking)
        factory.noisy = False
        client: Asking = await self._dialling.connect(factory)
        self.connections += 1
        return client

    async def _idle(self) -> None:
        client = await self._connect()
        await task.deferLater(self._reactor, max(0, self._end - time.monotonic()))
        await self._exchange(client, b"still there?")
        await self._close(client)

    async def _client(self) -> None:
        while time.monotonic() < self._end:
            client = await self._connect()
            for _ in range(self._chance.randrange(1, 30)):
                await self._exchange(client, self._chance.randbytes(self._chance.choice(PIECES)))
                if self._chance.random() < 0.2:
                    await task.deferLater(self._reactor, self._chance.random() * 2)
                if time.monotonic() >= self._end:
                    break
            await self._close(client)

    async def _exchange(self, client: Asking, data: bytes) -> None:
        began = time.monotonic()
        if not await client.ask(data):
            self.wrong.append(f"{len(data)} bytes came back as others")
        taken = time.monotonic() - began
        self.longest = max(self.longest, taken)
        self.exchanges += 1
        self.bytes += 2 * len(data)
        if taken > LONGEST:
            self.wrong.append(f"{len(data)} bytes took {taken:.0f} s")

    async def _close(self, client: Asking) -> None:
        assert client.transport is not None
        client.transport.loseConnection()
        await client.lost
        if not client.reason.check(ConnectionDone):
            self.wrong.append(f"closed with {client.reason.value!r}")

    def row(self) -> str:
        """What happened, on a line."""
        return (
            f"{self.name:8}{self.connections:12}{self.exchanges:11}{self.bytes / 1e6:9.1f} MB"
            f"{self.longest:9.1f} s  {'; '.join(self.wrong[:3]) or 'good'}"
        )


def memory() -> int:
    """The most KB that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def main(reactor: Any) -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("::")[0].strip())
    parser.add_argument("transports", nargs="*", default=TRANSPORTS, metavar="TRANSPORT")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seconds = options.minutes * 60
    end = time.monotonic() + seconds
    soaks = [Soak(reactor, name, end, options.seed) for name in options.transports]
    early: list[int] = []
    reactor.callLater(seconds / 3, lambda: early.append(memory()))
    failed = 0
    try:
        await gatherResults([Deferred.fromCoroutine(soak.run()) for soak in soaks])
    finally:
        print("transport connections  exchanges     bytes   longest")
        for soak in soaks:
            print(soak.row())
            failed += len(soak.wrong)
    grown = memory() - early[0]
    print(f"memory: {memory() // 1000} MB, {grown // 1000} MB more than after a third")
    if failed or grown > MOST_GROWTH:
        sys.exit(1)


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
