"""A clock for many events."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from operator import attrgetter

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock


class EventClock(Clock):
    """
    A C{Clock} that keeps its calls in order. Twisted's sorts all of them for each new
    one, which with thousands of datagrams on their way is most of what a test does.

    @ivar calls: what is scheduled, the next one first, of equal times the oldest.
    """

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> DelayedCall:
        """See C{IReactorTime.callLater}."""
        call = _Call(
            self.seconds() + delay, callable, args, kw, self.calls.remove, self._moved, self.seconds
        )
        self._insert(call)
        return call

    def _insert(self, call: _Call) -> None:
        call.due = call.getTime()
        insort(self.calls, call, key=_due)

    def _moved(self, call: DelayedCall) -> None:
        assert isinstance(call, _Call)
        self.calls.remove(call)
        self._insert(call)


class _Call(DelayedCall):
    """
    A call that tells whenever its time is another one, not only when it is earlier.

    @ivar due: what C{getTime} says. Each new call is compared with several, and an attribute
        costs less than a method.
    """

    due = 0.0

    def reset(self, secondsFromNow: float) -> None:
        super().reset(secondsFromNow)
        self.resetter(self)

    def delay(self, secondsLater: float) -> None:
        super().delay(secondsLater)
        self.resetter(self)


_due = attrgetter("due")
