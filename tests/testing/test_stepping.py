"""Tests for L{twisted_rudp.testing.stepping}."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing import stepping
from twisted_rudp.testing.clock import EventClock
from twisted_rudp.testing.stepping import NotReached, runFor, runUntil, step


class SteppingTests(SynchronousTestCase):
    """One event at a time, each at its own time (TEST-3)."""

    clockClass = Clock

    def setUp(self) -> None:
        self.clock = self.clockClass()
        self.seen: list[tuple[str, float]] = []

    def note(self, what: str) -> None:
        self.seen.append((what, self.clock.seconds()))

    def test_step(self) -> None:
        """A step runs one call, at the time it was scheduled for."""
        self.clock.callLater(2, self.note, "second")
        self.clock.callLater(1, self.note, "first")
        self.assertTrue(step(self.clock))
        self.assertEqual(self.seen, [("first", 1)])
        self.assertTrue(step(self.clock))
        self.assertFalse(step(self.clock))
        self.assertEqual(self.seen[-1], ("second", 2))

    def test_movedCalls(self) -> None:
        """Calls that were delayed or reset run in the order of their new times."""
        late = self.clock.callLater(1, self.note, "late")
        early = self.clock.callLater(5, self.note, "early")
        late.delay(2)
        early.reset(2)
        runFor(self.clock, 10)
        self.assertEqual(self.seen, [("early", 2), ("late", 3)])

    def test_runFor(self) -> None:
        """C{runFor} runs what is due, leaves the rest, and shows the end of the time."""
        self.clock.callLater(1, lambda: self.clock.callLater(1, self.note, "inner"))
        self.clock.callLater(3.5, self.note, "later")
        runFor(self.clock, 3)
        self.assertEqual(self.seen, [("inner", 2)])
        self.assertEqual(self.clock.seconds(), 3)
        self.assertEqual(len(self.clock.calls), 1)

    def test_runUntilCondition(self) -> None:
        """C{runUntil} stops right after the event that fulfils the condition."""
        for n in range(5):
            self.clock.callLater(n, self.note, str(n))
        runUntil(self.clock, lambda: len(self.seen) == 3)
        self.assertEqual(self.clock.seconds(), 2)

    def test_runUntilDeferred(self) -> None:
        """A Deferred is waited for with all that it waits for, and keeps its result."""
        outer: Deferred[str] = Deferred()
        inner: Deferred[str] = Deferred()
        outer.addCallback(lambda _: inner)
        self.clock.callLater(1, outer.callback, "outer")
        self.clock.callLater(2, inner.callback, "inner")
        runUntil(self.clock, outer)
        self.assertEqual(self.clock.seconds(), 2)
        self.assertEqual(self.successResultOf(outer), "inner")

    def test_failures(self) -> None:
        """A failure is a result like any other."""
        failing: Deferred[None] = Deferred()
        self.clock.callLater(1, failing.errback, ValueError())
        runUntil(self.clock, failing)
        self.failureResultOf(failing, ValueError)

    def test_limit(self) -> None:
        """Time is up at the limit and not at the next event."""
        self.clock.callLater(100, self.note, "too late")
        self.assertRaises(NotReached, runUntil, self.clock, lambda: self.seen, 60)
        self.assertEqual((self.clock.seconds(), self.seen), (60, []))

    def test_nothingScheduled(self) -> None:
        """Waiting while nothing can happen is an error at once."""
        self.assertRaises(NotReached, runUntil, self.clock, lambda: False)

    def test_endlessLoop(self) -> None:
        """A zero-delay call that schedules itself is given up, not followed for ever."""
        self.patch(stepping, "MAX_EVENTS", 1000)

        def again() -> None:
            self.clock.callLater(0, again)

        again()
        self.assertRaises(NotReached, runFor, self.clock, 1)
        self.assertRaises(NotReached, runUntil, self.clock, lambda: False)


class EventClockSteppingTests(SteppingTests):
    """The same on the clock of L{MemoryNetwork<twisted_rudp.testing.MemoryNetwork>}."""

    clockClass = EventClock
