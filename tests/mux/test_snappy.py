"""Tests for L{twisted_rudp.mux.snappy}."""

from __future__ import annotations

import contextlib
import random
import sys
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.mux.snappy import (
    STREAM_IDENTIFIER,
    Compressor,
    Decompressor,
    SnappyError,
    load,
)


class SnappyTests(SynchronousTestCase):
    """Framing."""

    @given(
        pieces=st.lists(st.binary(min_size=1, max_size=3000), max_size=8),
        cut=st.integers(1, 500),
        repeat=st.integers(1, 50),
    )
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_roundTrip(self, pieces: list[bytes], cut: int, repeat: int) -> None:
        """What was compressed comes back, however the stream is cut."""
        compressor, decompressor = Compressor(), Decompressor()
        wire = b"".join(compressor.compress(piece * repeat) for piece in pieces)
        found = b"".join(
            decompressor.decompress(wire[at : at + cut]) for at in range(0, len(wire), cut)
        )
        self.assertEqual(found, b"".join(piece * repeat for piece in pieces))

    def test_atOnce(self) -> None:
        """Each piece can be read as soon as it is there, and the identifier comes once."""
        compressor, decompressor = Compressor(), Decompressor()
        first = compressor.compress(b"a" * 100)
        second = compressor.compress(b"b" * 100)
        self.assertTrue(first.startswith(STREAM_IDENTIFIER))
        self.assertNotIn(STREAM_IDENTIFIER, second)
        self.assertEqual(decompressor.decompress(first), b"a" * 100)
        self.assertEqual(decompressor.decompress(second), b"b" * 100)

    def test_large(self) -> None:
        """More than one chunk holds."""
        data = random.Random(1).randbytes(200_000)
        self.assertEqual(Decompressor().decompress(Compressor().compress(data)), data)

    def test_bomb(self) -> None:
        """A chunk that claims to expand to a gigabyte is refused when its size is there."""
        claim = b"\x80\x80\x80\x80\x04"
        chunk = b"\x00" + (100).to_bytes(3, "little") + bytes(4) + claim
        self.assertRaises(SnappyError, Decompressor().decompress, STREAM_IDENTIFIER + chunk)

    def test_longChunk(self) -> None:
        """A chunk longer than any that is allowed is refused before it has come."""
        for kind in (0x00, 0x01, 0xFE):
            chunk = bytes((kind,)) + (1 << 23).to_bytes(3, "little")
            self.assertRaises(SnappyError, Decompressor().decompress, STREAM_IDENTIFIER + chunk)

    def test_skipped(self) -> None:
        """Chunks that may be skipped are; an identifier may come again."""
        data = Compressor().compress(b"hello")
        padding = b"\xfe\x05\x00\x00abcde"
        wire = STREAM_IDENTIFIER + padding + data + padding
        self.assertEqual(Decompressor().decompress(wire), b"hello")

    def test_damaged(self) -> None:
        """A flipped bit is noticed by the checksum, an unknown chunk by its type."""
        wire = bytearray(Compressor().compress(bytes(range(256)) * 4))
        wire[-1] ^= 1
        self.assertRaises(SnappyError, Decompressor().decompress, bytes(wire))
        for bad in (b"\x02\x04\x00\x00abcd", b"\x00\x03\x00\x00abc"):
            self.assertRaises(SnappyError, Decompressor().decompress, STREAM_IDENTIFIER + bad)
        for bad in (b"\x01\x05\x00\x00abcde", b"\xff\x06\x00\x00sNaPpX"):
            self.assertRaises(SnappyError, Decompressor().decompress, bad)

    @given(data=st.binary(max_size=100))
    @settings(max_examples=300, deadline=None, derandomize=True)
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is bytes or a L{SnappyError}."""
        for start in (b"", STREAM_IDENTIFIER):
            with contextlib.suppress(SnappyError):
                Decompressor().decompress(start + data)

    def test_missing(self) -> None:
        """Without cramjam the error names the extra and the way without."""
        with mock.patch.dict(sys.modules, {"cramjam": None}):
            error = self.assertRaises(ValueError, load)
        self.assertIn("twisted_rudp[kcptun]", str(error))
        self.assertIn("nocomp", str(error))
