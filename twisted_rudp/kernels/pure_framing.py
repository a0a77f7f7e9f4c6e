"""
The kernels in Python that frame datagrams, a whole run at a time. This file is
their specification; C{fec.c} and C{checksum.c} do the same, only faster.

In all of them a run is datagrams of C{size} bytes, back to back, of which the
last may be shorter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import compress
from operator import index
from typing import Final
from zlib import crc32

from twisted_rudp.kernels.pure import Buffer

FEC_DATA: Final = 0xF1
FEC_PARITY: Final = 0xF2

_ID_AND_KIND = struct.Struct("<IH")
_KIND = 4
_KINDS = bytes((FEC_DATA, FEC_PARITY))
_IS_DATA = bytes(kind == FEC_DATA for kind in range(256))
_FEC_HEADER = 8
_CONV_END = 12

NONCE_SIZE: Final = 16
CHECKED_OVERHEAD: Final = 20


def fec_conversation(run: Buffer, size: int) -> int:
    """
    Whose FEC packets these are.

    @return: the conversation that all data packets of a run name; -1 if it has no
        data packet, or those of several, or anything but data and parity packets.
    @raise ValueError: C{size} is not positive.
    """
    size = index(size)
    view = memoryview(run)
    if size <= 0:
        raise ValueError("size must be positive")
    rest = len(view) % size
    if size < _CONV_END:
        return -1
    if 0 < rest < _CONV_END:
        # Too short for data: parity, if it is anything.
        last = view[len(view) - rest :]
        if rest < _FEC_HEADER or _ID_AND_KIND.unpack_from(last)[1] != FEC_PARITY:
            return -1
        view = view[: len(view) - rest]
    # Column by column: the packets are looked at without a loop of Python.
    kinds = bytes(view[_KIND::size])
    if bytes(view[_KIND + 1 :: size]).strip(b"\0") or kinds.strip(_KINDS):
        return -1
    has_conv = kinds.translate(_IS_DATA)
    columns = [
        set(compress(view[place::size], has_conv)) for place in range(_FEC_HEADER, _CONV_END)
    ]
    if any(len(column) != 1 for column in columns):
        return -1
    return int.from_bytes([byte for (byte,) in columns], "little")


def fec_take(run: Buffer, size: int, data: int, shards: int) -> tuple[int, bytes]:
    """
    Read the leading FEC packets of a run for as long as they are numbered on and
    each is of the kind that its place in its group wants (kcp.md 3.1).

    @param data: data packets of a group; C{shards}: packets of a group.
    @return: how many there were, and the datagrams of the data packets, joined.
    @raise ValueError: there are no data packets in a group, or more than packets.
    """
    size, data, shards = index(size), index(data), index(shards)
    view = memoryview(run)
    if data < 1 or shards < data:
        raise ValueError("a group has at least one data packet")
    payloads: list[Buffer] = []
    count = 0
    if size > _FEC_HEADER:
        first = int.from_bytes(view[:4], "little")
        for start in range(0, len(view) - _FEC_HEADER + 1, size):
            sequence, kind = _ID_AND_KIND.unpack_from(view, start)
            is_data = sequence % shards < data
            if sequence != first + count or kind != (FEC_DATA if is_data else FEC_PARITY):
                break
            if is_data:
                payloads.append(view[start + _FEC_HEADER : start + size])
            count += 1
    return count, b"".join(payloads)


def check_frame(run: Buffer, size: int, nonces: Buffer, block: int) -> bytes:
    """
    Put a nonce and the CRC-32 before each datagram, and zeros after it up to a
    multiple of C{block} (kcp.md 4.2).

    @param nonces: L{NONCE_SIZE} bytes for each datagram.
    @raise ValueError: C{size} or C{block} is not positive, or the nonces are not as
        many as the datagrams.
    """
    size, block = index(size), index(block)
    view, nonces = memoryview(run), memoryview(nonces)
    if size <= 0 or block <= 0 or len(nonces) != NONCE_SIZE * -(-len(view) // size):
        raise ValueError("there must be a nonce for each datagram")
    parts: list[Buffer] = []
    at = 0
    for start in range(0, len(view), size):
        body = view[start : start + size]
        check = crc32(body).to_bytes(4, "little")
        parts += (nonces[at : at + NONCE_SIZE], check, body)
        parts.append(bytes(-(len(body) + CHECKED_OVERHEAD) % block))
        at += NONCE_SIZE
    return b"".join(parts)


def check_take(
    spread: Buffer, stride: int, offset: int, size: int, total: int
) -> tuple[bytes, list[int]]:
    """
    Read datagrams as L{check_frame} made them: each begins with its nonce.

    @param stride: from the beginning of one to that of the next.
    @param offset: where the first begins.
    @param size: length of each with nonce and check; the last may be shorter.
    @param total: length of all of them.
    @return: those whose check is right, joined, and the indexes of the others.
    @raise ValueError: they do not lie within the buffer.
    """
    good: list[Buffer] = []
    wrong: list[int] = []
    for number, piece in enumerate(_pieces(spread, stride, offset, size, total)):
        body = piece[CHECKED_OVERHEAD:]
        if body and crc32(body) == int.from_bytes(piece[NONCE_SIZE:CHECKED_OVERHEAD], "little"):
            good.append(body)
        else:
            wrong.append(number)
    return b"".join(good), wrong


def spread_run(run: Buffer, size: int, lead: Buffer, block: int) -> bytes:
    """
    Put C{lead} before each datagram, and zeros after it up to a multiple of
    C{block}; the lead does not count.

    @raise ValueError: C{size} or C{block} is not positive.
    """
    size, block = index(size), index(block)
    view, lead = memoryview(run), memoryview(lead)
    if size <= 0 or block <= 0:
        raise ValueError("size and block must be positive")
    parts: list[Buffer] = []
    for start in range(0, len(view), size):
        datagram = view[start : start + size]
        parts += (lead, datagram, bytes(-len(datagram) % block))
    return b"".join(parts)


def gather_run(spread: Buffer, stride: int, offset: int, size: int, total: int) -> bytes:
    """Join pieces that lie apart. The arguments and errors are those of L{check_take}."""
    return b"".join(_pieces(spread, stride, offset, size, total))


def _pieces(
    spread: Buffer, stride: int, offset: int, size: int, total: int
) -> Iterator[memoryview]:
    stride, offset, size, total = index(stride), index(offset), index(size), index(total)
    view = memoryview(spread)
    if size <= 0 or offset < 0 or total < 0 or stride < size:
        raise ValueError("the pieces do not lie within the buffer")
    count = -(-total // size)
    if count and offset + (count - 1) * stride + total - (count - 1) * size > len(view):
        raise ValueError("the pieces do not lie within the buffer")
    return (
        view[offset + at * stride : offset + at * stride + min(size, total - at * size)]
        for at in range(count)
    )
