"""Tests for L{twisted_rudp.net.udp.receive}."""

from __future__ import annotations

import socket
import struct
from typing import Any, cast

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.net.test_open import NO_IPV6
from tests.net.udp.fakes import OTHER, PEER, FakeReactor, FakeSocket, Recorder
from twisted_rudp.net.addresses import fromTwisted
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.own import OwnPort
from twisted_rudp.net.udp.port import SocketOptions
from twisted_rudp.testing import MemoryNetwork


def arrived(data: bytes, hops: int | None, address: object = PEER) -> tuple[object, ...]:
    """A datagram with the hop limit it came with, if the system said it."""
    ancillary = [] if hops is None else [(0, 2, struct.pack("=i", hops))]
    return (data, ancillary, 0, address)


class FilterTests(SynchronousTestCase):
    """On a scripted socket."""

    def test_others(self) -> None:
        """
        What comes with another hop limit, or with none that is known, is dropped and
        counted; the rest is given on.
        """
        sock, receiver = FakeSocket(), Recorder()
        options = SocketOptions(arrivalHops=255)
        port = OwnPort(cast(Any, FakeReactor()), receiver, cast(Any, sock), options)
        sock.incoming += [
            arrived(b"aa", 255),
            arrived(b"far", 254),
            arrived(b"bb", 255),
            arrived(b"?", None),
            arrived(b"", 255),
            arrived(b"c", 255, OTHER),
        ]
        port.doRead()
        self.assertEqual(
            receiver.log,
            [("run", b"aa", 2, PEER), ("run", b"bb", 2, PEER), ("run", b"c", 1, OTHER), ("turn",)],
        )
        self.assertEqual((port.counters.far, port.counters.empty), (2, 1))

    def test_stock(self) -> None:
        """A port that cannot see hop limits is refused instead of letting everything in."""
        reactor = MemoryNetwork().host("one").reactor
        options = SocketOptions(arrivalHops=255)
        error = self.assertRaises(
            CannotListenError, openPort, reactor, Recorder(), options=options
        )
        self.assertIn("hop limit", str(error))


class RealTests(TestCase):
    """On real sockets."""

    async def _check(self, host: str, level: int, option: int) -> None:
        from twisted.internet import reactor

        receiver = Recorder()
        options = SocketOptions(arrivalHops=255)
        port = openPort(cast(Any, reactor), receiver, host, options=options)
        self.addCleanup(port.stopListening)
        to = fromTwisted(port.getHost())
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as peer:
            for hops in (64, 254, 255, 1):
                peer.setsockopt(level, option, hops)
                peer.sendto(b"%d" % hops, to)
            peer.setsockopt(level, option, 255)
            peer.sendto(b"end", to)
            await receiver.until(
                lambda: b"end" in receiver.datagrams() and receiver.log[-1] == ("turn",)
            )
        self.assertEqual(receiver.datagrams(), [b"255", b"end"])
        self.assertEqual(port.counters.far, 3)

    async def test_IPv4(self) -> None:
        """The TTL of what arrives is seen."""
        await self._check("127.0.0.1", socket.IPPROTO_IP, socket.IP_TTL)

    async def test_IPv6(self) -> None:
        """The hop limit of what arrives is seen."""
        if NO_IPV6:
            self.skipTest("no IPv6 on this machine")
        await self._check("::1", socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
