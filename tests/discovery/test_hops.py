"""Tests for the check of hop limits (discovery.md 5, routed spoofing), which needs real sockets."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import TestCase

from tests.discovery.support import Lan, key
from tests.net.test_port import NO_IPV6
from twisted_rudp.discovery import v4
from twisted_rudp.discovery.networks import interfaces
from twisted_rudp.discovery.profiles import SYNCTHING, V1, V4, Profile
from twisted_rudp.discovery.service import Discovery
from twisted_rudp.testing.port import LAN_BROADCAST

BOTH = ("127.0.0.1",) if NO_IPV6 else ("127.0.0.1", "::1")
OPTIONS = {
    "127.0.0.1": (socket.AF_INET, socket.IPPROTO_IP, socket.IP_TTL),
    "::1": (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}


def unused(profile: Profile) -> Profile:
    """The profile on a port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return replace(profile, port=probe.getsockname()[1])


class HopTests(TestCase):
    """On this machine's loopback interface."""

    def discovery(self, profile: Profile, checkHops: bool) -> Discovery:
        from twisted.internet import reactor

        discovery = Discovery(
            reactor,
            enumerate=lambda: [each for each in interfaces() if each.loopback],
            checkHops=checkHops,
        )
        discovery.listen((profile,))
        self.addCleanup(discovery.stop)
        return discovery

    async def hear(self, profile: Profile, discovery: Discovery, host: str, *hops: int) -> Any:
        """
        Announce a node with each hop limit, and wait for the last.

        @return: the numbers of the nodes that are known, and how many were turned away.
        """
        family, level, option = OPTIONS[host]
        with socket.socket(family, socket.SOCK_DGRAM) as peer:
            for number in hops:
                peer.setsockopt(level, option, number)
                wire = v4.encode(key(number).key, (f"kcp://h:{number}",), 1)
                peer.sendto(wire, (host, profile.port))
            await discovery.registry.lookup(key(hops[-1]), 10)
        known = {int.from_bytes(node.id.key, "big") for node in discovery.registry.snapshot()}
        return known, discovery._used[profile].local.snapshot().counters["discovery.far"]

    async def test_checked(self) -> None:
        """
        What comes with less than the 255 that we send with has come through a router,
        and is counted and not believed.
        """
        for host in BOTH:
            profile = unused(V4)
            discovery = self.discovery(profile, checkHops=True)
            self.assertEqual(set(discovery.status().values()), {"listening"})
            heard = await self.hear(profile, discovery, host, 64, 254, 1, 255)
            self.assertEqual(heard, ({255}, 3))

    async def test_notChecked(self) -> None:
        """Without the option, and where others send as they like, the hop limit does not matter."""
        for profile, checkHops in ((unused(V4), False), (unused(SYNCTHING), True)):
            discovery = self.discovery(profile, checkHops)
            heard = await self.hear(profile, discovery, "127.0.0.1", 64, 255)
            self.assertEqual(heard, ({64, 255}, 0))

    def test_sentWith(self) -> None:
        """
        Our own profile sends with 255 hops; Syncthing's group is sent to with 1, as it
        does itself (3.2).
        """
        self.assertEqual([each.hops for each in (V4, V1, SYNCTHING)], [255, None, None])

    def test_blind(self) -> None:
        """Where the system cannot tell, nothing is heard, and the status says so."""
        lan = Lan()
        one, two = lan.host("one"), lan.host("two")
        listening = lan.discovery(two, checkHops=True)
        listening.listen((V4,))
        lease = lan.discovery(one).announce(key(1), ("kcp://:1",))
        lan.network.runFor(2)
        self.assertTrue(lan.sent(LAN_BROADCAST))
        self.assertEqual(listening.registry.snapshot(), [])
        self.assertEqual(set(listening.status().values()), {"sending only"})
        lease.release()
        listening.stop()
