"""
Tests for L{twisted_rudp.discovery.protobuf}.
"""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.discovery import protobuf
from twisted_rudp.discovery.xdr import FormatError


class FieldTests(SynchronousTestCase):
    """
    Reading and writing.
    """

    def read(self, wire: bytes) -> list[tuple[int, int, int | bytes]]:
        return list(protobuf.fields(wire))

    def test_kinds(self) -> None:
        """
        All wire types of proto3 are read, also those that announcements do not use.
        """
        wire = (
            bytes.fromhex("089601")
            + bytes.fromhex("1203616263")
            + bytes.fromhex("1d01020304")
            + bytes.fromhex("210102030405060708")
        )
        self.assertEqual(
            self.read(wire),
            [
                (1, protobuf.VARINT, 150),
                (2, protobuf.BYTES, b"abc"),
                (3, protobuf.FIXED32, bytes([1, 2, 3, 4])),
                (4, protobuf.FIXED64, bytes(range(1, 9))),
            ],
        )

    def test_refused(self) -> None:
        """
        Cut short, field number 0, groups, and numbers of more than 64 bits are refused.
        """
        for wire in (
            "08",
            "0880",
            "12",
            "120361",
            "1d0102",
            "0001",
            "0b",
            "0c",
            "0f00",
            "08" + "ff" * 10 + "01",
            "08" + "ff" * 9 + "02",
            "12" + "ff" * 9 + "01",
        ):
            self.assertRaises(FormatError, self.read, bytes.fromhex(wire))

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=300))
    def test_roundTrip(self, number: int, text: bytes) -> None:
        """
        Signed numbers and bytes come back; zero is left out, as proto3 does.
        """
        wire = protobuf.int64_field(3, number) + protobuf.bytes_field(1, text)
        fields = self.read(wire)
        self.assertEqual(fields.pop(), (1, protobuf.BYTES, text))
        values = [protobuf.signed64(value) for _, _, value in fields]
        self.assertEqual(values, [number] if number else [])

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.binary(max_size=200))
    def test_anything(self, wire: bytes) -> None:
        """
        Whatever comes is read or refused.
        """
        with contextlib.suppress(FormatError):
            self.read(wire)
