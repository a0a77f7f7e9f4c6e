"""
Tests for L{twisted_rudp.net.udp.steering}: the kernel's choice among sockets on loopback, and
that its twin in Python makes the same.
"""

from __future__ import annotations

import random
import socket
import sys
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.udp.steering import (
    Share,
    Steering,
    choose,
    indexOfId,
    openGroup,
    program,
)

COUNT = 5
KEY = 0x12345678

IDS = st.binary(min_size=8, max_size=8)


def indexOfAddress(address: tuple[Any, ...], steering: Steering = Steering.ADDRESS) -> int:
    """The process of a peer's address, among L{COUNT}."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    packed = socket.inet_pton(family, address[0])
    words = [int.from_bytes(packed[at : at + 4], "big") for at in range(0, len(packed), 4)]
    return choose([0 if steering is Steering.HOST else address[1], *words], COUNT, KEY)


class IndexTests(SynchronousTestCase):
    """The choice in Python."""

    @given(IDS, st.integers(1, 256), st.integers(0, 0xFFFFFFFF))
    @settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=HealthCheck)
    def test_inRange(self, id: bytes, count: int, key: int) -> None:
        """There is such a process, and a share knows its own."""
        index = indexOfId(id, count, key)
        self.assertIn(index, range(count))
        self.assertTrue(Share(index, count, key, bytes(32), 3).ownsId(id))

    def test_even(self) -> None:
        """Neighbouring ports and consecutive ids spread over all processes."""
        for found in (
            [choose([port, 0xC0000201], 4, KEY) for port in range(40000, 41000)],
            [indexOfId(number.to_bytes(8, "big"), 4, KEY) for number in range(1000)],
        ):
            for index in range(4):
                self.assertTrue(150 < found.count(index) < 350, found.count(index))

    def test_derive(self) -> None:
        """All processes derive the same bytes, of each label others; the secret is not shown."""
        one, two = Share(0, 2, KEY, b"s" * 32, 3), Share(1, 2, KEY, b"s" * 32, 4)
        self.assertEqual(one.derive(b"a", 32), two.derive(b"a", 32))
        self.assertNotEqual(one.derive(b"a", 32), one.derive(b"b", 32))
        self.assertNotIn("ss", repr(one))


class KernelTests(SynchronousTestCase):
    """The choice that the kernel makes."""

    if sys.platform != "linux":
        skip: ClassVar[str] = "only Linux has SO_ATTACH_REUSEPORT_CBPF"

    def group(self, steering: Steering, interface: str) -> list[socket.socket]:
        found = openGroup(steering, interface, 0, COUNT, KEY)
        for sock in found:
            self.addCleanup(sock.close)
        return found

    def sender(self, family: int, host: str) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind((host, 0))
        return sock

    def arrived(self, group: list[socket.socket]) -> list[int]:
        """Which sockets have got something."""
        found = []
        for index, sock in enumerate(group):
            while True:
                try:
                    sock.recv(100)
                except BlockingIOError:
                    break
                found.append(index)
        return found

    def byAddress(self, interface: str, family: int, host: str, to: str) -> None:
        group = self.group(Steering.ADDRESS, interface)
        port = group[0].getsockname()[1]
        chosen: set[int] = set()
        # The kernel picks the ports, so how many it takes until each socket had one is not fixed.
        for tried in range(500):
            if tried >= 24 and len(chosen) == COUNT:
                break
            sender = self.sender(family, host)
            expected = indexOfAddress(sender.getsockname())
            for payload in (b"", b"one", bytes(50)):
                sender.sendto(payload, (to, port))
            self.assertEqual(self.arrived(group), [expected] * 3)
            chosen.add(expected)
        self.assertEqual(chosen, set(range(COUNT)))

    def test_IPv4(self) -> None:
        """By address and port over IPv4."""
        self.byAddress("127.0.0.1", socket.AF_INET, "127.0.0.1", "127.0.0.1")

    def test_IPv6(self) -> None:
        """By address and port over IPv6."""
        self.byAddress("::1", socket.AF_INET6, "::1", "::1")

    def test_both(self) -> None:
        """By address and port over IPv4 to a socket of both families, from several hosts."""
        self.byAddress("::", socket.AF_INET, "127.0.0.2", "127.0.0.1")

    def test_host(self) -> None:
        """By address alone: another port changes nothing, another host does."""
        for interface, family, hosts in (
            ("127.0.0.1", socket.AF_INET, [f"127.0.0.{number}" for number in range(2, 26)]),
            ("::", socket.AF_INET, [f"127.0.0.{number}" for number in range(2, 6)]),
            ("::1", socket.AF_INET6, ["::1"]),
        ):
            group = self.group(Steering.HOST, interface)
            to = ("::1" if family == socket.AF_INET6 else "127.0.0.1", group[0].getsockname()[1])
            chosen = set()
            for host in hosts:
                senders = [self.sender(family, host) for _ in range(3)]
                expected = indexOfAddress(senders[0].getsockname(), Steering.HOST)
                for sender in senders:
                    sender.sendto(b"x", to)
                self.assertEqual(self.arrived(group), [expected] * 3)
                chosen.add(expected)
            if len(hosts) > 20:
                self.assertEqual(chosen, set(range(COUNT)))

    def test_options(self) -> None:
        """Options in the IP header change nothing."""
        group = self.group(Steering.ADDRESS, "127.0.0.1")
        for _ in range(8):
            sender = self.sender(socket.AF_INET, "127.0.0.1")
            # Three times C{no operation} and the end of the list.
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x00")
            sender.sendto(b"x", group[0].getsockname())
            expected = indexOfAddress(sender.getsockname())
            self.assertEqual(self.arrived(group), [expected])

    def test_connectionId(self) -> None:
        """By connection id, from whatever address it comes."""
        group = self.group(Steering.CONNECTION_ID, "127.0.0.1")
        randomness = random.Random(1)
        senders = [self.sender(socket.AF_INET, "127.0.0.1") for _ in range(2)]
        for _ in range(32):
            id = randomness.randbytes(8)
            for sender in senders:
                sender.sendto(b"\x80" + id + b"rest", group[0].getsockname())
            self.assertEqual(self.arrived(group), [indexOfId(id, COUNT, KEY)] * 2)

    def test_short(self) -> None:
        """What has no connection id goes to the first process, which drops it."""
        group = self.group(Steering.CONNECTION_ID, "127.0.0.1")
        self.sender(socket.AF_INET, "127.0.0.1").sendto(b"\x80id", group[0].getsockname())
        self.assertEqual(self.arrived(group), [0])

    def test_taken(self) -> None:
        """Another group of the same user is not joined."""
        group = self.group(Steering.ADDRESS, "127.0.0.1")
        port = group[0].getsockname()[1]
        self.assertRaises(
            CannotListenError, openGroup, Steering.ADDRESS, "127.0.0.1", port, 2, KEY
        )

    def test_copies(self) -> None:
        """A process that is replaced changes nothing: the copy of its socket is not the socket."""
        group = self.group(Steering.ADDRESS, "127.0.0.1")
        sender = self.sender(socket.AF_INET, "127.0.0.1")
        expected = indexOfAddress(sender.getsockname())
        group[expected].dup().close()
        sender.sendto(b"x", group[0].getsockname())
        self.assertEqual(self.arrived(group), [expected])


class ProgramTests(SynchronousTestCase):
    """The instructions."""

    def test_length(self) -> None:
        """A program is far shorter than the kernel's limit of 4096 instructions."""
        for steering in Steering:
            self.assertLess(len(program(steering, 256, KEY)), 64)
