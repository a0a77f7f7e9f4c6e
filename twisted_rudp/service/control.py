"""
The control socket: the live state of a process, and changes to it, over a UNIX socket that
only its owner can open.

Each request and each answer is one line of JSON. C{twist rudp ... --control PATH} opens it;
a program opens it with L{openControl}. C{rudp status} and C{rudp top} are its clients.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import connectionDone
from twisted.logger import InvalidLogLevelError, Logger, LogLevel
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from twisted_rudp import __version__, stats
from twisted_rudp.service.connectionlog import addressText
from twisted_rudp.service.listening import PortService, SilentFactory, StartupError
from twisted_rudp.service.tracing import endTraces, traceSessions

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
        "compiled": process.compiled,
        "pid": os.getpid(),
        "time": clock.seconds(),
        "ports": [_portStatus(number, port) for number, port in enumerate(process.ports)],
        "services": [
            {
                "service": each.description,
                "facts": plain(each.facts),
                "counters": dict(each.counters),
            }
            for each in process.services
        ],
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


Answer: TypeAlias = "dict[str, Any] | Deferred[dict[str, Any]]"


class Offered(Protocol):
    """Sockets that were offered to another process."""

    descriptors: list[int]

    @property
    def offers(self) -> Sequence[Sequence[Any]]:
        """What each is."""

    def close(self) -> None:
        """Nobody has taken them."""


class RunningServices(Protocol):
    """What a process runs."""

    def reload(self) -> Answer:
        """
        @raise RequestError: not possible; nothing is changed. What it returns may fail with it.
        """

    def offer(self) -> Any:
        """
        @return: an L{Offered}.
        @raise RequestError: not possible.
        """

    def release(self, handover: Any, taken: list[int]) -> Deferred[dict[str, Any]]:
        """
        Close what another process may want to open, until it is closed or given up, beside
        these, which it has.
        """

    def giveUp(self, handover: Any, taken: list[int]) -> Deferred[dict[str, Any]]:
        """Another process has taken these."""


class Client(Protocol):
    """
    The other end of a control connection, for requests that give it descriptors.

    @ivar handover: what was offered to it.
    """

    handover: Offered | None

    def giveDescriptors(self, descriptors: list[int]) -> None:
        """Give them along with the next answer."""

    def forget(self) -> None:
        """Take back what was offered."""


class Control:
    """What can be asked for over the socket, by name."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        setLevel: Callable[[LogLevel], None] | None = None,
        life: RunningServices | None = None,
    ) -> None:
        """
        @param setLevel: changes the level of the log; None: that is not possible here.
        @param life: what can be reloaded and handed over.
        """
        self._clock = clock
        self._setLevel = setLevel
        self._life = life
        self._client: Client | None = None
        self._commands: dict[str, Callable[..., Answer]] = {
            "status": self.status,
            "kick": self.kick,
            "ban": self.ban,
            "configure": self.configure,
            "log-level": self.logLevel,
            "reload": self.reload,
            "takeover": self.takeover,
            "release": self.release,
            "taken": self.taken,
            "trace": self.trace,
        }

    def answer(self, line: bytes, client: Client | None = None) -> Answer:
        """
        Carry out one request.

        @param client: who asks.
        @return: the answer, or when it is there; C{{"error": ...}} if it is not possible.
        """
        self._client = client
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
        return {"banned": host, "seconds": seconds, "kicked": kicked}

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

    def reload(self) -> Answer:
        """Read the configuration file again."""
        return self._living.reload()

    def takeover(self, version: str) -> dict[str, Any]:
        """Offer the sockets of this process to another one."""
        client = self._client
        if client is None:
            raise RequestError("descriptors can be given over the socket only")
        client.forget()
        handover = client.handover = self._living.offer()
        client.giveDescriptors(handover.descriptors)
        self._log.info("control: sockets offered to version {version}", version=version)
        return {
            "pid": os.getpid(),
            "version": __version__,
            "offers": [list(each) for each in handover.offers],
        }

    def release(self, taken: list[int]) -> Answer:
        """The other process listens on some of them, and wants to start everything else."""
        _, handover = self._offered(taken)
        return self._living.release(handover, taken)

    def taken(self, taken: list[int]) -> Answer:
        """The other process has started: it has all that is new from now on."""
        client, handover = self._offered(taken)
        answer = self._living.giveUp(handover, taken)
        client.handover = None
        return answer

    def _offered(self, taken: list[int]) -> tuple[Client, Offered]:
        """
        Who asks, and what it was offered.

        @raise RequestError: nothing, or not these.
        """
        client = self._client
        handover = None if client is None else client.handover
        if client is None or handover is None:
            raise RequestError("nothing was offered: takeover comes first")
        known = set(range(len(handover.offers)))
        if not isinstance(taken, list) or any(
            not isinstance(each, int) or taken.count(each) > 1 for each in taken
        ) or not known.issuperset(taken):
            raise RequestError("taken is a list of numbers of offers")
        return client, handover

    @property
    def _living(self) -> RunningServices:
        if self._life is None:
            raise RequestError(
                "this program can be neither reloaded nor taken over: it is not run by twist rudp"
            )
        return self._life

    def trace(self, directory: str | None = None) -> dict[str, Any]:
        """Trace the sessions that begin from now on; without a directory, trace no more."""
        if directory is None:
            endTraces()
        elif not isinstance(directory, str) or not os.path.isabs(directory):
            raise RequestError("trace takes directory, an absolute path")
        else:
            try:
                traceSessions(directory)
            except OSError as problem:
                raise RequestError(f"{directory}: {problem.strerror}") from None
        if directory is None:
            self._log.info("control: traces are off")
        else:
            self._log.info("control: traces in {directory}", directory=directory)
        return {"traces": directory or "off"}

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
    """Answers the requests of a control socket."""

    def answer(self, line: bytes, client: Client | None = None) -> Answer:
        """Carry out one request."""


class _Connection(LineOnlyReceiver):
    """One client of the socket."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST

    def __init__(self, control: Answering) -> None:
        self._control = control
        # Answers leave in the order of the requests.
        self._turn = DeferredLock()
        self.handover: Offered | None = None

    def lineReceived(self, line: bytes) -> None:
        answer: Callable[..., Any] = self._control.answer
        self._turn.run(answer, line, self).addCallbacks(self._say, self._failed)

    def _failed(self, failure: Failure) -> None:
        self._say({"error": failure.getErrorMessage()})

    def _say(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer, separators=(",", ":"))
        self.sendLine(text.encode())  # type: ignore[no-untyped-call]

    def giveDescriptors(self, descriptors: list[int]) -> None:
        """See L{Client}. They travel with the first bytes of the answer."""
        transport: Any = self.transport
        for each in descriptors:
            transport.sendFileDescriptor(each)

    def forget(self) -> None:
        """See L{Client}."""
        handover, self.handover = self.handover, None
        if handover is not None:
            handover.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.forget()

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


_LOCKED: Final = "Cannot acquire lock"
"""What Twisted says where the lock file beside a UNIX socket belongs to a running process."""


class ControlService(PortService):
    """Has the control socket open while it runs."""

    _log = Logger()

    def __init__(self, reactor: Any, path: str, control: Answering) -> None:
        self._reactor = reactor
        self._path = path
        self._control = control

    def _open(self) -> Deferred[IListeningPort]:
        return openControl(self._reactor, self._path, self._control)

    def _refusal(self, problem: BaseException) -> StartupError:
        cause = getattr(problem, "socketError", problem)
        reason = getattr(cause, "strerror", None) or cause
        if reason == _LOCKED:
            reason = "another running program has it; --takeover replaces that program"
        return StartupError(f"--control {self._path}: cannot listen: {reason}")

    def _bound(self, port: IListeningPort) -> None:
        super()._bound(port)
        self._log.info("control socket at {path}", path=self._path)
