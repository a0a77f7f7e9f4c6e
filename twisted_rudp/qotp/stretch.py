"""
The short way of a bulk transfer: many datagrams in a row that carry nothing but the
next bytes of one stream are one piece of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from twisted_rudp.qotp.mark import CONTROL
from twisted_rudp.qotp.payload import PLAIN, WIDE, Segment

_narrow = Struct("<BIHB")
_wide = Struct("<BIIH")


def stretch_of(
    opened: Sequence[tuple[int, bytes] | None], number: int
) -> tuple[int, Segment] | None:
    """
    The stretch that a run begins with.

    @param opened: packet numbers and payloads.
    @param number: of the first that is new.
    @return: of how many datagrams, and their bytes as one segment; None if the first
        are not such.
    """
    if opened[0] is None:
        return None
    kind = opened[0][1][0]
    if kind == PLAIN:
        head, shift = _narrow, 16
    elif kind == PLAIN | WIDE:
        head, shift = _wide, 32
    else:
        return None
    size, unpack = head.size, head.unpack_from
    stream = start = offset = -1
    pieces: list[bytes] = []
    for each in opened:
        if each is None or each[0] != number:
            break
        plain = each[1]
        if len(plain) <= size:
            break
        first, of, low, high = unpack(plain)
        place = low | high << shift
        if not pieces:
            stream, start, offset = of, place, place
        if first != kind or of != stream or place != offset:
            break
        pieces.append(plain[size:])
        offset += len(plain) - size
        number += 1
    if len(pieces) < 2 or stream == CONTROL:
        return None
    return len(pieces), Segment(stream, start, b"".join(pieces))
