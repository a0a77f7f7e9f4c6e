"""
The kernels for RakNet's bulk data in Python: runs of datagrams whose frames are all
reliable and ordered on channel 0, unsplit, with consecutive numbers (raknet.md 5 and
6). As in L{twisted_rudp.kernels.pure}, this file is the specification of the C ones.

A datagram is C{84 nn nn nn} (C{8c} from the second one on) and its frames; a frame is
C{60}, its length in bits (big-endian), reliable and order index (little-endian, 24
bits), the channel C{00}, and the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import index

from twisted_rudp.kernels.pure import Buffer

DATAGRAM_HEADER = 4
FRAME_HEADER = 10

STREAM_LEAD = DATAGRAM_HEADER + FRAME_HEADER + 1
"""What a datagram of the stream has in front of its part of that."""

LONGEST = 0xFFFF >> 3
"""Bytes of one payload, whose length is written in bits."""

_MASK = 0xFFFFFF
_DATA = 0x84
_CONTINUED = 0x8C
_FLAGS = 0x60

_head = struct.Struct("<IBBIIB").pack
"""Number, frame and user id of one datagram of the stream."""

_datagram = struct.Struct("<I").pack
_frame = struct.Struct("<BBII").pack
_fields = struct.Struct("<BBII").unpack_from
"""Flags; the upper byte of the length; its lower byte below the reliable index; the
order index below the channel."""


def frame_stream(
    number: int, reliable: int, order: int, user_id: int, mss: int, data: Buffer
) -> bytes:
    """
    Cut C{data} into datagrams of one frame, whose payload is C{user_id} and C{mss}
    bytes; the last may be shorter.

    @param number: of the first datagram; the others, like both indices, count on.
    @return: the run; empty if C{data} is.
    @raise ValueError: C{mss} is not in 1 to 8190.
    """
    number, reliable, order = index(number), index(reliable), index(order)
    user_id, mss = index(user_id) & 0xFF, index(mss)
    if not 0 < mss < LONGEST:
        raise ValueError("mss must be 1 to 8190")
    view = memoryview(data)
    total = len(view)
    parts: list[Buffer] = []
    first = _DATA
    bits = mss + 1 << 3
    for start in range(0, total, mss):
        if total - start < mss:
            bits = total - start + 1 << 3
        parts += (
            _head(
                first | (number & _MASK) << 8,
                _FLAGS,
                bits >> 8,
                bits & 0xFF | (reliable & _MASK) << 8,
                order & _MASK,
                user_id,
            ),
            view[start : start + mss],
        )
        number += 1
        reliable += 1
        order += 1
        first = _CONTINUED
    return b"".join(parts)


def frame_messages(
    number: int, reliable: int, order: int, per: int, messages: Sequence[bytes]
) -> bytes:
    """
    Put messages into datagrams, C{per} to each; the last may have fewer.

    @param number: of the first datagram; both indices are those of the first message.
    @return: the run if all messages are equally long.
    @raise ValueError: C{per} is not positive, or a message has not 1 to 8191 bytes.
    @raise TypeError: a message is not C{bytes}, or they are no list.
    """
    number, reliable, order, per = index(number), index(reliable), index(order), index(per)
    if not isinstance(messages, list):
        raise TypeError("messages must be a list")
    if per <= 0:
        raise ValueError("per must be positive")
    parts: list[bytes] = []
    for at, message in enumerate(messages):
        if not isinstance(message, bytes):
            raise TypeError("a message must be bytes")
        if not 0 < len(message) <= LONGEST:
            raise ValueError("a message must have 1 to 8191 bytes")
        if at % per == 0:
            parts.append(_datagram((_CONTINUED if at else _DATA) | (number & _MASK) << 8))
            number += 1
        parts += (_frame_header(len(message), reliable + at, order + at), message)
    return b"".join(parts)


def _frame_header(size: int, reliable: int, order: int) -> bytes:
    bits = size << 3
    return _frame(_FLAGS, bits >> 8, bits & 0xFF | (reliable & _MASK) << 8, order & _MASK)


def take_stream(
    run: Buffer, size: int, number: int, reliable: int, order: int, user_id: int
) -> tuple[int, bytes]:
    """
    Read the leading datagrams of a run for as long as they are as L{frame_stream}
    makes them, with these numbers and counting on.

    @param size: length of each; the last may be shorter.
    @return: how many there were, and their part of the stream.
    """
    size, number, reliable = index(size), index(number), index(reliable)
    order, user_id = index(order), index(user_id) & 0xFF
    view = memoryview(run)
    payloads: list[bytes] = []
    total = len(view)
    whole = total // size if size > STREAM_LEAD else 0
    pieces = [(view[: whole * size], size)]
    if size > STREAM_LEAD and total - whole * size > STREAM_LEAD:
        pieces.append((view[whole * size :], total - whole * size))
    for piece, length in pieces:
        count = len(payloads)
        payloads += _stream_payloads(
            piece, length, number + count, reliable + count, order + count, user_id
        )
        if len(payloads) < whole:
            break
    return len(payloads), b"".join(payloads)


@lru_cache(64)
def _rows_of(size: int) -> Callable[[Buffer], Iterator[tuple[int | bytes, ...]]]:
    return struct.Struct(f"<IBBIIB{size - STREAM_LEAD}s").iter_unpack


def _stream_payloads(
    view: memoryview, size: int, number: int, reliable: int, order: int, user_id: int
) -> list[bytes]:
    """
    The payloads of the leading datagrams, all C{size} bytes long, that are as expected.
    Their headers are read as words that overlap the fields.
    """
    payloads: list[bytes] = []
    if not view:
        return payloads
    length = size - STREAM_LEAD + 1
    for start, flags, high, word, has_order, has_id, payload in _rows_of(size)(view):
        if (
            start >> 8 != number & _MASK  # type: ignore[operator]
            or word >> 8 != reliable & _MASK  # type: ignore[operator]
            or has_order != order & _MASK
            or (high << 8 | word & 0xFF) + 7 >> 3 != length  # type: ignore[operator]
            or flags & 0xF0 != _FLAGS  # type: ignore[operator]
            or has_id != user_id
            or start & 0xE0 != 0x80  # type: ignore[operator]
        ):
            break
        payloads.append(payload)  # type: ignore[arg-type]
        number += 1
        reliable += 1
        order += 1
    return payloads


def take_messages(
    run: Buffer, size: int, number: int, reliable: int, order: int, lowest: int
) -> tuple[int, list[bytes]]:
    """
    Read the leading datagrams of a run for as long as they hold nothing but whole
    frames as L{frame_messages} makes them, of any lengths, with these numbers and
    counting on.

    @param lowest: what the first byte of each message is at least.
    @return: how many datagrams there were, and their messages.
    """
    size, number, reliable = index(size), index(number), index(reliable)
    order, lowest = index(order), index(lowest)
    view = memoryview(run)
    messages: list[bytes] = []
    count = 0
    if size <= 0:
        return 0, messages
    for start in range(0, len(view), size):
        datagram = view[start : start + size]
        if len(datagram) <= DATAGRAM_HEADER or not _is_numbered(datagram, number + count):
            break
        found: list[bytes] = []
        at = DATAGRAM_HEADER
        while at < len(datagram):
            so_far = len(messages) + len(found)
            length = _length_at(datagram, at, reliable + so_far, order + so_far)
            at += FRAME_HEADER
            if not length or at + length > len(datagram) or datagram[at] < lowest:
                return count, messages
            found.append(bytes(datagram[at : at + length]))
            at += length
        messages += found
        count += 1
    return count, messages


def _is_numbered(datagram: memoryview, number: int) -> bool:
    return (
        datagram[0] & 0xE0 == 0x80
        and int.from_bytes(datagram[1:DATAGRAM_HEADER], "little") == number & _MASK
    )


def _length_at(datagram: memoryview, at: int, reliable: int, order: int) -> int:
    """
    The payload's length of a frame of this kind with these indices; 0 if there is
    none. The lower half of the flags means nothing.
    """
    if at + FRAME_HEADER > len(datagram):
        return 0
    flags, high, low, has_order = _fields(datagram, at)
    if (
        flags & 0xF0 != _FLAGS
        or low >> 8 != reliable & _MASK
        or has_order != order & _MASK
    ):
        return 0
    return ((high << 8 | low & 0xFF) + 7) >> 3  # type: ignore[no-any-return]
