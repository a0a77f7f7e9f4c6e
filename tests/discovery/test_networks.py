"""Tests for L{twisted_rudp.discovery.networks}."""

from __future__ import annotations

from ipaddress import ip_interface

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.discovery.networks import (
    Interface,
    broadcasts,
    interfaces,
    is_own,
    on_link,
)


def interface(name: str, *texts: str) -> Interface:
    """An interface with these addresses."""
    return Interface(name, 1, tuple(ip_interface(text) for text in texts))


LO = interface("lo", "127.0.0.1/8", "::1/128")
ETH = interface("eth0", "10.1.2.3/16", "fd00::3/64", "fe80::3/64")
TUN = interface("tun0", "10.9.0.1/32")


class NetworkTests(SynchronousTestCase):
    """What follows from a machine's interfaces."""

    def test_here(self) -> None:
        """This machine has a loopback interface at least, and its addresses are its own."""
        found = interfaces()
        [loopback] = [each for each in found if each.loopback]
        self.assertTrue(is_own("127.0.0.1", [loopback]))
        self.assertEqual(len({each.index for each in found}), len(found))

    def test_broadcasts(self) -> None:
        """
        Each network's own address; the loopback's where there is no network; the limited
        one where there is not even that (discovery.md 5).
        """
        other = interface("eth1", "192.168.7.9/24", "192.168.7.10/24", "10.0.0.1/31")
        self.assertEqual(broadcasts([LO, ETH, TUN, other]), ["10.1.255.255", "192.168.7.255"])
        self.assertEqual(broadcasts([LO, TUN]), ["127.255.255.255"])
        self.assertEqual(broadcasts([TUN]), ["255.255.255.255"])

    def test_onLink(self) -> None:
        """Addresses of our networks and link-local ones are on a link of ours."""
        for near in ("10.1.9.9", "fd00::9", "fe80::9%eth0", "127.0.0.9"):
            self.assertTrue(on_link(near, [LO, ETH]), near)
        for far in ("10.2.0.1", "fd01::1", "8.8.8.8"):
            self.assertFalse(on_link(far, [LO, ETH]), far)

    def test_own(self) -> None:
        """Only the addresses themselves are ours."""
        self.assertTrue(is_own("fe80::3%eth0", [ETH]))
        self.assertFalse(is_own("10.1.2.4", [ETH]))

    def test_kinds(self) -> None:
        """The loopback leads nowhere else; a link-local address is what a group needs."""
        self.assertEqual([each.loopback for each in (LO, ETH, TUN)], [True, False, False])
        self.assertEqual([each.link_local for each in (LO, ETH, TUN)], [False, True, False])
