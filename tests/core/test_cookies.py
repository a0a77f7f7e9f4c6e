"""Tests for L{twisted_rudp.core.cookies}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.cookies import MOST_REVOKED, SLOT, Cookies

HERE = ("192.0.2.1", 4000)
THERE = ("2001:db8::1", 4000, 0, 0)


class CookieTests(SynchronousTestCase):
    """A cookie proves an address for a while and proves nothing else."""

    def setUp(self) -> None:
        self.cookies = Cookies(b"k" * 32)

    def test_returned(self) -> None:
        """A cookie is accepted in its slot and the next, not later."""
        made = self.cookies.make(HERE, 7, 0)
        self.assertTrue(self.cookies.check(made, HERE, 7, 0))
        self.assertTrue(self.cookies.check(made, HERE, 7, 2 * SLOT - 1))
        self.assertFalse(self.cookies.check(made, HERE, 7, 2 * SLOT))

    def test_bound(self) -> None:
        """Another address, conversation, time or secret makes another cookie."""
        made = self.cookies.make(HERE, 7, 0)
        self.assertFalse(self.cookies.check(made, ("192.0.2.1", 4001), 7, 0))
        self.assertFalse(self.cookies.check(made, THERE, 7, 0))
        self.assertFalse(self.cookies.check(made, HERE, 8, 0))
        self.assertFalse(Cookies(b"j" * 32).check(made, HERE, 7, 0))

    def test_shared(self) -> None:
        """A process that has begun later accepts the cookies of one that has the same secret."""
        earlier, later = Cookies(b"k" * 32, began=0), Cookies(b"k" * 32, began=3 * SLOT + 5)
        made = earlier.make(HERE, 7, 3 * SLOT + 10)
        self.assertTrue(later.check(made, HERE, 7, 5))
        self.assertFalse(later.check(made, HERE, 7, 2 * SLOT))

    @given(st.integers(-(2**40), 2**40))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_forged(self, guess: int) -> None:
        """Nothing outside 1 .. 2**32 - 1 is a cookie, and no check raises."""
        accepted = self.cookies.check(guess, THERE, 1, 5)
        self.assertEqual(accepted, guess == self.cookies.make(THERE, 1, 5))

    def test_revoked(self) -> None:
        """
        What was revoked is void as long as it would live, the same again and again; what is
        made later is good, and others are not touched.
        """
        other = self.cookies.make(THERE, 7, 0)
        seen = set()
        for _ in range(3):
            made = self.cookies.make(HERE, 7, SLOT)
            self.assertNotIn(made, seen)
            self.assertTrue(self.cookies.check(made, HERE, 7, SLOT))
            self.cookies.revoke(HERE, 7, SLOT)
            seen.add(made)
            for old in seen:
                for now in range(SLOT, 4 * SLOT, SLOT // 4):
                    self.assertFalse(self.cookies.check(old, HERE, 7, now))
        self.assertTrue(self.cookies.check(other, THERE, 7, SLOT))

    def test_bounded(self) -> None:
        """What was revoked is forgotten with the last cookie, and when there is too much of it."""
        for number in range(MOST_REVOKED + 10):
            self.cookies.revoke(HERE, number, 0)
        self.assertEqual(len(self.cookies), MOST_REVOKED)
        for _ in range(3):
            self.cookies.revoke(THERE, 1, 3 * SLOT)
        self.assertLess(len(self.cookies), MOST_REVOKED)

    def test_secret(self) -> None:
        """A short secret is refused with its length named, and not shown."""
        error = self.assertRaises(ValueError, Cookies, b"short")
        self.assertIn("5 bytes", str(error))
        self.assertNotIn("short", str(error))
