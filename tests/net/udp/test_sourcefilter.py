"""The kernel's filter during a flood: its program, and a socket with it."""

from __future__ import annotations

import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.udp.sourcefilter import (
    WHOLE,
    Instruction,
    Thinning,
    attach,
    bucketOf,
    detach,
    fitted,
    kernelDrops,
    program,
)

SALT = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210
WORD = 0xFFFFFFFF
NETWORK = 0xFFF00000


def run(code: list[Instruction], header: bytes, datagram: bytes, dice: int) -> int:
    """What the kernel makes of a program."""
    a = x = at = 0
    memory = [0] * 16
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation in (0x30, 0x28, 0x20):
            size = {0x30: 1, 0x28: 2, 0x20: 4}[operation]
            if k == 0xFFFFF000 + 56:
                a = dice
            else:
                data, k = (header, k - NETWORK) if k >= NETWORK else (datagram, k)
                a = int.from_bytes(data[k : k + size], "big")
        elif operation == 0x02:
            memory[k] = a
        elif operation == 0x60:
            a = memory[k]
        elif operation == 0x61:
            x = memory[k]
        elif operation == 0x01:
            x = k
        elif operation == 0x07:
            x = a
        elif operation == 0x0C:
            a = a + x & WORD
        elif operation == 0xAC:
            a ^= x
        elif operation == 0x24:
            a = a * k & WORD
        elif operation == 0x74:
            a >>= k
        elif operation == 0x54:
            a &= k
        elif operation == 0x05:
            at += k
        elif operation == 0x15:
            at += yes if a == k else no
        elif operation == 0x35:
            at += yes if a >= k else no
        elif operation == 0x3D:
            at += yes if a >= x else no
        else:
            assert operation == 0x06
            return k


def passes(code: list[Instruction], host: str, port: int, dice: int) -> bool:
    """Whether a datagram of this sender's is let through."""
    ip = ip_address(host)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if isinstance(ip, IPv4Address):
        header = b"\x45" + bytes(11) + ip.packed + bytes(4)
    else:
        header = b"\x60" + bytes(7) + ip.packed + bytes(16)
    return bool(run(code, header, struct.pack("!HHHH", port, 9, 8, 0), dice))


HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=4).map(lambda ip: f"::ffff:{ip}"),
)
ADDRESSES = st.tuples(HOSTS, st.integers(1, 65535))


class ProgramTests(SynchronousTestCase):
    """L{program}."""

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(
        st.lists(ADDRESSES, max_size=40),
        st.lists(ADDRESSES, max_size=20),
        st.dictionaries(st.integers(0, 255), st.integers(0, WHOLE - 1)),
        st.integers(0, WORD),
        st.integers(0, (1 << 128) - 1),
    )
    def test_any(
        self,
        known: list[tuple[str, int]],
        others: list[tuple[str, int]],
        shares: dict[int, int],
        dice: int,
        salt: int,
    ) -> None:
        """Who is known passes; all others do by the share of their bucket."""
        code = program(Thinning(salt, known, shares))
        for host, port in known:
            self.assertTrue(passes(code, host, port, dice))
        for host, port in others:
            share = shares.get(bucketOf(host, salt), WHOLE)
            if (host, port) not in known and passes(code, host, port, dice) != (
                dice % WHOLE < share
            ):
                # Two addresses of four thousand million may look alike to it.
                self.assertTrue(known)

    def test_strangers(self) -> None:
        """Among a thousand known addresses strangers do not pass, by any chance."""
        known = [(f"10.0.{n // 200}.{n % 200}", 1000 + n) for n in range(1000)]
        code = program(Thinning(SALT, known, dict.fromkeys(range(256), 0)))
        self.assertFalse(any(passes(code, host, port + 1, 0) for host, port in known))
        self.assertTrue(all(passes(code, host, port, 0) for host, port in known))

    def test_network(self) -> None:
        """An IPv6 /64 is one host, as is an IPv4 address however it is written."""
        self.assertEqual(bucketOf("2001:db8:1:2::9", SALT), bucketOf("2001:db8:1:2:f::1", SALT))
        self.assertEqual(bucketOf("::ffff:192.0.2.1", SALT), bucketOf("192.0.2.1", SALT))
        self.assertEqual(bucketOf("fe80::1%lo", SALT), bucketOf("fe80::2", SALT))


class SocketTests(SynchronousTestCase):
    """Real sockets on loopback."""

    if sys.platform != "linux":
        skip = "filters of sockets are Linux's"

    def sockets(self, host: str) -> tuple[socket.socket, socket.socket]:
        """One that receives, one that sends to it."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = []
        for _ in range(2):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            self.addCleanup(sock.close)
            sock.bind((host, 0))
            sock.setblocking(False)
            made.append(sock)
        made[1].connect(made[0].getsockname())
        return made[0], made[1]

    def received(self, sock: socket.socket) -> int:
        count = 0
        while True:
            try:
                sock.recv(100)
            except BlockingIOError:
                return count
            count += 1

    def check(self, host: str) -> None:
        """An unknown peer is thinned, one that becomes known is not; then nobody is."""
        there, peer = self.sockets(host)
        none = dict.fromkeys(range(256), 0)
        steps = ((Thinning(SALT, [], none), 0), (Thinning(SALT, [peer.getsockname()], none), 5))
        for thinning, expected in steps:
            if not attach(there, thinning):
                self.skipTest("this kernel attaches no filters")
            for _ in range(5):
                peer.send(b"x")
            self.assertEqual(self.received(there), expected)
        self.assertEqual(kernelDrops(there), 5)
        attach(there, Thinning(SALT, [], none))
        detach(there)
        peer.send(b"x")
        self.assertEqual(self.received(there), 1)

    def test_four(self) -> None:
        """IPv4."""
        self.check("127.0.0.1")

    def test_six(self) -> None:
        """IPv6."""
        try:
            self.check("::1")
        except OSError as problem:
            self.skipTest(f"no IPv6 here: {problem}")

    def test_fitted(self) -> None:
        """
        Known addresses need a place only in buckets that are thinned. Where there are too many
        of them, buckets are let through rather than that one of them is thinned.
        """
        salt = 0x9E3779B97F4A7C15F39CC0605CEDC834
        known = [(f"10.{n >> 8}.{n & 255}.1", 1000 + n) for n in range(5000)]
        thinned = bucketOf("10.0.7.1", salt)
        few = fitted(Thinning(salt, known, {thinned: 9}), 1500)
        self.assertEqual(few.shares, {thinned: 9})
        self.assertEqual(
            few.known, [each for each in known if bucketOf(each[0], salt) == thinned]
        )
        all_of_them = fitted(Thinning(salt, known, dict.fromkeys(range(256), 9)), 1500)
        self.assertLessEqual(len(all_of_them.known), 1500)
        self.assertGreater(len(all_of_them.shares), 20)
        for address in set(known) - set(all_of_them.known):
            self.assertNotIn(bucketOf(address[0], salt), all_of_them.shares)

    def test_many(self) -> None:
        """The largest program fits into the kernel, which takes more known addresses than that."""
        there, peer = self.sockets("127.0.0.1")
        known = [(f"10.0.{n >> 8}.{n & 255}", n + 1) for n in range(5000)]
        shares = {bucket: bucket for bucket in range(256)}
        self.assertTrue(attach(there, Thinning(SALT, known, shares)))
        peer.send(b"x")
