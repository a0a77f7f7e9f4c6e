"""Services that cannot start."""

from __future__ import annotations

from twisted.internet.error import CannotListenError


class CannotStart(SystemExit, Exception):
    """
    Ends the program at its start with one line and status 1 (SVC-4).

    A traceback would tell the operator nothing. An C{Exception} too, because twistd tells
    its parent process and removes its pid file for these only.
    """


def cannotStart(description: str, options: str, problem: CannotListenError) -> CannotStart:
    """
    The line for an address that cannot be had.

    @param description: what the service does.
    @param options: those that say where it listens.
    """
    where = f"port {problem.port}" if isinstance(problem.port, int) else str(problem.port)
    if problem.interface:
        where = f"{problem.interface} {where}"
    cause = problem.socketError
    reason = getattr(cause, "strerror", None) or str(cause)
    return CannotStart(f"{description}: cannot listen on {where} ({options}): {reason}")
