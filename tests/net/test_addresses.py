"""Tests for L{twisted_rudp.net.addresses}."""

from __future__ import annotations

import socket

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.addresses import (
    familyOf,
    fromTwisted,
    isLiteral,
    isOfThisMachine,
    isOwn,
    parseLiteral,
    reachable,
    toTwisted,
)


class LiteralTests(SynchronousTestCase):
    """What people type."""

    def test_isLiteral(self) -> None:
        """Literals do not go to the resolver (NAME-2); everything else does."""
        for host in ("127.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "fe80::1%2"):
            self.assertTrue(isLiteral(host), host)
        for host in ("", "localhost", "127.1", "1.2.3.4.5", "10.0.0.256", "::1::", "[::1]", "é"):
            self.assertFalse(isLiteral(host), host)

    def test_family(self) -> None:
        """The family of a literal; a name has none."""
        self.assertEqual(familyOf("10.0.0.1"), socket.AF_INET)
        self.assertEqual(familyOf("::1"), socket.AF_INET6)
        self.assertRaises(ValueError, familyOf, "example.org")

    def test_canonical(self) -> None:
        """However it is written, an address is the tuple that the socket gives (ADDR-4)."""
        self.assertEqual(parseLiteral("10.0.0.1", 7), ("10.0.0.1", 7))
        for host in ("2001:db8::1", "2001:DB8:0:0:0:0:0:1", "2001:0db8::0:1"):
            self.assertEqual(parseLiteral(host, 7), ("2001:db8::1", 7, 0, 0))
        self.assertEqual(parseLiteral("::ffff:a00:1", 7), ("::ffff:10.0.0.1", 7, 0, 0))

    def test_zones(self) -> None:
        """A zone is a number or an interface's name, and only link-local needs one."""
        index, name = socket.if_nameindex()[0]
        self.assertEqual(parseLiteral(f"fe80::1%{name}", 7), ("fe80::1", 7, 0, index))
        self.assertEqual(parseLiteral("fe80::1%12", 7), ("fe80::1", 7, 0, 12))
        self.assertEqual(parseLiteral("ff02::1%12", 7), ("ff02::1", 7, 0, 12))
        self.assertEqual(parseLiteral(f"2001:db8::1%{name}", 7), ("2001:db8::1", 7, 0, 0))
        self.assertEqual(parseLiteral("ff0e::1%12", 7), ("ff0e::1", 7, 0, 0))
        problem = self.assertRaises(ValueError, parseLiteral, "fe80::1%no-such", 7)
        self.assertIn("no-such", str(problem))

    def test_own(self) -> None:
        """What a socket receives that this machine sends, by the address it is bound to."""
        self.assertTrue(isOwn("192.0.2.7", "192.0.2.7"))
        self.assertTrue(isOwn("127.0.0.9", "0.0.0.0"))
        self.assertTrue(isOwn("::", "::"))
        self.assertFalse(isOwn("127.0.0.9", "127.0.0.1"))
        self.assertFalse(isOwn("192.0.2.7", "0.0.0.0"))
        self.assertFalse(isOwn("2001:db8::7", "::"))

    def test_thisMachine(self) -> None:
        """An address that a socket can be bound to, with or without a zone."""
        self.assertTrue(isOfThisMachine("127.0.0.1"))
        for host in ("198.51.100.9", "2001:db8::9", "fe80::1%no-such"):
            self.assertFalse(isOfThisMachine(host))

    def test_reachable(self) -> None:
        """The unspecified address is this machine, as with TCP (F3)."""
        self.assertEqual(reachable(("0.0.0.0", 7)), ("127.0.0.1", 7))
        self.assertEqual(reachable(("::", 7, 0, 0)), ("::1", 7, 0, 0))
        self.assertEqual(reachable(("192.0.2.7", 7)), ("192.0.2.7", 7))

    def test_badPort(self) -> None:
        """A port outside 0 to 65535 is an error with its number in it."""
        for port in (-1, 65536):
            problem = self.assertRaises(ValueError, parseLiteral, "10.0.0.1", port)
            self.assertIn(str(port), str(problem))

    @given(st.one_of(st.text(), st.text("0123456789abcdef:.%", max_size=20)))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_anyText(self, host: str) -> None:
        """Any text is a literal or a C{ValueError}, nothing else."""
        try:
            raw = parseLiteral(host, 1)
        except ValueError:
            return
        self.assertTrue(isLiteral(host))
        self.assertEqual(len(raw), 2 if ":" not in host else 4)


class ConversionTests(SynchronousTestCase):
    """Raw tuples and Twisted's addresses."""

    def test_shown(self) -> None:
        """Type UDP (ADDR-1), mapped as IPv4 (ADDR-2), flow and scope kept (ADDR-3)."""
        for raw, shown in (
            (("10.0.0.1", 7), IPv4Address("UDP", "10.0.0.1", 7)),
            (("::ffff:10.0.0.1", 7, 0, 0), IPv4Address("UDP", "10.0.0.1", 7)),
            (("2001:db8::1", 7, 0, 0), IPv6Address("UDP", "2001:db8::1", 7)),
            (("fe80::1", 7, 5, 2), IPv6Address("UDP", "fe80::1", 7, 5, 2)),
            (("2001:db8::1", 7), IPv6Address("UDP", "2001:db8::1", 7)),
            (("::ffff:0:1", 7, 0, 0), IPv6Address("UDP", "::ffff:0:1", 7)),
        ):
            self.assertEqual(toTwisted(raw), shown)

    def test_forSocket(self) -> None:
        """The raw form fits the socket that will send, whatever the type said (NAME-3)."""
        v4 = IPv4Address("TCP", "10.0.0.1", 7)
        v6 = IPv6Address("TCP", "fe80::1", 7, 5, 2)
        self.assertEqual(fromTwisted(v4), ("10.0.0.1", 7))
        self.assertEqual(fromTwisted(v4, socket.AF_INET), ("10.0.0.1", 7))
        self.assertEqual(fromTwisted(v4, socket.AF_INET6), ("::ffff:10.0.0.1", 7, 0, 0))
        self.assertEqual(fromTwisted(v6), ("fe80::1", 7, 5, 2))
        self.assertEqual(fromTwisted(v6, socket.AF_INET6), ("fe80::1", 7, 5, 2))
        self.assertRaises(ValueError, fromTwisted, v6, socket.AF_INET)

    def test_scopeByName(self) -> None:
        """A resolver may give the scope as a name."""
        index, name = socket.if_nameindex()[0]
        self.assertEqual(
            fromTwisted(IPv6Address("UDP", "fe80::1", 7, 0, name)), ("fe80::1", 7, 0, index)
        )

    @given(st.binary(min_size=16, max_size=16), st.integers(0, 65535), st.integers(0, 9))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_roundTrip(self, packed: bytes, port: int, scope: int) -> None:
        """What is shown leads back to the raw address on a socket of that family."""
        host = socket.inet_ntop(socket.AF_INET6, packed)
        raw = parseLiteral(f"{host}%{scope}", port)
        self.assertEqual(fromTwisted(toTwisted(raw), socket.AF_INET6), raw)
