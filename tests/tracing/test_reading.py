"""Tests for L{twisted_rudp.tracing.reading}."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.tracing.pcapng import header, ip_packet, packet
from twisted_rudp.tracing.reading import LONGEST_BLOCK, CaptureError, CaptureReader

ENDS = ("192.0.2.1", 4000), ("192.0.2.2", 5000)
PACKET = ip_packet(*ENDS, b"hello")
PACKET6 = ip_packet(("::1", 4000), ("::2", 5000), b"hello")


def classic(*packets: bytes, link: int = 101, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    """A pcap file whose packets come each second, 500 units of its fraction later."""
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)]
    for number, each in enumerate(packets):
        parts.append(struct.pack(f"{order}IIII", number, 500, len(each), len(each)) + each)
    return b"".join(parts)


def block(order: str, kind: int, body: bytes) -> bytes:
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str, link: int = 101, options: bytes = b"") -> bytes:
    """A section with one interface."""
    start = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    interface = struct.pack(f"{order}HHI", link, 0, 0) + options
    return block(order, 0x0A0D0D0A, start) + block(order, 1, interface)


def enhanced(order: str, units: int, data: bytes, interface: int = 0) -> bytes:
    size = len(data)
    head = struct.pack(f"{order}IIIII", interface, units >> 32, units & 0xFFFFFFFF, size, size)
    return block(order, 6, head + data + bytes(-size % 4))


def mutations(data: bytes) -> Iterator[bytes]:
    for end in range(0, len(data), 7):
        yield data[:end]


class FormatTests(SynchronousTestCase):
    """Forms of files."""

    def one(self, data: bytes) -> tuple[int, bytes]:
        [found] = CaptureReader(io.BytesIO(data))
        self.assertEqual((found.source, found.destination), ENDS)
        return found.time, found.data

    def test_classic(self) -> None:
        """Both byte orders, micro- and nanoseconds."""
        for order in "<>":
            self.assertEqual(self.one(classic(PACKET, order=order)), (500_000, b"hello"))
            nano = classic(PACKET, order=order, magic=0xA1B23C4D)
            self.assertEqual(self.one(nano), (500, b"hello"))

    def test_pcapng(self) -> None:
        """Both byte orders; times in any unit, with an offset."""
        for order in "<>":
            plain = section(order) + enhanced(order, 7_000_001, PACKET)
            self.assertEqual(self.one(plain), (7_000_001_000, b"hello"))
            halves = struct.pack(f"{order}HHB3x", 9, 1, 0x81)
            offset = struct.pack(f"{order}HHq", 14, 8, 10)
            data = section(order, options=halves + offset) + enhanced(order, 3, PACKET)
            self.assertEqual(self.one(data), (11_500_000_000, b"hello"))

    def test_sections(self) -> None:
        """A file may have several sections, each of its own order; unknown blocks are skipped."""
        data = b"".join(
            section(order) + block(order, 0x0BAD, bytes(8)) + enhanced(order, 0, PACKET)
            for order in "<><"
        )
        self.assertEqual(len(list(CaptureReader(io.BytesIO(data)))), 3)

    def test_simple(self) -> None:
        """A simple packet has no time."""
        data = section("<") + block("<", 3, struct.pack("<I", len(PACKET)) + PACKET + bytes(3))
        self.assertEqual(self.one(data), (0, b"hello"))

    def test_links(self) -> None:
        """Ethernet with and without tags, Linux's cooked forms, loopback of BSD, raw IP."""
        for link, front in (
            (1, bytes(12) + b"\x08\x00"),
            (1, bytes(12) + b"\x81\x00\x00\x05\x08\x00"),
            (113, bytes(14) + b"\x08\x00"),
            (276, b"\x08\x00" + bytes(18)),
            (0, bytes(4)),
            (108, bytes(4)),
            (228, b""),
        ):
            self.assertEqual(self.one(classic(front + PACKET, link=link))[1], b"hello")

    def test_extensions(self) -> None:
        """Headers of IPv6 before UDP are passed over."""
        extended = PACKET6[:6] + b"\x3c" + PACKET6[7:40] + b"\x11\x00" + bytes(6) + PACKET6[40:]
        [found] = CaptureReader(io.BytesIO(classic(extended)))
        self.assertEqual(found.data, b"hello")

    def test_skipped(self) -> None:
        """What is no whole UDP datagram is counted under its reason."""
        fragment = PACKET[:6] + b"\x20\x00" + PACKET[8:]
        tcp = PACKET[:9] + b"\x06" + PACKET[10:]
        reader = CaptureReader(io.BytesIO(classic(fragment, tcp, b"", PACKET[:24], b"\xff")))
        self.assertEqual(list(reader), [])
        self.assertEqual(
            reader.skipped, {"fragments": 1, "not UDP": 1, "cut short": 2, "not IP": 1}
        )
        other = CaptureReader(io.BytesIO(classic(PACKET, link=147)))
        self.assertEqual((list(other), other.skipped), ([], {"link type 147": 1}))

    def test_snapped(self) -> None:
        """A datagram that the capture cut short says how long it was."""
        [found] = CaptureReader(io.BytesIO(classic(PACKET[:-2])))
        self.assertEqual((found.data, found.length), (b"hel", 5))


class BrokenTests(SynchronousTestCase):
    """Files that are none, or broken."""

    def fails(self, data: bytes) -> str:
        return str(self.assertRaises(CaptureError, list, CaptureReader(io.BytesIO(data))))

    def test_others(self) -> None:
        """Other files, and empty ones, are told apart."""
        self.assertIn("not a pcap", self.fails(b"GIF89a......"))
        self.assertIn("beginning", self.fails(b""))

    def test_cut(self) -> None:
        """A file that ends in the middle gives what was before, then an error."""
        data = header() + packet(0, *ENDS, b"one") + packet(0, *ENDS, b"two")
        reader = iter(CaptureReader(io.BytesIO(data[:-5])))
        self.assertEqual(next(reader).data, b"one")
        self.assertIn("the file ends", str(self.assertRaises(CaptureError, next, reader)))

    def test_lengths(self) -> None:
        """Lengths that are too large, or contradict each other, are refused unread."""
        start = section("<")
        for length in (0, 8, 13, LONGEST_BLOCK + 4, 0xFFFFFFFC):
            self.fails(start + struct.pack("<II", 6, length) + bytes(100))
        self.fails(start + struct.pack("<II", 0xBAD, 16) + bytes(4) + struct.pack("<I", 20))
        self.fails(start + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 100, 100)))
        self.fails(start + enhanced("<", 0, PACKET, interface=1))
        self.fails(classic() + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0))

    @given(st.binary(max_size=100), st.sampled_from(list(mutations(
        section("<") + enhanced("<", 0, PACKET) + section(">") + enhanced(">", 1, PACKET6)
    ))))  # fmt: skip
    @example(b"\xff" * 100, header())
    @settings(max_examples=300, deadline=None, derandomize=True)
    def test_anything(self, junk: bytes, start: bytes) -> None:
        """Whatever a file has, it is read or refused."""
        for data in (start + junk, junk, classic(junk), classic(PACKET[:30] + junk, link=1)):
            with contextlib.suppress(CaptureError):
                list(CaptureReader(io.BytesIO(data)))
