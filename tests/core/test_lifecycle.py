"""Tests for L{twisted_rudp.core.lifecycle}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND, Event, Reason
from twisted_rudp.core.lifecycle import (
    OVER,
    TRANSITIONS,
    Lifecycle,
    Role,
    State,
    TimeWait,
    time_wait_span,
)
from twisted_rudp.core.timers import NEVER

NOW = 1000 * SECOND


class StateTests(SynchronousTestCase):
    """The table of states."""

    def test_table(self) -> None:
        """Each state has its ways; every one leads to the end, none back."""
        order = list(State)
        self.assertEqual(set(TRANSITIONS), set(State))
        for state, following in TRANSITIONS.items():
            for each in following:
                self.assertTrue(order.index(each) > order.index(state), (state, each))
            self.assertEqual(following == frozenset(), state is State.CLOSED)
        for state in set(State) - OVER:
            self.assertIn(State.TIME_WAIT, TRANSITIONS[state])


class LifecycleTests(SynchronousTestCase):
    """L{Lifecycle}."""

    def make(self, own_socket: bool = False) -> tuple[Lifecycle, list[tuple[Any, ...]]]:
        """A session in its handshake, and its events."""
        events: list[tuple[Any, ...]] = []
        return Lifecycle(Role.CLIENT, events, own_socket), events

    def test_noWay(self) -> None:
        """A way that is not in the table is a defect."""
        life, _ = self.make()
        life.enter(State.ESTABLISHED)
        self.assertRaises(AssertionError, life.enter, State.HANDSHAKE)
        self.assertIs(life.state, State.ESTABLISHED)

    def test_sharedSocket(self) -> None:
        """The application is told at once; TIME-WAIT goes on until nothing comes any more."""
        life, events = self.make()
        life.enter(State.ESTABLISHED)
        self.assertEqual(life.deadline(), NEVER)
        life.end(Reason.RESET, "why", TimeWait(NOW, 2 * SECOND, repeats=1))
        self.assertEqual(events, [(Event.ENDED, Reason.RESET, "why")])
        self.assertIs(life.state, State.TIME_WAIT)
        self.assertTrue(life.over)
        self.assertEqual(life.deadline(), NOW)
        life.tick(NOW + SECOND)
        self.assertIs(life.state, State.TIME_WAIT)
        life.tick(NOW + 2 * SECOND)
        self.assertIs(life.state, State.CLOSED)
        self.assertEqual(life.deadline(), NEVER)

    def test_ownSocket(self) -> None:
        """The last packet leaves before the application is told, and then all is over."""
        life, events = self.make(own_socket=True)
        wait = TimeWait(NOW, 2 * SECOND, repeats=2)
        life.end(Reason.DONE, None, wait)
        self.assertIs(life.state, State.CLOSING)
        self.assertTrue(wait.repeat_due(NOW))
        life.last_packet_sent()
        self.assertEqual(events, [])
        self.assertTrue(wait.repeat_due(NOW + 10 * MILLISECOND))
        life.last_packet_sent()
        self.assertEqual(events, [(Event.ENDED, Reason.DONE, None)])
        self.assertIs(life.state, State.CLOSED)

    def test_ownSocketNothingToSay(self) -> None:
        """Without a last packet nothing is waited for."""
        life, events = self.make(own_socket=True)
        life.end(Reason.IDLE, None, TimeWait(NOW, 2 * SECOND))
        self.assertEqual(events, [(Event.ENDED, Reason.IDLE, None)])
        self.assertIs(life.state, State.CLOSED)

    def test_vanish(self) -> None:
        """A session makes room from every state, and its application is told once."""
        for own_socket in (False, True):
            for before in State:
                life, events = self.make(own_socket)
                life.state = before
                if before is State.TIME_WAIT:
                    life.time_wait = TimeWait(NOW, SECOND)
                elif before is State.CLOSING:
                    life.time_wait = TimeWait(NOW, SECOND, repeats=1)
                life.vanish("another")
                self.assertIs(life.state, State.CLOSED, before)
                told = 0 if before in (State.TIME_WAIT, State.CLOSED) else 1
                self.assertEqual(len(events), told, before)


class TimeWaitTests(SynchronousTestCase):
    """L{TimeWait}."""

    def test_span(self) -> None:
        """Twenty time-outs, between two and ten seconds."""
        self.assertEqual(time_wait_span(MILLISECOND), 2 * SECOND)
        self.assertEqual(time_wait_span(200 * MILLISECOND), 4 * SECOND)
        self.assertEqual(time_wait_span(SECOND), 10 * SECOND)

    def test_repeats(self) -> None:
        """The last packet is sent at once and again after each interval, so many times."""
        wait = TimeWait(NOW, SECOND, repeats=3, interval=10)
        sent = [at for at in range(100) if wait.repeat_due(NOW + at)]
        self.assertEqual(sent, [0, 10, 20])
        self.assertTrue(wait.finished)
        self.assertEqual(wait.deadline(), NOW + SECOND)

    def test_acknowledged(self) -> None:
        """What the peer has is not repeated."""
        wait = TimeWait(NOW, SECOND, repeats=3, interval=10)
        self.assertTrue(wait.repeat_due(NOW))
        self.assertEqual(wait.deadline(), NOW + 10)
        wait.acknowledged()
        self.assertFalse(wait.repeat_due(NOW + 10))
        self.assertEqual(wait.deadline(), NOW + SECOND)

    def test_prolonged(self) -> None:
        """What comes makes it last longer, but no peer can make it last for ever."""
        wait = TimeWait(NOW, SECOND)
        for step in range(100):
            now = NOW + step * SECOND // 2
            if wait.expired(now):
                break
            wait.prolong(now)
        self.assertEqual(now, NOW + 4 * SECOND)
