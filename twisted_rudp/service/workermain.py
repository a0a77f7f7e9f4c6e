"""The program of a worker of C{twist rudp} and C{rudp}: C{python -m} this module, and arguments."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.python import usage

from twisted_rudp.net.listen import ListeningPort
from twisted_rudp.net.passing import PassedSocket, PassingSuccessor
from twisted_rudp.service.kcptun import tunnelServices
from twisted_rudp.service.options import Options
from twisted_rudp.service.tracing import tracing
from twisted_rudp.service.worker import (
    FIRST_SOCKET,
    MARK,
    Assignment,
    Place,
    Worker,
    adopt,
    firstLine,
)
from twisted_rudp.service.workers import distributed


def workerServices(
    arguments: Sequence[str], reactor: Any, assignment: Assignment
) -> list[IService]:
    """
    The services of a command line that have connections, with the sockets of this worker, behind
    what traces them.

    @param arguments: as they stand behind C{rudp}.
    @raise usage.UsageError: they are invalid, as if a file has changed since the start.
    """
    first: list[IService] = []
    if arguments[0].startswith("kcptun-"):
        services = tunnelServices(arguments)
    else:
        options = Options()
        options.text = assignment.file
        options.parseOptions(list(arguments))
        services = [each for command in options.commands for each in command.services]
        first += tracing(reactor, options.trace, options.pcap, assignment.number)
    listening, _ = distributed(services)
    endpoints = [service.listeningEndpoint for service in listening]
    adopted = adopt(reactor, assignment, endpoints)
    for position, (service, endpoint) in enumerate(zip(listening, adopted, strict=True)):
        service.withoutAnnouncer()
        service.listenOn(endpoint)
        channel = assignment.places[position].predecessor
        if channel is not None:
            service.source = _following(FIRST_SOCKET + position, channel)
    return [*first, *listening]


def _following(descriptor: int, channel: int) -> Callable[[Any, IProtocolFactory], Any]:
    """What listens on a socket that another process reads as long as it has sessions there."""

    def listen(endpoint: Any, factory: IProtocolFactory) -> Any:
        return endpoint.listenAfter(PassedSocket(descriptor, _end(channel)), factory)

    return listen


def _end(channel: int) -> socket.socket:
    end = socket.socket(fileno=channel)
    end.setblocking(False)
    return end


class Retirement:
    """Lets the open sessions end, and everything else go to the processes that come after."""

    def __init__(
        self,
        services: Iterable[Any],
        places: Sequence[Place],
        over: Callable[[], None],
    ) -> None:
        """
        @param services: of this worker; those that listen are as many as there are places.
        @param over: called when all sessions have ended.
        """
        self._listening, _ = distributed(list(services))
        self._places = places
        self._over = over
        self._begun = False

    def giveUp(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """
        @param request: C{taken} has the positions of the sockets that others listen on,
            C{changes} by position what is to be changed in open sessions.
        """
        if self._begun:
            return {"error": "this worker has given up"}
        self._begun = True
        waiting: list[Deferred[Any]] = []
        changed = 0
        for position, service in enumerate(self._listening):
            port = service.port
            if isinstance(port, ListeningPort):
                changes = request["changes"].get(str(position), {})
                changed += port.configureSessions(changes) if changes else 0
            if position in request["taken"]:
                channel = self._places[position].successor
                if isinstance(port, ListeningPort) and channel is not None:
                    port.handOver(PassingSuccessor(_end(channel), port.addresses))
                elif not isinstance(port, ListeningPort):
                    service.letGo()
            waiting.append(service.retire(service.patience))
        DeferredList(waiting, consumeErrors=True).addCallback(lambda _: self._over())
        return {"changed": changed}


def main() -> None:
    """Run until the parent says otherwise."""
    worker = Worker(Assignment.of(firstLine()))
    # A program that this one starts is no worker.
    os.environ.pop(MARK, None)
    parent = MultiService()  # type: ignore[no-untyped-call]
    try:
        services = workerServices(sys.argv[1:], worker.reactor, worker.assignment)
    except usage.UsageError as problem:
        raise SystemExit(str(problem)) from problem
    for service in services:
        parent.addService(service)  # type: ignore[no-untyped-call]
    retirement = Retirement(services, worker.assignment.places, worker.end)
    worker.run(
        parent.startService, lambda: maybeDeferred(parent.stopService), retirement.giveUp
    )


if __name__ == "__main__":
    main()
