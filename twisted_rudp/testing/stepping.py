"""
Driving a C{twisted.internet.task.Clock} one event at a time.

C{Clock.advance(10)} runs a timer due after one second with a clock that already
shows ten, and never returns when a zero-delay call schedules another one for ever.
The functions here take the calls one by one, each at its own time, and give up with
an error that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from .clock import EventClock

_T = TypeVar("_T")

Condition = Callable[[], object]
"""Fulfilled when it returns something true."""

MAX_EVENTS = 5_000_000
"""So many events in one run are taken for a loop that does not end."""


class NotReached(AssertionError):
    """What a run waited for did not come about."""


def step(clock: Clock) -> bool:
    """
    Move to the next scheduled call and run that one only.

    @return: whether there was one.
    """
    call = _earliest(clock)
    if call is None:
        return False
    _run(clock, call, call.getTime())
    return True


def runUntil(clock: Clock, until: Condition | Deferred[_T], limit: float = 60.0) -> None:
    """
    Step until a condition holds.

    @param until: a function without arguments, asked after each event; or a
        C{Deferred}, waited for until it fires. Its result stays its result.
    @param limit: seconds of simulated time to wait at most.
    @raise NotReached: time is up, nothing is scheduled any more, or the events do not
        come to an end.
    """
    condition = _hasFired(until) if isinstance(until, Deferred) else until
    end = clock.seconds() + limit
    for _ in range(MAX_EVENTS):
        if condition():
            return
        call = _earliest(clock)
        if call is None:
            raise NotReached(f"nothing is scheduled at {clock.seconds():.6f} s")
        time = call.getTime()
        if time > end:
            clock.rightNow = end
            raise NotReached(f"not within {limit} s")
        _run(clock, call, time)
    raise NotReached(f"not within {MAX_EVENTS} events; now {clock.seconds():.6f} s")


def runFor(clock: Clock, seconds: float) -> None:
    """
    Step through everything that is due within so many seconds, then show that time.

    @raise NotReached: the events do not come to an end.
    """
    end = clock.seconds() + seconds
    for _ in range(MAX_EVENTS):
        call = _earliest(clock)
        if call is None or (time := call.getTime()) > end:
            clock.rightNow = max(clock.rightNow, end)
            return
        _run(clock, call, time)
    raise NotReached(f"more than {MAX_EVENTS} events; now {clock.seconds():.6f} s")


def _earliest(clock: Clock) -> DelayedCall | None:
    """The next call, if there is one. Where it was moved, a plain clock's list is not in order."""
    calls = clock.calls
    if not calls:
        return None
    if isinstance(clock, EventClock):
        return calls[0]
    return min(calls, key=DelayedCall.getTime)


def _run(clock: Clock, call: DelayedCall, time: float) -> None:
    """Run a call, at its time or now if that is over."""
    if time > clock.rightNow:
        clock.rightNow = time
    clock.calls.remove(call)
    call.called = 1
    call.func(*call.args, **call.kw)


def _hasFired(deferred: Deferred[_T]) -> Condition:
    """A condition that holds once a Deferred, with all it waits for, has a result."""
    fired: list[bool] = []

    def note(result: _T) -> _T:
        fired.append(True)
        return result

    deferred.addBoth(note)
    return lambda: fired
