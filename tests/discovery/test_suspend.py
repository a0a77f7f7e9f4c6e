"""
Tests for L{twisted_rudp.discovery.suspend} and what is done upon it (discovery.md 5,
sleeping laptop).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.discovery.support import key
from tests.discovery.test_local import GROUP, URLS, LanCase
from tests.discovery.test_service import ServiceCase
from twisted_rudp.discovery import v4
from twisted_rudp.discovery.profiles import V4
from twisted_rudp.discovery.suspend import SuspendDetector
from twisted_rudp.testing.port import LAN_BROADCAST

HOUR = 3600.0


class WatchTests(SynchronousTestCase):
    """Two clocks that may disagree."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = self.steady = 0.0
        self.wakes = 0
        self.watch = SuspendDetector(self.clock, self.resumed, lambda: (self.wall, self.steady))
        self.watch.start()
        self.addCleanup(self.watch.stop)

    def resumed(self) -> None:
        self.wakes += 1

    def passed(self, wall: float, steady: float) -> int:
        """
        So much has passed by either clock until the next look.

        @return: the wakes it was taken for.
        """
        before = self.wakes
        self.wall += wall
        self.steady += steady
        self.clock.advance(30)
        return self.wakes - before

    def test_awake(self) -> None:
        """Clocks that agree, a late look, and a small correction are no sleep."""
        for wall, steady in ((30, 30), (59, 59), (31, 30), (0, 30), (85, 30)):
            self.assertEqual(self.passed(wall, steady), 0, (wall, steady))

    def test_slept(self) -> None:
        """The wall clock has gone on without the other: a sleep, noticed once."""
        self.assertEqual(self.passed(30 + 61, 30), 1)
        self.assertEqual(self.passed(30, 30), 0)

    def test_bothWentOn(self) -> None:
        """
        Where the monotonic clock goes on in a sleep, or this process was stopped, the
        look itself comes late.
        """
        self.assertEqual(self.passed(HOUR, HOUR), 1)

    def test_setBack(self) -> None:
        """
        A clock that was set back is noticed with whatever happens next, while the timers
        stand still; from then on they go.
        """
        self.wall -= HOUR
        self.clock.rightNow -= HOUR
        self.watch.look()
        self.assertEqual(self.wakes, 1)
        self.assertEqual(self.passed(30, 30), 0)
        self.assertEqual(self.passed(HOUR, HOUR), 1)

    def test_stop(self) -> None:
        """Who has stopped is not woken, and nothing stays scheduled."""
        self.watch.start()
        self.watch.stop()
        self.watch.stop()
        self.wall += HOUR
        self.watch.look()
        self.assertEqual((self.wakes, self.clock.getDelayedCalls()), (0, []))


class WakingTests(LanCase):
    """What a machine does that was asleep."""

    def test_sleep(self) -> None:
        """It announces at once, asks who is here and joins its groups again."""
        one, two = self.listen(self.one), self.listen(self.two)
        one.announce(key(1), URLS)
        two.announce(key(2), URLS)
        self.network.runFor(31)
        self.assertEqual(len(self.shown(two)), 1)
        self.network.cut(self.one, self.two)
        joined: list[Any] = []
        for port in self.two.ports:
            self.patch(port, "joinGroup", lambda group: joined.append(group))
        self.lan.sleep(70)
        self.network.runFor(30)
        counters = self.counters(two)
        self.assertEqual((counters["discovery.wakes"], joined), (1, [GROUP]))
        self.assertEqual(counters["discovery.solicitations"], 1)
        # By the wall clock its 90 seconds are over.
        self.assertEqual(self.shown(two), [])

    def test_grace(self) -> None:
        """
        What would hold for longer still, because timers stood still as well, holds for
        half a minute more and a little, unless it is heard again.
        """
        now = [0.0, 0.0]
        two = self.lan.discovery(self.two)
        two._watch._clocks = lambda: (now[0], now[1])
        two.listen((V4,))
        self.addCleanup(self.stopped, two)
        for number in (1, 2):
            wire = v4.encode(key(number).key, URLS, 7)
            self.throw(self.one, wire, (LAN_BROADCAST, 21031))
        now[0] += HOUR
        self.network.runFor(31)
        self.throw(self.one, v4.encode(key(2).key, URLS, 7), (LAN_BROADCAST, 21031))
        self.assertEqual(self.counters(two)["discovery.wakes"], 1)
        self.assertEqual(len(self.shown(two)), 2)
        self.network.runFor(45)
        self.assertEqual([name for name, *_ in self.shown(two)], [key(2).text])

    def test_setBack(self) -> None:
        """
        A clock that is set back by an hour does not end the announcements for an hour:
        with the next datagram from anybody they go on, and nobody is listed for longer.
        """
        two = self.listen(self.two)
        two.announce(key(2), URLS)
        self.throw(self.one, v4.encode(key(1).key, URLS, 7), (LAN_BROADCAST, 21031))
        self.network.runFor(40)
        self.lan.sleep(-HOUR)
        # What is under way in the simulated network stands still as well.
        self.addCleanup(self.lan.sleep, HOUR)
        before = len(self.lan.sent(LAN_BROADCAST))
        local = two._used[V4].local
        local._heard(local._channels[0], b"junk", "10.0.0.1")
        self.network.runFor(91)
        # What was announced and asked at once, and three times at intervals.
        self.assertEqual(len(self.lan.sent(LAN_BROADCAST)) - before, 2 + 3)
        self.assertEqual(self.shown(two), [])

    def test_stepsAreFew(self) -> None:
        """Without a sleep nobody is woken, however much is heard."""
        two = self.listen(self.two)
        for _ in range(100):
            self.throw(self.one, b"junk", (LAN_BROADCAST, 21031))
            self.network.runFor(3)
        self.assertEqual(self.counters(two)["discovery.wakes"], 0)


class ReportingTests(ServiceCase):
    """The same towards a server."""

    def test_reports(self) -> None:
        """
        A node that slept reports itself at once, not at the end of its half hour: the
        server may have forgotten it.
        """
        counters = self.serve().counters
        one, server = self.discovery(self.one)
        lease = one.announce(key(1), URLS, (), server)
        self.network.runFor(100)
        before = counters["announcements"]
        self.lan.sleep(1000)
        self.network.runFor(31)
        self.assertEqual(counters["announcements"], 2 * before)
        lease.release()
