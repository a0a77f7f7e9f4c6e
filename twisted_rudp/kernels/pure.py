"""
The kernels in Python. This file is their specification; C{native.c} does the
same to the byte and to the exception, only faster.

All integers of the wire are taken modulo their width, so that callers may keep
unbounded numbers. Buffers are anything contiguous with the buffer protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import index
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

KCP_HEADER = 24
KCP_PUSH = 81

_WORD = 0xFFFFFFFF

_before_sn = struct.Struct("<IBBHI").pack
_sn = struct.Struct("<I").pack
_after_sn = struct.Struct("<II").pack
_conv_to_frg = struct.Struct("<IBB").pack
_wnd_to_una = struct.Struct("<6xHI4xI").unpack_from


MAXIMUM_PARTS = 64

_TOGETHER = 64
"""Up to so many equal pieces are cut by one C{struct}, which is kept."""


@lru_cache(_TOGETHER)
def _cutter(size: int, count: int) -> Callable[[Buffer], tuple[bytes, ...]]:
    return struct.Struct(f"{size}s" * count).unpack_from


def _words(first: int, count: int) -> Sequence[bytes]:
    """Consecutive numbers as the wire has them."""
    if count <= _TOGETHER and first + count <= _WORD:
        return _cutter(4, count)(struct.pack(f"<{count}I", *range(first, first + count)))
    return [_sn(number & _WORD) for number in range(first, first + count)]


def _pieces(view: memoryview, size: int) -> list[Buffer]:
    """All of a view in pieces of one size; the last may be shorter."""
    total = len(view)
    count = total // size
    if count > _TOGETHER:
        return [view[start : start + size] for start in range(0, total, size)]
    pieces: list[Buffer] = [*_cutter(size, count)(view)]
    if total % size:
        pieces.append(view[count * size :])
    return pieces


def build_run(
    conv: int,
    wnd: int,
    ts: int,
    sn: int,
    una: int,
    frg: int,
    mss: int,
    data: Buffer | tuple[Buffer, ...],
) -> bytes:
    """
    Cut C{data} into KCP PUSH segments of C{mss} payload bytes (the last may be
    shorter), a datagram each, back to back (kcp.md 1.1).

    @param sn: number of the first segment; the following ones count on.
    @param frg: fragment field of the first segment; it counts down and stays
        at 0.
    @param data: a buffer, or a tuple of at most L{MAXIMUM_PARTS}, each of which is
        cut on its own.
    @return: the run; empty if C{data} is.
    @raise ValueError: C{mss} is not positive, or there are too many parts.
    """
    conv, wnd, ts = index(conv) & _WORD, index(wnd) & 0xFFFF, index(ts) & _WORD
    sn, una, frg, mss = index(sn), index(una) & _WORD, index(frg) & 0xFF, index(mss)
    views = [memoryview(part) for part in (data if isinstance(data, tuple) else (data,))]
    if mss <= 0:
        raise ValueError("mss must be positive")
    if len(views) > MAXIMUM_PARTS:
        raise ValueError("too many parts")
    parts: list[Buffer] = []
    for view in views:
        total = len(view)
        count = -(-total // mss)
        # Column by column: filling a list from its slices costs less than a loop.
        row: list[Buffer] = [_before_sn(conv, KCP_PUSH, 0, wnd, ts)] * (4 * count)
        for place in range(min(frg, count)):
            row[4 * place] = _before_sn(conv, KCP_PUSH, frg - place, wnd, ts)
        row[1::4] = _words(sn & _WORD, count)
        row[2::4] = [_after_sn(una, mss & _WORD)] * count
        row[3::4] = _pieces(view, mss)
        if total % mss:
            row[-2] = _after_sn(una, total % mss & _WORD)
        parts += row
        sn += count
        frg = max(frg - count, 0)
    return b"".join(parts)


@lru_cache(64)
def _segments_of(size: int) -> Callable[[Buffer], Iterator[tuple[bytes, int, bytes, bytes]]]:
    """Reads C{conv} to C{frg}, C{sn}, C{len} and payload of each datagram."""
    fields = struct.Struct(f"<6s6xI4x4s{size - KCP_HEADER}s")
    return fields.iter_unpack


def take_run(
    run: Buffer, size: int, conv: int, sn: int, limit: int
) -> tuple[int, bytes, int, int, int]:
    """
    Read the leading datagrams of a run for as long as each is one whole KCP
    PUSH segment of this conversation with C{frg} 0, numbered C{sn}, C{sn} + 1
    and so on, with C{size} - 24 payload bytes.

    @param size: length of each datagram. With 24 or less, and for a last one
        that is shorter, there is nothing to take.
    @param limit: take at most so many.
    @return: how many there were, their payloads joined, and C{ts}, C{wnd} and
        C{una} of the last (0 if there was none).
    """
    size, conv, sn, limit = index(size), index(conv) & _WORD, index(sn) & _WORD, index(limit)
    view = memoryview(run)
    if size <= KCP_HEADER or size > len(view) or limit <= 0:
        return 0, b"", 0, 0, 0
    view = view[: min(len(view) // size, limit) * size]
    payloads: list[bytes] = []
    begin, length = _conv_to_frg(conv, KCP_PUSH, 0), _sn((size - KCP_HEADER) & _WORD)
    for has_begin, has_sn, has_length, payload in _segments_of(size)(view):
        if has_sn != sn or has_begin != begin or has_length != length:
            break
        payloads.append(payload)
        sn = (sn + 1) & _WORD
    count = len(payloads)
    if not count:
        return 0, b"", 0, 0, 0
    wnd, ts, una = _wnd_to_una(view, (count - 1) * size)
    return count, b"".join(payloads), ts, wnd, una


def same_column(run: Buffer, size: int, offset: int, width: int) -> int:
    """
    Find where a field changes its value within a run.

    @param offset: where the field begins in each datagram.
    @param width: its length in bytes.
    @return: the index of the first datagram whose field differs from that of
        the first datagram or is cut off; the number of datagrams if there is
        none; 0 if the first has no whole field itself.
    @raise ValueError: C{size} or C{width} is not positive, or C{offset} is
        negative.
    """
    size, offset, width = index(size), index(offset), index(width)
    view = memoryview(run)
    if size <= 0 or width <= 0 or offset < 0:
        raise ValueError("size and width must be positive and offset not negative")
    total = len(view)
    if offset + width > min(size, total):
        return 0
    count = -(-total // size)
    if total - (count - 1) * size < offset + width:
        view = view[: (count - 1) * size]
        count -= 1
    for position in range(offset, offset + width):
        column = bytes(view[position : count * size : size])
        count = len(column) - len(column.lstrip(column[:1]))
    return count
