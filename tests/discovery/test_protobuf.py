"""Tests for L{twisted_rudp.discovery.protobuf}."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.discovery import protobuf
from twisted_rudp.discovery.xdr import FormatError


class FieldTests(SynchronousTestCase):
    """Reading and writing."""

    def read(self, wire: bytes) -> list[tuple[int, int, int | bytes]]:
        return list(protobuf.fields(wire))

    def test_kinds(self) -> None:
        """All wire types of proto3 are read, also those that announcements do not use."""
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
        Cut short, field number 0, unknown wire types, groups that do not end or were not
        begun, and numbers of more than 64 bits are refused.
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
            "7b0801",
            "7b08017c7c",
            "7b080174",
            "7b837c8401",
            "7b1203617c",
            "08" + "ff" * 10 + "01",
            "08" + "ff" * 9 + "02",
            "12" + "ff" * 9 + "01",
        ):
            self.assertRaises(FormatError, self.read, bytes.fromhex(wire))

    def test_groups(self) -> None:
        """
        A group, which old messages have, is passed over with all that is in it; that it
        was there is told, for a known field must not be one.
        """
        wire = bytes.fromhex("0801" + "7b" + "0802" + "83011203616263 8401" + "7c" + "1801")
        self.assertEqual(self.read(wire), [(1, 0, 1), (15, protobuf.GROUP, b""), (3, 0, 1)])

    def test_roundabout(self) -> None:
        """Numbers in more bytes than they need are the same numbers."""
        self.assertEqual(self.read(bytes.fromhex("888000 818000")), [(1, 0, 1)])
        self.assertEqual(self.read(bytes.fromhex("92808000 8380808000 616263")), [(2, 2, b"abc")])

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=300))
    def test_roundTrip(self, number: int, text: bytes) -> None:
        """Signed numbers and bytes come back; zero is left out, as proto3 does."""
        wire = protobuf.int64_field(3, number) + protobuf.bytes_field(1, text)
        fields = self.read(wire)
        self.assertEqual(fields.pop(), (1, protobuf.BYTES, text))
        values = [protobuf.signed64(value) for _, _, value in fields]
        self.assertEqual(values, [number] if number else [])

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.binary(max_size=200))
    def test_anything(self, wire: bytes) -> None:
        """Whatever comes is read or refused."""
        with contextlib.suppress(FormatError):
            self.read(wire)
