"""
The regular shape of bulk data: datagrams of one frame each, reliable and ordered on
channel 0, with consecutive numbers, the payload behind a user id. Built and read a
run at a time; the slow path understands the same datagrams one by one.

The header is read as little-endian words that overlap the fields::

    84 nn nn nn | 60 | bits(high) | bits(low) rr rr rr | oo oo oo 00 | id
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.serial import MASK24
from twisted_rudp.raknet.wire import CONTINUED, DATA, HEADER_BYTES, HEADER_SIZE, Reliability

FRAME_FLAGS = Reliability.RELIABLE_ORDERED << 5

FRAME_OVERHEAD = HEADER_BYTES[Reliability.RELIABLE_ORDERED] + 1
"""Bytes of frame header and user id."""

OVERHEAD = HEADER_SIZE + FRAME_OVERHEAD
"""What each datagram has beside its part of the stream."""

_head = struct.Struct("<IBBIIB").pack


@lru_cache(64)
def _rows_of(size: int) -> Callable[[Buffer], Iterator[tuple[int | bytes, ...]]]:
    return struct.Struct(f"<IBBIIB{size - OVERHEAD}s").iter_unpack


def build_run(
    number: int, reliable: int, order: int, user_id: int, mss: int, data: Buffer
) -> bytes:
    """
    Cut C{data} into datagrams of C{mss} bytes of it each; the last may be shorter.

    @param number: of the first datagram; the others, like both indices, count on,
        modulo 2^24.
    """
    view = memoryview(data)
    total = len(view)
    parts: list[Buffer] = []
    first = DATA
    for start in range(0, total, mss):
        piece = view[start : start + mss]
        bits = len(piece) + 1 << 3
        parts += (
            _head(
                first | (number & MASK24) << 8,
                FRAME_FLAGS,
                bits >> 8,
                bits & 0xFF | (reliable & MASK24) << 8,
                order & MASK24,
                user_id,
            ),
            piece,
        )
        number += 1
        reliable += 1
        order += 1
        first = CONTINUED
    return b"".join(parts)


def build_frame(reliable: int, order: int, user_id: int, data: Buffer) -> bytes:
    """
    The frame of one datagram of L{build_run}, to be sent again in another.
    """
    bits = len(data) + 1 << 3
    head = _head(0, FRAME_FLAGS, bits >> 8, bits & 0xFF | (reliable & MASK24) << 8,
                 order & MASK24, user_id)
    return head[HEADER_SIZE:] + data


def take_run(
    run: Buffer, size: int, number: int, reliable: int, order: int, user_id: int
) -> tuple[int, bytes]:
    """
    Read the leading datagrams of a run for as long as they have the regular shape,
    the numbers that are expected, and one full length.

    @return: how many there were, and their part of the stream.
    """
    view = memoryview(run)
    number, reliable, order = number & MASK24, reliable & MASK24, order & MASK24
    # None of the three may wrap within what is taken.
    limit = min(len(view) // size, MASK24 - max(number, reliable, order))
    if size <= OVERHEAD or limit <= 0:
        return 0, b""
    bits = size - OVERHEAD + 1 << 3
    high, word = bits >> 8, bits & 0xFF | reliable << 8
    payloads: list[bytes] = []
    for start, flags, has_high, has_word, has_order, has_id, payload in _rows_of(size)(
        view[: limit * size]
    ):
        if (
            start >> 8 != number  # type: ignore[operator]
            or has_word != word
            or has_order != order
            or has_high != high
            or flags != FRAME_FLAGS
            or has_id != user_id
            or start & 0xE0 != 0x80  # type: ignore[operator]
        ):
            break
        payloads.append(payload)  # type: ignore[arg-type]
        number += 1
        word += 0x100
        order += 1
    return len(payloads), b"".join(payloads)
