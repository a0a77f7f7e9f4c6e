from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.net.schedule import (
    NEAR,
    OVERSLEPT,
    SHORTEST,
    TICK,
    MonotonicClock,
    Schedule,
    Timed,
)


class ClockTests(SynchronousTestCase):
    """L{MonotonicClock}, with a reactor that has nothing but time (TIME-2)."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.reactor.rightNow = 1_700_000_000.25
        self.clock = MonotonicClock(self.reactor)

    def test_follows(self) -> None:
        """The clock counts the reactor's seconds in nanoseconds from its making."""
        self.assertEqual(self.clock.now(), 0)
        self.reactor.rightNow += 1.5
        self.assertEqual(self.clock.now(), 1500 * MILLISECOND)

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


class ScheduleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Clock()
        self.clock = MonotonicClock(self.reactor)
        self.expired: list[tuple[Timed, int]] = []
        self.schedule = Schedule(self.reactor, self.clock, self.note)

    def note(self, due: list[Timed], now: int) -> None:
        self.expired += [(timed, now) for timed in due]

    def set(self, milliseconds: float, timed: Timed | None = None) -> Timed:
        timed = timed or Timed()
        now = self.clock.now()
        self.schedule.set(timed, now + int(milliseconds * MILLISECOND), now)
        return timed

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
        timed = self.set(250)
        self.run_(0.249)
        self.assertEqual(self.expired, [])
        self.run_(0.001)
        self.assertEqual(self.expired, [(timed, 250 * MILLISECOND)])
        self.assertIsNone(timed.deadline)
        self.assertEqual(self.wakes(), [])

    def test_late(self) -> None:
        """What is called late is told the time that it is, not the one it asked for (TIME-4)."""
        timed = self.set(20)
        self.reactor.advance(0.5)
        self.assertEqual(self.expired, [(timed, 500 * MILLISECOND)])

    def test_far(self) -> None:
        """A far deadline waits for the next whole second."""
        timed = self.set(2500)
        self.assertEqual(self.wakes(), [3.0])
        self.run_(3)
        self.assertEqual(self.expired, [(timed, 3 * SECOND)])

    def test_oneCall(self) -> None:
        """However many deadlines, one call is scheduled (TIME-4)."""
        for milliseconds in (50, 5, 700, 1500, 30_000, 0.1):
            self.set(milliseconds)
        self.assertEqual(len(self.wakes()), 1)

    def test_shortest(self) -> None:
        """Pacing wakes earlier than the tick, but never in less than a millisecond."""
        self.set(0.2)
        self.assertEqual(self.wakes(), [SHORTEST / SECOND])
        self.schedule.stop()
        self.set(4)
        self.assertEqual(self.wakes(), [0.004])

    def test_grid(self) -> None:
        """Deadlines that are close to each other share a tick."""
        self.set(20)
        self.set(21)
        self.set(29)
        self.run_(0.02)
        self.assertEqual(len(self.expired), 1)
        self.assertEqual(self.wakes(), [round(0.02 + TICK / SECOND, 6)])
        self.run_(0.01)
        self.assertEqual(len(self.expired), 3)

    def test_untouched(self) -> None:
        """A far deadline that only moves away moves nothing (design section 4)."""
        timed = self.set(5000)
        [call] = self.reactor.getDelayedCalls()
        for _ in range(100):
            self.reactor.advance(0.01)
            self.set(5000, timed)
        self.assertEqual(self.reactor.getDelayedCalls(), [call])
        self.assertEqual(len(self.schedule._far), 1)
        self.run_(4.5)
        self.assertEqual(self.expired, [])
        self.run_(1.5)
        self.assertEqual([at for _, at in self.expired], [6 * SECOND])

    def test_nearer(self) -> None:
        """A far deadline that comes near is met in time, once."""
        timed = self.set(5000)
        self.set(30, timed)
        self.run_(10)
        self.assertEqual(self.expired, [(timed, 30 * MILLISECOND)])

    def test_nearAndFar(self) -> None:
        """What went from far to near and far again is still met."""
        timed = self.set(5000)
        self.set(500, timed)
        self.set(20_000, timed)
        self.run_(19.9)
        self.assertEqual(self.expired, [])
        self.run_(2)
        self.assertEqual([each for each, _ in self.expired], [timed])

    def test_none(self) -> None:
        """Who has no deadline any more is not called."""
        near, far = self.set(50), self.set(5000)
        self.schedule.set(near, None, 0)
        self.schedule.set(far, None, 0)
        self.run_(10)
        self.assertEqual(self.expired, [])
        self.assertEqual(self.wakes(), [])

    def test_discard(self) -> None:
        """When the last is forgotten nothing stays scheduled (TIME-6)."""
        near, far, other = self.set(50), self.set(5000), self.set(9000)
        for timed in (near, far):
            self.schedule.discard(timed)
            self.assertEqual(len(self.wakes()), 1)
        self.schedule.discard(other)
        self.assertEqual(self.wakes(), [])
        self.assertEqual(self.schedule._far, [])

    def test_stop(self) -> None:
        """After C{stop} everything can be set anew."""
        far = self.set(5000)
        self.schedule.stop()
        self.assertEqual(self.wakes(), [])
        self.set(2000, far)
        self.run_(3)
        self.assertEqual([each for each, _ in self.expired], [far])

    def test_overslept(self) -> None:
        """A machine that slept shows its sessions five seconds, not an hour (TIME-3)."""
        self.set(50)
        patient = self.set(30_000)
        self.reactor.advance(3600)
        self.assertEqual(self.clock.now(), 50 * MILLISECOND + OVERSLEPT)
        self.assertNotIn(patient, [each for each, _ in self.expired])

    def test_rounding(self) -> None:
        """A wake that the float brings a trifle early counts as in time."""
        self.reactor.rightNow = 1_700_000_000.1
        self.clock = MonotonicClock(self.reactor)
        self.schedule = Schedule(self.reactor, self.clock, self.note)
        for _ in range(50):
            before = len(self.expired)
            self.set(70)
            [call] = self.reactor.getDelayedCalls()
            self.reactor.rightNow = call.getTime() - 1e-7
            self.reactor.calls.remove(call)
            self.schedule._wake()
            self.assertEqual(len(self.expired), before + 1)

    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 8000), st.integers(0, 900)),
            min_size=1,
            max_size=40,
        )
    )
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_property(self, steps: list[tuple[int, int, int]]) -> None:
        """No deadline is met early, and none later than its second or tick."""
        self.setUp()
        everyone = [Timed() for _ in range(4)]
        wanted: dict[Timed, int] = {}
        checked = 0
        for who, milliseconds, pause in steps:
            timed = self.set(milliseconds, everyone[who])
            assert timed.deadline is not None
            wanted[timed] = timed.deadline
            self.run_(pause / 1000)
            for each, at in self.expired[checked:]:
                self.assertIn(each, wanted)
                deadline = wanted.pop(each)
                self.assertGreaterEqual(at, deadline)
                self.assertLess(at, deadline + NEAR)
            checked = len(self.expired)
        self.run_(10)
        self.assertEqual({each for each, _ in self.expired[checked:]}, set(wanted))
        self.assertEqual(self.wakes(), [])
