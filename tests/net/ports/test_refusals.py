"""Tests for L{twisted_rudp.net.ports.refusals}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.ports.fakes import OTHER, PEER
from twisted_rudp.net.ports.refusals import LIFETIME, LIMIT, Refusals


class RefusalsTests(SynchronousTestCase):
    """L{Refusals}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.refusals = Refusals(self.clock)

    def test_lifetime(self) -> None:
        """An entry is for one address and size and lives ten seconds."""
        self.refusals.add(PEER, 100)
        self.clock.advance(LIFETIME - 1)
        self.assertTrue(self.refusals.holds(PEER, 100))
        self.assertFalse(self.refusals.holds(PEER, 99))
        self.assertFalse(self.refusals.holds(OTHER, 100))
        self.clock.advance(1)
        self.assertFalse(self.refusals.holds(PEER, 100))
        self.assertEqual(self.refusals.table, {})

    def test_renewed(self) -> None:
        """A second refusal counts from its own time, and does not shield older ones."""
        self.refusals.add(PEER, 100)
        self.refusals.add(OTHER, 100)
        self.clock.advance(5)
        self.refusals.add(PEER, 100)
        self.clock.advance(LIFETIME - 5)
        self.assertTrue(self.refusals.holds(PEER, 100))
        self.assertFalse(self.refusals.holds(OTHER, 100))

    def test_bounded(self) -> None:
        """Any number of refusals takes bounded memory; the latest are known."""
        for size in range(LIMIT * 2):
            self.refusals.add(PEER, size)
        self.assertEqual(len(self.refusals.table), LIMIT)
        self.assertFalse(self.refusals.holds(PEER, LIMIT - 1))
        self.assertTrue(self.refusals.holds(PEER, LIMIT))
