"""
A timer that goes by the monotonic clock and may be moved.

A delayed call of the reactor goes by the wall clock: when that is set back, it comes as much
later. When it is moved or cancelled, the process wakes at the old time all the same. Linux has
timers that are descriptors and have neither fault, so there one of them is used. Where delayed
calls are used all the same, a L{ClockWatch} tells when they are to be made anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python import runtime
from twisted.python.failure import Failure
from zope.interface import implementer

_SECOND: Final = 1_000_000_000


def _library() -> Any:
    """What has the timers; None where there are none."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "timerfd_create") else None


_libc: Final = _library()

_ABSOLUTE: Final = 1
_CANCELLED_ON_SET: Final = 2
_NEVER: Final = 1 << 40
"""Seconds of a wall clock that no machine will see."""


class Delayed(Protocol):
    """Who has delayed calls."""

    def clockSet(self) -> None:
        """The wall clock was set: delayed calls would come at another time than was meant."""


@implementer(IReadDescriptor)
class ClockWatch:
    """
    Tells when the wall clock was set. It has a timer of that clock which is never due, and
    which Linux cancels then; without one nobody is told.

    @ivar possible: the reactor goes by the wall clock, and the system has such timers.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._told: dict[Delayed, None] = {}
        self._descriptor = -1
        self._due = (ctypes.c_long * 4)(0, 0, _NEVER, 0)
        self.possible = _libc is not None and reactor.seconds is runtime.seconds

    def add(self, told: Delayed) -> None:
        """Notify this one from now on. The descriptor is open while there is one to notify."""
        if self.possible:
            self._told[told] = None
            if self._descriptor < 0:
                self._open()

    def discard(self, told: Delayed) -> None:
        """Notify this one no more."""
        self._told.pop(told, None)
        if not self._told:
            self._close()

    def _open(self) -> None:
        self._descriptor = _libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor >= 0:
            self._arm()
            self._reactor.addReader(self)

    def _arm(self) -> None:
        flags = _ABSOLUTE | _CANCELLED_ON_SET
        _libc.timerfd_settime(self._descriptor, flags, self._due, None)

    def _close(self) -> None:
        if self._descriptor >= 0:
            # While fileno() still tells the reactor which descriptor is meant.
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1

    # the reactor's side

    def fileno(self) -> int:
        """The descriptor, -1 without one."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Whose turn it is, for the log."""
        return "wall clock"

    def doRead(self) -> None:
        """The clock was set."""
        with contextlib.suppress(OSError):
            os.read(self._descriptor, 8)
        self._arm()
        for told in list(self._told):
            told.clockSet()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives the descriptor up: it shuts down."""
        self._told.clear()
        self._close()


_watches: Final[dict[Any, ClockWatch]] = {}


def watchOf(reactor: Any) -> ClockWatch:
    """The clock watch of a reactor."""
    found = _watches.get(reactor)
    if found is None:
        found = ClockWatch(reactor)
        if found.possible:
            # The entry keeps its reactor in memory. Real ones live as long as the process, but
            # simulated ones do not.
            _watches[reactor] = found
    return found


class MovableTimer(Protocol):
    """What calls a function once after a time, which may be moved."""

    @property
    def armed(self) -> bool:
        """The function will be called."""

    @property
    def movable(self) -> bool:
        """The time may be moved at no cost."""

    def start(self, wait: int) -> None:
        """
        Start it, or move it.

        @param wait: nanoseconds, more than 0.
        """

    def stop(self) -> None:
        """Nothing is called, until it is started again."""

    def close(self) -> None:
        """Nothing is called any more."""


@implementer(IReadDescriptor)
class MonotonicTimer:
    """
    Calls a function once after a time. Its descriptor is opened when it is first started.

    @ivar armed: the function will be called.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any, wake: Callable[[], None]) -> None:
        """
        @param reactor: where its time is not the system's, delayed calls are used.
        @param wake: what to call.
        """
        self._reactor = reactor
        self._wake = wake
        self._descriptor = -1
        self._call: IDelayedCall | None = None
        self._due = (ctypes.c_long * 4)()
        self._delayed = _libc is None or reactor.seconds is not runtime.seconds
        self.armed = False

    @property
    def movable(self) -> bool:
        """The time may be moved at no cost; else it is a delayed call of the reactor."""
        return not self._delayed and (self._descriptor >= 0 or self._open())

    def start(self, wait: int) -> None:
        """
        Start it, or move it.

        @param wait: nanoseconds, more than 0.
        """
        self.armed = True
        if self.movable:
            self._arm(wait)
            return
        self._cancel()
        self._call = self._reactor.callLater(wait / _SECOND, self._late)

    def stop(self) -> None:
        """Nothing is called, until it is started again."""
        self.armed = False
        self._cancel()
        if self._descriptor >= 0:
            self._arm(0)

    def _open(self) -> bool:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if self._descriptor < 0:
            # There are no more descriptors.
            self._delayed = True
            return False
        self._reactor.addReader(self)
        return True

    def _arm(self, wait: int) -> None:
        self._due[2], self._due[3] = divmod(wait, _SECOND)
        _libc.timerfd_settime(self._descriptor, 0, self._due, None)

    def _late(self) -> None:
        self._call = None
        self.armed = False
        self._wake()

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def close(self) -> None:
        """Nothing is called any more."""
        self.armed = False
        self._cancel()
        if self._descriptor >= 0:
            # While fileno() still tells the reactor which descriptor is meant.
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1
        self._delayed = True

    # the reactor's side

    def fileno(self) -> int:
        """The descriptor, -1 without one."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Whose turn it is, for the log."""
        return "UDP port"

    def doRead(self) -> None:
        """The time is over."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            # It was moved after it had come.
            return
        self.armed = False
        self._wake()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives the descriptor up: it shuts down."""
        self.close()
