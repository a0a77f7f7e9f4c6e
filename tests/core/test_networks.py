"""Tests for L{twisted_rudp.core.networks}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.networks import is_loopback, network_of


class NetworkTests(SynchronousTestCase):
    """L{network_of} and L{is_loopback}."""

    def test_network(self) -> None:
        """An IPv4 address, also inside IPv6, is one host; of IPv6 a /64 is."""
        self.assertEqual(network_of(("192.0.2.1", 5)), network_of(("::ffff:192.0.2.1", 6, 0, 0)))
        self.assertNotEqual(network_of(("192.0.2.1", 5)), network_of(("192.0.2.2", 5)))
        self.assertEqual(
            network_of(("2001:db8::1", 5, 0, 0)), network_of(("2001:db8::ffff%2", 5, 0, 2))
        )
        self.assertNotEqual(
            network_of(("2001:db8::1", 5, 0, 0)), network_of(("2001:db8:0:1::1", 5, 0, 0))
        )

        self.assertEqual(network_of(("fe80::1%eth0", 1, 0, 2)), network_of(("fe80::2", 1, 0, 3)))

    def test_loopback(self) -> None:
        """127/8 and ::1, and 127/8 inside IPv6."""
        for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(is_loopback((host, 1)))
        for host in ("192.0.2.1", "2001:db8::1", "fe80::1%1"):
            self.assertFalse(is_loopback((host, 1)))
