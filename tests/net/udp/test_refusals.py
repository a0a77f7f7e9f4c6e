"""Tests for L{twisted_rudp.net.udp.own}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import OTHER, PEER
from twisted_rudp.net.udp.own import FALLBACK_LIMIT, FALLBACK_SECONDS, FallbackCache


class RefusalsTests(SynchronousTestCase):
    """L{FallbackCache}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.refusals = FallbackCache(self.clock)

    def test_lifetime(self) -> None:
        """An entry is for one address and size and lives ten seconds."""
        self.refusals.add(PEER, 100)
        self.clock.advance(FALLBACK_SECONDS - 1)
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
        self.clock.advance(FALLBACK_SECONDS - 5)
        self.assertTrue(self.refusals.holds(PEER, 100))
        self.assertFalse(self.refusals.holds(OTHER, 100))

    def test_bounded(self) -> None:
        """Any number of refusals takes bounded memory; the latest are known."""
        for size in range(FALLBACK_LIMIT * 2):
            self.refusals.add(PEER, size)
        self.assertEqual(len(self.refusals.table), FALLBACK_LIMIT)
        self.assertFalse(self.refusals.holds(PEER, FALLBACK_LIMIT - 1))
        self.assertTrue(self.refusals.holds(PEER, FALLBACK_LIMIT))
