"""
Reads captures: pcap and pcapng, of either byte order, packet by packet. Whatever is in a
file, it is read within bounds, and what is wrong ends in L{CaptureError}.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import BinaryIO, Final, NamedTuple

from twisted_rudp.core.engine import Address

LONGEST_BLOCK: Final = 1 << 20
"""Bytes of a block or packet. The longest IP packet has 64 KiB."""

MOST_INTERFACES: Final = 4096

_CLASSIC: Final = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""Magic of a pcap file: nanoseconds of one unit of its fractions."""

_SECTION: Final = 0x0A0D0D0A
_BYTE_ORDER: Final = 0x1A2B3C4D
_INTERFACE: Final = 1
_OLD_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_PACKET: Final = 6
_COMMENT: Final = 1
_RESOLUTION: Final = 9
_OFFSET: Final = 14

_SECOND: Final = 1_000_000_000
_UDP: Final = 17
_VLANS: Final = (0x8100, 0x88A8, 0x9100)
_MOST_TAGS: Final = 4

_EXTENSIONS: Final = (0, 43, 60)
"""IPv6 headers of one form that may stand before UDP: hop by hop, routing, destination."""

_FRAGMENT: Final = 44
_MOST_EXTENSIONS: Final = 16


class CaptureError(ValueError):
    """A file is not a capture, or is broken from some place on."""


class Datagram(NamedTuple):
    """
    A UDP datagram of a capture.

    @ivar time: nanoseconds since 1970.
    @ivar length: bytes that it had; C{data} may be cut short.
    @ivar comment: of who wrote the capture.
    """

    time: int
    source: Address
    destination: Address
    data: bytes
    length: int
    comment: str = ""


class _Frame(NamedTuple):
    """A packet with what its file says of it."""

    time: int
    link: int
    data: bytes
    comment: str = ""


class _Interface(NamedTuple):
    """
    @ivar units: units of time in a second.
    @ivar offset: seconds to be added to each time.
    """

    link: int
    snaplen: int
    units: int = 1_000_000
    offset: int = 0


class CaptureReader:
    """
    The UDP datagrams of one capture.

    @ivar skipped: packets that have none, by reason.
    """

    def __init__(self, file: BinaryIO) -> None:
        """
        @param file: at its beginning.
        """
        self._file = file
        self._at = 0
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Datagram]:
        """
        @raise CaptureError: the file is no capture, or broken from here on.
        """
        for frame in self._frames():
            found = self._datagram(frame)
            if found is not None:
                yield found

    # files

    def _frames(self) -> Iterator[_Frame]:
        first = self._read(4, "the beginning")
        for order in "<>":
            (magic,) = struct.unpack(f"{order}I", first)
            if magic in _CLASSIC:
                return self._classic(order, _CLASSIC[magic])
        if magic == _SECTION:
            return self._sections()
        raise CaptureError("not a pcap or pcapng file")

    def _classic(self, order: str, unit: int) -> Iterator[_Frame]:
        """The packets of a pcap file."""
        *_, link = struct.unpack(f"{order}HHiIII", self._read(20, "the header"))
        # The upper bits say whether packets end with a checksum of their link.
        link &= 0x0FFFFFFF
        head = struct.Struct(f"{order}IIII")
        while start := self._next(head.size):
            seconds, fraction, length, _ = head.unpack(start)
            data = self._read(self._bounded(length), "a packet")
            yield _Frame(seconds * _SECOND + fraction * unit, link, data)

    def _sections(self) -> Iterator[_Frame]:
        """The packets of a pcapng file, of whose first block the type was read."""
        start: bytes = _SECTION.to_bytes(4, "big")
        order = "<"
        interfaces: list[_Interface] = []
        while start:
            length_bytes = self._read(4, "a block")
            body = b""
            (kind,) = struct.unpack(f"{order}I", start)
            if kind == _SECTION:
                # Its type reads the same in both orders; what follows says which it is.
                body = self._read(4, "a section")
                order = "<" if body == _BYTE_ORDER.to_bytes(4, "little") else ">"
                if struct.unpack(f"{order}I", body) != (_BYTE_ORDER,):
                    raise CaptureError(f"at byte {self._at}: a section without byte order")
                interfaces = []
            (length,) = struct.unpack(f"{order}I", length_bytes)
            if length < 12 + len(body) or length % 4:
                raise CaptureError(f"at byte {self._at}: a block of {length} bytes")
            body += self._read(self._bounded(length) - 12 - len(body), "a block")
            if self._read(4, "a block") != length_bytes:
                raise CaptureError(f"at byte {self._at}: a block has two lengths")
            if kind == _INTERFACE:
                interfaces.append(self._interface(order, body))
                if len(interfaces) > MOST_INTERFACES:
                    raise CaptureError(f"more than {MOST_INTERFACES} interfaces")
            elif kind in _PARSERS:
                yield _PARSERS[kind](order, body, interfaces)
            start = self._next(4)

    def _interface(self, order: str, body: bytes) -> _Interface:
        if len(body) < 8:
            raise CaptureError(f"at byte {self._at}: an interface is cut short")
        link, _, snaplen = struct.unpack_from(f"{order}HHI", body)
        units, offset = 1_000_000, 0
        for code, value in _options(order, body[8:]):
            if code == _RESOLUTION and value:
                power = value[0] & 0x7F
                units = 1 << min(power, 63) if value[0] & 0x80 else 10 ** min(power, 18)
            elif code == _OFFSET and len(value) == 8:
                (offset,) = struct.unpack(f"{order}q", value)
        return _Interface(link, snaplen, units, offset)

    def _bounded(self, length: int) -> int:
        if length > LONGEST_BLOCK:
            raise CaptureError(
                f"at byte {self._at}: a block of {length} bytes, where {LONGEST_BLOCK} are allowed"
            )
        return length

    def _next(self, size: int) -> bytes:
        """The beginning of the next packet or block; nothing at the end of the file."""
        data = self._file.read(size)
        self._at += len(data)
        if data and len(data) < size:
            data += self._read(size - len(data), "a block")
        return data

    def _read(self, size: int, part: str) -> bytes:
        data = self._file.read(size)
        self._at += len(data)
        if len(data) < size:
            raise CaptureError(f"at byte {self._at}: the file ends within {part}")
        return data

    # packets

    def _datagram(self, frame: _Frame) -> Datagram | None:
        try:
            packet = _packet_of(frame.link, frame.data)
            source, destination, udp = _udp_of(packet)
            if len(udp) < 8:
                raise _NoDatagramError("cut short")
            source_port, destination_port, length, _ = struct.unpack_from(">HHHH", udp)
            # 0 stands for the length of a jumbogram, which nobody sends.
            if length < 8:
                raise _NoDatagramError("malformed")
        except _NoDatagramError as problem:
            self.skipped[str(problem)] += 1
            return None
        return Datagram(
            frame.time,
            (source, source_port),
            (destination, destination_port),
            udp[8:length],
            length - 8,
            frame.comment,
        )


class _NoDatagramError(ValueError):
    """A packet has no UDP datagram; the text says why, in words of ours."""


def _options(order: str, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The options of a block; one that does not fit ends them."""
    at = 0
    while at + 4 <= len(data):
        code, length = struct.unpack_from(f"{order}HH", data, at)
        at += 4
        if not code or at + length > len(data):
            return
        yield code, data[at : at + length]
        at += length + (-length & 3)


def _at(interfaces: list[_Interface], number: int) -> _Interface:
    if number >= len(interfaces):
        raise CaptureError(f"a packet of interface {number}, which the file does not describe")
    return interfaces[number]


def _enhanced(order: str, body: bytes, interfaces: list[_Interface]) -> _Frame:
    """A packet with a time and comments."""
    if len(body) < 20:
        raise CaptureError("a packet is cut short")
    number, high, low, length, _ = struct.unpack_from(f"{order}IIIII", body)
    return _timed(order, body, _at(interfaces, number), high << 32 | low, length)


def _old(order: str, body: bytes, interfaces: list[_Interface]) -> _Frame:
    """The form of a packet in old files."""
    if len(body) < 20:
        raise CaptureError("a packet is cut short")
    number, _, high, low, length, _ = struct.unpack_from(f"{order}HHIIII", body)
    return _timed(order, body, _at(interfaces, number), high << 32 | low, length)


def _timed(order: str, body: bytes, interface: _Interface, time: int, length: int) -> _Frame:
    end = 20 + length
    if end > len(body):
        raise CaptureError(f"a packet of {length} bytes in a block of {len(body)}")
    comments = [
        value.decode("utf-8", "replace")
        for code, value in _options(order, body[end + (-length & 3) :])
        if code == _COMMENT
    ]
    when = time * _SECOND // interface.units + interface.offset * _SECOND
    return _Frame(when, interface.link, body[20:end], "; ".join(comments))


def _simple(order: str, body: bytes, interfaces: list[_Interface]) -> _Frame:
    """A packet without a time, of the first interface."""
    if len(body) < 4:
        raise CaptureError("a packet is cut short")
    interface = _at(interfaces, 0)
    (length,) = struct.unpack_from(f"{order}I", body)
    return _Frame(0, interface.link, body[4 : 4 + min(length, interface.snaplen or length)])


_PARSERS: Final[dict[int, Callable[[str, bytes, list[_Interface]], _Frame]]] = {
    _PACKET: _enhanced,
    _OLD_PACKET: _old,
    _SIMPLE_PACKET: _simple,
}


def _packet_of(link: int, data: bytes) -> bytes:
    """
    The IP packet of a frame.

    @raise _NoDatagramError: there is none.
    """
    if link in (12, 14, 101, 228, 229):
        return data
    if link in (0, 108):
        return data[4:]
    if link == 1:
        return _of_ethernet(data, 12)
    if link == 113:
        return _of_ethernet(data, 14)
    if link == 276:
        return data[20:]
    raise _NoDatagramError(f"link type {link}")


def _of_ethernet(data: bytes, at: int) -> bytes:
    """What is behind an Ethernet type and the tags of virtual networks."""
    for _ in range(_MOST_TAGS):
        kind = int.from_bytes(data[at : at + 2], "big")
        if kind not in _VLANS:
            return data[at + 2 :]
        at += 4
    raise _NoDatagramError("malformed")


def _udp_of(packet: bytes) -> tuple[str, str, bytes]:
    """
    Source, destination and UDP header with payload of an IP packet.

    @raise _NoDatagramError: there is none.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        size = (packet[0] & 15) * 4
        if size < 20:
            raise _NoDatagramError("malformed")
        if int.from_bytes(packet[6:8], "big") & 0x3FFF:
            raise _NoDatagramError("fragments")
        if packet[9] != _UDP:
            raise _NoDatagramError("not UDP")
        return str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20])), packet[size:]
    if version == 6 and len(packet) >= 40:
        source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        following, at = packet[6], 40
        for _ in range(_MOST_EXTENSIONS):
            if following == _UDP:
                return str(source), str(destination), packet[at:]
            if following == _FRAGMENT:
                raise _NoDatagramError("fragments")
            if following not in _EXTENSIONS or at + 2 > len(packet):
                break
            following, at = packet[at], at + 8 * (packet[at + 1] + 1)
        raise _NoDatagramError("not UDP")
    raise _NoDatagramError("not IP" if packet else "cut short")
