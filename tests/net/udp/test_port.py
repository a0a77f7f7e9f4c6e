"""Tests for L{twisted_rudp.net.udp.port}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.udp.port import COUNTERS, PortCounters, SocketOptions


class SocketOptionsTests(SynchronousTestCase):
    """L{SocketOptions}."""

    def test_ranges(self) -> None:
        """A number outside its range is named in the error."""
        outside = (("dscp", 64), ("dscp", -1), ("hopLimit", 0), ("arrivalHops", 256))
        for name, value in (*outside, ("sendBuffer", 0)):
            problem = self.assertRaises(ValueError, SocketOptions, **{name: value})
            self.assertIn(name, str(problem))
            self.assertIn(str(value), str(problem))

    def test_edges(self) -> None:
        """The ends of the ranges are in them."""
        SocketOptions(dscp=0, hopLimit=1, receiveBuffer=1)
        SocketOptions(dscp=63, hopLimit=255)


class PortCountersTests(SynchronousTestCase):
    """L{PortCounters}."""

    def test_asDict(self) -> None:
        """Every counter starts at zero and is in the snapshot."""
        counters = PortCounters()
        counters.bytesIn += 3
        self.assertEqual(
            counters.asDict(), dict.fromkeys(COUNTERS, 0) | {"bytesIn": 3}
        )
