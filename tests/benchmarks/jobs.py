"""
The protocols and jobs of L{tests.benchmarks.worker}.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from twisted_rudp.core.engine import Message
from twisted_rudp.interfaces import IMessageProtocol

MESSAGE = b"\xfe" * 64
"""What echo jobs and the warm-up send. Its first byte is one that RakNet leaves to
users."""

WARM_UP = 20
"""Messages of a session that a server of the bulk job echoes before it only
counts: so each side knows the other's window before the clock starts."""

DIALS_AT_ONCE = 50
"""Fewer than any listener's backlog."""

Result = dict[str, Any]


class Meter:
    """
    What servers of the bulk job received after the warm-up.

    @ivar elapsed: seconds from the first to the last of it.
    """

    def __init__(self) -> None:
        self.received = 0
        self._first = self._last = 0.0

    def count(self, length: int) -> None:
        self._last = time.perf_counter()
        if not self.received:
            self._first = self._last
        self.received += length

    @property
    def elapsed(self) -> float:
        return self._last - self._first


class _Receiving(Protocol):
    """
    Messages count as the bytes in them.
    """

    def messageReceived(self, message: Message) -> None:
        self.dataReceived(message.data)


@implementer(IMessageProtocol)
class Answering(_Receiving):
    """
    A server: echoes, and in the bulk job only the warm-up.
    """

    def __init__(self, meter: Meter, bulk: bool) -> None:
        self._meter = meter
        self._bulk = bulk
        self._echoed = 0

    def dataReceived(self, data: bytes) -> None:
        left = WARM_UP * len(MESSAGE) - self._echoed if self._bulk else len(data)
        if left > 0:
            self._echoed += len(data[:left])
            self.transport.write(data[:left])
        if len(data) > left:
            self._meter.count(len(data) - max(left, 0))


@implementer(IMessageProtocol)
class Exchanging(_Receiving):
    """
    A client that sends a message when the last one is back.
    """

    def __init__(self) -> None:
        self._left = 0
        self._missing = 0
        self._done: Deferred[None] = Deferred()
        self._started = 0.0
        self.trips: list[float] = []

    def exchange(self, count: int) -> Deferred[None]:
        """
        So many messages, one after the other.

        @ivar trips: seconds each of them took.
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
        self.trips.append(time.perf_counter() - self._started)
        self._left -= 1
        if self._left:
            self._next()
        else:
            self._done.callback(None)


@implementer(IPushProducer)
class Flooding:
    """
    A producer that writes while it may.
    """

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


Job = Callable[[Any, IStreamClientEndpoint, argparse.Namespace, Meter | None], Awaitable[Result]]


async def bulk(
    reactor: Any, endpoint: IStreamClientEndpoint, options: argparse.Namespace, meter: Meter | None
) -> Result:
    """
    As much as goes through in C{options.seconds}, in writes of C{options.chunk}.

    @param meter: the server's, if that is in this process: then what it got is
        the result, else what was written.
    """
    client = await connectProtocol(endpoint, Exchanging())
    await client.exchange(WARM_UP)
    flooding = Flooding(client.transport, MESSAGE[:1] * options.chunk)
    cpu, start = time.process_time(), time.perf_counter()
    flooding.start()
    await deferLater(reactor, options.seconds)
    result = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "bytes": meter.received if meter else flooding.written,
    }
    client.transport.abortConnection()
    return result


async def echo(
    reactor: Any, endpoint: IStreamClientEndpoint, options: argparse.Namespace, meter: Meter | None
) -> Result:
    """
    C{options.count} round trips of one message.
    """
    client = await connectProtocol(endpoint, Exchanging())
    await client.exchange(WARM_UP)
    cpu, start = time.process_time(), time.perf_counter()
    await client.exchange(options.count)
    result = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }
    trips = sorted(client.trips)
    client.transport.abortConnection()
    return result | {
        "p50_us": trips[len(trips) // 2] * 1e6,
        "p99_us": trips[len(trips) * 99 // 100] * 1e6,
    }


async def idle(
    reactor: Any, endpoint: IStreamClientEndpoint, options: argparse.Namespace, meter: Meter | None
) -> Result:
    """
    C{options.sessions} sessions that have exchanged one message and then say
    nothing for C{options.seconds}.
    """
    before = residentBytes()
    clients: list[Exchanging] = []
    while len(clients) < options.sessions:
        group = min(DIALS_AT_ONCE, options.sessions - len(clients))
        dialled = await gatherResults(
            [connectProtocol(endpoint, Exchanging()) for _ in range(group)]
        )
        await gatherResults([client.exchange(1) for client in dialled])
        clients.extend(dialled)
    resident = residentBytes() - before
    cpu = time.process_time()
    await deferLater(reactor, options.seconds)
    return {
        "seconds": options.seconds,
        "cpu_seconds": time.process_time() - cpu,
        "sessions": options.sessions,
        "bytes_per_session": resident / options.sessions,
    }


JOBS: dict[str, Job] = {"bulk": bulk, "echo": echo, "idle": idle}


def residentBytes() -> int:
    """
    Memory of this process that is in use.
    """
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
