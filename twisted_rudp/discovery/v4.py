"""
Today's local announcements (discovery.md 3.1): a magic and a protobuf message. This
package adds a field with the name from which an id was derived; other programs skip it.

Only two kinds of protobuf fields occur, so they are encoded here instead of by a
library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from twisted_rudp.discovery.xdr import FormatError, u32

VARINT = 0
FIXED64 = 1
BYTES = 2
GROUP = 3
FIXED32 = 5

_GROUP_END = 4

_LONGEST_VARINT = 10
_FIXED = {FIXED64: 8, FIXED32: 4}
_HIGHEST_FIELD = (1 << 29) - 1


def fields(message: bytes, offset: int = 0) -> Iterator[tuple[int, int, int | bytes]]:
    """
    The fields of a message in the order they come: number, wire type, value.

    Groups are a thing of old messages. What is in one is passed over, and of itself only
    number and wire type are given.

    @param offset: where the message begins.
    @raise FormatError: not well formed; fields before that have been given already.
    """
    groups: list[int] = []
    while offset < len(message):
        tag, offset = _varint(message, offset)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= _HIGHEST_FIELD:
            raise FormatError(f"field number {number}")
        if wire_type == _GROUP_END:
            if not groups or groups.pop() != number:
                raise FormatError(f"the end of a group {number} that was not begun")
            continue
        value, offset = _value(message, offset, wire_type)
        if not groups:
            yield number, wire_type, value
        if wire_type == GROUP:
            groups.append(number)
    if groups:
        raise FormatError("cut short")


def _value(message: bytes, offset: int, wire_type: int) -> tuple[int | bytes, int]:
    """
    @return: the value, and where it ends.
    """
    if wire_type == VARINT:
        return _varint(message, offset)
    if wire_type == GROUP:
        return b"", offset
    if wire_type == BYTES:
        length, offset = _varint(message, offset)
    elif wire_type in _FIXED:
        length = _FIXED[wire_type]
    else:
        raise FormatError(f"wire type {wire_type}")
    if length > len(message) - offset:
        raise FormatError("cut short")
    return bytes(message[offset : offset + length]), offset + length


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    """
    @return: the number, and where it ends. It may have more bytes than it needs.
    """
    value = 0
    for index in range(_LONGEST_VARINT):
        if offset + index >= len(message):
            raise FormatError("cut short")
        byte = message[offset + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return value, offset + index + 1
    raise FormatError("a number of more than 64 bits")


def varint(value: int) -> bytes:
    """A number of at most 64 bits, unsigned."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of bytes or text."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def int64_field(number: int, value: int) -> bytes:
    """A signed number; zero is left out, as proto3 does."""
    return varint(number << 3 | VARINT) + varint(value & (1 << 64) - 1) if value else b""


def signed64(value: int) -> int:
    """What an C{int64} was before it became a varint."""
    return value - (value >> 63 << 64)


MAGIC = 0x2EA7D90B

ID_LENGTH = 32

MAX_EXAMINED = 64
"""Addresses looked at in one announcement (discovery.md 3.4)."""

LONGEST_URL = 2083
"""Bytes; longer addresses are passed over."""

_ID = 1
_ADDRESS = 2
_INSTANCE = 3
_NAME = 1000
_KINDS = {
    _ID: BYTES,
    _ADDRESS: BYTES,
    _INSTANCE: VARINT,
    _NAME: BYTES,
}


class Announcement(NamedTuple):
    """
    @ivar key: 32 bytes, not all zero.
    @ivar addresses: URLs as the sender wrote them.
    @ivar instance: chosen at random when the sender started.
    @ivar name: what the key is said to be made from; none from other programs.
    """

    key: bytes
    addresses: tuple[str, ...]
    instance: int
    name: bytes = b""


def encode(key: bytes, addresses: Sequence[str], instance: int, name: bytes = b"") -> bytes:
    """A datagram, fields in the order the original writes them, and the name behind."""
    return b"".join(
        (
            u32(MAGIC),
            bytes_field(_ID, key),
            *(bytes_field(_ADDRESS, url.encode("utf-8")) for url in addresses),
            int64_field(_INSTANCE, instance),
            bytes_field(_NAME, name) if name else b"",
        )
    )


def decode(datagram: bytes) -> Announcement:
    """
    Fields may come in any order, the last of a repeated one counts, unknown ones are
    passed over. Addresses that are not UTF-8 or too long are passed over too; all
    others are for L{urls<twisted_rudp.discovery.urls>} to judge.

    @raise FormatError: not such a datagram, or not an id of 32 bytes.
    """
    if datagram[:4] != u32(MAGIC):
        raise FormatError("another magic")
    key = name = b""
    addresses: list[str] = []
    instance = 0
    seen = 0
    for number, wire_type, value in fields(datagram, 4):
        if number not in _KINDS:
            continue
        if wire_type != _KINDS[number]:
            raise FormatError(f"wire type {wire_type} of field {number}")
        if isinstance(value, int):
            instance = signed64(value)
        elif number == _ID:
            key = value
        elif number == _NAME:
            name = value
        else:
            seen += 1
            if seen <= MAX_EXAMINED and len(value) <= LONGEST_URL:
                _add(addresses, value)
    if len(key) != ID_LENGTH or not any(key):
        raise FormatError(f"an id of {len(key)} bytes")
    return Announcement(key, tuple(addresses), instance, name)


def _add(addresses: list[str], value: bytes) -> None:
    try:
        addresses.append(value.decode("utf-8"))
    except UnicodeDecodeError:
        return
