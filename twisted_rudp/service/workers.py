"""
Many processes for one service: C{twist rudp ... --workers N}, and L{runWorkers} for programs.

The parent process opens the sockets, a group of them for each UDP address, and starts the
workers, each with its own socket of each group. It carries no data. A worker that dies is
replaced by one that gets the same sockets, so that all other sessions stay where they are.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from twisted.application.service import IService, MultiService, Service
from twisted.internet.address import IPv4Address, IPv6Address
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
from twisted_rudp.net.passing import channel
from twisted_rudp.net.udp.steering import MOST, Steering, newKey, openGroup
from twisted_rudp.service.announce import NodeAnnouncer
from twisted_rudp.service.control import ControlService, RequestError
from twisted_rudp.service.gathered import Answers, GatheredControl
from twisted_rudp.service.listening import (
    ListeningService,
    SilentFactory,
    StartupError,
    startupError,
)
from twisted_rudp.service.takeover import TCP, UDP, Offer, Takeover
from twisted_rudp.service.worker import (
    FIRST_SOCKET,
    GIVE_UP,
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

READY_TIMEOUT: Final = 60.0
"""Seconds for workers with another configuration to serve."""

NUMBERS: Final = 1000
"""More than any number of a worker; those whose sessions have yet to end have one as well."""


def distributed(
    services: Sequence[IService],
) -> tuple[list[ListeningService], list[IService]]:
    """The services that run in each worker, and those that run in the parent."""
    listening = [each for each in services if isinstance(each, ListeningService)]
    return listening, [each for each in services if not isinstance(each, ListeningService)]


class Shared(NamedTuple):
    """
    What workers listen on.

    @ivar description: the service in words, for the log.
    @ivar place: as L{placeOf<twisted_rudp.service.places.placeOf>} gives it, if it is known.
    """

    description: str
    endpoint: Any
    place: Sequence[str] | None = None


class _Opened:
    """
    The sockets for one endpoint, one for each worker; those of TCP share one.

    @ivar place: see L{Shared}.
    @ivar host: the address.
    @ivar channels: by worker, to those who read the sockets before; see
        L{twisted_rudp.net.passing}.
    """

    def __init__(
        self, shared: Shared, count: int, byHost: bool, takeover: Takeover | None
    ) -> None:
        """
        @raise StartupError: the address cannot be bound, or the endpoint cannot be shared.
        """
        self.place = shared.place
        self.host: IAddress
        self.channels: dict[int, socket.socket] = {}
        self._port: Any = None
        self._count = count
        endpoint = carrierOf(shared.endpoint)
        self.steering = _steeringOf(shared, byHost)
        self._key = newKey()
        self._secret = os.urandom(32).hex()
        if takeover is not None and self.place is not None:
            steering = "" if self.steering is None else self.steering.name
            given = takeover.groupFor(self.place, count, steering)
            if given is not None:
                self._take(*given)
                return
        try:
            if self.steering is not None:
                self._sockets: list[Any] = openGroup(
                    self.steering, endpoint.interface, endpoint.port, count, self._key
                )
                self.host = toTwisted(self._sockets[0].getsockname())
            else:
                port = self._listen(endpoint)
                self._sockets = [port] * count
                self.host = port.getHost()
        except CannotListenError as problem:
            raise startupError(shared.description, "--listen", problem) from problem

    def _take(self, offer: Offer, descriptors: Sequence[int]) -> None:
        """Sockets of another process."""
        copies = [socket.socket(fileno=os.dup(each)) for each in descriptors]
        if self.steering is None:
            self._sockets = copies * self._count
            name = copies[0].getsockname()
            kind = IPv6Address if copies[0].family is socket.AF_INET6 else IPv4Address
            self.host = kind("TCP", name[0], name[1])
            return
        self._sockets, channels = copies[: self._count], copies[self._count :]
        self.channels = dict(enumerate(channels))
        self._key, self._secret = offer.key, offer.secret
        self.host = toTwisted(self._sockets[0].getsockname())

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

    def placeFor(
        self, endpoint: Any, predecessor: int | None, successor: int | None
    ) -> Place:
        """What a worker is told; see there."""
        return Place(addressOf(endpoint), self._key, self._secret, predecessor, successor)

    def descriptor(self, index: int) -> int:
        """The socket for one worker."""
        descriptor: int = self._sockets[index].fileno()
        return descriptor

    def offer(self, channels: Sequence[socket.socket]) -> tuple[Offer, list[int]]:
        """
        These sockets for another process.

        @param channels: to those who read them.
        """
        assert self.place is not None
        with socket.socket(fileno=os.dup(self.descriptor(0))) as copy:
            family = copy.family
        if self.steering is None:
            return Offer(self.place, TCP, family), [self.descriptor(0)]
        descriptors = [each.fileno() for each in (*self._sockets, *channels)]
        return Offer(
            self.place, UDP, family, self._count, self.steering.name, self._key, self._secret
        ), descriptors

    def letGo(self) -> None:
        """Another process has a copy of the TCP socket; see L{ListeningService.letGo}."""
        port = self._port
        if port is not None:
            port.socket.close()

    def close(self) -> Deferred[Any]:
        """
        @return: fires when the sockets are closed.
        """
        for end in self.channels.values():
            end.close()
        if self._port is not None:
            closing: Deferred[Any] = maybeDeferred(self._port.stopListening)
            return closing
        for sock in self._sockets:
            sock.close()
        return succeed(None)


def _steeringOf(shared: Shared, byHost: bool) -> Steering | None:
    """
    What decides to which worker a datagram goes; None: it is TCP.

    @raise StartupError: workers cannot share this endpoint.
    """
    endpoint = carrierOf(shared.endpoint)
    if isinstance(endpoint, ServerEndpoint):
        if endpoint.fd is not None or endpoint.systemd is not None:
            raise StartupError(
                f"{shared.description}: fd= and systemd= cannot be shared by --workers"
            )
        steering: Steering = endpoint.steering
        if byHost and steering is Steering.ADDRESS:
            return Steering.HOST
        return steering
    if isinstance(endpoint, TCP4ServerEndpoint | TCP6ServerEndpoint):
        return None
    raise StartupError(
        f"{shared.description}: --workers needs kcp:, raknet:, qotp:, kcptun:, tcp: or tcp6:"
    )


class _Generation:
    """
    What workers of one configuration listen on.

    @ivar announcers: each with the position of the endpoint that it announces.
    @ivar file: the text of the configuration file, if there is one.
    @ivar failed: these workers did not come up.
    @ivar id: see L{Assignment}.
    """

    def __init__(
        self,
        shared: Sequence[Shared],
        opened: Sequence[_Opened],
        announcers: Sequence[tuple[int, NodeAnnouncer]],
        file: str | None,
    ) -> None:
        self.shared = shared
        self.opened = opened
        self.announcers = announcers
        self.file = file
        self.failed = False
        self.id = os.urandom(8).hex()


class _Process(ProcessProtocol):
    """
    One worker while it lives.

    @ivar channels: to what it will pass on when another worker follows it.
    """

    _log = Logger()

    def __init__(
        self, owner: WorkersService, generation: _Generation, index: int, number: int
    ) -> None:
        """
        @param index: see L{Assignment}.
        @param number: see L{Assignment}.
        """
        self._owner = owner
        self.generation = generation
        self.index = index
        self.number = number
        self.channels: dict[_Opened, socket.socket] = {}
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
        """What the program, or Python itself, has printed."""
        for line in data.decode("utf-8", "replace").splitlines():
            level = LogLevel.info if childFD == 1 else LogLevel.error
            self._log.emit(level, "worker {worker}: {line}", worker=self.number, line=line)

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
        event.update(log_format="worker {worker}: {line}", worker=self.number, line=line)
        globalLogPublisher(event)

    def processEnded(self, reason: Failure) -> None:
        for answer in self._asked.values():
            answer.callback({"error": f"worker {self.number} has ended"})
        self._asked = {}
        self._owner.workerEnded(self, reason)
        self.ended.callback(None)


class WorkersHandover:
    """
    Sockets of workers that were offered over one connection; see L{Handover
    <twisted_rudp.service.takeover.Handover>}.

    @ivar offers: what is offered.
    @ivar descriptors: those of all offers.
    @ivar undo: opens again what was closed for the new process.
    """

    def __init__(
        self,
        owner: WorkersService,
        opened: Sequence[_Opened],
        workers: Sequence[_Process],
    ) -> None:
        self._owner = owner
        self._workers = workers
        self._opened: list[_Opened] = []
        self.offers: list[Offer] = []
        self.descriptors: list[int] = []
        self.undo: Callable[[], object] | None = None
        for each in opened:
            if each.place is not None:
                steered = workers if each.steering is not None else ()
                offer, descriptors = each.offer([one.channels[each] for one in steered])
                self._opened.append(each)
                self.offers.append(offer)
                self.descriptors += descriptors

    def services(self, indices: Sequence[int]) -> list[WorkersService]:
        """That of all offers, whatever was taken of them."""
        return [self._owner]

    def taken(self, indices: Sequence[int]) -> Deferred[None]:
        """
        The new process listens on these.

        @return: fires when all workers have ended.
        @raise RequestError: the workers are others by now.
        """
        over = self._owner.giveUp(self._workers, [self._opened[each] for each in indices])
        self.undo = None
        return over

    def close(self) -> None:
        """What was not taken stays here."""
        undo, self.undo = self.undo, None
        if undo is not None:
            undo()


class WorkersService(Service):
    """
    Keeps workers running between start and stop.

    @ivar description: for the log.
    """

    _log = Logger()
    description = "workers"

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        endpoints: Sequence[Shared],
        count: int,
        *,
        drain: float = 5.0,
        level: LogLevel = LogLevel.info,
        byHost: bool = False,
        announcers: Sequence[tuple[int, NodeAnnouncer]] = (),
        follows: bool = False,
        file: str | None = None,
    ) -> None:
        """
        @param command: arguments of the Python interpreter for a worker.
        @param endpoints: what the workers listen on.
        @param count: how many workers.
        @param drain: seconds that workers take for their sessions to end when they stop.
        @param level: the lowest level of what workers report to the log.
        @param byHost: all sessions of a host are in one worker, where they are steered by address.
        @param announcers: each with the position of the endpoint that it announces.
        @param follows: these workers can follow others, and be followed.
        @param file: the text of the configuration file, if there is one.
        """
        self._reactor = reactor
        self._command = [sys.executable, *command]
        self.count = count
        self.numbers = NUMBERS
        self._drain = drain
        self.level = level
        self._byHost = byHost
        self._follows = follows
        self._takeover: Takeover | None = None
        self._given: tuple[Sequence[Shared], Sequence[tuple[int, NodeAnnouncer]], str | None] = (
            endpoints, announcers, file
        )  # fmt: skip
        self._current: _Generation | None = None
        self._next: _Generation | None = None
        self._changes: Mapping[str, Mapping[str, Any]] = {}
        self._renewed: Deferred[None] | None = None
        self._overdue: IDelayedCall | None = None
        self._old: list[_Opened] = []
        self._workers: dict[int, _Process] = {}
        self._failures: dict[int, int] = {}
        self._delayed: dict[int, IDelayedCall] = {}
        self._bans: dict[str, float] = {}
        self._stopping = False
        self._over: Deferred[None] | None = None
        self.begun: Deferred[None] = Deferred()

    def takeFrom(self, takeover: Takeover) -> None:
        """
        Have the workers listen on sockets of another program, as far as it has them.
        To be called before the start.

        @raise StartupError: these sockets are for another number of workers.
        """
        self._takeover = takeover
        self._open()

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
        current = self._open()
        self._announce(current)
        self._reactor.callWhenRunning(self._startAll, current)

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when all workers have drained their sessions and ended.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        self._cancelDelayed()
        if self._overdue is not None and self._overdue.active():
            self._overdue.cancel()
        current, self._current = self._current, None
        if current is not None:
            await _silence(current)
        living = list(self._workers.values())
        for worker in living:
            worker.stop()
        killing = self._reactor.callLater(self._drain + GRACE, self._kill)
        await DeferredList([worker.ended for worker in living])
        if killing.active():
            killing.cancel()
        opened = [*self._old, *(() if current is None else current.opened)]
        opened += [
            each
            for each in (() if self._next is None else self._next.opened)
            if each not in opened
        ]
        self._old = []
        await DeferredList([each.close() for each in opened])

    def _kill(self) -> None:
        for worker in list(self._workers.values()):
            self._log.error("worker {worker} does not end: killed", worker=worker.number)
            worker.kill()

    def _cancelDelayed(self) -> None:
        for call in self._delayed.values():
            call.cancel()
        self._delayed = {}

    def _open(self) -> _Generation:
        if self._current is None:
            shared, announcers, file = self._given
            opened = [self._opened(each) for each in shared]
            self._current = _Generation(shared, opened, announcers, file)
        return self._current

    def _opened(self, shared: Shared) -> _Opened:
        opened = _Opened(shared, self.count, self._byHost, self._takeover)
        self._log.info(
            "{description}: {count} workers share {host.host} port {host.port} ({host.type})",
            description=shared.description,
            count=self.count,
            host=opened.host,
        )
        return opened

    @staticmethod
    def _announce(generation: _Generation) -> None:
        for position, announcer in generation.announcers:
            announcer.begin(generation.opened[position].host)

    def _startAll(self, generation: _Generation) -> None:
        if not self._stopping:
            for index in range(self.count):
                self._start(index, generation)

    def _start(self, index: int, generation: _Generation) -> None:
        if generation is self._current:
            self._delayed.pop(index, None)
        number = next(each for each in range(NUMBERS) if each not in self._workers)
        worker = _Process(self, generation, index, number)
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", REQUESTS: "w", REPORTS: "r"}
        free = FIRST_SOCKET + len(generation.opened)
        places = []
        theirs = []
        for position, (shared, opened) in enumerate(
            zip(generation.shared, generation.opened, strict=True)
        ):
            descriptors[FIRST_SOCKET + position] = opened.descriptor(index)
            ends: list[int | None] = [None, None]
            before = self._before(index, opened)
            if before is not None:
                descriptors[free], ends[0] = before.fileno(), free
                free += 1
            if self._follows and opened.steering is not None:
                its, worker.channels[opened] = channel()
                theirs.append(its)
                descriptors[free], ends[1] = its.fileno(), free
                free += 1
            places.append(opened.placeFor(shared.endpoint, *ends))
        worker.began = self._reactor.seconds()
        self._workers[number] = worker
        transport = self._reactor.spawnProcess(
            worker,
            self._command[0],
            self._command,
            env={**os.environ, MARK: "1"},
            childFDs=descriptors,
        )
        for its in theirs:
            its.close()
        transport.closeChildFD(0)
        worker.begin(
            Assignment(
                index,
                self.count,
                self.level.name,
                type(self._reactor).__module__,
                tuple(places),
                generation.id,
                number,
                generation.file,
            )
        )

    def _before(self, index: int, opened: _Opened) -> socket.socket | None:
        """The channel to whoever reads a socket now, if anybody does who goes on to do so."""
        living = [
            each
            for each in self._workers.values()
            if each.index == index and opened in each.channels and not each.generation.failed
        ]
        if living:
            return max(living, key=lambda each: each.began).channels[opened]
        return opened.channels.get(index)

    # what workers tell

    def workerReady(self, worker: _Process) -> None:
        """A worker serves."""
        self._log.info(
            "worker {worker}: ready, process {pid}",
            worker=worker.number,
            pid=getattr(worker.transport, "pid", None),
        )
        now = self._reactor.seconds()
        self._bans = {host: until for host, until in self._bans.items() if until > now}
        for host, until in self._bans.items():
            worker.ask({"command": "ban", "host": host, "seconds": until - now})
        generation = worker.generation
        ready = sum(each.ready for each in self._of(generation))
        if ready < self.count:
            return
        if generation is self._next:
            self._succeed()
        elif generation is self._current and not self.begun.called:
            self.begun.callback(None)

    def _of(self, generation: _Generation) -> list[_Process]:
        return [each for each in self._workers.values() if each.generation is generation]

    def workerEnded(self, worker: _Process, reason: Failure) -> None:
        """A worker is gone: replace it, unless it has been replaced, or all are to end."""
        del self._workers[worker.number]
        for end in worker.channels.values():
            end.close()
        if self._stopping:
            return
        status = reason.getErrorMessage()
        if worker.generation is self._next:
            self._fail(f"worker {worker.number} has ended at the start: {status}")
        elif worker.generation is self._current and self._over is None:
            if self._next is not None:
                # The one that was to follow it would read its socket from now on.
                self._fail(f"worker {worker.number} has ended meanwhile")
            self._replace(worker, reason, status)
        else:
            self._log.info(
                "worker {worker} has ended: nothing was left for it to do",
                worker=worker.number,
                reason=status,
            )
        self._closeOld()
        if self._over is not None and not self._workers:
            self._over.callback(None)

    def _replace(self, worker: _Process, reason: Failure, status: str) -> None:
        index = worker.index
        alone = not any(each.ready for each in self._workers.values())
        starting = self._takeover is not None or alone
        if not self.begun.called and starting and not worker.ready:
            self._log.critical(
                "worker {worker} has ended at the start: {reason}",
                worker=worker.number,
                reason=status,
            )
            self._stopping = True
            self._reactor.callLater(0, self._giveUp)
            return
        lived = self._reactor.seconds() - worker.began
        failures = 0 if lived >= LONGEST_DELAY else self._failures.get(index, 0)
        self._failures[index] = failures + 1
        delay = min(SHORTEST_DELAY * 2**failures, LONGEST_DELAY)
        if isinstance(reason.value, ProcessDone):
            self._log.info("worker {worker} has ended: replaced", worker=worker.number)
        else:
            self._log.error(
                "worker {worker} has died with its sessions: {reason}; replaced in {delay} s",
                worker=worker.number,
                reason=status,
                delay=delay,
            )
        self._delayed[index] = self._reactor.callLater(
            delay, self._start, index, worker.generation
        )

    def _giveUp(self) -> None:
        if self._reactor.running:
            self._reactor.stop()

    # other workers for these

    def renew(
        self,
        endpoints: Sequence[Shared],
        announcers: Sequence[tuple[int, NodeAnnouncer]],
        file: str | None,
        changes: Mapping[str, Mapping[str, Any]],
        drain: float,
    ) -> Deferred[None]:
        """
        Start workers with another configuration. When all of them serve, those that run now
        keep their open sessions, and end with the last one.

        @param changes: of settings in open sessions, by the place of their endpoint.
        @return: fires when the new ones serve.
        @raise RequestError: that is not possible. Then nothing is changed, as when the
            C{Deferred} fails with it.
        """
        current = self._current
        if current is None or self._next is not None or not self.begun.called:
            raise RequestError("workers are being started: try again when all are ready")
        opened: list[_Opened] = []
        try:
            for shared in endpoints:
                opened.append(self._sameOrOpened(current, shared, opened))
        except StartupError as problem:
            for each in opened:
                if each not in current.opened:
                    each.close()
            raise RequestError(f"not reloaded, nothing was changed: {problem}") from None
        generation = _Generation(endpoints, opened, announcers, file)
        self._next = generation
        self._changes = changes
        renewed = self._renewed = Deferred()
        self._overdue = self._reactor.callLater(
            READY_TIMEOUT, self._fail, f"not ready after {READY_TIMEOUT:g} s"
        )
        self._drain = max(drain, self._drain)
        self._startAll(generation)
        return renewed

    def _sameOrOpened(
        self, current: _Generation, shared: Shared, opened: Sequence[_Opened]
    ) -> _Opened:
        """
        @raise StartupError: it cannot be opened.
        """
        for each in current.opened:
            if each.place is not None and each.place == shared.place and each not in opened:
                if each.steering is not _steeringOf(shared, self._byHost):
                    raise StartupError(
                        f"{shared.description}: with --workers, another transport at the same"
                        " address takes a restart"
                    )
                return each
        return self._opened(shared)

    def _succeed(self) -> None:
        """All new workers serve."""
        before, generation = self._current, self._next
        renewed, overdue = self._renewed, self._overdue
        assert before is not None and generation is not None
        assert renewed is not None and overdue is not None
        self._next, self._current = None, generation
        overdue.cancel()
        self._cancelDelayed()
        self._failures = {}
        taken = [at for at, each in enumerate(before.opened) if each in generation.opened]
        self._retire(before, taken, self._changes)
        self._old += [each for each in before.opened if each not in generation.opened]
        for each in self._old:
            # Nobody accepts there any more.
            if each.steering is None:
                each.close()
        self._old = [each for each in self._old if each.steering is not None]
        _silence(before).addCallback(lambda _: self._announce(generation))
        self._closeOld()
        renewed.callback(None)

    def _retire(
        self,
        generation: _Generation,
        taken: Sequence[int],
        changes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Workers of a generation keep their open sessions only."""
        named = {
            str(at): changes[" ".join(each.place)]
            for at, each in enumerate(generation.opened)
            if each.place is not None and " ".join(each.place) in changes
        }
        for worker in self._of(generation):
            if worker.ready:
                worker.ask({"command": GIVE_UP, "taken": list(taken), "changes": named})
            else:
                worker.stop()

    def _fail(self, problem: str) -> None:
        """The new workers do not come."""
        generation, self._next = self._next, None
        renewed, overdue = self._renewed, self._overdue
        assert generation is not None and renewed is not None and overdue is not None
        if overdue.active():
            overdue.cancel()
        generation.failed = True
        for worker in self._of(generation):
            worker.kill()
        current = self._current
        self._old += [
            each for each in generation.opened if current is None or each not in current.opened
        ]
        self._closeOld()
        renewed.errback(RequestError(f"not reloaded, nothing was changed: {problem}"))

    def _closeOld(self) -> None:
        """Close sockets that no worker has. Until then all of a group are needed to steer by."""
        used = {
            each for worker in self._workers.values() for each in worker.generation.opened
        }
        for opened in [each for each in self._old if each not in used]:
            self._old.remove(opened)
            opened.close()

    # another process for these

    def offer(self) -> WorkersHandover:
        """
        What a new process may take over.

        @raise RequestError: not now.
        """
        current = self._current
        workers = {} if current is None else {each.index: each for each in self._of(current)}
        if current is None or self._next is not None or len(workers) < self.count or not all(
            each.ready for each in workers.values()
        ):
            raise RequestError("workers are being started: try again when all are ready")
        return WorkersHandover(
            self, current.opened, [workers[index] for index in range(self.count)]
        )

    def giveUp(
        self, workers: Sequence[_Process], taken: Sequence[_Opened]
    ) -> Deferred[None]:
        """
        Another process has these sockets. The workers keep their open sessions.

        @param workers: those whose sockets they are.
        @return: fires when all workers have ended.
        @raise RequestError: they are others by now.
        """
        current = self._current
        if current is None or any(
            self._workers.get(each.number) is not each or each.generation is not current
            for each in workers
        ):
            raise RequestError("a worker was replaced meanwhile: try again")
        self._cancelDelayed()
        over = self._over = Deferred()
        for opened in taken:
            opened.letGo()
        self._retire(current, [current.opened.index(each) for each in taken], {})
        _silence(current)
        return over

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
        living = {number: each for number, each in sorted(self._workers.items()) if each.ready}
        asked = [self._answerOf(worker, request) for worker in living.values()]
        answers = await DeferredList(asked)
        return {
            number: answer
            for number, (_, answer) in zip(living, answers, strict=True)
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
        text = {"error": f"worker {worker.number} does not answer"}
        return answer.addErrback(lambda _: text)


def shared(
    services: Sequence[ListeningService],
) -> tuple[list[Shared], list[tuple[int, NodeAnnouncer]]]:
    """
    What workers share of services, and what is announced by their parent, with the positions
    of what they announce.
    """
    announcers = []
    for position, service in enumerate(services):
        announcer = service.withoutAnnouncer()
        if announcer is not None:
            announcers.append((position, announcer))
    return [
        Shared(service.description, service.listeningEndpoint, service.place)
        for service in services
    ], announcers


def workersOf(
    reactor: Any,
    services: Sequence[IService],
    arguments: Sequence[str],
    count: int,
    level: LogLevel = LogLevel.info,
    drain: float = 5.0,
    byHost: bool = False,
    follows: bool = False,
    file: str | None = None,
) -> tuple[WorkersService, list[IService]]:
    """
    The workers of a command line.

    @param arguments: those behind C{rudp}.
    @param follows: see L{WorkersService}.
    @param file: see L{WorkersService}.
    @return: the service that runs them, and those that run in this process.
    @raise usage.UsageError: there is nothing to distribute.
    """
    listening, rest = distributed(services)
    if not listening:
        raise usage.UsageError("--workers: no service here has connections to share among them")
    endpoints, announcers = shared(listening)
    return WorkersService(
        reactor,
        ["-m", "twisted_rudp.service.workermain", *arguments],
        endpoints,
        count,
        drain=drain,
        level=level,
        byHost=byHost,
        announcers=announcers,
        follows=follows,
        file=file,
    ), rest


def _silence(generation: _Generation) -> Deferred[Any]:
    """
    Announce no more.

    @return: fires when that is done.
    """
    return DeferredList([announcer.end() for _, announcer in generation.announcers])


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
        Shared(each if isinstance(each, str) else repr(endpoint), endpoint)
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
