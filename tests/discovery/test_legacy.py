"""
Tests for L{twisted_rudp.discovery.legacy}, against what the releases of 2014 to 2016
wrote and accepted.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load, remembered
from twisted_rudp.discovery import legacy
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.legacy import OLD, Format, describe, format_of
from twisted_rudp.discovery.xdr import FormatError, opaque


def nodeOf(described: dict[str, Any]) -> legacy.Node:
    """A node as the recordings describe it."""
    addresses = described["addresses"]
    return legacy.Node(
        bytes.fromhex(described["id_hex"]),
        tuple(
            legacy.Endpoint(bytes.fromhex(a["ip_hex"]), a["port"])
            for a in addresses
            if "ip_hex" in a
        ),
        tuple(a["url"] for a in addresses if "url" in a),
        tuple(legacy.Relay(r["url"], r["latency"]) for r in described.get("relays", ())),
    )


def packetOf(described: dict[str, Any]) -> legacy.Announcement | legacy.Query:
    """A packet as the recordings describe it, whatever its version."""
    magic = described["magic"]
    if "this" in described:
        extra = tuple(nodeOf(node) for node in described["extra"])
        return legacy.Announcement(magic, nodeOf(described["this"]), extra)
    if "addresses" in described:
        return legacy.Announcement(magic, nodeOf(described))
    return legacy.Query(magic, bytes.fromhex(described["id_hex"]))


class VectorTests(SynchronousTestCase):
    """The recordings."""

    def test_decode(self) -> None:
        """
        What must be accepted is read as it was meant, what must be refused is refused,
        and the rest is one of both (discovery.md 2).
        """
        verdicts = {"accept": 0, "reject": 0, "either": 0}
        for case in load("discovery", "xdr_codec")["cases"]:
            verdicts[case["must"]] += 1
            wire = bytes.fromhex(case["wire_hex"])
            try:
                packet = legacy.decode(wire)
            except FormatError:
                self.assertNotEqual(case["must"], "accept", case["name"])
            else:
                self.assertNotEqual(case["must"], "reject", case["name"])
                self.assertEqual(packet, packetOf(case["packet"]), case["name"])
        self.assertTrue(verdicts["accept"] and verdicts["reject"])

    def test_formats(self) -> None:
        """Every version is known by its magic (discovery.md 0)."""
        names = {"v2-flat": "v2", "v2-node": "v2"}
        cases = load("discovery", "xdr_codec")["cases"]
        accepted = [c for c in cases if c["must"] == "accept"]
        for case in accepted:
            found = format_of(bytes.fromhex(case["wire_hex"]))
            self.assertIn(found, OLD)
            version = names.get(case["format"], case["format"])
            self.assertEqual(found.value.removesuffix(" query"), version, case["name"])


class DecodeTests(SynchronousTestCase):
    """Beyond the recordings."""

    def test_strange(self) -> None:
        """Too short for a magic, and of another magic, is refused and of no known format."""
        for wire in (b"", b"\x02\x9e", b"\xff" * 40):
            self.assertRaises(FormatError, legacy.decode, wire)
            self.assertIs(format_of(wire), Format.UNKNOWN)

    def test_addressLength(self) -> None:
        """An address of five bytes, which old programs stored, is refused (discovery.md 2)."""
        wire = "029e4c77 00000000 00000001 00000005 0102030405000000 00160000"
        self.assertRaises(FormatError, legacy.decode, bytes.fromhex(wire))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A damaged datagram is read or refused."""
        case = data.draw(st.sampled_from(remembered("discovery", "xdr_codec")["cases"]))
        wire = bytearray.fromhex(case["wire_hex"])
        for _ in range(data.draw(st.integers(1, 4))):
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(FormatError):
            legacy.decode(bytes(wire))


class DescribeTests(SynchronousTestCase):
    """What the log says of an old format."""

    def test_node(self) -> None:
        """Well-formed announcements are described by version and node id."""
        raw = bytes(range(32))
        wire = legacy.V0_13_ANNOUNCE.to_bytes(4, "big") + opaque(raw) + bytes(8)
        self.assertEqual(describe(wire), f"v0.13 of node {NodeId(raw).text}")
        wire = legacy.V2_QUERY.to_bytes(4, "big") + opaque(b"alice")
        self.assertEqual(describe(wire), "v2 query of node alice")

    def test_malformed(self) -> None:
        """Of the others only the version is known, whatever follows the magic."""
        for end in (b"", opaque(b"short") + bytes(8)):
            self.assertIn("v3 (malformed: ", describe(b"\x9d\x79\xbc\x39" + end))
