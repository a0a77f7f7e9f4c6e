"""
Datagrams: types, layouts and sizes (C{qotp.md} 2.1, 2.2 and 5.1).

All integers are little-endian. Offsets into a datagram, by type::

    InitSnd        0 type   1 EI   33 SI   65 zeros up to the MTU
    InitRcv        0 type   1 id    9 ER   41 SR   73 number  79 sealed
    InitCryptoSnd  0 type   1 EI   33 SI           65 number  71 sealed, up to the MTU
    InitCryptoRcv  0 type   1 id    9 ER           41 number  47 sealed
    Data           0 type   1 id                    9 number  15 sealed
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

MTU = 1400
"""The release's longest UDP payload. Both peers must use the same (section 9.1)."""

SHORTEST = 39
"""No datagram is shorter."""

KEY = slice(1, 33)
"""Where EI stands in the initiator's opening messages."""

ID = slice(1, 9)
"""Where the connection id stands: the first bytes of EI."""

NUMBER_SIZE = 6
TAG_SIZE = 16
NONCE_SIZE = 24
"""Of the mask of the number: the first bytes of what is sealed."""

LEAST_PAYLOAD = 8
"""So that there are always L{NONCE_SIZE} bytes with the tag."""

NUMBERS = 1 << 48
LAST_EPOCH = 127
"""Beyond it a nonce would repeat (section 2.3)."""


class Kind(IntEnum):
    """Message types, as the whole first byte: the version bits are 0."""

    INIT_SND = 0x00
    INIT_RCV = 0x20
    INIT_CRYPTO_SND = 0x40
    INIT_CRYPTO_RCV = 0x60
    DATA = 0x80


PREFIX: dict[int, int] = {
    Kind.INIT_SND: 65,
    Kind.INIT_RCV: 73,
    Kind.INIT_CRYPTO_SND: 65,
    Kind.INIT_CRYPTO_RCV: 41,
    Kind.DATA: 9,
}
"""Length of the cleartext in front, which is authenticated."""

OVERHEAD: dict[int, int] = {
    kind: size + NUMBER_SIZE + TAG_SIZE + (2 if kind == Kind.INIT_CRYPTO_SND else 0)
    for kind, size in PREFIX.items()
}
"""Bytes of a datagram that are not payload."""

DATA_PREFIX = PREFIX[Kind.DATA]
DATA_OVERHEAD = OVERHEAD[Kind.DATA]


class Opening(NamedTuple):
    """The cleartext of the initiator's first message."""

    ephemeral: bytes
    identity: bytes


def connection_id(ephemeral: bytes) -> bytes:
    """The name of a connection, in both directions and for ever (section 3.1)."""
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
    """The payload of an InitCryptoSnd; None if its fill length lies (W3b)."""
    fill = int.from_bytes(plain[:2], "little")
    if 2 + fill + LEAST_PAYLOAD > len(plain):
        return None
    return plain[2 + fill :]
