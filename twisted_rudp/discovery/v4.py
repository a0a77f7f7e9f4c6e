"""
Today's local announcements (discovery.md 3.1): a magic and a protobuf message. A field of
ours is added where the id comes from a name; other programs pass over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted_rudp.discovery import protobuf
from twisted_rudp.discovery.xdr import FormatError, u32

MAGIC = 0x2EA7D90B

ID_LENGTH = 32

LOOKED_AT = 64
"""Addresses looked at in one announcement (discovery.md 3.4)."""

LONGEST_URL = 2083
"""Bytes; longer addresses are passed over."""

_ID = 1
_ADDRESS = 2
_INSTANCE = 3
_NAME = 1000
_KINDS = {
    _ID: protobuf.BYTES,
    _ADDRESS: protobuf.BYTES,
    _INSTANCE: protobuf.VARINT,
    _NAME: protobuf.BYTES,
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
            protobuf.bytes_field(_ID, key),
            *(protobuf.bytes_field(_ADDRESS, url.encode("utf-8")) for url in addresses),
            protobuf.int64_field(_INSTANCE, instance),
            protobuf.bytes_field(_NAME, name) if name else b"",
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
    for number, wire_type, value in protobuf.fields(datagram, 4):
        if number not in _KINDS:
            continue
        if wire_type != _KINDS[number]:
            raise FormatError(f"wire type {wire_type} of field {number}")
        if isinstance(value, int):
            instance = protobuf.signed64(value)
        elif number == _ID:
            key = value
        elif number == _NAME:
            name = value
        else:
            seen += 1
            if seen <= LOOKED_AT and len(value) <= LONGEST_URL:
                _add(addresses, value)
    if len(key) != ID_LENGTH or not any(key):
        raise FormatError(f"an id of {len(key)} bytes")
    return Announcement(key, tuple(addresses), instance, name)


def _add(addresses: list[str], value: bytes) -> None:
    try:
        addresses.append(value.decode("utf-8"))
    except UnicodeDecodeError:
        return
