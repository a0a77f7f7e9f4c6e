import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.python import runtime
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.net.monotonic import MonotonicTimer
from twisted_rudp.net.schedule import (
    BEHIND_STEP,
    LATE,
    LONGEST_BEHIND,
    MOST_DUE,
    OVERSLEPT,
    SHORTEST,
    TICK,
    CallTask,
    MonotonicClock,
    Schedule,
    Task,
)


class ClockTests(SynchronousTestCase):
    """L{MonotonicClock}, with a reactor that has nothing but time (TIME-2)."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.reactor.rightNow = 1_700_000_000.0
        self.clock = MonotonicClock(self.reactor)

    def test_follows(self) -> None:
        """
        The clock counts the reactor's seconds in nanoseconds, from the last multiple of ten
        seconds before it was made: those of a host have multiples of that at the same time.
        """
        self.assertEqual(self.clock.now(), 0)
        self.reactor.rightNow += 13.5
        self.assertEqual(self.clock.now(), 13_500 * MILLISECOND)
        self.assertEqual(MonotonicClock(self.reactor).now(), 3_500 * MILLISECOND)
        host = [123_456_789_012]
        made = MonotonicClock(self.reactor, lambda: host[0])
        self.assertEqual(made.now(), 3_456_789_012)
        host[0] += SECOND
        self.assertEqual(made.now(), MonotonicClock(self.reactor, lambda: host[0]).now())

    def test_backwards(self) -> None:
        """A reactor that steps back stops the clock for that moment only (TIME-3)."""
        self.reactor.rightNow += 10
        before = self.clock.now()
        self.reactor.rightNow -= 3600
        self.assertEqual(self.clock.now(), before)
        self.reactor.rightNow += 1
        self.assertEqual(self.clock.now(), before + SECOND)

    def test_jump(self) -> None:
        """A jump far past the promised wake is clamped, later steps count (TIME-3)."""
        self.clock.horizon = 2 * SECOND
        self.reactor.rightNow += 3600
        self.assertEqual(self.clock.now(), 2 * SECOND)
        self.clock.horizon = None
        self.reactor.rightNow += 1
        self.assertEqual(self.clock.now(), 3 * SECOND)

    def test_systemClock(self) -> None:
        """A reactor that shows the wall clock is not asked: that may be set (TIME-3)."""
        reactor = Clock()
        reactor.seconds = runtime.seconds  # type: ignore[method-assign]
        clock = MonotonicClock(reactor)
        before = time.monotonic_ns()
        started = clock.now()
        after = time.monotonic_ns()
        self.patch(time, "time", lambda: 0.0)
        self.assertGreaterEqual(clock.now(), started)
        self.assertLess(clock.now() - started, time.monotonic_ns() - before + after - before)

    def test_longIdle(self) -> None:
        """With nothing promised any step forward is believed."""
        self.reactor.rightNow += 3600
        self.assertEqual(self.clock.now(), 3600 * SECOND)

    @given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.integers(0, 10**9))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_monotonic(self, steps: list[float], horizon: int) -> None:
        """Whatever the reactor shows, the clock never goes back."""
        reactor = Clock()
        clock = MonotonicClock(reactor)
        last = clock.now()
        for number, step in enumerate(steps):
            reactor.rightNow += step
            clock.horizon = horizon if number % 2 else None
            now = clock.now()
            self.assertGreaterEqual(now, last)
            last = now


def noting(log: list[tuple[Task, int]]) -> Task:
    """A task of which is written down when it is visited."""
    task = CallTask(lambda now: log.append((task, now)))
    return task


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 8000), st.integers(0, 900)),
    min_size=1,
    max_size=40,
)
"""Of whom, milliseconds to a deadline, and until the next one is set."""


class ScheduleTests(SynchronousTestCase):
    """The deadlines of a L{Schedule}."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.clock = MonotonicClock(self.reactor)
        self.visited: list[tuple[Task, int]] = []
        self.schedule = Schedule(self.reactor, self.clock)

    def set(self, milliseconds: float, task: Task | None = None) -> Task:
        task = task or noting(self.visited)
        now = self.clock.now()
        self.schedule.set(task, now + int(milliseconds * MILLISECOND), now)
        return task

    def run_(self, seconds: float) -> None:
        """Step through the reactor's calls, each at its own time."""
        end = self.reactor.seconds() + seconds
        while (calls := self.reactor.getDelayedCalls()) and (
            when := min(call.getTime() for call in calls)
        ) <= end:
            self.reactor.advance(max(0.0, when - self.reactor.seconds()))
        self.reactor.advance(max(0.0, end - self.reactor.seconds()))

    def wakes(self) -> list[float]:
        return [round(call.getTime(), 6) for call in self.reactor.getDelayedCalls()]

    def test_near(self) -> None:
        """A near deadline is met at its time."""
        task = self.set(250)
        self.run_(0.249)
        self.assertEqual(self.visited, [])
        self.run_(0.001)
        self.assertEqual(self.visited, [(task, 250 * MILLISECOND)])
        self.assertEqual(self.wakes(), [])

    def test_late(self) -> None:
        """What is called late is told the time that it is, not the one it asked for (TIME-4)."""
        task = self.set(20)
        self.reactor.advance(0.5)
        self.assertEqual(self.visited, [(task, 500 * MILLISECOND)])

    def test_far(self) -> None:
        """A far deadline waits for the next whole second."""
        task = self.set(2500)
        self.assertEqual(self.wakes(), [3.0])
        self.run_(3)
        self.assertEqual(self.visited, [(task, 3 * SECOND)])

    def test_oneCall(self) -> None:
        """However many deadlines, one call is scheduled (TIME-4)."""
        for milliseconds in (50, 5, 700, 1500, 30_000, 0.1):
            self.set(milliseconds)
        self.assertEqual(len(self.wakes()), 1)

    def test_shortest(self) -> None:
        """Pacing wakes earlier than the tick, but never in less than a millisecond."""
        task = self.set(0.2)
        self.assertEqual(self.wakes(), [SHORTEST / SECOND])
        self.schedule.discard(task)
        self.set(4)
        self.assertEqual(self.wakes(), [0.004])

    def test_spuriousWake(self) -> None:
        """After a wake for a deadline that has moved, one a millisecond away is met in time."""
        moved = self.set(20)
        self.reactor.advance(0.019)
        self.set(300, moved)
        pacing = self.set(1.5)
        self.run_(0.002)
        self.assertEqual(self.visited, [(pacing, 20_500_000)])

    def test_grid(self) -> None:
        """Deadlines that are close to each other share a wake."""
        for milliseconds in (201, 205, 209):
            self.set(milliseconds)
        self.run_(0.2)
        self.assertEqual(self.visited, [])
        self.run_(0.01)
        self.assertEqual([at for _, at in self.visited], [210 * MILLISECOND] * 3)

    def test_withTheTurn(self) -> None:
        """A turn visits what is due; there is no wake of its own for that."""
        task = self.set(21)
        self.reactor.rightNow += 0.0251
        self.schedule.end(self.schedule.begin())
        self.assertEqual([each for each, _ in self.visited], [task])

    def test_untouched(self) -> None:
        """A deadline that only moves away moves nothing (design section 4)."""
        for milliseconds in (40, 5000):
            task = self.set(milliseconds)
            [call] = self.reactor.getDelayedCalls()
            for _ in range(100):
                self.reactor.advance(0.0001)
                self.set(milliseconds, task)
            self.assertEqual(self.reactor.getDelayedCalls(), [call])
            self.run_(milliseconds / 1000 - 0.001)
            self.assertEqual(self.visited, [])
            self.run_(1.5)
            self.assertEqual([each for each, _ in self.visited], [task])
            self.visited.clear()

    def test_nearer(self) -> None:
        """A far deadline that comes near is met in time, once."""
        task = self.set(5000)
        self.set(30, task)
        self.run_(10)
        self.assertEqual(self.visited, [(task, 30 * MILLISECOND)])

    def test_nearAndFar(self) -> None:
        """What went from far to near and far again is still met."""
        task = self.set(5000)
        self.set(500, task)
        self.set(20_000, task)
        self.run_(19.9)
        self.assertEqual(self.visited, [])
        self.run_(2)
        self.assertEqual([each for each, _ in self.visited], [task])

    def test_none(self) -> None:
        """Who has no deadline any more is not called."""
        near, far = self.set(50), self.set(5000)
        self.schedule.set(near, None, 0)
        self.schedule.set(far, None, 0)
        self.run_(10)
        self.assertEqual(self.visited, [])
        self.assertEqual(self.wakes(), [])

    def test_discard(self) -> None:
        """When the last is forgotten nothing stays scheduled (TIME-6)."""
        near, far, other = self.set(50), self.set(5000), self.set(9000)
        for task in (near, far):
            self.schedule.discard(task)
            self.assertEqual(len(self.wakes()), 1)
        self.schedule.discard(other)
        self.assertEqual(self.wakes(), [])
        self.set(9000, other)
        self.run_(10)
        self.assertEqual([each for each, _ in self.visited], [other])

    def test_stop(self) -> None:
        """After C{stop} nothing is scheduled and nothing can be."""
        task = self.set(5000)
        self.schedule.touch(task)
        self.schedule.stop()
        self.set(2000, task)
        self.schedule.touch(task)
        self.schedule.later(task, self.fail)
        self.assertEqual(self.wakes(), [])

    def test_overslept(self) -> None:
        """A process that was stopped shows its sessions five seconds, not an hour (TIME-3)."""
        self.set(50)
        patient = self.set(30_000)
        self.reactor.advance(3600)
        self.assertEqual(self.clock.now(), 50 * MILLISECOND + OVERSLEPT)
        self.assertNotIn(patient, [each for each, _ in self.visited])

    def test_rounding(self) -> None:
        """A wake that the float brings a trifle early counts as in time."""
        self.reactor.rightNow = 1_700_000_000.1
        self.clock = MonotonicClock(self.reactor)
        self.schedule = Schedule(self.reactor, self.clock)
        for _ in range(50):
            before = len(self.visited)
            self.set(70)
            [call] = self.reactor.getDelayedCalls()
            self.reactor.rightNow = call.getTime() - 1e-7
            self.reactor.calls.remove(call)
            call.func()
            self.assertEqual(len(self.visited), before + 1)

    @given(STEPS)
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_property(self, steps: list[tuple[int, int, int]]) -> None:
        """No deadline is met early, and none later than its second or tick."""
        self.check(steps)

    def check(self, steps: list[tuple[int, int, int]]) -> None:
        self.setUp()
        everyone: list[Task] = [noting(self.visited) for _ in range(4)]
        wanted: dict[Task, tuple[int, int]] = {}
        checked = 0
        for who, milliseconds, pause in steps:
            task = self.set(milliseconds, everyone[who])
            assert task.deadline is not None
            grid = SECOND if milliseconds >= 1000 else TICK
            wanted[task] = (task.deadline, grid)
            self.run_(pause / 1000)
            for each, at in self.visited[checked:]:
                self.assertIn(each, wanted)
                deadline, grid = wanted.pop(each)
                self.assertGreaterEqual(at, deadline)
                self.assertLessEqual(at, deadline + grid)
            checked = len(self.visited)
        self.run_(10)
        self.assertEqual({each for each, _ in self.visited[checked:]}, set(wanted))
        self.assertEqual(self.wakes(), [])


class CrowdTests(SynchronousTestCase):
    """Many deadlines at one time."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.visited: list[tuple[Task, int]] = []
        self.schedule = Schedule(self.reactor, MonotonicClock(self.reactor))

    def test_divided(self) -> None:
        """
        More than one turn should do are visited in several, in order and at their time, so
        that what else the reactor has to do comes between.
        """
        visits: list[tuple[int, int]] = []
        for number in range(3 * MOST_DUE + 1):
            task = CallTask(lambda _, number=number: visits.append((self.schedule.turn, number)))
            self.schedule.set(task, 15 * SECOND, 0)
        self.reactor.advance(15)
        turns = Counter(turn for turn, _ in visits)
        self.assertEqual(list(turns.values()), [MOST_DUE, MOST_DUE, MOST_DUE, 1])
        self.assertEqual([number for _, number in visits], list(range(3 * MOST_DUE + 1)))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_several(self) -> None:
        """Buckets that are due together count together; who is discarded is not visited."""
        tasks = [noting(self.visited) for _ in range(2 * MOST_DUE)]
        for number, task in enumerate(tasks):
            self.schedule.set(task, (5 + number % 4) * SECOND, 0)
        self.reactor.rightNow = 9.0
        self.schedule.end(self.schedule.begin())
        self.assertEqual(len(self.visited), MOST_DUE)
        left = [task for task in tasks if task not in {each for each, _ in self.visited}]
        self.schedule.discard(left[0])
        self.schedule.end(self.schedule.begin())
        self.assertEqual(len(self.visited), 2 * MOST_DUE - 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class BehindTests(SynchronousTestCase):
    """Deadlines while the socket is not read to its end."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.clock = MonotonicClock(self.reactor)
        self.visited: list[tuple[Task, int]] = []
        self.schedule = Schedule(self.reactor, self.clock)
        self.tasks = {}
        for milliseconds in (3, 50, 100):
            self.tasks[milliseconds] = task = noting(self.visited)
            self.schedule.set(task, milliseconds * MILLISECOND - MILLISECOND // 4, 0)

    def turns(self, milliseconds: int, whole: bool) -> None:
        """So many turns, each of a millisecond, that leave something or not."""
        for _ in range(milliseconds):
            self.reactor.advance(0.001)
            now = self.schedule.begin()
            self.schedule.hasRead(whole, now)
            self.schedule.end(now)

    def due(self) -> list[int]:
        """The tasks that were visited."""
        visited = [task for task, _ in self.visited]
        return [name for name, task in self.tasks.items() if task in visited]

    def test_putOff(self) -> None:
        """
        What is due is put off while there is more to read, which may make it needless, but for
        what is as near as pacing; soon after the end is reached it comes.
        """
        self.turns(300, False)
        self.assertEqual(self.due(), [3])
        self.turns(BEHIND_STEP // MILLISECOND + 10, True)
        self.assertEqual(self.due(), [3, 50, 100])

    def test_needless(self) -> None:
        """What was read meanwhile may move it."""
        self.turns(80, False)
        now = self.clock.now()
        self.schedule.set(self.tasks[50], now + SECOND, now)
        self.turns(100, True)
        self.assertEqual(self.due(), [3, 100])
        self.turns(1000, True)
        self.assertEqual(self.due(), [3, 50, 100])

    def test_bounded(self) -> None:
        """A port that is never read to its end has timers all the same."""
        self.turns(LONGEST_BEHIND // MILLISECOND + BEHIND_STEP // MILLISECOND + 10, False)
        self.assertEqual(self.due(), [3, 50, 100])

    def test_silence(self) -> None:
        """Where nothing more comes to be read, what was put off has a wake of its own."""
        self.turns(110, False)
        while (calls := self.reactor.getDelayedCalls()):
            self.reactor.advance(min(call.getTime() for call in calls) - self.reactor.seconds())
        self.assertEqual(self.due(), [3, 50, 100])
        self.assertLessEqual(self.reactor.seconds(), 0.110 + BEHIND_STEP / SECOND + 0.005)

    def test_discarded(self) -> None:
        """What was put off can be forgotten, and nothing stays scheduled."""
        self.turns(110, False)
        for task in self.tasks.values():
            self.schedule.discard(task)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class Moved:
    """
    A timer that may be moved, by a simulated clock.

    @ivar starts: how often it was started or moved.
    """

    movable = True

    def __init__(self, reactor: Clock, wake: Callable[[], None]) -> None:
        self._reactor = reactor
        self._wake = wake
        self._call: IDelayedCall | None = None
        self.starts = 0

    @property
    def armed(self) -> bool:
        return self._call is not None

    def start(self, wait: int) -> None:
        assert wait > 0
        self.stop()
        self.starts += 1
        self._call = self._reactor.callLater(wait / SECOND, self._come)

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = None

    close = stop

    def _come(self) -> None:
        self._call = None
        self._wake()


class MovingTests(ScheduleTests):
    """The same, and more, where a timer is moved after so many wakes in vain."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.clock = MonotonicClock(self.reactor)
        self.visited = []
        self.timers: list[Moved] = []
        self.schedule = Schedule(self.reactor, self.clock, self.timer)
        task = self.bulk(200)
        self.assertEqual(len(self.timers), 1)
        self.schedule.discard(task)
        self.assertEqual(self.wakes(), [])
        # The tests count from 0.
        self.visited.clear()
        self.reactor.rightNow = 0.0
        self.clock = self.schedule.clock = MonotonicClock(self.reactor)

    def timer(self, reactor: Clock, wake: Callable[[], None]) -> Any:
        self.timers.append(Moved(reactor, wake))
        return self.timers[-1]

    def bulk(self, turns: int) -> Task:
        """A turn each 4 ms moves a deadline that is 9 ms ahead; gives its task."""
        task = noting(self.visited)
        for _ in range(turns):
            self.run_(0.004)
            now = self.schedule.begin()
            self.schedule.set(task, now + 9 * MILLISECOND, now)
            self.schedule.end(now)
        return task

    @given(STEPS)
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_property(self, steps: list[tuple[int, int, int]]) -> None:
        """The same; hypothesis wants a function of its own."""
        self.check(steps)

    def test_moved(self) -> None:
        """There is one wake, at the deadline, however often it was moved."""
        turn = self.schedule.turn
        task = self.bulk(100)
        self.assertEqual((self.schedule.turn - turn, self.visited), (100, []))
        due = self.reactor.seconds() + 0.009
        self.run_(1)
        [(visited, at)] = self.visited
        self.assertIs(visited, task)
        self.assertApproximates(at / SECOND, due, 0.0003)

    def test_often(self) -> None:
        """Turns that follow each other closely move it now and then, not each time."""
        self.bulk(1)
        starts = self.timers[0].starts
        task = noting(self.visited)
        for _ in range(1000):
            self.run_(0.0001)
            now = self.schedule.begin()
            self.schedule.set(task, now + 9 * MILLISECOND, now)
            self.schedule.end(now)
        self.assertTrue(20 < self.timers[0].starts - starts < 60)

    def test_others(self) -> None:
        """Another deadline is met although the first of the queue moves past it."""
        other = self.set(30)
        self.bulk(30)
        self.assertEqual(self.visited, [(other, 30 * MILLISECOND)])

    def test_stop(self) -> None:
        """Nothing is left of the timer."""
        self.set(30)
        self.schedule.stop()
        self.assertEqual(self.wakes(), [])


class RareWakesTests(SynchronousTestCase):
    """When a L{Schedule} makes a timer."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.clock = MonotonicClock(self.reactor)
        self.made = 0
        self.schedule = Schedule(self.reactor, self.clock, self.timer)

    def timer(self, reactor: Any, wake: Callable[[], None]) -> MonotonicTimer:
        self.made += 1
        return MonotonicTimer(reactor, wake)

    def deadlines(self, count: int, pause: float, ahead: int, moves: int) -> None:
        """Set a deadline so often, moved so often before its wake comes."""
        task = CallTask(lambda now: None)
        for _ in range(count):
            for _ in range(moves):
                now = self.clock.now()
                self.schedule.set(task, now + ahead * MILLISECOND, now)
                self.reactor.advance(pause)
            self.reactor.advance(pause)

    def test_due(self) -> None:
        """Wakes for what is due are no reason, however many there are."""
        self.deadlines(300, 0.01, 5, 1)
        self.assertEqual(self.made, 0)

    def test_rare(self) -> None:
        """Nor are some now and then: keepalive timers move with all that comes."""
        self.deadlines(300, 0.4, 1000, 5)
        self.assertEqual(self.made, 0)

    def test_notMovable(self) -> None:
        """A reactor with a clock of its own cannot have one, and goes on as before."""
        self.deadlines(300, 0.004, 9, 5)
        self.assertTrue(self.made > 0)
        self.reactor.advance(0.01)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class SetBackTests(SynchronousTestCase):
    """A reactor whose wall clock is set back keeps its calls for the old time."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.reactor.advance(1_000_000)
        self.elapsed = 0
        self.visited: list[tuple[Task, int]] = []
        self.clock = MonotonicClock(self.reactor, lambda: self.elapsed)
        self.schedule = Schedule(self.reactor, self.clock)
        self.task = noting(self.visited)

    def test_deadline(self) -> None:
        """A turn that finds a wake overdue does its work and arms the next one anew."""
        later = noting(self.visited)
        self.schedule.set(self.task, 200 * MILLISECOND, 0)
        self.schedule.set(later, 500 * MILLISECOND, 0)
        self.reactor.rightNow -= 3600
        self.elapsed = 200 * MILLISECOND + LATE
        self.schedule.end(self.schedule.begin())
        self.assertEqual([each for each, _ in self.visited], [self.task])
        [call] = self.reactor.getDelayedCalls()
        self.assertLess(call.getTime() - self.reactor.seconds(), 0.5)
        self.elapsed = 500 * MILLISECOND
        self.reactor.advance(0.5)
        self.assertEqual([each for each, _ in self.visited], [self.task, later])

    def test_told(self) -> None:
        """Nothing comes that would show it: wake and turn are armed anew when the clock was set."""
        other = noting(self.visited)
        self.schedule.set(self.task, 200 * MILLISECOND, 0)
        self.schedule.touch(other)
        self.reactor.rightNow -= 3600
        self.elapsed = 100 * MILLISECOND
        self.schedule.clockSet()
        self.reactor.advance(0)
        self.assertEqual([each for each, _ in self.visited], [other])
        self.elapsed = 200 * MILLISECOND
        self.reactor.advance(0.1)
        self.assertEqual([each for each, _ in self.visited], [other, self.task])
        self.schedule.clockSet()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nothingElse(self) -> None:
        """An overdue wake behind which nothing waits is given up, and believed no more."""
        self.schedule.set(self.task, 200 * MILLISECOND, 0)
        self.reactor.rightNow -= 3600
        self.elapsed = 200 * MILLISECOND + LATE
        self.schedule.end(self.schedule.begin())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertIsNone(self.clock.horizon)

    def test_turn(self) -> None:
        """A turn of our own that does not come is asked for again."""
        self.schedule.later(self.task, lambda: self.visited.append((self.task, 0)))
        self.reactor.rightNow -= 3600
        self.elapsed = 2 * LATE
        self.schedule.begin()
        self.schedule.requeue(self.task)
        self.schedule.end(self.elapsed)
        self.reactor.advance(0)
        self.assertEqual(len(self.visited), 2)
