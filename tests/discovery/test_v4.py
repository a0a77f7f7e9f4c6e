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
from twisted_rudp.discovery import deviceid, v4
from twisted_rudp.discovery.protobuf import bytes_field, int64_field
from twisted_rudp.discovery.xdr import FormatError, u32

RECEIVED = load("discovery", "v4_receive")["cases"]
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
            self.assertEqual(deviceid.to_text(message.key), case["device_id"])
            self.assertEqual(v4.encode(*message), wire)

    def test_received(self) -> None:
        """
        Of the datagrams sent to Syncthing those are read that should be
        (discovery.md 3.1); whose own id it is, the codec does not know.
        """
        for case in RECEIVED:
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
