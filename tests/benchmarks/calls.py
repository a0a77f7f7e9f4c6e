"""
How much code a piece of data meets: calls of Python functions, files and changes of
file on the way of a connection's usual doings, counted with C{sys.setprofile} while both
ends talk over real sockets in this process::

    python -m tests.benchmarks.calls
    python -m tests.benchmarks.calls --files kcp

Only functions of the package count; what Twisted and the standard library do on the way
does not, nor do functions in C. Each figure is the median of several times, warm. The last
line is of a simulated network, where neither chance nor load changes anything.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import CodeType, FrameType
from typing import Any, NamedTuple

from twisted.internet import task
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol

import twisted_rudp
from twisted_rudp.testing.impairments import Impairments
from twisted_rudp.testing.network import MemoryNetwork

PACKAGE = str(Path(twisted_rudp.__file__).parent) + "/"
TESTING = PACKAGE + "testing/"
TRANSPORTS = ("kcp", "raknet", "qotp")
MESSAGE = bytes(100)

WARMING = 20
"""Exchanges before the first that counts."""

TIMES = 9
"""Measurements of which the median is shown."""

QUIET = 0.3
"""Seconds in which acknowledgements, and goodbyes that are repeated, have gone."""

SENDING = {"sendto", "sendmsg", "send_batch"}
"""The functions in C by which a datagram leaves."""

Stop = Callable[[FrameType, str, Any], bool]


class Count(NamedTuple):
    """What was met on a way."""

    calls: float
    files: float
    switches: float
    """Calls of a function in another file than that of the caller."""
    depth: float
    """Functions of the package that had not returned at the end of the way."""

    def __str__(self) -> str:
        return " / ".join(f"{figure:.0f}" for figure in self)


class Profile:
    """
    The calls from one moment to another.

    @ivar met: how often each file was entered.
    """

    def __init__(self, start: Stop | None = None, stop: Stop | None = None) -> None:
        """
        @param start: says of an event, as C{sys.setprofile} tells it, whether counting
            begins with it; by default it begins at once.
        @param stop: the same for its end; by default it goes on until L{counting} ends.
        """
        self.met: Counter[str] = Counter()
        self.count: Count | None = None
        self._calls = self._switches = 0
        self._start = start
        self._stop = stop
        self._counts = start is None
        self._places: dict[CodeType, str | None] = {}

    def event(self, frame: FrameType, event: str, argument: Any) -> None:
        """What C{sys.setprofile} calls."""
        if not self._counts:
            if self._start is None or not self._start(frame, event, argument):
                return
            self._counts = True
        if self._stop is not None and self._stop(frame, event, argument):
            self.finish(frame)
        elif event == "call" and (place := self._place(frame)) is not None:
            self._calls += 1
            self.met[place] += 1
            caller = self._caller(frame)
            self._switches += caller is not None and caller != place

    def finish(self, frame: FrameType | None) -> None:
        """The way is at its end."""
        sys.setprofile(None)
        if self.count is None:
            depth = 0
            while frame is not None:
                depth += self._place(frame) is not None
                frame = frame.f_back
            self.count = Count(self._calls, len(self.met), self._switches, depth)

    def _place(self, frame: FrameType) -> str | None:
        """The file of a function of the package; generators in it and classes are no calls."""
        code = frame.f_code
        if code not in self._places:
            ours = code.co_filename.startswith(PACKAGE)
            self._places[code] = code.co_filename[len(PACKAGE) :] if ours else None
        return self._places[code]

    def _caller(self, frame: FrameType) -> str | None:
        """The file of the nearest function of the package below."""
        below = frame.f_back
        while below is not None:
            place = self._place(below)
            if place is not None:
                return place
            below = below.f_back
        return None


def leaves(frame: FrameType, event: str, argument: Any) -> bool:
    """A datagram is handed to the system."""
    return event == "c_call" and getattr(argument, "__name__", "") in SENDING


def delivers(frame: FrameType, event: str, argument: Any) -> bool:
    """The application is given data."""
    return event == "call" and frame.f_code is Talker.dataReceived.__code__


def reads(frame: FrameType, event: str, argument: Any) -> bool:
    """The reactor has a port read."""
    return (
        event == "call"
        and frame.f_code.co_name == "doRead"
        and frame.f_code.co_filename.startswith(PACKAGE)
    )


@contextmanager
def counting(profile: Profile) -> Iterator[None]:
    """Count in here."""
    sys.setprofile(profile.event)
    try:
        yield
    finally:
        profile.finish(None)


class Talker(Protocol):
    """Either end. The server's sends back what it gets."""

    def __init__(self, echoes: bool) -> None:
        self.echoes = echoes
        self.got: Deferred[None] = Deferred()
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self.echoes:
            self.transport.write(data)
        else:
            got, self.got = self.got, Deferred()
            got.callback(None)

    def connectionLost(self, reason: Any) -> None:
        self.lost.callback(None)


class Accepting(Factory):
    """Notes what it has made."""

    noisy = False

    def __init__(self, echoes: bool) -> None:
        self.echoes = echoes
        self.made: list[Talker] = []

    def buildProtocol(self, addr: Any) -> Talker:
        self.made.append(Talker(self.echoes))
        return self.made[-1]


class Measuring:
    """One transport."""

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self.profiles: dict[str, list[Profile]] = {}

    def profile(self, way: str, start: Stop | None = None, stop: Stop | None = None) -> Profile:
        """A further measurement of this way."""
        self.profiles.setdefault(way, []).append(Profile(start, stop))
        return self.profiles[way][-1]

    async def quiet(self) -> None:
        """Until nothing is on its way any more."""
        await task.deferLater(self._reactor, QUIET)

    async def run(self) -> None:
        """Measure all ways."""
        accepting = Accepting(echoes=True)
        listening = serverFromString(self._reactor, f"{self._name}:0:interface=127.0.0.1")
        port = await listening.listen(accepting)
        address = f"{self._name}:127.0.0.1:{port.getHost().port}"
        dialling = clientFromString(self._reactor, address)
        for number in range(TIMES + 1):
            # The first connection warms everything up.
            with counting(self.profile("connect") if number else Profile()):
                client: Talker = await dialling.connect(Accepting(echoes=False))
                await self.quiet()
            await accepting.made[-1].made
            if number == TIMES:
                await self._exchanges(client)
            with counting(self.profile("close") if number else Profile()):
                client.transport.loseConnection()
                await client.lost
                await accepting.made[-1].lost
                await self.quiet()
        await maybeDeferred(port.stopListening)

    async def _exchanges(self, client: Talker) -> None:
        for _ in range(WARMING):
            await self._exchange(client)
        for _ in range(TIMES):
            await self.quiet()
            with counting(self.profile("write -> sendto", stop=leaves)):
                await self._exchange(client)
            await self.quiet()
            with counting(self.profile("doRead -> dataReceived", reads, delivers)):
                await self._exchange(client)
            await self.quiet()
            with counting(self.profile("exchange")):
                await self._exchange(client)
                await self.quiet()

    async def _exchange(self, client: Talker) -> None:
        got = client.got
        assert client.transport is not None
        client.transport.write(MESSAGE)
        await got

    def counts(self) -> dict[str, Count]:
        """The medians."""
        return {
            way: Count(*map(median, zip(*(each.count for each in listed), strict=True)))  # type: ignore[arg-type]
            for way, listed in self.profiles.items()
        }

    def files(self) -> dict[str, Counter[str]]:
        """How often each file was entered, in one measurement of each way."""
        return {way: listed[-1].met for way, listed in self.profiles.items()}


def simulated(name: str, sessions: int) -> float:
    """
    Calls of an exchange over a simulated network, in which a turn of the server has one datagram.

    @param sessions: so many clients of one server, each of which speaks ten times a second.
    """
    network = MemoryNetwork(seed=1)
    client, server = network.host("client"), network.host("server")
    network.impair(Impairments(delay=0.0001), client, server)
    serverFromString(server.reactor, f"{name}:7000").listen(Accepting(echoes=True))
    dialled: list[Deferred[Talker]] = []
    talkers: list[Talker] = []
    for _ in range(sessions):
        endpoint = clientFromString(client.reactor, f"{name}:{server.address}:7000")
        dialled.append(endpoint.connect(Accepting(echoes=False)).addCallback(talkers.append))
        network.runFor(0.3)

    def exchanges(times: int) -> None:
        for _ in range(times):
            for talker in talkers:
                assert talker.transport is not None
                got = talker.got
                talker.transport.write(MESSAGE)
                network.runFor(0.1 / sessions)
                assert got.called

    exchanges(WARMING * 2)
    profile = Profile()
    with counting(profile):
        exchanges(TIMES)
    assert profile.count is not None and len(talkers) == sessions
    calls = sum(calls for file, calls in profile.met.items() if not file.startswith("testing/"))
    return calls / (TIMES * sessions)


def takes(frame: FrameType, event: str, argument: Any) -> bool:
    """A simulated port is given a datagram."""
    code = frame.f_code
    return event == "call" and code.co_filename.startswith(TESTING) and code.co_name == "send"


def comes(frame: FrameType, event: str, argument: Any) -> bool:
    """A simulated port gives a hub a datagram."""
    code = frame.f_code
    return event == "call" and code.co_name == "runReceived"


def entered(name: str) -> tuple[set[str], set[str]]:
    """
    The files that a small message meets in a simulated network.

    @return: from C{write} to the port, and from the port to C{dataReceived}.
    """
    network = MemoryNetwork(seed=1)
    client, server = network.host("client"), network.host("server")
    serverFromString(server.reactor, f"{name}:7000").listen(Accepting(echoes=False))
    talkers: list[Talker] = []
    endpoint = clientFromString(client.reactor, f"{name}:{server.address}:7000")
    endpoint.connect(Accepting(echoes=False)).addCallback(talkers.append)
    network.runFor(1.0)
    found: list[set[str]] = []
    for start, stop in ((None, takes), (comes, delivers)):
        for _ in range(WARMING):
            profile = Profile(start, stop)
            with counting(profile):
                talkers[0].transport.write(MESSAGE)  # type: ignore[union-attr]
                network.runFor(1.0)
        ports = ("testing/", "net/udp/")
        found.append({file for file in profile.met if not file.startswith(ports)})
    return found[0], found[1]


WAYS = ("write -> sendto", "doRead -> dataReceived", "exchange", "connect", "close")


def table(measured: dict[str, dict[str, Count]]) -> str:
    """The figures for people."""
    widths = [max(len(way), 20) for way in WAYS]
    cells = [("", *WAYS)]
    cells += [(name, *(str(counts[way]) for way in WAYS)) for name, counts in measured.items()]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, [8, *widths], strict=True)).rstrip()
        for row in cells
    )


async def main(reactor: Any) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("transports", nargs="*", default=TRANSPORTS, metavar="TRANSPORT")
    parser.add_argument("--files", action="store_true", help="how often each file was entered")
    options = parser.parse_args()
    measured: dict[str, dict[str, Count]] = {}
    files: dict[str, dict[str, Counter[str]]] = {}
    for name in options.transports:
        measuring = Measuring(reactor, name)
        await measuring.run()
        measured[name], files[name] = measuring.counts(), measuring.files()
    print("calls / files / changes of file / depth at the end\n")
    print(table(measured))
    print("\nsimulated, calls of an exchange, of one session and each of 50\n")
    for name in options.transports:
        one, many = simulated(name, 1), simulated(name, 50)
        print(f"{name.ljust(8)}  {one:.0f} / {many:.0f}")
    if options.files:
        for name, ways in files.items():
            for way in WAYS:
                listed = ", ".join(f"{file} {n}" for file, n in ways[way].most_common())
                print(f"\n{name}, {way}: {listed}")


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
