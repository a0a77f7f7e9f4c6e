"""
Tests for L{twisted_rudp.discovery.v1}, against what the program of December 2013 wrote
and accepted.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.discovery import v1
from twisted_rudp.discovery.xdr import FormatError


def packetOf(described: dict[str, Any]) -> v1.Announcement | v1.Query:
    """A packet as the recordings describe it."""
    node = bytes.fromhex(described["id_hex"])
    if described["kind"] == "query":
        return v1.Query(node)
    return v1.Announcement(described["port"], node, bytes.fromhex(described["ip_hex"]))


def encoded(packet: v1.Announcement | v1.Query) -> bytes:
    """Either kind as bytes."""
    if isinstance(packet, v1.Query):
        return v1.encode_query(packet)
    return v1.encode_announcement(packet)


class VectorTests(SynchronousTestCase):
    """The recordings."""

    def test_encode(self) -> None:
        """
        Every packet is written byte for byte as by the original, and refused where
        that refused it (discovery.md 1.3).
        """
        recorded = load("discovery", "v1_codec")["cases"]
        cases = [c for c in recorded if c["op"] == "encode" and c["packet"]["kind"] != "other"]
        self.assertTrue(cases)
        for case in cases:
            packet = packetOf(case["packet"])
            if case["ok"]:
                self.assertEqual(encoded(packet).hex(), case["wire_hex"], case["name"])
            else:
                self.assertRaises(ValueError, encoded, packet)

    def test_decode(self) -> None:
        """
        Every datagram is read as by the original or refused with the same kind of
        error (discovery.md 1.3).
        """
        cases = [c for c in load("discovery", "v1_codec")["cases"] if c["op"] == "decode"]
        self.assertTrue(cases)
        for case in cases:
            wire = bytes.fromhex(case["wire_hex"])
            if case["ok"]:
                self.assertEqual(v1.decode(wire), packetOf(case["packet"]), case["name"])
                continue
            error = self.assertRaises(FormatError, v1.decode, wire)
            unknown = isinstance(error, v1.UnknownMagic)
            self.assertEqual(unknown, case["error"] == "magic", case["name"])

    def test_client(self) -> None:
        """What the original client sent can be read, and is written the same (1.4)."""
        for case in load("discovery", "v1_client")["cases"]:
            wire = bytes.fromhex(case["wire_hex"])
            self.assertEqual(encoded(v1.decode(wire)), wire)


class CodecTests(SynchronousTestCase):
    """Beyond the recordings."""

    def test_lenient(self) -> None:
        """
        On request the reserved half-word and trailing bytes do not matter, as to the
        servers of 2014 (1.5).
        """
        wire = bytearray(v1.encode_announcement(v1.Announcement(7, b"node")))
        wire[7] = 1
        wire += b"more"
        self.assertRaises(FormatError, v1.decode, bytes(wire))
        self.assertEqual(v1.decode(bytes(wire), lenient=True), v1.Announcement(7, b"node"))

    def test_port(self) -> None:
        """A port that does not fit is an error that names it."""
        for port in (-1, 65536):
            error = self.assertRaises(
                ValueError, v1.encode_announcement, v1.Announcement(port, b"node")
            )
            self.assertIn(str(port), str(error))

    def test_longest(self) -> None:
        """More than the 1024 bytes that the original reads is refused (1.3)."""
        fits = v1.encode_query(v1.Query(bytes(1016)))
        self.assertEqual(v1.decode(fits), v1.Query(bytes(1016)))
        self.assertRaises(FormatError, v1.decode, v1.encode_query(v1.Query(bytes(1017))))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.binary(max_size=1100))
    def test_anything(self, wire: bytes) -> None:
        """
        Whatever comes is read or refused, and what was read is written the same but
        for the padding (1.3).
        """
        for magic in (b"", bytes.fromhex("20121025"), bytes.fromhex("19760309")):
            datagram = magic + wire
            try:
                packet = v1.decode(datagram)
            except FormatError:
                continue
            self.assertEqual(len(encoded(packet)), len(datagram))
            self.assertEqual(v1.decode(encoded(packet)), packet)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        st.integers(0, 65535),
        st.binary(max_size=64),
        st.sampled_from([0, 4, 16]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    )
    def test_roundTrip(self, port: int, node: bytes, ip: bytes) -> None:
        """What is written is read the same."""
        packet = v1.Announcement(port, node, ip)
        self.assertEqual(v1.decode(encoded(packet)), packet)
        self.assertEqual(v1.decode(encoded(v1.Query(node))), v1.Query(node))
