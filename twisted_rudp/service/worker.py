"""
One of several processes of a service, and how it talks with the process that started it.

The parent (L{twisted_rudp.service.workers}) gives each worker the sockets that it listens on, and
two pipes with a JSON object on each line. The first line that a worker reads is its
L{Assignment}; the others are requests, those of the control socket. What a worker
writes is a log event, an answer, or that it is ready. The end of what it reads means: stop.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Final

from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.error import ReactorNotRunning
from twisted.internet.process import ProcessReader
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsJSON,
    formatEvent,
    globalLogBeginner,
)
from zope.interface import implementer

from twisted_rudp.endpoints.base import ServerEndpoint
from twisted_rudp.endpoints.mux import MuxServerEndpoint
from twisted_rudp.net.udp.steering import Share
from twisted_rudp.service.control import Control
from twisted_rudp.service.signals import stopInTurn

REQUESTS: Final = 3
"""The descriptor that a worker reads."""

REPORTS: Final = 4
"""The descriptor that it writes."""

FIRST_SOCKET: Final = 5

GIVE_UP: Final = "give-up"
"""The request to let other processes have all but the open sessions."""

GiveUp = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Does that, and answers."""

MARK: Final = "TWISTED_RUDP_WORKER"
"""The variable of the environment that tells a program that it is a worker."""


@dataclass(frozen=True)
class Place:
    """
    A socket that a worker is given.

    @ivar address: host and port as they were asked for; the worker's endpoint has the same.
    @ivar key: see L{Share}.
    @ivar secret: see L{Share}, in hexadecimal digits.
    @ivar predecessor: the descriptor of a channel to the process that reads the socket until
        its sessions have ended, if there is one; see L{twisted_rudp.net.passing}.
    @ivar successor: the same to the process that comes after this worker.
    """

    address: str
    key: int
    secret: str
    predecessor: int | None = None
    successor: int | None = None


@dataclass(frozen=True)
class Assignment:
    """
    What a worker is told first.

    @ivar index: which part of the sessions it has, from 0.
    @ivar count: how many parts there are.
    @ivar level: the name of the lowest level of log events to report.
    @ivar reactor: the module of the reactor to install.
    @ivar places: its sockets, from descriptor L{FIRST_SOCKET} on.
    @ivar generation: see L{Share}, in hexadecimal digits.
    @ivar number: tells it from all others that live, also from those whose sessions have yet to
        end.
    @ivar file: the text of the configuration file, which may have changed since the parent read
        it.
    """

    index: int
    count: int
    level: str
    reactor: str
    places: tuple[Place, ...]
    generation: str = ""
    number: int = 0
    file: str | None = None

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of(cls, line: bytes) -> Assignment:
        """The inverse of L{line}."""
        given = json.loads(line)
        places = tuple(Place(**each) for each in given.pop("places"))
        return cls(**given, places=places)

    def share(self, position: int) -> Share:
        """The part of a UDP address that a worker has."""
        place = self.places[position]
        secret = bytes.fromhex(place.secret)
        return Share(
            self.index,
            self.count,
            place.key,
            secret,
            FIRST_SOCKET + position,
            bytes.fromhex(self.generation),
        )


def firstLine(descriptor: int = REQUESTS) -> bytes:
    """
    Read the assignment, and not a byte more.

    @raise SystemExit: there is none.
    """
    read = bytearray()
    while not read.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            raise SystemExit("the process that starts workers is gone")
        read += byte
    return bytes(read)


def carrierOf(endpoint: Any) -> Any:
    """The endpoint that has the socket: of a multiplexer the one that it is around."""
    return endpoint.carrier if isinstance(endpoint, MuxServerEndpoint) else endpoint


def addressOf(endpoint: Any) -> str:
    """The address of a listening endpoint as it was asked for."""
    endpoint = carrierOf(endpoint)
    if isinstance(endpoint, ServerEndpoint):
        return f"{type(endpoint).__name__} {endpoint.interface} {endpoint.port}"
    return type(endpoint).__name__


def adopt(reactor: Any, assignment: Assignment, endpoints: Sequence[Any]) -> list[Any]:
    """
    Give endpoints the sockets of the assignment.

    @return: what to listen on instead.
    @raise SystemExit: they are not those for which the parent has opened sockets, as if a
        configuration file has changed since.
    """
    expected = [place.address for place in assignment.places]
    if [addressOf(endpoint) for endpoint in endpoints] != expected:
        raise SystemExit("the endpoints have changed since the start: start the program again")
    adopted: list[Any] = []
    for position, endpoint in enumerate(endpoints):
        if isinstance(carrierOf(endpoint), ServerEndpoint):
            carrierOf(endpoint).share(assignment.share(position))
            adopted.append(endpoint)
        else:
            descriptor = FIRST_SOCKET + position
            with socket.socket(fileno=os.dup(descriptor)) as copy:
                family = copy.family
            given: Any = AdoptedStreamServerEndpoint  # It has no annotations.
            adopted.append(given(reactor, descriptor, family))
    return adopted


@implementer(ILogObserver)
class Reports:
    """What a worker tells its parent, each at once: what is logged last is not lost."""

    def __init__(self, descriptor: int = REPORTS) -> None:
        self._descriptor = descriptor

    def write(self, report: dict[str, Any]) -> None:
        """Write one report. Without a parent it is lost."""
        data = memoryview(json.dumps(report, separators=(",", ":")).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except BrokenPipeError:
            pass

    def __call__(self, event: dict[str, Any]) -> None:
        """A log observer."""
        # What goes through JSON keeps the values of a line, and not how it formats them.
        line = formatEvent(event)
        self.write({"event": eventAsJSON(event), "line": line})


class Lines:
    """Cuts what comes through a pipe into lines."""

    def __init__(self) -> None:
        self._partial: list[bytes] = []

    def add(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete now."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._partial.append(line)
            whole, self._partial = b"".join(self._partial), []
            yield whole
        if rest:
            self._partial.append(rest)


class Requests:
    """What a worker is asked."""

    def __init__(
        self,
        control: Control,
        reports: Reports,
        stop: Callable[[], None],
        giveUp: GiveUp | None = None,
    ) -> None:
        """
        @param giveUp: lets other processes have all but the open sessions.
        """
        self._control = control
        self._giveUp = giveUp
        self._reports = reports
        self._stop = stop
        self._lines = Lines()

    def childDataReceived(self, name: str, data: bytes) -> None:
        """Something has come through the pipe."""
        for line in self._lines.add(data):
            request = json.loads(line)
            asked = request["request"]
            if asked["command"] == GIVE_UP and self._giveUp is not None:
                answer: Any = self._giveUp(asked)
            else:
                answer = self._control.answer(json.dumps(asked).encode())
            self._reports.write({"id": request["id"], "answer": answer})

    def childConnectionLost(self, name: str, reason: object) -> None:
        """The parent wants an end, or has ended itself."""
        self._stop()


class Worker:
    """This process as a worker."""

    def __init__(self, assignment: Assignment) -> None:
        """Begin to log to the parent, and install its reactor."""
        self.assignment = assignment
        self._reports = Reports()
        self._predicate = LogLevelFilterPredicate(
            defaultLogLevel=LogLevel.levelWithName(assignment.level)
        )
        observer = FilteringLogObserver(self._reports, [self._predicate])
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        # The keyboard interrupts the parent as well, which then stops its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # So does the end of a terminal.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if "twisted.internet.reactor" not in sys.modules:
            install = getattr(import_module(assignment.reactor), "install", None)
            if install is not None:
                install()
        from twisted.internet import reactor

        self.reactor: Any = reactor

    def run(
        self,
        start: Callable[[], object],
        stop: Callable[[], object],
        giveUp: GiveUp | None = None,
    ) -> None:
        """
        Run until the parent says otherwise.

        @param start: called first.
        @param stop: called before the reactor stops, which waits for its C{Deferred}.
        @param giveUp: see L{Requests}.
        """
        reactor = self.reactor
        control = Control(reactor, self._setLevel)
        requests = Requests(control, self._reports, self.end, giveUp)
        reading: Any = ProcessReader  # It has no annotations.
        reader = reading(reactor, requests, "requests", REQUESTS)
        reader.startReading()
        reactor.addSystemEventTrigger("before", "shutdown", stop)
        start()
        # Also of a worker: a service manager may send signals to all processes of a service.
        stopInTurn(reactor)
        reactor.callWhenRunning(self._reports.write, {"ready": True})
        reactor.run()

    def _setLevel(self, level: Any) -> None:
        self._predicate.setLogLevelForNamespace("", level)

    def end(self) -> None:
        """Stop the reactor."""
        # It may be stopping already.
        with suppress(ReactorNotRunning):
            self.reactor.stop()
