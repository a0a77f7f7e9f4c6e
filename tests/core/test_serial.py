"""Serial numbers (RFC 1982; kcp.md)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core import serial


class SerialTests(SynchronousTestCase):
    """Differences, and unwrapping in both widths."""

    def test_across(self) -> None:
        """A number after the wrap is after one before it."""
        self.assertEqual(serial.difference32(1, 0xFFFFFFFF), 2)
        self.assertEqual(serial.difference32(0xFFFFFFFF, 1), -2)

    def test_opposite(self) -> None:
        """Half the circle away counts as before."""
        self.assertEqual(serial.difference32(serial.HALF32, 0), -serial.HALF32)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(-(1 << 40), 1 << 40), st.integers(-serial.HALF24, serial.HALF24 - 1))
    def test_unwrap(self, near: int, distance: int) -> None:
        """A number less than half the circle away is found again."""
        number = near + distance
        self.assertEqual(serial.unwrap32(number & serial.MASK32, near), number)
        self.assertEqual(serial.unwrap24(number & serial.MASK24, near), number)
