"""
What metrics and traces cost::

    python -m tests.benchmarks.observing

Work is counted instead of timed: the calls of functions, in Python and in C, that a transfer
makes on a simulated network, which is the same in each run. Once nothing is on, once the
metrics are, once traces were and are off again, once they are on. What a scrape costs is
processor time, of which so much passes every L{INTERVAL} seconds.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from time import process_time
from types import FrameType
from typing import Any, NamedTuple

from twisted.internet.protocol import Factory, Protocol

from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.service.metrics import RudpCollector, metricsSite
from twisted_rudp.service.tracing import endTraces, traceSessions
from twisted_rudp.testing import MemoryNetwork

TRANSPORTS: Mapping[str, tuple[Any, Any, dict[str, Any]]] = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint, {"crypt": "null"}),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint, {}),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint, {}),
}

PORT = 4000

MESSAGE = bytes(100)

INTERVAL = 15
"""Seconds between two scrapes, as in Prometheus's examples; its default is a minute."""

SCRAPES = 5
"""Scrapes of which the median is shown."""


class Load(NamedTuple):
    """
    Something to carry.

    @ivar sessions: how many at one time.
    @ivar size: bytes that each client sends, and gets back.
    """

    sessions: int
    size: int

    def __str__(self) -> str:
        if self.sessions == 1:
            return f"{self.size // 1000} kB there and back"
        return f"{self.sessions} sessions, {self.size} bytes each there and back"


BULK = Load(1, 500_000)
MANY = Load(300, len(MESSAGE))


class Talker(Protocol):
    """Either end. The server's sends back what it gets."""

    def __init__(self, echoes: bool) -> None:
        self.echoes = echoes
        self.got = 0

    def dataReceived(self, data: bytes) -> None:
        self.got += len(data)
        if self.echoes:
            assert self.transport is not None
            self.transport.write(data)


class Talkers(Factory):
    """Keeps those that it makes."""

    noisy = False

    def __init__(self, echoes: bool) -> None:
        self.echoes = echoes
        self.made: list[Any] = []

    def buildProtocol(self, addr: Any) -> Talker:
        self.made.append(Talker(self.echoes))
        return self.made[-1]


class Talk:
    """Sessions between two simulated machines."""

    def __init__(self, transport: str, sessions: int) -> None:
        server, client, options = TRANSPORTS[transport]
        self.network = MemoryNetwork(seed=1, delay=0.01)
        self._here, there = self.network.host("here"), self.network.host("there")
        limits = {"backlog": sessions + 1, "sessionsPerHost": sessions + 1}
        self._port = self._done(
            server(self._here.reactor, PORT, **options, **limits).listen(Talkers(echoes=True))
        )
        self._talkers = Talkers(echoes=False)
        for _ in range(sessions):
            endpoint = client(there.reactor, self._here.address, PORT, **options)
            self._done(endpoint.connect(self._talkers))
        self.network.runFor(1)

    def _done(self, waiting: Any) -> Any:
        found: list[Any] = []
        waiting.addBoth(found.append)
        self.network.run(lambda: bool(found))
        return found[0]

    def carry(self, size: int) -> None:
        """Have every session carry that much, there and back."""
        for each in self._talkers.made:
            each.got = 0
            each.transport.write(bytes(size))
        self.network.run(lambda: all(each.got == size for each in self._talkers.made))

    def close(self) -> None:
        """End all sessions."""
        for each in self._talkers.made:
            each.transport.abortConnection()
        self._done(self._port.stopListening())
        self.network.runFor(100)


def counted(function: Callable[[], object]) -> int:
    """How many functions are called, in Python and in C."""
    calls = 0

    def event(frame: FrameType, what: str, argument: Any) -> None:
        nonlocal calls
        calls += what in {"call", "c_call"}

    # What is collected when would depend on what was before.
    gc.collect()
    gc.disable()
    sys.setprofile(event)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


@contextmanager
def metrics() -> Iterator[None]:
    """With the page of metrics, which nobody asks for meanwhile."""
    site = metricsSite()
    yield
    del site


@contextmanager
def tracedBefore() -> Iterator[None]:
    """Traces were on, and are off again."""
    with tempfile.TemporaryDirectory() as folder:
        traceSessions(folder)
        endTraces()
        yield


@contextmanager
def traced() -> Iterator[None]:
    """All sessions are traced."""
    with tempfile.TemporaryDirectory() as folder:
        traceSessions(folder)
        try:
            yield
        finally:
            endTraces()


@contextmanager
def nothing() -> Iterator[None]:
    """Nothing is on."""
    yield


WAYS: Mapping[str, Callable[[], Any]] = {
    "nothing": nothing,
    "metrics on": metrics,
    "traces off again": tracedBefore,
    "traced": traced,
}


def work(transport: str, load: Load, way: str) -> int:
    """The calls of a load."""
    with WAYS[way]():
        talk = Talk(transport, load.sessions)
        try:
            # The first time fills caches.
            talk.carry(load.size // 10 + 1)
            return counted(lambda: talk.carry(load.size))
        finally:
            talk.close()


def scrape(transport: str, sessions: int, perSession: bool) -> float:
    """
    Seconds of processor time for a scrape.

    @param perSession: with metrics of each session.
    """
    talk = Talk(transport, sessions)
    try:
        talk.carry(len(MESSAGE))
        collector = RudpCollector(perSession)
        times = []
        for _ in range(SCRAPES):
            began = process_time()
            collector.text()
            times.append(process_time() - began)
        return median(times)
    finally:
        talk.close()


def main() -> None:
    """Measure and print."""
    # The first time fills caches of the process.
    for transport in TRANSPORTS:
        work(transport, Load(1, 1000), "nothing")
    print("calls of functions, and relative to nothing\n")
    print("  ".join(each.ljust(24) for each in ("", *WAYS)))
    for transport in TRANSPORTS:
        for load in (BULK, MANY):
            found = {way: work(transport, load, way) for way in WAYS}
            first = found["nothing"]
            cells = [f"{calls} ({calls / first - 1:+.2%})" for calls in found.values()]
            print(f"{transport}, {load}\n" + "  ".join(each.ljust(24) for each in ("", *cells)))
    print(f"\na scrape, and its share of {INTERVAL} s\n")
    for transport in TRANSPORTS:
        for sessions in (1, 1000):
            for perSession in (False, True):
                stats.ports = stats.Registry()
                spent = scrape(transport, sessions, perSession)
                what = ", with metrics of each" if perSession else ""
                print(
                    f"{transport}, {sessions} sessions{what}: {spent * 1000:.1f} ms,"
                    f" {spent / INTERVAL:.2%}"
                )


if __name__ == "__main__":
    main()
