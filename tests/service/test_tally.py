"""Tests for L{twisted_rudp.service.tally}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.service.transports import CountingTransport, HalfTransport
from twisted_rudp.service.tally import Tally


class TallyTests(SynchronousTestCase):
    """The line that is logged when a service stops."""

    def test_own(self) -> None:
        """The service's own counts are shown in their order, also when 0."""
        tally = Tally("connections", "broken")
        tally.add("broken")
        tally.add("broken", 2)
        self.assertEqual(tally.line(), "connections=0 broken=3")

    def test_absorb(self) -> None:
        """A session's counters are summed up, and its round trip is the last one known (TR-10)."""
        tally = Tally("connections")
        tally.absorb(CountingTransport())
        tally.absorb(CountingTransport())
        self.assertEqual(tally.line(), "connections=0 retrans_segs=6 round_trip_ms=31.5")

    def test_absorbTCP(self) -> None:
        """A transport that knows nothing about itself adds nothing."""
        tally = Tally("connections")
        tally.absorb(HalfTransport())
        self.assertEqual(tally.line(), "connections=0")
