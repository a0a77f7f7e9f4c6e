"""Tests for L{twisted_rudp.core.limits}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.limits import TokenBuckets, is_loopback, network_of


class TokenBucketsTests(SynchronousTestCase):
    """L{TokenBuckets}."""

    def test_rate(self) -> None:
        """A burst at once, then the rate, never more than a burst after a rest."""
        buckets = TokenBuckets(2, 5)
        self.assertEqual([buckets.take("a", 0) for _ in range(6)], [True] * 5 + [False])
        self.assertEqual([buckets.take("a", SECOND) for _ in range(3)], [True, True, False])
        late = [buckets.take("a", 100 * SECOND) for _ in range(6)]
        self.assertEqual(late, [True] * 5 + [False])

    def test_names(self) -> None:
        """Names do not share, and no more are remembered than the capacity says."""
        buckets = TokenBuckets(1, 1, capacity=3)
        for name in range(10):
            self.assertTrue(buckets.take(name, 0))
        self.assertEqual(len(buckets), 3)
        self.assertFalse(buckets.take(9, 0))
        self.assertTrue(buckets.take(0, 0))

    def test_several(self) -> None:
        """Several tokens are taken all or none."""
        buckets = TokenBuckets(1, 5)
        taken = [buckets.take("a", 0, count) for count in (6, 3, 3, 2)]
        self.assertEqual(taken, [False, True, False, True])

    def test_welcome(self) -> None:
        """The first tokens of a new name may be free (discovery.md 1.5)."""
        buckets = TokenBuckets(0.1, 1, welcome=1)
        self.assertEqual([buckets.take("a", 0) for _ in range(3)], [True, True, False])
        self.assertEqual([buckets.take("a", 100 * SECOND) for _ in range(2)], [True, False])

    def test_backwards(self) -> None:
        """A clock that goes back neither gives nor takes tokens."""
        buckets = TokenBuckets(1, 2)
        buckets.take("a", 100 * SECOND)
        self.assertTrue(buckets.take("a", 50 * SECOND))
        self.assertFalse(buckets.take("a", 50 * SECOND))
        self.assertTrue(buckets.take("a", 51 * SECOND))

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5 * SECOND)), max_size=200))
    def test_bounds(self, events: list[tuple[int, int]]) -> None:
        """Never more names than there may be, and a name that stays gets no more than its due."""
        buckets = TokenBuckets(1, 4, capacity=5)
        now = allowed = 0
        for name, pause in events:
            now += pause
            buckets.take(name, now)
            allowed += buckets.take("always", now)
            self.assertLessEqual(len(buckets), 5)
        self.assertLessEqual(allowed, 4 + now / SECOND)


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
