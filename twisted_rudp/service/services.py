"""All services of a process: started, reloaded from their file, handed over to the next process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_rudp import __version__, kernels
from twisted_rudp.core.settings import Option
from twisted_rudp.endpoints.base import ServerEndpoint
from twisted_rudp.net.listen import ListeningPort, ListeningPredecessor
from twisted_rudp.service.control import Answer, Answering, ControlService, RequestError
from twisted_rudp.service.control import status as processStatus
from twisted_rudp.service.listening import ListeningService, StartupError
from twisted_rudp.service.signals import onSignal, stopInTurn
from twisted_rudp.service.status import text
from twisted_rudp.service.takeover import ON_UDP, TCP, Handover, Takeover
from twisted_rudp.service.workers import WorkersHandover, WorkersService, shared


class Planned(NamedTuple):
    """
    A service.

    @ivar fingerprint: changes with its options, and with the files that they name.
    """

    service: IService
    fingerprint: str


@dataclass
class Plan:
    """
    What is to run.

    @ivar services: those of commands.
    @ivar general: the options that belong to none of them, by name.
    @ivar text: the configuration file, if there is one.
    """

    services: list[Planned]
    general: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None


class Services(MultiService):
    """The services of one command line or file."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        plan: Plan,
        replan: Callable[[], Plan] | None = None,
        takeover: Takeover | None = None,
        *,
        before: Sequence[IService] = (),
        workers: WorkersService | None = None,
        status: Callable[[], Deferred[dict[str, Any]]] | None = None,
    ) -> None:
        """
        @param replan: reads the file again; None: there is none.
        @param takeover: has the sockets of the process that runs now.
        @param before: services that start before all others.
        @param workers: have all services that listen.
        @param status: the state, if that is not this process's.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._plan = plan
        self._replan = replan
        self._takeover = takeover
        self._early: list[Any] | None = None
        self._suspended: list[Any] = []
        self._before = list(before)
        self._retiring: dict[Any, None] = {}
        self._workers = workers
        self._shared: list[Planned] = []
        self._control: tuple[str, Answering] | None = None
        self._successor = False
        self._status = status or (lambda: succeed(processStatus(reactor)))
        for service in before:
            self.addService(service)  # type: ignore[no-untyped-call]
        if workers is not None:
            self._shared, plan.services = _divided(plan.services)
        for each in plan.services:
            self.addService(each.service)  # type: ignore[no-untyped-call]
        if workers is not None:
            self.addService(workers)  # type: ignore[no-untyped-call]

    def controlledBy(self, path: str, control: Answering) -> None:
        """Have a control socket open while running."""
        self._control = (path, control)
        self.addService(ControlService(self._reactor, path, control))  # type: ignore[no-untyped-call]

    # starting and stopping

    def privilegedStartService(self) -> None:
        """Bind before privileges are dropped. C{twist} does not call this."""
        Service.privilegedStartService(self)  # type: ignore[no-untyped-call]
        self._inOrder(lambda service: service.privilegedStartService())

    def startService(self) -> None:
        """Log the version and the kernels in use; log the state at each SIGUSR1."""
        onSignal("SIGUSR1", self._reactor, self._logState)
        # Without a file, it means at a terminal that this was closed.
        if self._replan is not None or sys.stdin is None or not sys.stdin.isatty():
            onSignal("SIGHUP", self._reactor, self._reloadLogged)
        stopInTurn(self._reactor)
        self._log.info(
            "twisted_rudp {version}, {inUse}",
            version=__version__,
            inUse=kernels.description(),
            kernels=kernels.IMPLEMENTATION,
            compiled=kernels.COMPILED,
        )
        Service.startService(self)  # type: ignore[no-untyped-call]
        self._inOrder(lambda service: service.startService())
        takeover, self._takeover = self._takeover, None
        if takeover is None:
            return
        workers = self._workers
        if workers is None:
            takeover.commit()
        else:
            workers.begun.addCallback(self._commit, takeover)

    def _commit(self, ignored: object, takeover: Takeover) -> None:
        """The workers serve: the old process can give up."""
        try:
            takeover.commit()
        except StartupError as problem:
            self._log.critical("{problem}", problem=problem)
            self._reactor.stop()

    def _inOrder(self, start: Callable[[Any], object]) -> None:
        """
        Those that take sockets over first; then the old process closes what else it has open,
        such as its control socket.
        """
        for service in self._before:
            start(service)
        early: list[Any] = []
        takeover = self._takeover
        if takeover is not None:
            early = self._takeOver(takeover)
            for service in early:
                start(service)
            takeover.release()
        for service in self.services:
            if service not in early and service not in self._before:
                start(service)

    def _takeOver(self, takeover: Takeover) -> list[Any]:
        """
        @return: the services that have sockets of the old process.
        """
        if self._early is None:
            takeover.begin()
            self._early = []
            if self._workers is not None:
                self._workers.takeFrom(takeover)
                self._early.append(self._workers)
            for service in self.services:
                if isinstance(service, ListeningService) and service.place is not None:
                    service.source = takeover.sourceFor(service.place)
                    if service.source is not None:
                        self._early.append(service)
        return self._early

    def stopService(self) -> Deferred[Any]:
        """
        @return: fires when all are stopped, also those that were retiring.
        """
        retiring = list(self._retiring)
        stopping: list[Deferred[Any]] = [super().stopService()]  # type: ignore[no-untyped-call]
        stopping.extend(service.stopService() for service in retiring)
        return DeferredList(stopping)

    def _logState(self) -> None:
        self._status().addCallback(
            lambda state: self._log.info("state:\n{state}", state=text(state))
        )

    # reloading

    def _reloadLogged(self) -> None:
        """A signal has no caller who could be told."""
        maybeDeferred(self.reload).addErrback(
            lambda failure: self._log.error("{problem}", problem=failure.value)
        )

    def reload(self) -> Answer:
        """
        Read the file again and run what it says. Services that are the same go on; the
        sessions of the others end by themselves.

        @return: how many were added, removed, changed and left alone.
        @raise RequestError: the file has an error, or something new cannot be started. Then
            nothing is changed.
        """
        if self._replan is None:
            raise RequestError(
                "nothing was reloaded: this program was started without --config"
            )
        if self._successor:
            raise RequestError("another process has taken over")
        try:
            plan = self._replan()
        except usage.UsageError as problem:
            raise RequestError(f"not reloaded, nothing was changed: {problem}") from None
        general = self._plan.general
        for name, value in plan.general.items():
            if value != general.get(name):
                self._log.warn(
                    "{name} was changed in the file: that takes a restart"
                    if name.startswith("workers")
                    else "{name} was changed in the file: that takes a restart, or --takeover",
                    name=name,
                )
        if self._workers is not None:
            return Deferred.fromCoroutine(self._reloadShared(self._workers, plan))
        kept, gone, fresh = _compare(self._plan.services, plan.services)
        done = self._change(gone, fresh)
        services = [*kept, *fresh]
        self._plan = Plan(services, general)
        return self._reloaded(done, len(kept))

    def _reloaded(self, done: dict[str, Any], unchanged: int) -> dict[str, Any]:
        done["unchanged"] = unchanged
        self._log.info(
            "reloaded: {added} added, {removed} removed, {changed} changed, {unchanged} unchanged",
            **done,
        )
        return done

    async def _reloadShared(self, workers: WorkersService, plan: Plan) -> dict[str, Any]:
        """What listens is the workers': if any of it has changed, others follow them."""
        listening, rest = _divided(plan.services)
        if not listening:
            raise RequestError("not reloaded, nothing was changed: nothing is left for --workers")
        same, left, new = _compare(self._shared, listening)
        changed = 0
        if left or new:
            changes = {}
            for each in new:
                service: Any = each.service
                before: Any = _before(service, [one.service for one in left])
                if before is not None:
                    changed += 1
                    changes[" ".join(service.place)] = changesFor(
                        before.listeningEndpoint, service.listeningEndpoint
                    )
            services: list[Any] = [each.service for each in listening]
            drain = max(service.drain for service in services)
            await workers.renew(*shared(services), plan.text, changes, drain)
            self._shared = listening
        kept, gone, fresh = _compare(self._plan.services, rest)
        done = self._change(gone, fresh)
        self._plan = Plan([*kept, *fresh], self._plan.general)
        done["added"] += len(new) - changed
        done["removed"] += len(left) - changed
        done["changed"] += changed
        return self._reloaded(done, len(kept) + len(same))

    def _change(self, gone: list[Planned], fresh: list[Planned]) -> dict[str, Any]:
        """
        @raise RequestError: something new cannot be started. Then nothing is changed.
        """
        left = [each.service for each in gone]
        available = [*left, *self._retiring]
        successions: list[tuple[ListeningService, ListeningService]] = []
        added: list[Any] = []
        late: list[Any] = []
        for each in fresh:
            service = each.service
            if not isinstance(service, ListeningService):
                late.append(service)
                continue
            before = _before(service, available)
            if before is None:
                added.append(service)
            else:
                available.remove(before)
                successions.append((before, service))
        self._begin(added, successions)
        changed = 0
        for before, service in successions:
            if adoptable(before):
                before.letGo()
            self._settingsOf(before, service)
            changed += before in left
        closing: list[Deferred[Any]] = []
        for service in left:
            if isinstance(service, ListeningService):
                self._retire(service)
            else:
                closing.append(maybeDeferred(self.removeService, service))
        DeferredList(closing).addCallback(self._startLate, late)
        return {
            "added": len(fresh) - changed,
            "removed": len(left) - changed,
            "changed": changed,
        }

    def _begin(
        self,
        added: Iterable[ListeningService],
        successions: Iterable[tuple[ListeningService, ListeningService]],
    ) -> None:
        """
        Start what is new; whatever can fail does so here.

        @raise RequestError: something cannot be started, and is stopped again.
        """
        started: list[tuple[ListeningService | None, ListeningService]] = []
        try:
            for service in added:
                started.append((None, service))
                self.addService(service)  # type: ignore[no-untyped-call]
            for before, service in successions:
                service.source = following(self._reactor, before)
                started.append((before, service))
                self.addService(service)  # type: ignore[no-untyped-call]
        except (StartupError, CannotListenError) as problem:
            for before_, service in started:
                if before_ is not None and service.port is not None and adoptable(before_):
                    service.letGo()
                self.removeService(service)  # type: ignore[no-untyped-call]
                if before_ is not None and isinstance(before_.port, ListeningPort):
                    before_.port.takeBack()
            raise RequestError(f"not reloaded, nothing was changed: {problem}") from None

    def _startLate(self, ignored: object, services: Iterable[Any]) -> None:
        """Services without sessions, after those that they replace have ended."""
        for service in services:
            try:
                self.addService(service)  # type: ignore[no-untyped-call]
            except StartupError as problem:
                self._log.error("{problem}", problem=problem)

    def _settingsOf(self, before: ListeningService, service: ListeningService) -> None:
        """What can be changed while sessions run is changed in those of the old service."""
        changes = changesFor(before.endpoint, service.endpoint)
        count = 0
        if changes and isinstance(before.port, ListeningPort):
            count = before.port.configureSessions(changes)
        if not changes:
            self._log.info(
                "{description}: changed for new sessions", description=service.description
            )
            return
        self._log.info(
            "{description}: changed for new sessions, and in {count} open ones: {names}",
            description=service.description,
            count=count,
            names=", ".join(changes),
        )

    def _retire(self, service: ListeningService) -> None:
        self._waitFor(service, service.retire(service.patience))

    def _waitFor(self, service: Any, over: Deferred[None]) -> None:
        """A service ends when its sessions have."""
        self.services.remove(service)
        service.parent = None
        self._retiring[service] = None
        over.addBoth(self._retired, service)

    def _retired(self, result: object, service: Any) -> None:
        self._retiring.pop(service, None)
        service.stopService()
        if isinstance(result, Failure):
            self._log.failure("{description} retired", result, description=service.description)
        if self._successor and not self._retiring:
            self._log.info("all sessions have ended; another process has taken over")
            self._reactor.stop()

    # handing over

    def offer(self) -> Handover | WorkersHandover:
        """
        What a new process may take over.

        @raise RequestError: another one has.
        """
        if self._successor:
            raise RequestError("another process has taken over")
        if self._workers is not None:
            return self._workers.offer()
        return Handover(
            (service, service.place)
            for service in self.services
            if isinstance(service, ListeningService) and service.place is not None
        )

    def release(
        self, handover: Handover | WorkersHandover, taken: list[int]
    ) -> Deferred[dict[str, Any]]:
        """
        A new process listens on these, and starts: all is closed that it may want to open
        beside them, and opened again if it fails.

        @return: fires when that is closed.
        """
        closing: list[Deferred[Any]] = []
        suspended: list[Any] = []
        stays: list[Any] = [*self._before, *handover.services(taken)]
        for service in self.services:
            if service in stays:
                continue
            if not isinstance(service, ListeningService):
                closing.append(maybeDeferred(service.stopService))
                suspended.append(service)
            # Open sessions need a UDP port. One that still tries to listen has nothing open.
            elif service.port is not None and not isinstance(service.port, ListeningPort):
                closing.append(service.closeOther())
                suspended.append(service)
        self._suspended = suspended
        closed = DeferredList(closing)
        handover.undo = lambda: closed.addCallback(self._resume)
        answer: Deferred[dict[str, Any]] = Deferred()

        def tell(result: object) -> object:
            answer.callback({"released": len(suspended)})
            return result

        closed.addCallback(tell)
        return answer

    def _resume(self, ignored: object) -> None:
        """The new process did not start."""
        suspended, self._suspended = self._suspended, []
        if not self.running:
            return
        self._log.warn("the process that was to take over did not start: this one goes on")
        for service in suspended:
            try:
                if isinstance(service, ListeningService):
                    service.reopen()
                else:
                    service.startService()
            except StartupError as problem:
                self._log.error("{problem}", problem=problem)

    def giveUp(
        self, handover: Handover | WorkersHandover, taken: list[int]
    ) -> Deferred[dict[str, Any]]:
        """
        A new process listens: only the open sessions stay here, and when the last one has
        ended this process does.

        @return: fires when all is closed that the new process may want to open.
        @raise RequestError: what was offered is not there any more.
        """
        over = handover.taken(taken)
        self._successor = True
        if over is not None:
            self._waitFor(self._workers, over)
        closing: list[Deferred[Any]] = []
        for service in list(self.services):
            if isinstance(service, ListeningService):
                closing.append(service.closeOther())
                self._retire(service)
            elif service in self._suspended:
                self.services.remove(service)
                service.parent = None
            else:
                closing.append(maybeDeferred(self.removeService, service))
        self._log.info(
            "another process takes over: {count} services here wait for the end of their sessions",
            count=len(self._retiring),
        )
        answer: Deferred[dict[str, Any]] = DeferredList(closing).addCallback(self._gaveUp)
        return answer

    def _gaveUp(self, ignored: object) -> dict[str, Any]:
        if self._control is not None:
            path, control = self._control
            own = ControlService(self._reactor, f"{path}.{os.getpid()}", control)
            try:
                self.addService(own)  # type: ignore[no-untyped-call]
            except StartupError as problem:
                self._log.warn("{problem}", problem=problem)
        if not self._retiring:
            self._reactor.callLater(0, self._reactor.stop)
        return {"retiring": len(self._retiring)}


def _divided(services: Iterable[Planned]) -> tuple[list[Planned], list[Planned]]:
    """Those that run in workers, and the others."""
    listening = [each for each in services if isinstance(each.service, ListeningService)]
    return listening, [each for each in services if each not in listening]


def _compare(
    before: Iterable[Planned], now: Iterable[Planned]
) -> tuple[list[Planned], list[Planned], list[Planned]]:
    """
    @return: those of before that stay, those that go, and what is new.
    """
    gone = list(before)
    kept: list[Planned] = []
    fresh: list[Planned] = []
    for each in now:
        same = next((one for one in gone if one.fingerprint == each.fingerprint), None)
        if same is None:
            fresh.append(each)
        else:
            gone.remove(same)
            kept.append(same)
    return kept, gone, fresh


def _before(service: ListeningService, available: Iterable[Any]) -> ListeningService | None:
    """The one that listens at the same place, if any."""
    for each in available:
        if (
            isinstance(each, ListeningService)
            and service.place is not None
            and each.place == service.place
        ):
            return each
    return None


def adoptable(service: ListeningService) -> bool:
    """Whether its socket is one of TCP that another port can use."""
    place = service.place
    return place is not None and place[0] == TCP and hasattr(service.port, "addressFamily")


def following(
    reactor: Any, before: ListeningService
) -> Callable[[Any, IProtocolFactory], Any]:
    """What listens on the socket of a service that is to retire."""

    def listen(endpoint: Any, factory: IProtocolFactory) -> Any:
        port = before.port
        if isinstance(port, ListeningPort) and isinstance(endpoint, ON_UDP):
            return endpoint.listenAfter(ListeningPredecessor(port), factory)
        if adoptable(before):
            # The endpoint closes what it is given.
            adopted = AdoptedStreamServerEndpoint(  # type: ignore[no-untyped-call]
                reactor, os.dup(port.fileno()), port.addressFamily
            )
            return adopted.listen(factory)  # type: ignore[no-untyped-call]
        return before.closeOther().addCallback(lambda _: endpoint.listen(factory))

    return listen


def changesFor(before: Any, now: Any) -> dict[str, Any]:
    """What is different between two endpoints and can be changed in sessions that run."""
    if not isinstance(before, ServerEndpoint) or type(before) is not type(now):
        return {}
    options: Mapping[str, Option] = type(now).options()
    changes = {}
    for name, option in options.items():
        if option.changeable and not option.secret:
            value = getattr(now, name)
            if value is not None and value != getattr(before, name):
                changes[name] = value
    return changes
