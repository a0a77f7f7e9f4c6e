"""Tests for L{twisted_rudp.kcp.legacy_ciphers}: one block, by the authors' own examples."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.kcp.legacy_ciphers import tea, twofish, xtea

LONG_KEY = bytes.fromhex("0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff")


class BlockTests(SynchronousTestCase):
    """What kcp-go makes of whole datagrams is compared in C{test_crypto}."""

    def test_twofish(self) -> None:
        """The three key sizes, from the tables of the algorithm's paper."""
        for key, block in (
            (bytes(16), "9f589f5cf6122c32b6bfec2f2ae8c35a"),
            (LONG_KEY[:24], "cfd1d2e5a9be9cdf501f13b892bd2248"),
            (LONG_KEY, "37527be0052334b89f0cfccae87cfa20"),
        ):
            self.assertEqual(twofish(key)(bytes(16)).hex(), block)

    def test_xtea(self) -> None:
        """32 cycles, an example that is often given."""
        self.assertEqual(xtea(bytes(range(16)))(b"ABCDEFGH").hex(), "497df3d072612cb5")

    def test_tea(self) -> None:
        """8 cycles are not XTEA, and depend on each word of the key."""
        blocks = {tea(bytes(at) + b"\1" + bytes(15 - at))(bytes(8)) for at in (3, 7, 11, 15)}
        self.assertEqual(len(blocks), 4)
        self.assertNotIn(xtea(bytes(16))(bytes(8)), blocks)
