"""Traces of all sessions of a process: C{twist rudp ... --trace}, and one call for programs."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from twisted_rudp.decoding.packets import READERS
from twisted_rudp.net.traced import failed, traces
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


class TraceService(Service):
    """Traces the sessions of a process from its start to the end of its reactor."""

    def __init__(self, reactor: Any, directory: str) -> None:
        self._reactor = reactor
        self._directory = directory

    def startService(self) -> None:
        """
        @raise StartupError: the directory cannot be written.
        """
        super().startService()  # type: ignore[no-untyped-call]
        try:
            traceSessions(self._directory)
        except OSError as problem:
            raise StartupError(f"--trace {self._directory}: {problem.strerror}") from problem
        _log.info("traces in {directory}", directory=self._directory)
        # Sessions end while the other services stop.
        self._reactor.addSystemEventTrigger("after", "shutdown", endTraces)
