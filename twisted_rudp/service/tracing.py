"""
Traces of all sessions of a process, and captures of its ports: C{--trace} and C{--pcap} of
services, and one call for programs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, Service
from twisted.logger import Logger

from twisted_rudp.decoding.packets import READERS
from twisted_rudp.net.traced import failed, traces
from twisted_rudp.net.udp.captured import capturePorts, endCapture
from twisted_rudp.service.listening import StartupError
from twisted_rudp.tracing.qlog import LARGEST_TRACE, MOST_FILES, Tracer

_log = Logger()


def traceSessions(
    directory: str, *, limit: int = LARGEST_TRACE, files: int = MOST_FILES
) -> Tracer:
    """
    Write a qlog file for each session of this process that begins from now on; only the
    owner can read them. Further sessions than C{files} are not traced, and a file that has
    C{limit} bytes gets nothing but the end of its session.

    @param directory: made if it is not there.
    @param limit: bytes of each file.
    @return: what is being written; L{endTraces} ends it.
    @raise OSError: the directory cannot be made or written.
    """
    endTraces()
    tracer = Tracer(directory, readers=READERS, limit=limit, files=files, failed=failed)
    traces.tracer = tracer
    return tracer


def endTraces() -> None:
    """Trace no more sessions, and close the files. Harmless when repeated."""
    tracer, traces.tracer = traces.tracer, None
    if tracer is not None:
        tracer.close()


class FileService(Service):
    """Has something written from the start of a process to the end of its reactor."""

    def __init__(
        self,
        reactor: Any,
        option: str,
        path: str,
        begin: Callable[[str], object],
        end: Callable[[], None],
    ) -> None:
        """
        @param option: by whose name errors are told.
        @param begin: begins to write there; may raise C{OSError}.
        """
        self._reactor = reactor
        self._option = option
        self._path = path
        self._begin = begin
        self._end = end

    def startService(self) -> None:
        """
        @raise StartupError: it cannot be written.
        """
        super().startService()  # type: ignore[no-untyped-call]
        try:
            self._begin(self._path)
        except OSError as problem:
            reason = f"{self._option} {self._path}: {problem.strerror}"
            raise StartupError(reason) from problem
        _log.info("{option}: writing to {path}", option=self._option, path=self._path)
        # Sessions end while the other services stop.
        self._reactor.addSystemEventTrigger("after", "shutdown", self._end)


def tracing(
    reactor: Any, trace: str | None, pcap: str | None, worker: int | None = None
) -> list[IService]:
    """
    What writes traces and captures of a process; nothing where there is no path.

    @param worker: the number of this process among several, which cannot share one capture.
    """
    services: list[IService] = []
    if trace is not None:
        services.append(FileService(reactor, "--trace", trace, traceSessions, endTraces))
    if pcap is not None:
        if worker is not None:
            stem, suffix = os.path.splitext(pcap)
            pcap = f"{stem}.{worker}{suffix}"
        services.append(FileService(reactor, "--pcap", pcap, capturePorts, endCapture))
    return services
