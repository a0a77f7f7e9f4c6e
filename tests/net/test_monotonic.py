"""Tests for L{twisted_rudp.net.monotonic}."""

from __future__ import annotations

import gc
import os
import select
import sys
import weakref
from typing import Any
from unittest import SkipTest

from twisted.internet.task import Clock
from twisted.python import runtime
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.monotonic import ClockWatch, MonotonicTimer, watchOf


class Readers:
    """A reactor by the system's clock, which somebody sets: its delayed calls never come."""

    seconds = staticmethod(runtime.seconds)

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        assert os.fstat(reader.fileno())
        self.readers.remove(reader)


class MonotonicTimerTests(SynchronousTestCase):
    """L{MonotonicTimer}."""

    def setUp(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def descriptorTimer(self) -> tuple[Readers, MonotonicTimer]:
        if not sys.platform.startswith("linux"):
            raise SkipTest("timers are descriptors on Linux only")
        reactor = Readers()
        timer = MonotonicTimer(reactor, self.wake)
        self.addCleanup(timer.close)
        return reactor, timer

    def test_anyWallClock(self) -> None:
        """By the system's clock it needs no delayed call, which would wait for that clock."""
        reactor, timer = self.descriptorTimer()
        for times in (1, 2):
            timer.start(1_000_000)
            self.assertEqual(reactor.readers, [timer])
            poll = select.poll()
            poll.register(timer.fileno(), select.POLLIN)
            self.assertTrue(poll.poll())
            timer.doRead()
            self.assertEqual(self.woken, times)
            self.assertFalse(poll.poll(0))

    def test_moved(self) -> None:
        """It is moved and stopped at will, and says whether it will come."""
        _, timer = self.descriptorTimer()
        self.assertTrue(timer.movable)
        timer.start(3600 * 10**9)
        timer.start(1)
        poll = select.poll()
        poll.register(timer.fileno(), select.POLLIN)
        self.assertTrue(poll.poll() and timer.armed)
        timer.stop()
        self.assertEqual((poll.poll(0), timer.armed), ([], False))
        timer.doRead()
        self.assertEqual(self.woken, 0)
        timer.start(1)
        self.assertTrue(poll.poll())
        timer.doRead()
        self.assertEqual((self.woken, timer.armed), (1, False))

    def test_early(self) -> None:
        """A reactor that asks too early is told nothing."""
        _, timer = self.descriptorTimer()
        timer.start(3600 * 10**9)
        timer.doRead()
        self.assertEqual(self.woken, 0)

    def test_close(self) -> None:
        """After closing, by the owner or the reactor, there is no descriptor."""
        reactor, timer = self.descriptorTimer()
        timer.start(1)
        descriptor = timer.fileno()
        timer.close()
        self.assertEqual((reactor.readers, timer.fileno()), ([], -1))
        self.assertRaises(OSError, os.fstat, descriptor)
        timer.close()

    def test_otherClock(self) -> None:
        """A reactor with a clock of its own is asked for a delayed call."""
        clock = Clock()
        timer = MonotonicTimer(clock, self.wake)
        timer.start(2_000_000)
        clock.advance(0.0019)
        self.assertEqual(self.woken, 0)
        clock.advance(0.0002)
        self.assertEqual(self.woken, 1)
        self.assertFalse(timer.movable)
        timer.start(1_000_000)
        timer.start(2_000_000)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        timer.stop()
        self.assertEqual(clock.getDelayedCalls(), [])
        timer.start(2_000_000)
        timer.close()
        self.assertEqual(clock.getDelayedCalls(), [])


class ClockWatchTests(SynchronousTestCase):
    """L{ClockWatch}."""

    def setUp(self) -> None:
        if not sys.platform.startswith("linux"):
            raise SkipTest("timers are descriptors on Linux only")
        self.reactor = Readers()
        self.watch = ClockWatch(self.reactor)
        self.set = 0

    def clockSet(self) -> None:
        self.set += 1

    def test_told(self) -> None:
        """Whoever has delayed calls is told that the clock was set, each time."""
        self.watch.add(self)
        self.watch.add(self)
        self.assertEqual(self.reactor.readers, [self.watch])
        self.assertEqual(select.select([self.watch], [], [], 0)[0], [])
        for times in (1, 2):
            # As the system calls it then.
            self.watch.doRead()
            self.assertEqual(self.set, times)
        self.watch.discard(self)
        self.assertEqual((self.reactor.readers, self.watch.fileno()), ([], -1))

    def test_shutdown(self) -> None:
        """A reactor that shuts down takes the descriptor away."""
        self.watch.add(self)
        self.watch.connectionLost(Failure(Exception()))
        self.assertEqual(self.reactor.readers, [])
        self.watch.discard(self)

    def test_one(self) -> None:
        """A reactor has one watch."""
        self.assertIs(watchOf(self.reactor), watchOf(self.reactor))

    def test_simulated(self) -> None:
        """A simulated clock is not set, and its watch does not keep it."""
        clock = Clock()
        watch = watchOf(clock)
        watch.add(self)
        self.assertEqual(watch.fileno(), -1)
        kept = weakref.ref(clock)
        del clock, watch
        gc.collect()
        self.assertIsNone(kept())
