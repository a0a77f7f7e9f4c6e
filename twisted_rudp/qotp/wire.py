"""
The wire: types, layouts and sizes of datagrams, and what their payloads say (qotp.md 2.1,
2.2, 4 and 5.1).

All integers are little-endian. Offsets into a datagram, by type::

    InitSnd        0 type   1 EI   33 SI   65 zeros up to the MTU
    InitRcv        0 type   1 id    9 ER   41 SR   73 number  79 sealed
    InitCryptoSnd  0 type   1 EI   33 SI           65 number  71 sealed, up to the MTU
    InitCryptoRcv  0 type   1 id    9 ER           41 number  47 sealed
    Data           0 type   1 id                    9 number  15 sealed
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from twisted_rudp.core.engine import Buffer

MTU: Final = 1400
"""The release's longest UDP payload. Both peers must use the same (section 9.1)."""

SHORTEST: Final = 39
"""No datagram is shorter."""

ID_OFFSET: Final = 1
ID_END: Final = 9
"""Where the connection id stands: the first bytes of EI."""

KEY_END: Final = 33
"""EI stands from C{ID_OFFSET} to here in the initiator's opening messages."""

NUMBER_SIZE: Final = 6
TAG_SIZE: Final = 16
NONCE_SIZE: Final = 24
"""Of the mask of the number: the first bytes of what is sealed."""

LEAST_PAYLOAD: Final = 8
"""So that there are always L{NONCE_SIZE} bytes with the tag."""

NUMBERS: Final = 1 << 48
LAST_EPOCH: Final = 127
"""Beyond it a nonce would repeat (section 2.3)."""


class Kind(IntEnum):
    """Message types, as the whole first byte: the version bits are 0."""

    INIT_SND = 0x00
    INIT_RCV = 0x20
    INIT_CRYPTO_SND = 0x40
    INIT_CRYPTO_RCV = 0x60
    DATA = 0x80


PREFIX: Final[dict[int, int]] = {
    Kind.INIT_SND: 65,
    Kind.INIT_RCV: 73,
    Kind.INIT_CRYPTO_SND: 65,
    Kind.INIT_CRYPTO_RCV: 41,
    Kind.DATA: 9,
}
"""Length of the cleartext in front, which is authenticated."""

OVERHEAD: Final[dict[int, int]] = {
    kind: size + NUMBER_SIZE + TAG_SIZE + (2 if kind == Kind.INIT_CRYPTO_SND else 0)
    for kind, size in PREFIX.items()
}
"""Bytes of a datagram that are not payload."""

DATA_PREFIX: Final = PREFIX[Kind.DATA]
DATA_OVERHEAD: Final = OVERHEAD[Kind.DATA]


class Opening(NamedTuple):
    """The cleartext of the initiator's first message."""

    ephemeral: bytes
    identity: bytes


def connection_id(ephemeral: bytes) -> bytes:
    """The id of a connection, the same in both directions and until its end (section 3.1)."""
    return ephemeral[:8]


def init_snd(ephemeral: bytes, identity: bytes, mtu: int) -> bytes:
    """The in-band opening message."""
    return (bytes((Kind.INIT_SND,)) + ephemeral + identity).ljust(mtu, b"\0")


def parse_opening(datagram: bytes) -> Opening:
    """The keys of an InitSnd or InitCryptoSnd, whose length was checked."""
    return Opening(datagram[1:33], datagram[33:65])


def prefix_of(kind: Kind, name: bytes, ephemeral: bytes, identity: bytes) -> bytes:
    """
    The cleartext in front of a sealed message.

    @param name: the connection id.
    @param ephemeral: the sender's.
    @param identity: the sender's.
    """
    if kind is Kind.INIT_RCV:
        return bytes((kind,)) + name + ephemeral + identity
    if kind is Kind.INIT_CRYPTO_RCV:
        return bytes((kind,)) + name + ephemeral
    if kind is Kind.INIT_CRYPTO_SND:
        return bytes((kind,)) + ephemeral + identity
    return bytes((Kind.DATA,)) + name


def with_fill(payload: bytes, mtu: int) -> bytes:
    """
    What an InitCryptoSnd seals: fill length, fill, payload; the datagram then is of
    the MTU's length.

    @raise ValueError: the payload is too long.
    """
    fill = mtu - OVERHEAD[Kind.INIT_CRYPTO_SND] - len(payload)
    if fill < 0:
        raise ValueError(f"{len(payload)} bytes do not fit into an InitCryptoSnd")
    return fill.to_bytes(2, "little") + bytes(fill) + payload


def without_fill(plain: bytes) -> bytes | None:
    """The payload of an InitCryptoSnd; None if its fill length is wrong (W3b)."""
    fill = int.from_bytes(plain[:2], "little")
    if 2 + fill + LEAST_PAYLOAD > len(plain):
        return None
    return plain[2 + fill :]


# payloads

NARROW: Final = 0xFFFFFF
"""The last offset that takes three bytes on the wire."""

LONGEST_SEGMENT: Final = 65535

WIDE: Final = 0x80
_VERSION: Final = 0x1F
_TYPE: Final = 0x60
PLAIN: Final = 0x20
_PLAIN_ACK: Final = 0x00
_CLOSE_ACK: Final = 0x40
_CLOSE: Final = 0x60

_WITH_SEGMENT: Final = 18
"""An acknowledgement with anything shorter has no stream header (section 4.3)."""

_ack_narrow: Final = Struct("<IHBHB")
_ack_wide: Final = Struct("<IIHHB")
_both_narrow: Final = Struct("<BIHBHBIHB")
_segment_narrow: Final = Struct("<IHB")
_segment_wide: Final = Struct("<IIH")
_both: Final = _both_narrow.unpack_from
head_narrow: Final = Struct("<BIHB").pack
"""Of C{PLAIN}, stream, low 16 bits and high 8 bits of an offset: as L{header}, where that fits."""

_head_wide: Final = Struct("<BIIH").pack

HEAD: Final = Struct("<BI")
"""What stands before an offset: the first byte, and a stream."""

NARROW_BYTES: Final = 3
WIDE_BYTES: Final = 6
"""Of an offset, little-endian."""


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


class ControlFrame(NamedTuple):
    """
    Something that is not a stream's: a PING, or bytes of the control stream.

    @ivar repeat: it is sent again when it is lost.
    """

    stream: int
    offset: int
    body: bytes = b""
    repeat: bool = False


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


WINDOWS: Final = tuple(map(_decode_window, range(256)))
"""What each code means, in bytes."""


def header(stream: int, offset: int, close: bool = False) -> bytes:
    """What stands in front of a segment without an acknowledgement."""
    first = _CLOSE if close else PLAIN
    if offset > NARROW:
        return _head_wide(first | WIDE, stream, offset & 0xFFFFFFFF, offset >> 32)
    return head_narrow(first, stream, offset & 0xFFFF, offset >> 16)


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
    if offset <= NARROW < offset + size:
        payloads = [header(stream, offset + at) + view[at : at + space] for at in starts]
    else:
        # All headers are of one kind, as L{header} makes them.
        first, width = (PLAIN, NARROW_BYTES) if offset <= NARROW else (PLAIN | WIDE, WIDE_BYTES)
        head = HEAD.pack(first, stream)
        payloads = [
            head + (offset + at).to_bytes(width, "little") + view[at : at + space]
            for at in starts
        ]
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
    wide = offset > NARROW or (ack_offset is not None and ack_offset > NARROW)
    space = mtu - OVERHEAD[kind] - 1 - (10 if wide else 7)
    return space if ack_offset is None else space - (13 if wide else 10)
