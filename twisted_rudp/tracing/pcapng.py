"""
Captures in the format pcapng (draft-ietf-opsawg-pcapng): datagrams with IP and UDP headers
made up around them, and times in nanoseconds. Wireshark, tshark and C{rudp decode} read them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from twisted_rudp import __version__
from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.tracing.files import TraceFile

SECTION: Final = 0x0A0D0D0A
INTERFACE: Final = 1
PACKET: Final = 6
BYTE_ORDER: Final = 0x1A2B3C4D

RAW_IP: Final = 101
"""Link type: packets begin with an IPv4 or IPv6 header."""

COMMENT: Final = 1
USER_APPLICATION: Final = 4
TIME_RESOLUTION: Final = 9
NANOSECONDS: Final = 9

UDP: Final = 17
HOPS: Final = 64
DONT_FRAGMENT: Final = 0x4000

LARGEST_CAPTURE: Final = 1 << 30
"""Bytes of a capture, if nobody says otherwise."""

_LONGEST: Final = 65535

_block = struct.Struct("<II")
_packet = struct.Struct("<IIIII")
_option = struct.Struct("<HH")
_ipv4 = struct.Struct(">BBHHHBBH4s4s")
_ipv6 = struct.Struct(">IHBB16s16s")
_udp = struct.Struct(">HHHH")


def block(kind: int, body: bytes) -> bytes:
    """A block with its length on both sides."""
    body += bytes(-len(body) & 3)
    length = len(body) + 12
    return _block.pack(kind, length) + body + length.to_bytes(4, "little")


def option(code: int, value: bytes) -> bytes:
    """One option; the end of options is another with nothing in it."""
    return _option.pack(code, len(value)) + value + bytes(-len(value) & 3)


def header() -> bytes:
    """The beginning of a file with one interface."""
    program = f"twisted_rudp {__version__}".encode()
    section = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1) + option(USER_APPLICATION, program)
    interface = struct.pack("<HHI", RAW_IP, 0, 0)
    interface += option(TIME_RESOLUTION, bytes((NANOSECONDS,)))
    end = option(0, b"")
    return block(SECTION, section + end) + block(INTERFACE, interface + end)


def packet(
    time: int, source: Address, destination: Address, datagram: Buffer, comment: str = ""
) -> bytes:
    """
    The block of one datagram.

    @param time: nanoseconds since 1970.
    @param comment: shown beside it.
    """
    data = ip_packet(source, destination, datagram)
    head = _packet.pack(0, time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF, len(data), len(data))
    body = head + data + bytes(-len(data) & 3)
    if comment:
        body += option(COMMENT, comment.encode()) + option(0, b"")
    return block(PACKET, body)


def ip_packet(source: Address, destination: Address, datagram: Buffer) -> bytes:
    """
    A datagram with the headers that it has on the network. Addresses of different
    families are those of a socket that is bound to all: its own is left empty.
    """
    own, peer = _ip(source[0]), _ip(destination[0])
    if own.version != peer.version:
        own = _unspecified(own, peer.version)
        peer = _unspecified(peer, own.version)
    longest = _LONGEST - (28 if own.version == 4 else 8)
    payload = bytes(datagram[:longest])
    length = len(payload) + 8
    ends = own.packed + peer.packed
    pseudo = ends + struct.pack(">II", UDP, length)
    head = _udp.pack(source[1], destination[1], length, 0)
    checksum = _checksum(pseudo + head + payload) or 0xFFFF
    head = _udp.pack(source[1], destination[1], length, checksum)
    if own.version == 6:
        front = _ipv6.pack(6 << 28, length, UDP, HOPS, own.packed, peer.packed)
        return front + head + payload
    total = 20 + length
    fields = (0x45, 0, total, 0, DONT_FRAGMENT, HOPS, UDP)
    front = _ipv4.pack(*fields, 0, own.packed, peer.packed)
    front = _ipv4.pack(*fields, _checksum(front), own.packed, peer.packed)
    return front + head + payload


def _checksum(data: bytes) -> int:
    """RFC 1071: the sum of all words in ones' complement is the whole modulo 65535."""
    return 0xFFFF - (int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF or _full(data))


def _full(data: bytes) -> int:
    """What a sum that is a multiple of 65535 stands for: zero only where all is zero."""
    return 0xFFFF if any(data) else 0


@lru_cache(1024)
def _ip(host: str) -> IPv4Address | IPv6Address:
    """An IP literal: without its zone, and IPv4 where IPv6 maps it. C{""} is every address."""
    ip = ip_address(host.partition("%")[0] or "0.0.0.0")
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _unspecified(
    ip: IPv4Address | IPv6Address, version: int
) -> IPv4Address | IPv6Address:
    """An address of this family, in the place of an unspecified one of the other."""
    if ip.version == version or not ip.is_unspecified:
        return ip
    return IPv4Address(0) if version == 4 else IPv6Address(0)


class Capture:
    """
    A capture that is being written.

    @ivar file: where to.
    """

    def __init__(
        self,
        path: str,
        limit: int = LARGEST_CAPTURE,
        failed: Callable[[OSError], object] | None = None,
    ) -> None:
        """
        @param limit: bytes of the file; what does not fit is not written and counted.
        @param failed: told once if the disk fails; the capture has ended then.
        @raise OSError: the file cannot be opened.
        """
        self.file = TraceFile(path, limit, failed)
        self.file.write(header())

    def datagram(
        self,
        seconds: float,
        source: Address,
        destination: Address,
        datagram: Buffer,
        comment: str = "",
    ) -> None:
        """
        Note a datagram.

        @param seconds: when, since 1970 or the beginning of a simulation.
        """
        time = int(seconds * 1_000_000_000)
        self.file.write(packet(time, source, destination, datagram, comment))

    def run(
        self, seconds: float, source: Address, destination: Address, run: Buffer, size: int
    ) -> None:
        """Note datagrams of C{size} bytes each, the last may be shorter."""
        view = memoryview(run)
        for start in range(0, len(view), size):
            self.datagram(seconds, source, destination, view[start : start + size])

    def flush(self) -> None:
        """Let readers of the file see what was noted."""
        self.file.flush()

    def close(self) -> None:
        """End the capture. Harmless when repeated."""
        self.file.close()
