"""Tests for L{twisted_rudp.net.udp.options} and the options that go with it."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.udp import options as sockets
from twisted_rudp.net.udp.port import SocketOptions

GROUP6 = "ff12::7275:6470"
GROUP4 = "239.77.0.1"


class MulticastTests(SynchronousTestCase):
    """Groups on the loopback interface, which every machine has."""

    def make(self, host: str, **options: object) -> socket.socket:
        chosen = SocketOptions(**options)  # type: ignore[arg-type]
        try:
            made = sockets.createSocket(sockets.bindAddress(host, 0), chosen)
        except OSError as problem:
            self.skipTest(f"no such socket here: {problem}")
        self.addCleanup(made.close)
        return made

    def test_joinAndLeave(self) -> None:
        """A group is joined once on an interface, in either family; leaving undoes that (UDP-8)."""
        loopback = socket.if_nametoindex("lo")
        for host, group in (("::", GROUP6), ("", GROUP4)):
            made = self.make(host)
            sockets.joinGroup(made, group, loopback)
            self.assertRaises(OSError, sockets.joinGroup, made, group, loopback)
            sockets.leaveGroup(made, group, loopback)
            self.assertRaises(OSError, sockets.leaveGroup, made, group, loopback)
            sockets.joinGroup(made, group, loopback)

    def test_refused(self) -> None:
        """An interface that is not there and a group of the other family are errors."""
        for host, group, other in (("::", GROUP6, GROUP4), ("", GROUP4, GROUP6)):
            made = self.make(host)
            self.assertRaises(OSError, sockets.joinGroup, made, group, 1 << 20)
            self.assertRaises(OSError, sockets.joinGroup, made, other, 1)

    def test_options(self) -> None:
        """Hops are those asked for, and C{"::"} leaves IPv4 to others on request."""
        made = self.make("::", onlyIPv6=True, multicastHops=7)
        hops = made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS)
        only = made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self.assertEqual((hops, only), (7, 1))
        made = self.make("", multicastHops=7)
        self.assertEqual(made.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL), 7)
        self.assertRaises(ValueError, SocketOptions, multicastHops=256)
