"""
Tests for L{twisted_rudp.tracing.pcapng}, with L{twisted_rudp.tracing.reading} as the
witness, and with checksums that are computed here word by word.
"""

from __future__ import annotations

import io
import os
import struct
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import Address
from twisted_rudp.tracing.pcapng import Capture, header, ip_packet, packet
from twisted_rudp.tracing.reading import CaptureReader, Datagram

V4 = ("192.0.2.1", 4000), ("198.51.100.7", 65535)
V6 = ("2001:db8::1", 4000, 0, 0), ("fe80::1%eth0", 1, 0, 3)


def read(data: bytes) -> list[Datagram]:
    """The datagrams of a capture."""
    return list(CaptureReader(io.BytesIO(data)))


def onesSum(data: bytes) -> int:
    """RFC 1071 as it is written there."""
    total = 0
    for (word,) in struct.iter_unpack(">H", data + bytes(len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def udpSum(packet: bytes) -> int:
    """The sum over an IP packet's UDP part with its pseudo header; 0xFFFF if it is right."""
    if packet[0] >> 4 == 4:
        ends, udp = packet[12:20], packet[20:]
    else:
        ends, udp = packet[8:40], packet[40:]
    return onesSum(ends + struct.pack(">II", 17, len(udp)) + udp)


class PacketTests(SynchronousTestCase):
    """One datagram."""

    @given(st.binary(max_size=200), st.sampled_from([V4, V6]), st.integers(0, 2**63))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_backAndForth(self, data: bytes, ends: tuple[Address, Address], time: int) -> None:
        """What was written is read, to the nanosecond, and all checksums are right."""
        [found] = read(header() + packet(time, *ends, data, "lost"))
        places = [(end[0].partition("%")[0], end[1]) for end in ends]
        self.assertEqual(found, Datagram(time, *places, data, len(data), "lost"))
        whole = ip_packet(*ends, data)
        self.assertEqual(udpSum(whole), 0xFFFF)
        if ends is V4:
            self.assertEqual(onesSum(whole[:20]), 0xFFFF)

    def test_zeroChecksum(self) -> None:
        """A sum that comes out as zero is written as ones: zero means that there is none."""
        for value in range(65536):
            whole = ip_packet(*V4, value.to_bytes(2, "big"))
            if whole[26:28] in (b"\x00\x00", b"\xff\xff"):
                self.assertEqual(whole[26:28], b"\xff\xff")
                self.assertEqual(udpSum(whole), 0xFFFF)
                return
        self.fail("one of all values gives it")

    def test_families(self) -> None:
        """IPv4 inside IPv6 is IPv4; a socket for all addresses takes the peer's family."""
        for source, destination, version, first in (
            (("::ffff:10.0.0.1", 1, 0, 0), ("::", 2, 0, 0), 4, "10.0.0.1"),
            (("", 1), ("10.0.0.2", 2), 4, "0.0.0.0"),
            (("0.0.0.0", 1), ("::1", 2, 0, 0), 6, "::"),
        ):
            whole = ip_packet(source, destination, b"x")
            self.assertEqual(whole[0] >> 4, version)
            start = 12 if version == 4 else 8
            own = whole[start : start + (4 if version == 4 else 16)]
            self.assertEqual(ip_address(own), ip_address(first))

    def test_longest(self) -> None:
        """The longest datagram of each family is whole."""
        for ends, longest in ((V4, 65507), (V6, 65527)):
            [found] = read(header() + packet(0, *ends, bytes(longest)))
            self.assertEqual(len(found.data), longest)


class CaptureTests(SynchronousTestCase):
    """L{Capture}."""

    def test_runs(self) -> None:
        """A run is noted as its datagrams, the last may be shorter."""
        path = self.mktemp()
        capture = Capture(path)
        capture.run(1.5, *V4, b"aaabbbc", 3)
        capture.close()
        with open(path, "rb") as file:
            found = list(CaptureReader(file))
        self.assertEqual([each.data for each in found], [b"aaa", b"bbb", b"c"])
        self.assertEqual({each.time for each in found}, {1_500_000_000})

    def test_limit(self) -> None:
        """A full capture is still one."""
        path = self.mktemp()
        capture = Capture(path, 1000)
        for _ in range(100):
            capture.datagram(0, *V4, bytes(100))
        capture.close()
        self.assertLessEqual(os.stat(path).st_size, 1000)
        with open(path, "rb") as file:
            self.assertEqual(len(list(CaptureReader(file))) + capture.file.dropped, 100)
