"""
Many processes for one service: C{twist rudp ... --workers N}, and L{runWorkers} for programs.

The parent process opens the sockets, a group of them for each UDP address, and starts the
workers, each with its own socket of each group. It carries no data. A worker that dies is
replaced by one that gets the same sockets, so that all other sessions stay where they are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError, ProcessDone
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import (
    Logger,
    LogLevel,
    eventFromJSON,
    globalLogBeginner,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_rudp.endpoints.base import ServerEndpoint
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.udp.steering import MOST, Steering, newKey, openGroup
from twisted_rudp.service.announce import NodeAnnouncer
from twisted_rudp.service.control import ControlService
from twisted_rudp.service.gathered import Answers, GatheredControl
from twisted_rudp.service.listening import (
    ListeningService,
    SilentFactory,
    StartupError,
    startupError,
)
from twisted_rudp.service.worker import (
    FIRST_SOCKET,
    MARK,
    REPORTS,
    REQUESTS,
    Assignment,
    Lines,
    Place,
    Worker,
    addressOf,
    adopt,
    carrierOf,
    firstLine,
)

SHORTEST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
"""Seconds until a worker is replaced; they double from the one to the other while it dies
within L{LONGEST_DELAY}."""

GRACE: Final = 10.0
"""Seconds beyond the time for draining after which a worker is killed."""

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for a worker to answer a request."""


def distributed(
    services: Sequence[IService],
) -> tuple[list[ListeningService], list[IService]]:
    """The services that run in each worker, and those that run in the parent."""
    listening = [each for each in services if isinstance(each, ListeningService)]
    return listening, [each for each in services if not isinstance(each, ListeningService)]


class _Opened:
    """The sockets for one endpoint, one for each worker; those of TCP share one."""

    def __init__(self, endpoint: Any, description: str, count: int, byHost: bool) -> None:
        """
        @raise StartupError: the address cannot be bound, or the endpoint cannot be shared.
        """
        self._port: Any = None
        self.host: IAddress
        key = newKey()
        endpoint = carrierOf(endpoint)
        try:
            if isinstance(endpoint, ServerEndpoint):
                if endpoint.fd is not None or endpoint.systemd is not None:
                    raise StartupError(
                        f"{description}: fd= and systemd= cannot be shared by --workers"
                    )
                steering = endpoint.steering
                if byHost and steering is Steering.ADDRESS:
                    steering = Steering.HOST
                self._sockets: list[Any] = openGroup(
                    steering, endpoint.interface, endpoint.port, count, key
                )
                self.host = toTwisted(self._sockets[0].getsockname())
            elif isinstance(endpoint, TCP4ServerEndpoint | TCP6ServerEndpoint):
                port = self._listen(endpoint)
                self._sockets = [port] * count
                self.host = port.getHost()
            else:
                raise StartupError(
                    f"{description}: --workers needs kcp:, raknet:, qotp:, kcptun:, tcp: or tcp6:"
                )
        except CannotListenError as problem:
            raise startupError(description, "--listen", problem) from problem
        self.place = Place(addressOf(endpoint), key, os.urandom(32).hex())

    def _listen(self, endpoint: Any) -> Any:
        found: list[Any] = []
        endpoint.listen(SilentFactory()).addBoth(found.append)
        [port] = found
        if isinstance(port, Failure):
            port.raiseException()
        self._port = port
        # The workers accept.
        port.stopReading()
        return port

    def descriptor(self, index: int) -> int:
        """The socket for one worker."""
        descriptor: int = self._sockets[index].fileno()
        return descriptor

    def close(self) -> Deferred[Any]:
        """
        @return: fires when the sockets are closed.
        """
        if self._port is not None:
            closing: Deferred[Any] = maybeDeferred(self._port.stopListening)
            return closing
        for sock in self._sockets:
            sock.close()
        return succeed(None)


class _Process(ProcessProtocol):
    """One worker while it lives."""

    _log = Logger()

    def __init__(self, owner: WorkersService, index: int) -> None:
        self._owner = owner
        self.index = index
        self.ready = False
        self.began = 0.0
        self._lines = Lines()
        self._asked: dict[int, Deferred[Mapping[str, Any]]] = {}
        self._next = 0
        self.ended: Deferred[None] = Deferred()

    def begin(self, assignment: Assignment) -> None:
        """Tell the new process what it is."""
        self._write(assignment.line())

    def ask(self, request: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """
        @return: fires with the answer.
        """
        self._next += 1
        answer: Deferred[Mapping[str, Any]] = Deferred()
        self._asked[self._next] = answer
        self._write(json.dumps({"id": self._next, "request": request}).encode())
        return answer

    def stop(self) -> None:
        """Have it drain its sessions and end."""
        transport: Any = self.transport
        transport.closeChildFD(REQUESTS)

    def kill(self) -> None:
        """End it at once."""
        transport: Any = self.transport
        transport.signalProcess("KILL")

    def _write(self, line: bytes) -> None:
        transport: Any = self.transport
        transport.writeToChild(REQUESTS, line + b"\n")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != REPORTS:
            self._printed(childFD, data)
            return
        for line in self._lines.add(data):
            self._reported(line)

    def _printed(self, childFD: int, data: bytes) -> None:
        """What the program printed, or Python's own last words."""
        for line in data.decode("utf-8", "replace").splitlines():
            level = LogLevel.info if childFD == 1 else LogLevel.error
            self._log.emit(level, "worker {worker}: {line}", worker=self.index, line=line)

    def _reported(self, line: bytes) -> None:
        report = json.loads(line)
        if "event" in report:
            self._publish(report["event"], report["line"])
        elif "answer" in report:
            answer = self._asked.pop(report["id"], None)
            if answer is not None:
                answer.callback(report["answer"])
        else:
            self.ready = True
            self._owner.workerReady(self)

    def _publish(self, text: str, line: str) -> None:
        event = eventFromJSON(text)
        event.pop("log_flattened", None)
        event.pop("log_logger", None)
        event.update(log_format="worker {worker}: {line}", worker=self.index, line=line)
        globalLogPublisher(event)

    def processEnded(self, reason: Failure) -> None:
        for answer in self._asked.values():
            answer.callback({"error": f"worker {self.index} has ended"})
        self._asked = {}
        self._owner.workerEnded(self, reason)
        self.ended.callback(None)


class WorkersService(Service):
    """Keeps workers running between start and stop."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        endpoints: Sequence[tuple[str, Any]],
        count: int,
        *,
        drain: float = 5.0,
        level: LogLevel = LogLevel.info,
        byHost: bool = False,
        announcers: Sequence[tuple[int, NodeAnnouncer]] = (),
    ) -> None:
        """
        @param command: arguments of the Python interpreter for a worker.
        @param endpoints: what the workers listen on, each with a description.
        @param count: how many workers.
        @param drain: seconds that workers take for their sessions to end when they stop.
        @param level: the lowest level of what workers report to the log.
        @param byHost: all sessions of a host are in one worker, where they are steered by address.
        @param announcers: each with the position of the endpoint that it announces.
        """
        self._reactor = reactor
        self._command = [sys.executable, *command]
        self._endpoints = endpoints
        self.count = count
        self._drain = drain
        self.level = level
        self._byHost = byHost
        self._announcers = announcers
        self._opened: list[_Opened] = []
        self._workers: dict[int, _Process] = {}
        self._failures: dict[int, int] = {}
        self._delayed: dict[int, IDelayedCall] = {}
        self._bans: dict[str, float] = {}
        self._stopping = False
        self._wasReady = False

    def privilegedStartService(self) -> None:
        """Bind before privileges are dropped."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._open()

    def startService(self) -> None:
        """
        Start the workers as soon as the reactor runs.

        @raise StartupError: an address cannot be bound.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._stopping = False
        self._open()
        for position, announcer in self._announcers:
            announcer.begin(self._opened[position].host)
        self._reactor.callWhenRunning(self._startAll)

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when all workers have drained their sessions and ended.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        for call in self._delayed.values():
            call.cancel()
        self._delayed = {}
        for _, announcer in self._announcers:
            await announcer.end()
        living = list(self._workers.values())
        for worker in living:
            worker.stop()
        killing = self._reactor.callLater(self._drain + GRACE, self._kill)
        await DeferredList([worker.ended for worker in living])
        if killing.active():
            killing.cancel()
        opened, self._opened = self._opened, []
        await DeferredList([each.close() for each in opened])

    def _kill(self) -> None:
        for worker in list(self._workers.values()):
            self._log.error("worker {worker} does not end: killed", worker=worker.index)
            worker.kill()

    def _open(self) -> None:
        if self._opened:
            return
        for description, endpoint in self._endpoints:
            opened = _Opened(endpoint, description, self.count, self._byHost)
            self._opened.append(opened)
            self._log.info(
                "{description}: {count} workers share {host.host} port {host.port} ({host.type})",
                description=description,
                count=self.count,
                host=opened.host,
            )

    def _startAll(self) -> None:
        if not self._stopping:
            for index in range(self.count):
                self._start(index)

    def _start(self, index: int) -> None:
        self._delayed.pop(index, None)
        worker = _Process(self, index)
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", REQUESTS: "w", REPORTS: "r"}
        for position, opened in enumerate(self._opened):
            descriptors[FIRST_SOCKET + position] = opened.descriptor(index)
        worker.began = self._reactor.seconds()
        self._workers[index] = worker
        transport = self._reactor.spawnProcess(
            worker,
            self._command[0],
            self._command,
            env={**os.environ, MARK: "1"},
            childFDs=descriptors,
        )
        transport.closeChildFD(0)
        worker.begin(
            Assignment(
                index,
                self.count,
                self.level.name,
                type(self._reactor).__module__,
                tuple(opened.place for opened in self._opened),
            )
        )

    # what workers tell

    def workerReady(self, worker: _Process) -> None:
        """A worker serves."""
        self._wasReady = True
        self._log.info(
            "worker {worker}: ready, process {pid}",
            worker=worker.index,
            pid=getattr(worker.transport, "pid", None),
        )
        now = self._reactor.seconds()
        self._bans = {host: until for host, until in self._bans.items() if until > now}
        for host, until in self._bans.items():
            worker.ask({"command": "ban", "host": host, "seconds": until - now})

    def workerEnded(self, worker: _Process, reason: Failure) -> None:
        """A worker is gone: replace it, unless all are to end."""
        index = worker.index
        del self._workers[index]
        if self._stopping:
            return
        status = reason.getErrorMessage()
        if not self._wasReady and not worker.ready:
            self._log.critical(
                "worker {worker} has ended at the start: {reason}", worker=index, reason=status
            )
            self._stopping = True
            self._reactor.callLater(0, self._giveUp)
            return
        lived = self._reactor.seconds() - worker.began
        failures = 0 if lived >= LONGEST_DELAY else self._failures.get(index, 0)
        self._failures[index] = failures + 1
        delay = min(SHORTEST_DELAY * 2**failures, LONGEST_DELAY)
        if isinstance(reason.value, ProcessDone):
            self._log.info("worker {worker} has ended: replaced", worker=index)
        else:
            self._log.error(
                "worker {worker} has died with its sessions: {reason}; replaced in {delay} s",
                worker=index,
                reason=status,
                delay=delay,
            )
        self._delayed[index] = self._reactor.callLater(delay, self._start, index)

    def _giveUp(self) -> None:
        if self._reactor.running:
            self._reactor.stop()

    # see Askable

    def ask(self, **request: Any) -> Deferred[Answers]:
        """See L{Askable.ask<twisted_rudp.service.gathered.Askable.ask>}."""
        if request.get("command") == "ban" and isinstance(request.get("host"), str):
            self._remember(request["host"], request.get("seconds"))
        if request.get("command") == "log-level":
            self.level = LogLevel.levelWithName(request["level"])
        return Deferred.fromCoroutine(self._ask(request))

    def _remember(self, host: str, seconds: object) -> None:
        if isinstance(seconds, int | float) and seconds >= 0:
            self._bans[host] = self._reactor.seconds() + seconds

    async def _ask(self, request: Mapping[str, Any]) -> Answers:
        living = {index: each for index, each in sorted(self._workers.items()) if each.ready}
        asked = [self._answerOf(worker, request) for worker in living.values()]
        answers = await DeferredList(asked)
        return {
            index: answer
            for index, (_, answer) in zip(living, answers, strict=True)
            if "error" not in answer or request["command"] != "status"
        }

    def askOne(self, index: int, **request: Any) -> Deferred[Mapping[str, Any]]:
        """See L{Askable.askOne<twisted_rudp.service.gathered.Askable.askOne>}."""
        worker = self._workers.get(index)
        if worker is None or not worker.ready:
            return succeed({"error": f"worker {index} is being replaced"})
        return self._answerOf(worker, request)

    def _answerOf(
        self, worker: _Process, request: Mapping[str, Any]
    ) -> Deferred[Mapping[str, Any]]:
        answer = worker.ask(request)
        answer.addTimeout(ANSWER_TIMEOUT, self._reactor)
        text = {"error": f"worker {worker.index} does not answer"}
        return answer.addErrback(lambda _: text)


def workersOf(
    reactor: Any,
    services: Sequence[IService],
    arguments: Sequence[str],
    count: int,
    level: LogLevel = LogLevel.info,
    drain: float = 5.0,
    byHost: bool = False,
) -> tuple[WorkersService, list[IService]]:
    """
    The workers of a command line.

    @param arguments: those behind C{rudp}.
    @return: the service that runs them, and those that run in this process.
    @raise usage.UsageError: there is nothing to distribute.
    """
    listening, rest = distributed(services)
    if not listening:
        raise usage.UsageError("--workers: no service here has connections to share among them")
    announcers = []
    for position, service in enumerate(listening):
        announcer = service.withoutAnnouncer()
        if announcer is not None:
            announcers.append((position, announcer))
    return WorkersService(
        reactor,
        ["-m", "twisted_rudp.service.workermain", *arguments],
        [(service.description, service.listeningEndpoint) for service in listening],
        count,
        drain=drain,
        level=level,
        byHost=byHost,
        announcers=announcers,
    ), rest


def runWorkers(
    main: Callable[..., object],
    *endpoints: str | Callable[[Any], Any],
    workers: int = 0,
    control: str | None = None,
    drain: float = 5.0,
    byHost: bool = False,
) -> None:
    """
    Run a program in several processes that share its listening addresses. Returns when all
    have ended, after an interrupt or SIGTERM; then connections are drained as if each reactor
    stopped by itself.

    Each worker is the same program, started again: what stands before this call runs in the
    parent and in every worker.

    @param main: called in each worker with the reactor and the listening endpoints. It may
        return a C{twisted.application.service.IService} to be started and stopped.
    @param endpoints: descriptions for C{serverFromString}, or functions that make an endpoint
        of a reactor.
    @param workers: how many, at most 256; 0: one for each processor.
    @param control: path of a control socket, for C{rudp status}.
    @param drain: seconds that a worker may take to end.
    @param byHost: KCP and RakNet have all sessions of a host in one worker, whatever its ports.
    @raise ValueError: an argument is invalid.
    """
    count = workers or os.cpu_count() or 1
    if not 1 <= count <= MOST:
        raise ValueError(f"workers={workers!r} is invalid: expected an integer from 0 to {MOST}")
    if not endpoints:
        raise ValueError("endpoints: at least one is needed")
    if MARK in os.environ:
        _runAsWorker(main, endpoints)
        return
    from twisted.internet import reactor

    made = _made(reactor, endpoints)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    described = [
        (each if isinstance(each, str) else repr(endpoint), endpoint)
        for each, endpoint in zip(endpoints, made, strict=True)
    ]
    service = WorkersService(
        reactor, sys.orig_argv[1:], described, count, drain=drain, byHost=byHost
    )
    parent = MultiService()  # type: ignore[no-untyped-call]
    parent.addService(service)  # type: ignore[no-untyped-call]
    if control is not None:
        gathered = GatheredControl(reactor, service)
        parent.addService(ControlService(reactor, control, gathered))  # type: ignore[no-untyped-call]
    _run(reactor, parent)


def _made(reactor: Any, endpoints: Sequence[str | Callable[[Any], Any]]) -> list[Any]:
    parse: Any = serverFromString  # It has no annotations.
    return [
        parse(reactor, each) if isinstance(each, str) else each(reactor)
        for each in endpoints
    ]


def _runAsWorker(
    main: Callable[..., object], endpoints: Sequence[str | Callable[[Any], Any]]
) -> None:
    worker = Worker(Assignment.of(firstLine()))
    # A program that this one starts is no worker.
    del os.environ[MARK]
    adopted = adopt(worker.reactor, worker.assignment, _made(worker.reactor, endpoints))
    parent = MultiService()  # type: ignore[no-untyped-call]

    def start() -> None:
        service = main(worker.reactor, *adopted)
        if IService.providedBy(service):
            service.setServiceParent(parent)  # type: ignore[no-untyped-call]
        parent.startService()  # type: ignore[no-untyped-call]

    worker.run(start, lambda: maybeDeferred(parent.stopService))


def _run(reactor: Any, parent: MultiService) -> None:
    parent.privilegedStartService()  # type: ignore[no-untyped-call]
    parent.startService()  # type: ignore[no-untyped-call]
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: maybeDeferred(parent.stopService)
    )
    reactor.run()
