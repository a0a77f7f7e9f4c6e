"""
Tests for L{twisted_rudp.discovery.v4}, against what Syncthing 1.19.2 sent and made of
what it was sent.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.discovery import v4
from twisted_rudp.discovery.ids import to_device_id
from twisted_rudp.discovery.v4 import bytes_field, int64_field
from twisted_rudp.discovery.xdr import FormatError, u32

KEY = bytes(range(1, 33))


def is_own(case: dict[str, Any]) -> bool:
    """Whether a datagram is refused for being the receiver's own: nothing is wrong with it."""
    key = (case["decoded"] or {}).get("id_hex", "")
    return not case["recommended"]["accept"] and len(key) == 64 and any(bytes.fromhex(key))


MAGIC = u32(v4.MAGIC)


class VectorTests(SynchronousTestCase):
    """The recordings."""

    def test_captured(self) -> None:
        """What Syncthing sends is read, and written again byte for byte (discovery.md 3.1)."""
        cases = load("discovery", "v4_captured")["cases"]
        self.assertTrue(cases)
        for case in cases:
            wire, decoded = bytes.fromhex(case["wire_hex"]), case["decoded"]
            message = v4.decode(wire)
            self.assertEqual(message.key.hex(), decoded["id_hex"])
            self.assertEqual(list(message.addresses), decoded["addresses"])
            self.assertEqual(message.instance, decoded["instance_id"])
            self.assertEqual(to_device_id(message.key), case["device_id"])
            self.assertEqual(v4.encode(*message), wire)

    def test_received(self) -> None:
        """
        Of the datagrams sent to Syncthing those are read that should be
        (discovery.md 3.1); whose own id it is, the codec does not know.
        """
        for case in load("discovery", "v4_receive")["cases"]:
            wire = bytes.fromhex(case["wire_hex"])
            if case["recommended"]["accept"] or is_own(case):
                message = v4.decode(wire)
                self.assertEqual(message.instance, case["decoded"].get("instance_id", 0))
            else:
                self.assertRaises(FormatError, v4.decode, wire)


class DecodeTests(SynchronousTestCase):
    """Beyond the recordings."""

    def test_order(self) -> None:
        """
        Fields come in any order, the last of a repeated one counts, unknown ones are
        passed over (3.1).
        """
        wire = b"".join(
            (
                MAGIC,
                int64_field(3, 5),
                bytes_field(2, b"one"),
                bytes_field(1, bytes(32)),
                bytes_field(9, b"unknown"),
                bytes.fromhex("7b 0a 01 78 7c"),
                bytes_field(2, b"two"),
                bytes_field(1, KEY),
                int64_field(3, -6),
            )
        )
        self.assertEqual(v4.decode(wire), v4.Announcement(KEY, ("one", "two"), -6))

    def test_wireType(self) -> None:
        """A known field of another kind is refused (3.1)."""
        group = bytes.fromhex("13 14")
        for field in (int64_field(1, 5), int64_field(2, 5), bytes_field(3, b"x"), group):
            wire = MAGIC + bytes_field(1, KEY) + field
            self.assertRaises(FormatError, v4.decode, wire)

    def test_id(self) -> None:
        """Exactly 32 bytes, not all of them zero (3.1)."""
        for key in (b"", bytes(32), KEY[:31], KEY + b"!"):
            self.assertRaises(FormatError, v4.decode, MAGIC + bytes_field(1, key))

    def test_name(self) -> None:
        """The name is a field that others do not know; without one nothing is added."""
        wire = v4.encode(KEY, ("one",), 5, b"alice")
        self.assertEqual(v4.decode(wire), v4.Announcement(KEY, ("one",), 5, b"alice"))
        self.assertEqual(wire, v4.encode(KEY, ("one",), 5) + bytes_field(1000, b"alice"))

    def test_bounds(self) -> None:
        """
        Sixty-four addresses of 2083 bytes are looked at and no more; those that are not
        UTF-8 count and are passed over (3.4).
        """
        addresses = [b"\xff", b"x" * 2083, b"y" * 2084, *(b"%d" % n for n in range(100))]
        fields = b"".join(bytes_field(2, address) for address in addresses)
        message = v4.decode(MAGIC + bytes_field(1, KEY) + fields)
        self.assertEqual(message.addresses, ("x" * 2083, *(str(n) for n in range(61))))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.binary(max_size=300))
    def test_anything(self, wire: bytes) -> None:
        """Whatever comes is read or refused."""
        for datagram in (wire, MAGIC + wire, MAGIC + bytes_field(1, KEY) + wire):
            with contextlib.suppress(FormatError):
                self.assertTrue(any(v4.decode(datagram).key))

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        st.binary(min_size=32, max_size=32).filter(any),
        st.lists(st.text(max_size=80), max_size=8),
        st.integers(-(1 << 63), (1 << 63) - 1),
    )
    def test_roundTrip(self, key: bytes, addresses: list[str], instance: int) -> None:
        """What is written is read the same."""
        wire = v4.encode(key, addresses, instance)
        self.assertEqual(v4.decode(wire), v4.Announcement(key, tuple(addresses), instance))


class FieldTests(SynchronousTestCase):
    """Reading and writing."""

    def read(self, wire: bytes) -> list[tuple[int, int, int | bytes]]:
        return list(v4.fields(wire))

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
                (1, v4.VARINT, 150),
                (2, v4.BYTES, b"abc"),
                (3, v4.FIXED32, bytes([1, 2, 3, 4])),
                (4, v4.FIXED64, bytes(range(1, 9))),
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
        self.assertEqual(self.read(wire), [(1, 0, 1), (15, v4.GROUP, b""), (3, 0, 1)])

    def test_roundabout(self) -> None:
        """Numbers in more bytes than they need are the same numbers."""
        self.assertEqual(self.read(bytes.fromhex("888000 818000")), [(1, 0, 1)])
        self.assertEqual(self.read(bytes.fromhex("92808000 8380808000 616263")), [(2, 2, b"abc")])

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=300))
    def test_roundTrip(self, number: int, text: bytes) -> None:
        """Signed numbers and bytes come back; zero is left out, as proto3 does."""
        wire = v4.int64_field(3, number) + v4.bytes_field(1, text)
        fields = self.read(wire)
        self.assertEqual(fields.pop(), (1, v4.BYTES, text))
        values = [v4.signed64(value) for _, _, value in fields]
        self.assertEqual(values, [number] if number else [])

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.binary(max_size=200))
    def test_anything(self, wire: bytes) -> None:
        """Whatever comes is read or refused."""
        with contextlib.suppress(FormatError):
            self.read(wire)
