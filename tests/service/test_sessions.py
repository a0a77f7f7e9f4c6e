"""Tests for L{twisted_rudp.service.sessions}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.sessions import Sessions


class Session:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def finish(self) -> None:
        self.told.append("finish")

    def abort(self) -> None:
        self.told.append("abort")


class SessionsTests(SynchronousTestCase):
    """Bounds and draining."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = Sessions(self.clock, 2)
        self.first, self.second = Session(), Session()

    def test_limit(self) -> None:
        """The set is full at its limit, and has room again after an end (EP-7)."""
        self.sessions.add(self.first)
        self.assertFalse(self.sessions.full)
        self.sessions.add(self.second)
        self.assertTrue(self.sessions.full)
        self.sessions.remove(self.first)
        self.assertFalse(self.sessions.full)

    def test_drainNothing(self) -> None:
        """Without sessions draining is done at once and leaves no timer (TIME-6)."""
        self.successResultOf(self.sessions.drain(5))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """Sessions are finished, waited for, and no timer is left (SVC-5)."""
        self.sessions.add(self.first)
        self.sessions.add(self.second)
        drained = self.sessions.drain(5)
        self.assertEqual(self.first.told, ["finish"])
        self.sessions.remove(self.first)
        self.assertNoResult(drained)
        self.sessions.remove(self.second)
        self.successResultOf(drained)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_impatience(self) -> None:
        """What does not end in time is aborted, and still waited for (SVC-5)."""
        self.sessions.add(self.first)
        drained = self.sessions.drain(5)
        self.clock.advance(4.9)
        self.assertEqual(self.first.told, ["finish"])
        self.clock.advance(0.1)
        self.assertEqual(self.first.told, ["finish", "abort"])
        self.assertNoResult(drained)
        self.sessions.remove(self.first)
        self.successResultOf(drained)

    def test_again(self) -> None:
        """After a drain there may be sessions again (SVC-6)."""
        for _ in range(2):
            self.sessions.add(self.first)
            drained = self.sessions.drain(5)
            self.sessions.remove(self.first)
            self.successResultOf(drained)
