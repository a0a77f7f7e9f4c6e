"""Tests for L{twisted_rudp.raknet.messages}: what the application may send."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.messages import Delivery
from twisted_rudp.raknet.messages import check_message, is_users

ORDERED = Delivery.RELIABLE_ORDERED


class OwnershipTests(SynchronousTestCase):
    """Whose a message is, by its first byte."""

    def test_users(self) -> None:
        """The application's ids are 0x80 and above, and 0x1b (raknet.md 4 and 15)."""
        found = {first for first in range(256) if is_users(first)}
        self.assertEqual(found, {0x1B, *range(0x80, 0x100)})


class CheckTests(SynchronousTestCase):
    """What no session carries."""

    def refused(self, named: str, data: bytes, *rest: object) -> None:
        """Assert that this is refused in words that begin with the argument's name."""
        problem = self.assertRaises(ValueError, check_message, data, *rest)
        self.assertTrue(str(problem).startswith(named), str(problem))

    def test_taken(self) -> None:
        """Every delivery but OUT_OF_BAND, channels 0 to 31 and priorities 0 to 3 are carried."""
        for delivery in set(Delivery) - {Delivery.OUT_OF_BAND}:
            for channel, priority in ((0, 0), (31, 3)):
                self.assertIsNone(check_message(b"\x80", delivery, channel, priority))

    def test_refused(self) -> None:
        """What is beyond them is refused, each by its name."""
        self.refused("delivery", b"\x80", Delivery.OUT_OF_BAND, 0, 0)
        self.refused("data", b"", ORDERED, 0, 0)
        self.refused("data", b"\x7f", ORDERED, 0, 0)
        for channel in (-1, 32):
            self.refused("channel", b"\x80", ORDERED, channel, 0)
        for priority in (-1, 4):
            self.refused("priority", b"\x80", ORDERED, 0, priority)
