"""
What our own peers say to each other beyond the release (C{qotp.md} 17).

A listener's first answer carries a PING of stream 0 at an offset where no stream will
ever be, L{MARK}; the release answers it as it does any PING. A dialler that knows it puts
an acknowledgement of L{CONTROL} at L{MARK_OFFSET} into what it sends until it is
answered in kind; the release ignores acknowledgements of streams that it never used.
So both know of each other from the first datagram, and nobody else is shown more.

From then on:

  - an acknowledgement of L{CONTROL} with a length is a I{range}: so many packet
    numbers up to C{offset}, modulo 2^24;
  - bytes of the stream L{CONTROL} are I{words}: more ranges, the reset of a stream,
    the reset of the session. Empty, they are a PING;
  - CLOSE ends one direction of a stream only.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from struct import Struct
from typing import NamedTuple

from twisted_rudp.core.serial import unwrap24
from twisted_rudp.qotp.payload import LONGEST_SEGMENT, NARROW, Ack, Segment

CONTROL = 0xFFFFFFFF
MARK_OFFSET = 0x727501
MARK = Segment(0, 1 << 47 | MARK_OFFSET, b"")
"""A listener's mark. It makes the release's dialler send Data at once, also one that has
nothing to say yet, and so completes the handshake."""

MORE_RANGES = 32
"""Ranges told beside the newest."""

_range = Struct("<II")
_reset = Struct("<BII")
_abort = Struct("<BI")


class Peer(Enum):
    """What the other side is."""

    UNKNOWN = "not heard yet"
    RELEASE = "speaks the release's protocol and no more"
    OWN = "one of our own"


class Word(IntEnum):
    """First byte of what is said on L{CONTROL}."""

    RANGES = 1
    RESET = 2
    ABORT = 3


class Reset(NamedTuple):
    """A stream is given up in both directions."""

    stream: int
    code: int


class Abort(NamedTuple):
    """The session is given up."""

    code: int


def mark_ack(window: int) -> Ack:
    """A dialler's mark."""
    return Ack(CONTROL, MARK_OFFSET, 0, window)


def peer_of(ack: Ack | None) -> Peer:
    """What a dialler is, by its first Data."""
    if ack is not None and ack.stream == CONTROL and (ack.length or ack.offset == MARK_OFFSET):
        return Peer.OWN
    return Peer.RELEASE


def window_ack(window: int) -> Ack:
    """Announces a window and acknowledges nothing (rule R7)."""
    return Ack(CONTROL, 0, 0, window)


def range_ack(low: int, high: int, window: int) -> Ack:
    """Acknowledges packet numbers, as many below C{high} as fit."""
    length = high - low + 1
    if length > LONGEST_SEGMENT:
        length = LONGEST_SEGMENT
    return Ack(CONTROL, high & NARROW, length, window)


def read_range(ack: Ack, near: int) -> tuple[int, int] | None:
    """
    The first and last packet number of an acknowledgement.

    @param near: the next number we shall send.
    @return: None if it is not one of a range, or of what we never sent.
    """
    high = unwrap24(ack.offset, near)
    if ack.stream != CONTROL or not ack.length or not 0 <= high < near:
        return None
    low = high - ack.length + 1
    return low if low > 0 else 0, high


def say_ranges(newest: int, ranges: Iterable[tuple[int, int]]) -> bytes:
    """
    The ranges below the newest, highest first.

    @param newest: the first number of the newest range.
    """
    parts = [bytes((Word.RANGES,))]
    for low, high in ranges:
        gap, length = newest - high, high - low + 1
        if gap >> 32 or length >> 32:
            break
        parts.append(_range.pack(gap, length))
        newest = low
    return b"".join(parts)


def read_ranges(body: bytes, newest: int) -> list[tuple[int, int]]:
    """The inverse of L{say_ranges}; what makes no sense ends it."""
    found = []
    for gap, length in _range.iter_unpack(body[1 : len(body) - (len(body) - 1) % _range.size]):
        high = newest - gap
        low = high - length + 1
        if gap < 2 or not length or low < 0:
            break
        found.append((low, high))
        newest = low
        if len(found) == MORE_RANGES:
            break
    return found


def say_reset(stream: int, code: int) -> bytes:
    """Gives a stream up."""
    return _reset.pack(Word.RESET, stream, code & 0xFFFFFFFF)


def say_abort(code: int = 0) -> bytes:
    """Gives the session up."""
    return _abort.pack(Word.ABORT, code)


def read_word(body: bytes) -> Reset | Abort | None:
    """A reset or abort; None for whatever else it is."""
    if len(body) == _reset.size and body[0] == Word.RESET:
        _, stream, code = _reset.unpack(body)
        return Reset(stream, code)
    if len(body) == _abort.size and body[0] == Word.ABORT:
        return Abort(_abort.unpack(body)[1])
    return None
