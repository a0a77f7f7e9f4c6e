"""Bytes of segments (kcp.md 1.1) and counters."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.kcp.wire import ACK, HEADER_SIZE, Counters, pack_header, unpack_header


class HeaderTests(SynchronousTestCase):
    """The header."""

    FIELDS = (0x04030201, ACK, 0xE5, 0x0807, 0x0C0B0A09, 0x100F0E0D, 0x14131211, 0x18171615)

    def test_layout(self) -> None:
        """Little endian, 24 bytes, in the order of the table."""
        self.assertEqual(
            pack_header(*self.FIELDS).hex(), "0102030452e50708090a0b0c0d0e0f101112131415161718"
        )

    def test_back(self) -> None:
        """It is read back at any offset."""
        self.assertEqual(unpack_header(b"??" + pack_header(*self.FIELDS), 2), self.FIELDS)
        self.assertEqual(len(pack_header(*self.FIELDS)), HEADER_SIZE)


class CounterTests(SynchronousTestCase):
    """L{Counters}."""

    def test_sum(self) -> None:
        """RetransSegs is the sum of the three (kcp.md 6)."""
        counters = Counters(lost_segs=1, fast_retrans_segs=20, early_retrans_segs=300)
        self.assertEqual(counters.retrans_segs, 321)
