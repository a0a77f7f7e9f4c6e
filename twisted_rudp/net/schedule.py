"""
Time and turns of one socket: a clock that only goes forward, what is to be done at
the end of a turn, and one C{DelayedCall} for the deadlines of all its sessions
(TIME-3, TIME-4, TIME-6). Who moves it all the time gets a timer that can be moved.

Deadlines lie in buckets. The nearer a deadline, the finer its bucket; all buckets up to
the present are emptied by whichever turn comes first, so a timer often needs no wake of
its own. A deadline that only moves later leaves its task where it is: the task is
looked at when its bucket comes, and put back.

After a pause of the process the acknowledgements of all its sessions wait in the socket.
Timers that do not wait for them have everything sent again, which has everything acknowledged
again: that keeps a busy server behind for good. So they wait, within bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python import runtime

from twisted_rudp.core.engine import CLOCK_PERIOD, MILLISECOND, SECOND
from twisted_rudp.net.monotonic import MonotonicTimer, MovableTimer, watchOf

SHORTEST: Final = MILLISECOND
"""No wake is asked for sooner than this."""

FINE: Final = MILLISECOND // 4
"""The grid of deadlines nearer than L{TICK}: pacing, acknowledgements."""

TICK: Final = 10 * MILLISECOND
"""The grid of deadlines nearer than a second."""

COARSE: Final = TICK // 2
"""The grid of deadlines nearer than ten times L{TICK}. Further grids are multiples of it."""

OVERSLEPT: Final = 5 * SECOND
"""
A clock that is further past the wake it promised has been set, or the process was
stopped. Sessions are then shown this much and no more.
"""

LATE: Final = 20 * MILLISECOND
"""A wake that is overdue by this much is armed again: the reactor's clock was set back."""

BEHIND_STEP: Final = 20 * MILLISECOND
"""While the socket is not read to its end, what is due is put off by so much at a time."""

LONGEST_BEHIND: Final = SECOND
"""For so long at most, else who never reads to the end would repeat nothing."""

MOST_DUE: Final = 256
"""So many tasks of deadlines are looked at in one turn: between two turns the socket is read, and
the reactor does everything else. A second's bucket of a large crowd has thousands."""

VAIN: Final = 32
"""So many wakes without anything due, each soon after the one before, and a timer that moves
is used: a bulk transfer moves its timer with each acknowledgement."""

SOON: Final = 100 * MILLISECOND

OFTEN: Final = 2 * MILLISECOND
"""It is not moved again before: where turns are that short, now and then a wake in vain costs
less than to move it with each of them."""

ROUNDING: Final = 1_000
"""What the float of C{reactor.seconds} may be short of the time asked for."""

_NOWHERE: Final = -1
"""The bucket of a task that is in none."""


def systemTime() -> int:
    """Nanoseconds of the system's monotonic clock, which all its processes share."""
    return time.monotonic_ns()


class MonotonicClock:
    """
    Integer nanoseconds since a multiple of L{CLOCK_PERIOD} of the host's monotonic clock, the
    latest before its making: what engines do at multiples of it all flows of a host do together.

    A reactor's own C{seconds} is wall-clock time, which may be set (TIME-3), so the
    system's monotonic clock is read instead. A reactor with a clock of its own, such as
    a simulated one, is asked.

    @ivar last: the latest answer.
    @ivar horizon: the latest reading to be believed, or None for any.
    """

    def __init__(self, reactor: IReactorTime, source: Callable[[], int] | None = None) -> None:
        """
        @param source: nanoseconds, read instead of either.
        """
        self._seconds = reactor.seconds
        period = CLOCK_PERIOD // SECOND
        self._origin = reactor.seconds() // period * period
        if source is None and reactor.seconds is runtime.seconds:
            source = time.monotonic_ns
        self._source: Callable[[], int] = source or self._ofReactor
        reading = self._source()
        self._offset = reading % CLOCK_PERIOD - reading
        self.last = 0
        self.horizon: int | None = None

    def _ofReactor(self) -> int:
        return int((self._seconds() - self._origin) * SECOND + 0.5)

    def now(self) -> int:
        """The present time; never less than the last answer."""
        reading = self._source() + self._offset
        if self.horizon is not None and reading > self.horizon:
            self._moveTo(max(self.horizon, self.last), reading)
        elif reading < self.last:
            self._moveTo(self.last, reading)
        else:
            self.last = reading
        return self.last

    def reached(self, moment: int) -> int:
        """The present time, given that C{moment} was slept for and has come."""
        now = self.now()
        if now < moment <= now + ROUNDING:
            self.last = moment
        return self.last

    def _moveTo(self, moment: int, reading: int) -> None:
        self._offset += moment - reading
        self.last = moment


class Task:
    """
    What a L{Schedule} visits: a session, or the demultiplexer's own timers.

    @ivar deadline: when it wants to be visited, or None. The schedule's to set, but see
        L{Schedule.moves}.
    @ivar bucket: the bucket it lies in, which is not later than its deadline needs;
        negative: none. Belongs to the schedule.
    @ivar dirty: it is visited at the end of this turn. Belongs to the schedule.
    """

    __slots__ = ("bucket", "deadline", "dirty")

    def __init__(self) -> None:
        self.deadline: int | None = None
        self.bucket = _NOWHERE
        self.dirty = False

    @property
    def roundTrip(self) -> int:
        """Nanoseconds to the peer and back, -1 while that is not known or of no interest."""
        return -1

    def visit(self, now: int) -> None:
        """Do what is due and what the turn has made necessary."""
        raise NotImplementedError

    def call(self, function: Callable[[], None]) -> None:
        """Call a function that was kept for this turn."""
        raise NotImplementedError


class CallTask(Task):
    """One that calls a function, such as the demultiplexer's own timers."""

    __slots__ = ("_visit",)

    def __init__(self, visit: Callable[[int], None]) -> None:
        super().__init__()
        self._visit = visit

    def visit(self, now: int) -> None:
        self._visit(now)

    def call(self, function: Callable[[], None]) -> None:
        function()


class Schedule:
    """
    The turns and the deadlines of one socket.

    @ivar clock: by which everything on this socket is timed.
    @ivar turn: how many turns have ended; tells one from the next.
    @ivar running: a turn goes on, see L{begin}.
    @ivar moves: its timer is moved with the deadlines; else a deadline that only becomes later
        needs no L{set}.
    @ivar visited: the tasks that the latest turn has visited.
    @ivar behind: the latest turn has left something in the socket.
    @ivar beforeWake: called when a wake has come, before what is due is visited.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        clock: MonotonicClock,
        timer: Callable[[Any, Callable[[], None]], MovableTimer] = MonotonicTimer,
    ) -> None:
        """
        @param timer: makes a timer that may be moved, of a reactor and what it calls.
        """
        self.clock = clock
        self._timer = timer
        self.turn = 0
        self.visited: list[Task] = []
        self.beforeWake: Callable[[], None] | None = None
        self._reactor = reactor
        self.running = False
        self.moves = False
        self._stopped = False
        self._dirty: list[Task] = []
        self._next: list[Task] = []
        self._blocked: dict[Task, None] = {}
        self._soon: list[tuple[Task, Callable[[], None]]] = []
        self._turnCall: IDelayedCall | None = None
        self._turnAsked = 0
        self._buckets: dict[int, dict[Task, None]] = {}
        self._order: list[int] = []
        self._entries = 0
        self._wakeCall: IDelayedCall | None = None
        self._wakeAt = 0
        self._moving: MovableTimer | None = None
        self._vain = self._judged = self._movedAt = 0
        self._due = False
        self.behind = False
        self._behindUntil = self._behindSince = 0
        self._watched = False

    # turns

    def begin(self) -> int:
        """
        A turn has begun, or goes on; whoever did that ends it with L{end}.

        @return: the time.
        """
        self.running = True
        return self.clock.now()

    def touch(self, task: Task) -> None:
        """Visit this task at the end of the turn; if there is none, start one soon."""
        if task.dirty or self._stopped:
            return
        task.dirty = True
        self._dirty.append(task)
        if not self.running and self._turnCall is None:
            self._askForTurn()

    def served(self, task: Task) -> None:
        """What has just made a task dirty, which is being visited, is seen to in this visit."""
        if task.dirty and self._dirty[-1] is task:
            task.dirty = False
            self._dirty.pop()

    def requeue(self, task: Task) -> None:
        """Visit this task in the next turn, after those that wait already."""
        self._next.append(task)
        if not self.running:
            self._askForTurn()

    def later(self, task: Task, function: Callable[[], None]) -> None:
        """Have the task call C{function} in a later turn, never in this one (ORD-2)."""
        if not self._stopped:
            self._soon.append((task, function))
            self._askForTurn()

    def hasRead(self, whole: bool, now: int) -> None:
        """
        The port has read for this turn.

        @param whole: nothing was left in the socket. What is left may make needless what is due.
        """
        if whole:
            self.behind = False
            self._behindUntil = 0
            return
        if not self.behind:
            self.behind = True
            self._behindSince = now
        self._behindUntil = min(now + BEHIND_STEP, self._behindSince + LONGEST_BEHIND)

    def block(self, task: Task) -> None:
        """Visit this task when the port is writable."""
        self._blocked[task] = None

    def writable(self) -> None:
        """The port takes runs again: a turn for those that it stopped."""
        self.begin()
        blocked, self._blocked = self._blocked, {}
        for task in blocked:
            self.touch(task)
        self.end(self.clock.now())

    def end(self, now: int) -> None:
        """
        End a turn: visit every task that is due or dirty once. What becomes dirty
        meanwhile, and what its budget stopped, is for the next turn.
        """
        self.running = True
        self.turn += 1
        order = self._order
        if order and order[0] <= now:
            self._collect(now)
        queue, self._dirty = self._dirty, []
        self.visited = queue
        for task in queue:
            task.dirty = False
            task.visit(now)
        self.running = False
        if self._dirty or self._next:
            self._askForTurn(now)
        if self._wakeCall is not None and now >= self._wakeAt + LATE:
            # The reactor's clock was set back: this call would come much too late.
            self._cancelWake()
        if self._moving is not None:
            while order and not self._buckets[order[0]]:
                del self._buckets[heappop(order)]
        if order and (self._wakeCall is None or order[0] < self._wakeAt):
            self._wakeBy(order[0], now)

    def _askForTurn(self, now: int = 0) -> None:
        call = self._turnCall
        if self._stopped:
            return
        if call is not None:
            if not now or now < self._turnAsked + LATE:
                return
            call.cancel()
        self._turnAsked = now or self.clock.last
        self._turnCall = self._reactor.callLater(0, self._startTurn)

    def _startTurn(self) -> None:
        """A turn of our own: what was kept for later, then all that is dirty."""
        self._turnCall = None
        now = self.begin()
        soon, self._soon = self._soon, []
        for task, function in soon:
            task.call(function)
        waiting, self._next = self._next, []
        for task in waiting:
            self.touch(task)
        self.end(self.clock.now() if soon else now)

    # deadlines

    def set(self, task: Task, deadline: int | None, now: int) -> None:
        """Say when C{task} wants to be visited."""
        task.deadline = deadline
        if deadline is None or self._stopped:
            return
        distance = deadline - now
        if distance < TICK:
            grid = FINE
            if distance < SHORTEST:
                deadline = now + SHORTEST
        elif distance < 10 * TICK:
            grid = COARSE
        elif distance < SECOND:
            grid = TICK
        else:
            grid = SECOND
        bucket = -(-deadline // grid) * grid
        before = task.bucket
        if before == _NOWHERE:
            self._entries += 1
        elif before <= bucket and (
            self._moving is None
            or before == bucket
            or now < self._movedAt + OFTEN
            or before != self._order[0]
        ):
            return
        else:
            del self._buckets[before][task]
        task.bucket = bucket
        tasks = self._buckets.get(bucket)
        if tasks is None:
            self._buckets[bucket] = {task: None}
            heappush(self._order, bucket)
            if not self.running:
                self._wakeBy(self._order[0], now)
        else:
            tasks[task] = None

    def discard(self, task: Task) -> None:
        """Forget C{task}. When nothing is left, nothing stays scheduled (TIME-6)."""
        task.deadline = None
        self.visited = []
        self._blocked.pop(task, None)
        if task.bucket != _NOWHERE:
            del self._buckets[task.bucket][task]
            task.bucket = _NOWHERE
            self._entries -= 1
            if not self._entries:
                self._forgetDeadlines()

    def _collect(self, now: int) -> None:
        """
        Empty the buckets up to now: touch what is due, put back what is not yet. What is too
        much for one turn stays in front.
        """
        order, buckets = self._order, self._buckets
        room = MOST_DUE
        while order and order[0] <= now and room > 0:
            moment = heappop(order)
            # Between the points of the coarser grid lie pacing and acknowledgements, which
            # nothing that comes makes needless.
            if now < self._behindUntil and not moment % COARSE:
                self._putOff(moment)
                continue
            tasks = buckets.pop(moment)
            if len(tasks) > room:
                both = list(tasks)
                tasks = dict.fromkeys(both[:room])
                buckets[moment] = dict.fromkeys(both[room:])
                heappush(order, moment)
            room -= len(tasks)
            for task in tasks:
                task.bucket = _NOWHERE
                self._entries -= 1
                deadline = task.deadline
                if deadline is None:
                    continue
                if deadline <= now:
                    self._due = True
                    self.touch(task)
                else:
                    self.set(task, deadline, now)

    def _putOff(self, moment: int) -> None:
        """Empty a bucket into a later one, though deadlines in it have come."""
        later = -(-self._behindUntil // COARSE) * COARSE
        tasks = self._buckets.pop(moment)
        for task in tasks:
            task.bucket = later
        if later in self._buckets:
            self._buckets[later].update(tasks)
        else:
            self._buckets[later] = tasks
            heappush(self._order, later)

    def _wakeBy(self, moment: int, now: int) -> None:
        """Be awake at C{moment}: an earlier wake is kept, a later one moved."""
        moving = self._moving
        if moving is not None:
            if moving.armed and moment == self._wakeAt:
                return
            if moving.movable:
                self._wakeAt = moment
                self._movedAt = now
                self.clock.horizon = moment + OVERSLEPT
                moving.start(max(moment - now, 1))
                return
        if self._wakeCall is not None:
            if moment >= self._wakeAt:
                return
            # A reset to an earlier time searches all calls of the reactor, and a
            # thousand clients have one each.
            self._wakeCall.cancel()
        if not self._watched:
            self._watched = True
            watchOf(self._reactor).add(self)
        self._wakeCall = self._reactor.callLater(max(0, moment - now) / SECOND, self._wake)
        self._wakeAt = moment
        self.clock.horizon = moment + OVERSLEPT

    def _wake(self) -> None:
        self._wakeCall = None
        self.running = True
        self._due = False
        woken = self._wakeAt
        self.clock.reached(woken)
        self.clock.horizon = None
        if self.beforeWake is not None:
            # An acknowledgement that waits in the socket may make a timer needless.
            self.beforeWake()
        if not self._stopped:
            self.end(self.clock.last)
            self._judge(woken)

    def _judge(self, woken: int) -> None:
        """
        Wakes that find nothing due and follow each other soon are worth a descriptor.

        @param woken: for when the wake was that has come.
        """
        if woken - self._judged > SOON:
            self._vain = 0
        self._judged = woken
        self._vain += -1 if self._due else 1
        if self._vain < VAIN or self._moving is not None or self._stopped:
            return
        self._vain = 0
        timer = self._timer(self._reactor, self._wake)
        if timer.movable:
            self._cancelWake()
            self._moving = timer
            self.moves = True
            if self._order:
                self._wakeBy(self._order[0], self.clock.last)

    def clockSet(self) -> None:
        """See L{Delayed.clockSet<twisted_rudp.net.monotonic.Delayed.clockSet>}."""
        call, self._turnCall = self._turnCall, None
        if call is not None:
            call.cancel()
            self._askForTurn()
        if self._wakeCall is not None:
            self._cancelWake()
            self._wakeBy(self._wakeAt, self.clock.now())

    def _forgetDeadlines(self) -> None:
        self._buckets.clear()
        self._order.clear()
        self._cancelWake()

    def _cancelWake(self) -> None:
        self.clock.horizon = None
        call, self._wakeCall = self._wakeCall, None
        if call is not None and call.active():
            call.cancel()
        if self._moving is not None:
            self._moving.stop()

    def stop(self) -> None:
        """Let go of everything; nothing is scheduled any more."""
        self._stopped = True
        call, self._turnCall = self._turnCall, None
        if call is not None and call.active():
            call.cancel()
        self.visited = []
        self.beforeWake = None
        for tasks in self._buckets.values():
            for task in tasks:
                task.bucket = _NOWHERE
        self._entries = 0
        self._forgetDeadlines()
        if self._moving is not None:
            self._moving.close()
        if self._watched:
            watchOf(self._reactor).discard(self)
        self._dirty.clear()
        self._next.clear()
        self._blocked.clear()
        self._soon.clear()
