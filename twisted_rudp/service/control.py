"""
The control socket: the live state of a process, and changes to it, over a UNIX socket that
only its owner can open.

Each request and each answer is one line of JSON. C{twist rudp ... --control PATH} opens it;
a program opens it with L{openControl}. C{rudp status} and C{rudp top} are its clients.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred, succeed
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.logger import InvalidLogLevelError, Logger, LogLevel
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from twisted_rudp import __version__, stats
from twisted_rudp.service.connectionlog import addressText
from twisted_rudp.service.listening import SilentFactory, StartupError

MAX_REQUEST: Final = 16384
"""Bytes of one request."""

MODE: Final = 0o600


class RequestError(ValueError):
    """A request cannot be carried out; the text says why."""


def status(clock: Any) -> dict[str, Any]:
    """The state of this process as values that JSON has."""
    process = stats.ports.snapshot()
    return {
        "version": __version__,
        "kernels": process.kernels,
        "pid": os.getpid(),
        "time": clock.seconds(),
        "ports": [_portStatus(number, port) for number, port in enumerate(process.ports)],
    }


def _portStatus(number: int, port: stats.PortStats) -> dict[str, Any]:
    return {
        "port": number,
        "address": "none" if port.host is None else addressText(port.host),
        "facts": plain(port.facts),
        "counters": dict(port.counters),
        "sessions": [
            {
                "session": session.number,
                "peer": peerText(session.peer),
                "state": session.state,
                "age": session.age,
                "handshake": session.handshake,
                "facts": plain(session.facts),
                "counters": dict(session.counters),
            }
            for session in port.sessions
        ],
    }


def peerText(address: tuple[Any, ...]) -> str:
    """A raw address as C{HOST:PORT}."""
    return f"[{address[0]}]:{address[1]}" if len(address) > 2 else f"{address[0]}:{address[1]}"


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with values that JSON has."""
    return {name: _plain(value) for name, value in facts.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return str(value)


class Control:
    """What can be asked for over the socket, by name."""

    _log = Logger()

    def __init__(self, clock: Any, setLevel: Callable[[LogLevel], None] | None = None) -> None:
        """
        @param setLevel: changes the level of the log; None: that is not possible here.
        """
        self._clock = clock
        self._setLevel = setLevel
        self._commands: dict[str, Callable[..., dict[str, Any]]] = {
            "status": self.status,
            "kick": self.kick,
            "ban": self.ban,
            "configure": self.configure,
            "log-level": self.logLevel,
        }

    def answer(self, line: bytes) -> dict[str, Any]:
        """
        Carry out one request.

        @return: the answer; C{{"error": ...}} if it is not possible.
        """
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise RequestError("a request is a JSON object")
            command = request.pop("command", None)
            if not isinstance(command, str) or command not in self._commands:
                known = ", ".join(self._commands)
                raise RequestError(f"unknown command {command!r}; the commands are {known}")
            return self._commands[command](**request)
        except (ValueError, TypeError, RecursionError) as problem:
            return {"error": str(problem)}

    def status(self) -> dict[str, Any]:
        """The state of the process."""
        return status(self._clock)

    def kick(self, port: int, session: int) -> dict[str, Any]:
        """End a session."""
        source = self._source(port)
        if not source.kick(session):
            raise RequestError(f"port {port} has no session {session}")
        self._log.info("control: session {port}/{session} ended", session=session, port=port)
        return {"kicked": 1}

    def ban(self, host: str, seconds: float) -> dict[str, Any]:
        """End all sessions with a host, and let in no more for a time."""
        if not isinstance(host, str) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise RequestError("ban takes host, an IP address, and seconds")
        kicked = sum(
            source.ban(host, float(seconds))
            for source in stats.ports.sources()
            if hasattr(source, "ban")
        )
        self._log.info("control: {host} banned for {seconds} s", host=host, seconds=seconds)
        return {"kicked": kicked}

    def configure(self, port: int, session: int, changes: dict[str, Any]) -> dict[str, Any]:
        """Change settings of a session; see L{IRUDPTransport.configure
        <twisted_rudp.interfaces.IRUDPTransport.configure>}."""
        source = self._source(port)
        if not isinstance(changes, dict):
            raise RequestError("changes is an object of names and values")
        if not source.configureSession(session, changes):
            raise RequestError(f"port {port} has no session {session} that can be changed")
        self._log.info("control: session {session} changed", session=session, changes=changes)
        return {"changed": sorted(changes)}

    def logLevel(self, level: str) -> dict[str, Any]:
        """Change the level of the log."""
        if self._setLevel is None:
            raise RequestError("the level of this program's log cannot be changed")
        try:
            self._setLevel(LogLevel.levelWithName(level))
        except InvalidLogLevelError:
            known = ", ".join(each.name for each in LogLevel.iterconstants())
            raise RequestError(f"{level!r} is not one of {known}") from None
        return {"level": level}

    @staticmethod
    def _source(port: int) -> Any:
        sources = stats.ports.sources()
        if not isinstance(port, int) or not 0 <= port < len(sources):
            raise RequestError(f"there is no port {port!r}")
        source = sources[port]
        if not hasattr(source, "kick"):
            raise RequestError(f"port {port} has no sessions")
        return source


class Answering(Protocol):
    """What is behind a control socket."""

    def answer(self, line: bytes) -> dict[str, Any] | Deferred[dict[str, Any]]:
        """Carry out one request."""


class _Connection(LineOnlyReceiver):
    """One client of the socket."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST

    def __init__(self, control: Answering) -> None:
        self._control = control
        # Answers leave in the order of the requests.
        self._turn = DeferredLock()

    def lineReceived(self, line: bytes) -> None:
        answer: Callable[[bytes], Any] = self._control.answer
        self._turn.run(answer, line).addCallback(self._answered)

    def _answered(self, answer: dict[str, Any]) -> None:
        line = json.dumps(answer, separators=(",", ":")).encode()
        self.sendLine(line)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class ControlFactory(SilentFactory):
    """Serves the socket."""

    def __init__(self, control: Answering) -> None:
        self._control = control

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._control)


def openControl(
    reactor: Any, path: str, control: Answering | None = None
) -> Deferred[IListeningPort]:
    """
    Open the control socket of this program.

    @param path: where; a socket that a program left behind is replaced.
    @return: fires with the port, or fails with C{CannotListenError}.
    """
    factory = ControlFactory(Control(reactor) if control is None else control)
    # From the beginning: between binding and chmod others could connect.
    before = os.umask(0o177)
    try:
        endpoint: Any = UNIXServerEndpoint(  # type: ignore[no-untyped-call]
            reactor, path, mode=MODE, wantPID=True
        )
        listening: Deferred[IListeningPort] = endpoint.listen(factory)
        return listening
    finally:
        os.umask(before)


class ControlService(Service):
    """Has the control socket open while it runs."""

    _log = Logger()

    def __init__(self, reactor: Any, path: str, control: Answering) -> None:
        self._reactor = reactor
        self._path = path
        self._control = control
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """
        @raise StartupError: the path cannot be bound.
        """
        super().startService()  # type: ignore[no-untyped-call]
        problems: list[Failure] = []
        listening = openControl(self._reactor, self._path, self._control)
        listening.addCallbacks(self._bound, problems.append)
        if problems:
            problem = problems[0].value
            cause = getattr(problem, "socketError", problem)
            reason = getattr(cause, "strerror", None) or cause
            raise StartupError(f"--control {self._path}: cannot listen: {reason}") from problem

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the socket is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        closing: Deferred[None] = maybeDeferred(port.stopListening)  # type: ignore[call-overload]
        return closing

    def _bound(self, port: IListeningPort) -> None:
        self._port = port
        self._log.info("control socket at {path}", path=self._path)
