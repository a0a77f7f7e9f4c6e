"""The program of a worker of C{twist rudp} and C{rudp}: C{python -m} this module, and arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import maybeDeferred
from twisted.python import usage

from twisted_rudp.service.kcptun import tunnelServices
from twisted_rudp.service.options import Options
from twisted_rudp.service.tracing import tracing
from twisted_rudp.service.worker import MARK, Assignment, Worker, adopt, firstLine
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
        options.parseOptions(list(arguments))
        services = [each for command in options.commands for each in command.services]
        first += tracing(reactor, options.trace, options.pcap, assignment.index)
    listening, _ = distributed(services)
    endpoints = [service.listeningEndpoint for service in listening]
    for service, endpoint in zip(listening, adopt(reactor, assignment, endpoints), strict=True):
        service.withoutAnnouncer()
        service.listenOn(endpoint)
    return [*first, *listening]


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
    worker.run(parent.startService, lambda: maybeDeferred(parent.stopService))


if __name__ == "__main__":
    main()
