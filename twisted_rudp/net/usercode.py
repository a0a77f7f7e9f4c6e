"""How the application's factories, protocols and producers are called (FAC-5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


def callUser(function: Callable[..., Any], *arguments: object) -> Any:
    """
    Call code of the application. The caller passes its failure on to whom it concerns.

    @return: what it returned, or the C{Failure} it raised.
    """
    try:
        return function(*arguments)
    except Exception:
        return Failure()  # type: ignore[no-untyped-call]


def callUserLogged(function: Callable[..., Any], *arguments: object) -> Any:
    """
    As L{callUser}, and what was raised goes to the log. Whose connection that ends is
    the caller's business.
    """
    outcome = callUser(function, *arguments)
    if isinstance(outcome, Failure):
        logged(outcome, function)
    return outcome


def logged(failure: Failure, function: Callable[..., Any]) -> Failure:
    """Put into the log what code that is not ours has raised."""
    _log.failure("the application failed in {function}", failure, function=function)
    return failure
