"""The clients of L{tests.benchmarks.worker}: what is measured with a session, or with many."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall, deferLater
from zope.interface import implementer

from tests.benchmarks.answering import MESSAGE, STAMP, Receiving, messagesOf
from tests.benchmarks.metrics import quantiles
from twisted_rudp.interfaces import IMessageProtocol

DIALS_AT_ONCE = 50
"""Fewer than any listener's backlog."""

SETTLING = 2.0
"""Seconds that timed messages may take after the last of them was sent."""

Result = dict[str, Any]


@implementer(IMessageProtocol)
class Exchanging(Receiving):
    """A client that sends a message when the last one is back."""

    def __init__(self) -> None:
        self._left = 0
        self._missing = 0
        self._done: Deferred[None] = Deferred()
        self._started = 0.0
        self.trips: list[float] = []

    def exchange(self, count: int) -> Deferred[None]:
        """
        So many messages, one after the other.

        @ivar trips: microseconds each of them took.
        """
        self._left = count
        self._done = Deferred()
        self.trips = []
        self._next()
        return self._done

    def _next(self) -> None:
        self._missing = len(MESSAGE)
        self._started = time.perf_counter()
        self.transport.write(MESSAGE)

    def dataReceived(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing:
            return
        self.trips.append((time.perf_counter() - self._started) * 1e6)
        self._left -= 1
        if self._left:
            self._next()
        else:
            self._done.callback(None)


@implementer(IPushProducer)
class Flooding:
    """A producer that writes while it may."""

    def __init__(self, transport: Any, chunk: bytes) -> None:
        self._transport = transport
        self._chunk = chunk
        self._flowing = False
        self.written = 0

    def start(self) -> None:
        self._transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._flowing = True
        while self._flowing:
            self._transport.write(self._chunk)
            self.written += len(self._chunk)

    def pauseProducing(self) -> None:
        self._flowing = False

    def stopProducing(self) -> None:
        self._flowing = False


class Ticking:
    """Writes so many messages that tell when they were written, one each interval."""

    def __init__(self, reactor: Any, transport: Any, options: argparse.Namespace) -> None:
        self._reactor = reactor
        self._transport = transport
        self._every = options.every / 1000
        self._filling = MESSAGE[:1] * (options.size - STAMP.size)
        self._left = messagesOf(options)

    async def run(self, delay: float) -> None:
        """
        @param delay: seconds until the first of them.
        """
        await deferLater(self._reactor, delay)
        self._loop = LoopingCall(self._next)
        self._loop.clock = self._reactor
        await self._loop.start(self._every)

    def _next(self) -> None:
        self._transport.write(STAMP.pack(time.time_ns()) + self._filling)
        self._left -= 1
        if not self._left:
            self._loop.stop()


Job = Callable[[Any, IStreamClientEndpoint, argparse.Namespace], Awaitable[Result]]


async def dial(endpoint: IStreamClientEndpoint, sessions: int, warmUp: int) -> Sequence[Exchanging]:
    """Sessions that have exchanged so many messages each."""
    factory = Factory.forProtocol(Exchanging)
    clients: list[Exchanging] = []
    while len(clients) < sessions:
        group = min(DIALS_AT_ONCE, sessions - len(clients))
        dialled = await gatherResults([endpoint.connect(factory) for _ in range(group)])
        await gatherResults([client.exchange(warmUp) for client in dialled])
        clients.extend(dialled)
    return clients


async def bulk(
    reactor: Any, endpoint: IStreamClientEndpoint, options: argparse.Namespace
) -> Result:
    """As much as goes through in C{options.seconds}, in writes of C{options.chunk}."""
    clients = await dial(endpoint, options.sessions, options.warmup)
    chunk = MESSAGE[:1] * options.chunk
    cpu = time.process_time()
    for client in clients:
        Flooding(client.transport, chunk).start()
    await deferLater(reactor, options.seconds)
    result = {"cpu_seconds": time.process_time() - cpu}
    for client in clients:
        client.transport.abortConnection()
    return result


async def echo(
    reactor: Any, endpoint: IStreamClientEndpoint, options: argparse.Namespace
) -> Result:
    """C{options.count} round trips of one message."""
    (client,) = await dial(endpoint, 1, options.warmup)
    cpu, start = time.process_time(), time.perf_counter()
    await client.exchange(options.count)
    result = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        **quantiles(client.trips),
    }
    client.transport.abortConnection()
    return result


async def idle(
    reactor: Any, endpoint: IStreamClientEndpoint, options: argparse.Namespace
) -> Result:
    """
    C{options.sessions} sessions that have exchanged one message and then say
    nothing for C{options.seconds}.
    """
    before = residentBytes()
    clients = await dial(endpoint, options.sessions, 1)
    resident = residentBytes() - before
    cpu = time.process_time()
    await deferLater(reactor, options.seconds)
    return {
        "seconds": options.seconds,
        "cpu_seconds": time.process_time() - cpu,
        "bytes_per_session": resident / len(clients),
    }


async def messages(
    reactor: Any, endpoint: IStreamClientEndpoint, options: argparse.Namespace
) -> Result:
    """
    In each session a message of C{options.size} bytes every C{options.every}
    milliseconds, for C{options.seconds}. The sessions take turns.
    """
    clients = await dial(endpoint, options.sessions, options.warmup)
    cpu, start = time.process_time(), time.perf_counter()
    step = options.every / 1000 / len(clients)
    await gatherResults(
        [
            Deferred.fromCoroutine(Ticking(reactor, client.transport, options).run(n * step))
            for n, client in enumerate(clients)
        ]
    )
    result = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }
    await deferLater(reactor, SETTLING)
    for client in clients:
        client.transport.abortConnection()
    return result


JOBS: dict[str, Job] = {"bulk": bulk, "echo": echo, "idle": idle, "messages": messages}


def residentBytes() -> int:
    """Memory of this process that is in use."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
