"""Tests for L{twisted_rudp.mux.qpp}, with what kcptun has written."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from twisted_rudp.mux.qpp import MOST_PADS, Pads


class PadsTests(SynchronousTestCase):
    """L{Pads}."""

    def test_recorded(self) -> None:
        """Every recorded stream is encoded and decoded as kcptun does."""
        for stream in vectors.load("kcp", "qpp")["streams"]:
            pads = Pads(stream["key"].encode(), stream["pads"])
            encode, decode = pads.encoder(), pads.decoder()
            for chunk in stream["stream_chunks"]:
                plain, cipher = bytes.fromhex(chunk["plain"]), bytes.fromhex(chunk["cipher"])
                self.assertEqual(encode(plain), cipher)
                self.assertEqual(decode(cipher), plain)

    def test_cut(self) -> None:
        """It does not matter how the bytes are cut."""
        pads, data, chance = Pads(b"secret", 7), random.Random(1).randbytes(1000), random.Random(2)
        whole = pads.encoder()(data)
        encode, decode, at, parts = pads.encoder(), pads.decoder(), 0, []
        while at < len(data):
            size = chance.randrange(1, 20)
            parts.append(encode(data[at : at + size]))
            at += size
        self.assertEqual(b"".join(parts), whole)
        self.assertEqual(b"".join(map(decode, parts)), data)

    def test_refused(self) -> None:
        """No password, no permutations, or too many."""
        self.assertRaises(ValueError, Pads, b"", 7)
        for count in (0, MOST_PADS + 1):
            self.assertRaises(ValueError, Pads, b"secret", count)
