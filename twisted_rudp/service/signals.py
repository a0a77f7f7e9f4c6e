"""Signals, handled by the reactor in a turn of its own rather than wherever the program is."""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import current_thread, main_thread
from typing import Any


def onSignal(name: str, reactor: Any, function: Callable[[], None]) -> None:
    """Have a function called at each signal of this name, where there are signals."""
    if hasattr(signal, name) and current_thread() is main_thread():
        signal.signal(
            getattr(signal, name), lambda number, frame: reactor.callFromThread(function)
        )


def stopInTurn(reactor: Any) -> None:
    """
    Have the reactor's own handlers of SIGINT and SIGTERM called in a turn, once it runs; that of
    SIGINT also for a signal that comes before. Python raises KeyboardInterrupt then, and where that
    meets the start of the reactor, it is logged and the program goes on without handlers.

    They write to the log. Where a signal comes while the log is being written, the lock of
    C{twistd}'s log file would be waited for by the thread that has it, and nothing would ever
    end the program (Twisted's issue 7736).
    """
    if (
        current_thread() is main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and hasattr(reactor, "sigInt")
    ):
        signal.signal(signal.SIGINT, _deferred(reactor, reactor.sigInt))
    reactor.callWhenRunning(_deferHandlers, reactor)


def _deferHandlers(reactor: Any) -> None:
    if current_thread() is not main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        handler: Any = signal.getsignal(number)
        # Only what the reactor has installed; a program may have handlers of its own.
        if getattr(handler, "__self__", None) is reactor:
            signal.signal(number, _deferred(reactor, handler))


def _deferred(reactor: Any, handler: Callable[[int, None], object]) -> Callable[..., None]:
    # The frame is not passed on: by then the program is somewhere else.
    return lambda number, frame: reactor.callFromThread(handler, number, None)
