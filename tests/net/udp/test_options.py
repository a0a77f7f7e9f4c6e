"""Tests for L{twisted_rudp.net.udp.options}."""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.internet.error import CannotListenError
from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import FakeSocket, refusal
from twisted_rudp.net.udp import options as sockets
from twisted_rudp.net.udp.port import PortKind, SocketOptions

SMALL = SocketOptions(receiveBuffer=10_000, sendBuffer=10_000)


class UnprivilegedSocket(FakeSocket):
    """A socket whose owner may not exceed limits, on a system without some options."""

    def __init__(self, *missing: tuple[int, int]) -> None:
        super().__init__()
        self.missing = missing

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if level == socket.SOL_SOCKET and option in (32, 33):
            raise refusal(errno.EPERM)
        if (level, option) in self.missing:
            raise refusal(errno.ENOPROTOOPT)
        super().setsockopt(level, option, value)


class SocketsTests(SynchronousTestCase):
    """Making and configuring."""

    def make(self, host: str, options: SocketOptions) -> socket.socket:
        try:
            made = sockets.createSocket(sockets.bindAddress(host, 0), options)
        except OSError as problem:
            self.skipTest(f"no such socket here: {problem}")
        self.addCleanup(made.close)
        return made

    def test_plain(self) -> None:
        """The socket does not block, is not inherited, and has its buffers (UDP-15)."""
        made = self.make("", SMALL)
        self.assertFalse(made.getblocking())
        self.assertFalse(made.get_inheritable())
        self.assertEqual(made.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST), 0)

    def test_granted(self) -> None:
        """What the system grants is told beside what was asked (UDP-15)."""
        sock = UnprivilegedSocket()
        options = SocketOptions(receiveBuffer=5000, sendBuffer=6000)
        sockets.configure(sock, options)  # type: ignore[arg-type]
        factor = 2 if platform.isLinux() else 1
        for option, granted in ((socket.SO_RCVBUF, 1000), (socket.SO_SNDBUF, 2000)):
            self.assertIn((socket.SOL_SOCKET, option), sock.options)
            sock.options[socket.SOL_SOCKET, option] = factor * granted
        facts = sockets.readFacts(sock, options, PortKind.PLAIN, False, False)  # type: ignore[arg-type]
        self.assertEqual((facts.receiveBufferAsked, facts.receiveBuffer), (5000, 1000))
        self.assertEqual((facts.sendBufferAsked, facts.sendBuffer), (6000, 2000))

    def test_flags(self) -> None:
        """Broadcast and reuse, only if asked for."""
        made = self.make("", SocketOptions(broadcast=True, reuseAddress=True, reusePort=True))
        for option in (socket.SO_BROADCAST, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            self.assertTrue(made.getsockopt(socket.SOL_SOCKET, option))

    def test_bothFamilies(self) -> None:
        """A dual-stack socket marks and limits what it sends over IPv4, too."""
        made = self.make("::", SocketOptions(dscp=46, hopLimit=9))
        self.assertEqual(made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 0)
        self.assertEqual(made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS), 46 << 2)
        self.assertEqual(made.getsockopt(socket.IPPROTO_IP, socket.IP_TOS), 46 << 2)
        self.assertEqual(made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS), 9)
        self.assertEqual(made.getsockopt(socket.IPPROTO_IP, socket.IP_TTL), 9)

    def test_unprivileged(self) -> None:
        """Without the privilege to force a buffer size the ordinary way is taken."""
        fake = UnprivilegedSocket()
        sockets.configure(cast(socket.socket, fake), SMALL)
        self.assertEqual(fake.options[socket.SOL_SOCKET, socket.SO_RCVBUF], 10_000)
        self.assertEqual(fake.options[socket.SOL_SOCKET, socket.SO_SNDBUF], 10_000)

    def test_missingOption(self) -> None:
        """A system that refuses an option still gives a working socket."""
        fake = UnprivilegedSocket((socket.IPPROTO_IP, socket.IP_TOS))
        sockets.configure(cast(socket.socket, fake), SocketOptions(dscp=46, hopLimit=9))
        self.assertEqual(fake.options[socket.IPPROTO_IP, socket.IP_TTL], 9)

    def test_noOffload(self) -> None:
        """A kernel without GSO and GRO is recognised."""
        fake: Any = UnprivilegedSocket((17, 103), (17, 104))
        self.assertFalse(sockets.supportsGSO(fake))
        self.assertFalse(sockets.enableGRO(fake))

    def test_bindClosesOnFailure(self) -> None:
        """A socket that cannot be bound is not left open."""
        taken = self.make("127.0.0.1", SMALL)
        taken.bind(("127.0.0.1", 0))
        other = self.make("127.0.0.1", SMALL)
        self.assertRaises(CannotListenError, sockets.bind, other, taken.getsockname())
        self.assertEqual(other.fileno(), -1)

    def test_adopted(self) -> None:
        """An inherited descriptor is used if it is a bound UDP socket; the original stays open."""
        bound = self.make("127.0.0.1", SMALL)
        bound.bind(("127.0.0.1", 0))
        copy = sockets.adopted(bound.fileno(), SocketOptions(arrivalHops=255))
        self.addCleanup(copy.close)
        self.assertEqual(copy.getsockname(), bound.getsockname())
        self.assertNotEqual(copy.fileno(), bound.fileno())
        self.assertFalse(copy.getblocking())
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(stream.close)
        unbound = self.make("127.0.0.1", SMALL)
        for other, words in ((stream, "is not a UDP socket"), (unbound, "is not bound")):
            problem = self.assertRaises(OSError, sockets.adopted, other.fileno(), SMALL)
            self.assertIn(words, str(problem))
