"""
Datagrams and frames (raknet.md 1, 5 and 6).

Numbers of 24 bits are little-endian, everything else that is wider than a byte
is big-endian. Parsers here take anything; what they cannot read is C{None}, an
early end, or L{Malformed} where the docstring says so.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.core.serial import MASK24

VALID = 0x80
"""Set in the first byte of what belongs to a session (raknet.md 5)."""

ACK = 0xC0
NACK = 0xA0
DATA = 0x84
CONTINUED = 0x8C
"""First bytes. C{CONTINUED} says that more was waiting already."""

ACK_BIT = 0x40
NACK_BIT = 0x20
ARRIVAL_RATE_BIT = 0x20
"""In an ACK it announces a number between first byte and records."""

HEADER_SIZE = 4
"""First byte and number of a datagram."""

IP_UDP = 28
"""What the wire's MTU counts beside the UDP payload, over IPv6 too (raknet.md 3)."""

CHANNELS = 32
SPLIT_SIZE = 10
MAX_PAYLOAD = 0xFFFF >> 3
"""Bytes of one frame, whose length is written in bits."""


class Malformed(ValueError):
    """What the peer sent cannot be read."""


class Reliability(IntEnum):
    """
    How a frame is carried (raknet.md 6). The last three ask the sender's own side
    for a receipt and are never written.
    """

    UNRELIABLE = 0
    UNRELIABLE_SEQUENCED = 1
    RELIABLE = 2
    RELIABLE_ORDERED = 3
    RELIABLE_SEQUENCED = 4
    UNRELIABLE_RECEIPT = 5
    RELIABLE_RECEIPT = 6
    RELIABLE_ORDERED_RECEIPT = 7


_R = Reliability

IS_RELIABLE = (False, False, True, True, True, False, True, True)
"""By reliability: numbered, sent again, and removed when it comes twice."""

IS_SEQUENCED = (False, True, False, False, True, False, False, False)
HAS_ORDER = (False, True, False, True, True, False, False, True)

WITHOUT_RECEIPT = (
    _R.UNRELIABLE,
    _R.UNRELIABLE_SEQUENCED,
    _R.RELIABLE,
    _R.RELIABLE_ORDERED,
    _R.RELIABLE_SEQUENCED,
    _R.UNRELIABLE,
    _R.RELIABLE,
    _R.RELIABLE_ORDERED,
)
"""By reliability: what it is once the receipt is left to the sender."""

WHEN_SPLIT = (
    _R.RELIABLE,
    _R.RELIABLE_SEQUENCED,
    _R.RELIABLE,
    _R.RELIABLE_ORDERED,
    _R.RELIABLE_SEQUENCED,
)
"""By reliability without receipt: unreliable fragments would never complete."""

HEADER_BYTES = tuple(
    3 + 3 * IS_RELIABLE[r] + 3 * IS_SEQUENCED[r] + 4 * HAS_ORDER[r] for r in range(8)
)
"""By reliability: length of the frame header without split fields."""


class Starts(NamedTuple):
    """
    Where a side's counters begin. On the wire all begin at 0 (raknet.md 7); only who
    wants to see them wrap begins elsewhere.
    """

    datagram: int = 0
    reliable: int = 0
    order: int = 0
    sequence: int = 0
    split: int = 0


ZERO = Starts()


class Split(NamedTuple):
    """Which fragment of which message a frame is."""

    total: int
    ident: int
    number: int


class Frame(NamedTuple):
    """
    A frame as it is on the wire; indices are None where it has none.

    @ivar reliability: any of the eight.
    """

    reliability: int
    payload: Buffer
    reliable: int | None = None
    sequence: int | None = None
    order: int | None = None
    channel: int = 0
    split: Split | None = None


_split = struct.Struct(">IHI")
_bits = struct.Struct(">H")


def u24(number: int) -> bytes:
    """A number as 24 bits, taken modulo 2^24."""
    return (number & MASK24).to_bytes(3, "little")


def pack_header(number: int, first: int = DATA) -> bytes:
    """The header of a datagram with frames."""
    return bytes((first,)) + u24(number)


def pack_frame_header(
    reliability: int,
    size: int,
    reliable: int = 0,
    sequence: int = 0,
    order: int = 0,
    channel: int = 0,
    split: Split | None = None,
) -> bytes:
    """
    What stands before C{size} bytes of payload. Indices that the reliability
    does not have are left out.
    """
    parts = [bytes((reliability << 5 | (split is not None) << 4,)), _bits.pack(size << 3)]
    if IS_RELIABLE[reliability]:
        parts.append(u24(reliable))
    if IS_SEQUENCED[reliability]:
        parts.append(u24(sequence))
    if HAS_ORDER[reliability]:
        parts.append(u24(order) + bytes((channel,)))
    if split is not None:
        parts.append(_split.pack(*split))
    return b"".join(parts)


def pack_frame(frame: Frame) -> bytes:
    """A whole frame."""
    header = pack_frame_header(
        frame.reliability,
        len(frame.payload),
        frame.reliable or 0,
        frame.sequence or 0,
        frame.order or 0,
        frame.channel,
        frame.split,
    )
    return header + frame.payload


def parse_frames(datagram: Buffer, start: int = HEADER_SIZE) -> tuple[list[Frame], bool]:
    """
    All frames of a datagram up to its end, to padding (a frame without payload),
    or to one that does not fit.

    @return: the frames, and whether the rest could not be read.
    """
    view = memoryview(datagram)
    frames: list[Frame] = []
    at, total = start, len(view)
    while at < total:
        if total - at < 3:
            return frames, True
        flags = view[at]
        reliability = flags >> 5
        size = ((view[at + 1] << 8 | view[at + 2]) + 7) >> 3
        if not size:
            return frames, False
        head = at + 3
        is_split = flags & 0x10
        body = at + HEADER_BYTES[reliability] + (SPLIT_SIZE if is_split else 0)
        end = body + size
        if end > total:
            return frames, True
        reliable = sequence = order = split = None
        channel = 0
        if IS_RELIABLE[reliability]:
            reliable = int.from_bytes(view[head : head + 3], "little")
            head += 3
        if IS_SEQUENCED[reliability]:
            sequence = int.from_bytes(view[head : head + 3], "little")
            head += 3
        if HAS_ORDER[reliability]:
            order = int.from_bytes(view[head : head + 3], "little")
            channel = view[head + 3]
            head += 4
        if is_split:
            split = Split(*_split.unpack_from(view, head))
        frames.append(
            Frame(reliability, view[body:end], reliable, sequence, order, channel, split)
        )
        at = end
    return frames, False


# addresses (raknet.md 1.1)

EMPTY_ADDRESS = b"\x04\xff\xff\xff\xff\x00\x00"
"""0.0.0.0:0, for slots that tell nothing."""

_V4_SIZE = 7
_V6_SIZE = 29
_INVERT = bytes(255 - byte for byte in range(256))


def pack_address(address: Address) -> bytes:
    """A raw address. IPv4 inside IPv6 is written as the IPv4 that it is; zones are left out."""
    ip = ip_address(str(address[0]).partition("%")[0])
    port = int(address[1]).to_bytes(2, "big")
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return b"\x06\x17\x00" + port + bytes(4) + ip.packed + bytes(4)
        ip = ip.ipv4_mapped
    return b"\x04" + ip.packed.translate(_INVERT) + port


def parse_address(data: Buffer, at: int) -> tuple[Address, int]:
    """
    The address at an offset, and where it ends. The family inside an IPv6 one is
    the sender's platform's and means nothing.

    @raise Malformed: there is none.
    """
    view = memoryview(data)
    version = view[at] if at < len(view) else -1
    if version in (0, 4) and at + _V4_SIZE <= len(view):
        host = IPv4Address(bytes(view[at + 1 : at + 5]).translate(_INVERT))
        port = int.from_bytes(view[at + 5 : at + 7], "big")
        return (str(host), port), at + _V4_SIZE
    if version == 6 and at + _V6_SIZE <= len(view):
        ip = IPv6Address(bytes(view[at + 9 : at + 25]))
        port = int.from_bytes(view[at + 3 : at + 5], "big")
        return (str(ip), port, 0, 0), at + _V6_SIZE
    raise Malformed(f"no address of version {version}")
