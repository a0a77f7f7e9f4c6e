"""
Time for one socket: a clock that only goes forward, and one C{DelayedCall} for all
the deadlines of its sessions (TIME-3, TIME-4, TIME-6).

Two containers, because two kinds of deadline exist. Those nearer than L{NEAR}
(retransmission, pacing) are asked one by one at each tick. Those farther away
(keepalive, idle) lie in a heap of whole seconds that a packet does not touch: an
entry that has become too early is looked at when its second comes and put back.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rudp.core.engine import MILLISECOND, SECOND

TICK = 10 * MILLISECOND
"""Deadlines that were further away than this when set are served on this grid."""

SHORTEST = MILLISECOND
"""No wake comes sooner than this; pacing asks for less than L{TICK}."""

NEAR = SECOND
"""
Deadlines nearer than this are visited by the tick. A heap of whole seconds cannot
serve them: most retransmission timeouts of real paths lie between 200 ms and 1 s.
"""

OVERSLEPT = 5 * SECOND
"""
A clock that is further past the wake it promised has been set, or the machine has
slept. Sessions are then shown this much and no more.
"""

ROUNDING = 1_000
"""What the float of C{reactor.seconds} may be short of the time asked for."""


class MonotonicClock:
    """
    Integer nanoseconds since its making, from C{reactor.seconds}, which is
    wall-clock time and may step (TIME-3).

    @ivar horizon: the latest reading to be believed, or None for any.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._seconds = reactor.seconds
        self._origin = reactor.seconds()
        self._offset = 0
        self._last = 0
        self.horizon: int | None = None

    def now(self) -> int:
        """The present time; never less than the last answer."""
        reading = int((self._seconds() - self._origin) * SECOND + 0.5) + self._offset
        if self.horizon is not None and reading > self.horizon:
            self._moveTo(max(self.horizon, self._last), reading)
        elif reading < self._last:
            self._moveTo(self._last, reading)
        else:
            self._last = reading
        return self._last

    def reached(self, moment: int) -> int:
        """The present time, given that C{moment} was slept for and has come."""
        now = self.now()
        if now < moment <= now + ROUNDING:
            self._last = moment
        return self._last

    def _moveTo(self, time: int, reading: int) -> None:
        self._offset += time - reading
        self._last = time


class Timed:
    """
    Something that has a deadline.

    @ivar deadline: when it wants to be called, or None.
    @ivar second: the whole second under which the heap has it, or None. Belongs to
        L{Schedule}.
    """

    __slots__ = ("deadline", "second")

    def __init__(self) -> None:
        self.deadline: int | None = None
        self.second: int | None = None


class Schedule:
    """The deadlines of one socket."""

    def __init__(
        self,
        reactor: IReactorTime,
        clock: MonotonicClock,
        expired: Callable[[list[Timed], int], None],
    ) -> None:
        """
        @param expired: called from the reactor with those whose time has come and
            the time. They have no deadline any more until C{set} gives them one.
        """
        self._reactor = reactor
        self._clock = clock
        self._expired = expired
        self._near: dict[Timed, None] = {}
        self._far: list[tuple[int, int, Timed]] = []
        self._farAlive = 0
        self._order = count()
        self._call: IDelayedCall | None = None
        self._wakeAt = 0

    def set(self, timed: Timed, deadline: int | None, now: int) -> None:
        """Say when C{timed} wants to be called."""
        timed.deadline = deadline
        if deadline is None:
            self._near.pop(timed, None)
            return
        distance = deadline - now
        if distance < NEAR:
            self._near[timed] = None
            if distance < TICK:
                deadline = max(deadline, now + SHORTEST)
            if deadline < self._wakeAt or self._call is None:
                self._wakeBy(deadline, now)
            return
        self._near.pop(timed, None)
        second = -(-deadline // SECOND)
        if timed.second is None or second < timed.second:
            self._farAlive += timed.second is None
            timed.second = second
            heappush(self._far, (second, next(self._order), timed))
            self._wakeBy(second * SECOND, now)

    def discard(self, timed: Timed) -> None:
        """Forget C{timed}. When nothing is left, nothing stays scheduled (TIME-6)."""
        timed.deadline = None
        self._near.pop(timed, None)
        if timed.second is not None:
            timed.second = None
            self._farAlive -= 1
        if not self._near and not self._farAlive:
            self.stop()

    def stop(self) -> None:
        """Forget everything."""
        self._near.clear()
        for _, _, timed in self._far:
            timed.second = None
        self._far.clear()
        self._farAlive = 0
        self._sleep()

    def _sleep(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        self._clock.horizon = None

    def _wakeBy(self, moment: int, now: int) -> None:
        """Be awake at C{moment}: an earlier wake is kept, a later one moved."""
        if self._call is not None:
            if moment >= self._wakeAt:
                return
            # A reset to an earlier time searches all calls of the reactor, and a
            # thousand clients have one each.
            self._call.cancel()
        self._call = self._reactor.callLater((moment - now) / SECOND, self._wake)
        self._wakeAt = moment
        self._clock.horizon = moment + OVERSLEPT

    def _wake(self) -> None:
        self._call = None
        now = self._clock.reached(self._wakeAt)
        self._clock.horizon = None
        due = {
            timed: None for timed in self._near if timed.deadline is None or timed.deadline <= now
        }
        for timed in due:
            del self._near[timed]
        self._popFar(due, now)
        for timed in due:
            timed.deadline = None
        if due:
            self._expired(list(due), now)
        self._plan(now)

    def _popFar(self, due: dict[Timed, None], now: int) -> None:
        """Take what the heap has up to now: due, or to be put back."""
        while self._far and self._far[0][0] * SECOND <= now:
            second, _, timed = heappop(self._far)
            if timed.second != second:
                continue
            timed.second = None
            self._farAlive -= 1
            if timed.deadline is None or timed in self._near:
                continue
            if timed.deadline <= now:
                due[timed] = None
            else:
                self.set(timed, timed.deadline, now)

    def _plan(self, now: int) -> None:
        """Sleep until the earliest deadline; the near ones on the grid of L{TICK}."""
        while self._far and self._far[0][2].second != self._far[0][0]:
            heappop(self._far)
        moments = [self._far[0][0] * SECOND] if self._far else []
        if self._near:
            nearest = min(timed.deadline or 0 for timed in self._near)
            moments.append(max(nearest, now + TICK))
        if moments:
            self._wakeBy(min(moments), now)
