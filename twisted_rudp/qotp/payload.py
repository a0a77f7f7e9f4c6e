"""
The payload of a datagram: one header byte, an acknowledgement, a segment of a stream
(C{qotp.md} section 4).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from twisted_rudp.core.engine import Buffer
from twisted_rudp.qotp.wire import LEAST_PAYLOAD, OVERHEAD, Kind

NARROW = 0xFFFFFF
"""The last offset that takes three bytes on the wire."""

LONGEST_SEGMENT = 65535

WIDE = 0x80
_VERSION = 0x1F
_TYPE = 0x60
PLAIN = 0x20
_PLAIN_ACK, _CLOSE_ACK, _CLOSE = 0x00, 0x40, 0x60

_WITH_SEGMENT = 18
"""An acknowledgement with anything shorter has no stream header (section 4.3)."""

_ack_narrow = Struct("<IHBHB")
_ack_wide = Struct("<IIHHB")
_both_narrow = Struct("<BIHBHBIHB")
_segment_narrow = Struct("<IHB")
_segment_wide = Struct("<IIH")
_both = _both_narrow.unpack_from
_head_narrow = Struct("<BIHB").pack
_head_wide = Struct("<BIIH").pack


class Ack(NamedTuple):
    """
    Says that a segment was received.

    @ivar window: bytes that the sender of this can take.
    """

    stream: int
    offset: int
    length: int
    window: int


class Segment(NamedTuple):
    """
    Bytes of a stream. Empty and without C{close}: a PING.

    @ivar close: the stream ends with them.
    """

    stream: int
    offset: int
    data: Buffer
    close: bool = False


class Payload(NamedTuple):
    """What a datagram says."""

    ack: Ack | None
    segment: Segment | None


def encode_window(free: int) -> int:
    """The code of a receive window, rounded down (section 4.5)."""
    if free <= 0:
        return 0
    if free < 256:
        return 1
    power = free.bit_length() - 1
    return min(255, 8 * (power - 8) + (free >> (power - 3) & 7) + 2)


def _decode_window(code: int) -> int:
    if code < 2:
        return 128 * code
    power, step = 8 + (code - 2) // 8, (code - 2) % 8
    return (1 << power) + (step << (power - 3))


WINDOWS = tuple(map(_decode_window, range(256)))
"""What each code means, in bytes."""


def header(stream: int, offset: int, close: bool = False) -> bytes:
    """What stands in front of a segment without an acknowledgement."""
    first = _CLOSE if close else PLAIN
    if offset > NARROW:
        return _head_wide(first | WIDE, stream, offset & 0xFFFFFFFF, offset >> 32)
    return _head_narrow(first, stream, offset & 0xFFFF, offset >> 16)


def cut(
    stream: int, offset: int, data: Buffer, space: int, close: bool
) -> list[bytes]:
    """
    The payloads of segments of C{space} bytes without acknowledgements; the last may be
    shorter.
    """
    size = len(data)
    if size <= space:
        return [header(stream, offset, close) + data]
    view = memoryview(data)
    starts = range(0, size, space)
    payloads = [header(stream, offset + at) + view[at : at + space] for at in starts]
    if close:
        at = starts[-1]
        payloads[-1] = header(stream, offset + at, close) + view[at:]
    return payloads


def encode(ack: Ack | None, segment: Segment | None) -> bytes:
    """
    A payload.

    @raise ValueError: there is nothing to say.
    """
    if ack is None:
        if segment is None:
            raise ValueError("a payload has an acknowledgement or a segment")
        return header(segment.stream, segment.offset, segment.close) + segment.data
    if segment is None:
        wide = ack.offset > NARROW
        return bytes((_PLAIN_ACK | (WIDE if wide else 0),)) + _ack_block(ack, wide)
    first = _CLOSE_ACK if segment.close else _PLAIN_ACK
    if segment.offset > NARROW or ack.offset > NARROW:
        head = bytes((first | WIDE,)) + _ack_block(ack, True) + _place_wide(segment)
    else:
        stream, offset, length, window = ack
        own = segment.offset
        head = _both_narrow.pack(
            first, stream, offset & 0xFFFF, offset >> 16, length, encode_window(window),
            segment.stream, own & 0xFFFF, own >> 16,
        )  # fmt: skip
    return b"".join((head, segment.data))


def _ack_block(ack: Ack, wide: bool) -> bytes:
    code = encode_window(ack.window)
    offset = ack.offset
    if wide:
        return _ack_wide.pack(
            ack.stream, offset & 0xFFFFFFFF, offset >> 32, ack.length, code
        )
    return _ack_narrow.pack(ack.stream, offset & 0xFFFF, offset >> 16, ack.length, code)


def _place_wide(segment: Segment) -> bytes:
    return _segment_wide.pack(segment.stream, segment.offset & 0xFFFFFFFF, segment.offset >> 32)


def decode(payload: bytes) -> Payload | None:
    """
    Read a payload; None if it is malformed. Type 2 without a stream header, which no
    encoder makes, counts as malformed (section 4.3).
    """
    length = len(payload)
    if length < LEAST_PAYLOAD or payload[0] & _VERSION:
        return None
    first = payload[0]
    if first == _PLAIN_ACK and length >= _WITH_SEGMENT:
        _, of, low, high, size, code, stream, from_low, from_high = _both(payload)
        found = Ack(of, low | high << 16, size, WINDOWS[code])
        data = payload[_WITH_SEGMENT:]
        return Payload(found, Segment(stream, from_low | from_high << 16, data))
    wide, kind = first & WIDE, first & _TYPE
    at = 1
    ack = None
    if kind in (_PLAIN_ACK, _CLOSE_ACK):
        block = _ack_wide if wide else _ack_narrow
        at += block.size
        if length < at:
            return None
        stream, low, high, size, code = block.unpack_from(payload, 1)
        ack = Ack(stream, low | high << (32 if wide else 16), size, WINDOWS[code])
        if length < _WITH_SEGMENT:
            return Payload(ack, None) if kind == _PLAIN_ACK else None
    place = _segment_wide if wide else _segment_narrow
    if length < at + place.size:
        return None
    stream, low, high = place.unpack_from(payload, at)
    data = payload[at + place.size :]
    close = kind in (_CLOSE_ACK, _CLOSE)
    return Payload(ack, Segment(stream, low | high << (32 if wide else 16), data, close))


def max_data(kind: Kind, mtu: int, offset: int, ack_offset: int | None = None) -> int:
    """
    Bytes of a stream that fit into a datagram (section 5.1).

    @param ack_offset: of an acknowledgement in the same datagram, if there is one.
    """
    wide = max(offset, ack_offset or 0) > NARROW
    space = mtu - OVERHEAD[kind] - 1 - (10 if wide else 7)
    return space if ack_offset is None else space - (13 if wide else 10)
