"""
Serial numbers: counters on the wire that wrap around, of 32 bits (KCP) and 24
bits (RakNet).

Two such numbers can be compared when they are less than half the circle apart
(RFC 1982). Inside the library counters are unbounded integers, so that they
compare like any others; on the wire they are cut with a mask and read back with
L{unwrap32} or L{unwrap24}.
"""

from __future__ import annotations

from typing import Final

MASK32: Final = 0xFFFFFFFF
HALF32: Final = 0x80000000
MASK24: Final = 0xFFFFFF
HALF24: Final = 0x800000


def difference32(a: int, b: int) -> int:
    """
    C{a - b} as the nearest of the possible distances, in -2^31 .. 2^31 - 1.
    Positive when C{a} is after C{b} (kcp.md).
    """
    return ((a - b + HALF32) & MASK32) - HALF32


def unwrap32(number: int, near: int) -> int:
    """
    The integer that C{number} on the wire stands for: the one nearest to
    C{near} among those equal to it modulo 2^32. May be negative.
    """
    return near + difference32(number, near)


def unwrap24(number: int, near: int) -> int:
    """As L{unwrap32} for a number of 24 bits."""
    return near + ((number - near + HALF24) & MASK24) - HALF24
