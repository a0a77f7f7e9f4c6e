"""
The pieces of XDR (RFC 4506) that the discovery datagrams of 2013 to 2016 are made of:
unsigned integers in network order and byte strings padded to four.
"""

from __future__ import annotations

import struct

_U32 = struct.Struct(">I")
_HALVES = struct.Struct(">HH")


class FormatError(ValueError):
    """A datagram is not what its magic says."""


class Reader:
    """Takes a datagram apart from front to back."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self._offset = offset

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._offset

    def u32(self) -> int:
        """
        @raise FormatError: fewer than four bytes are left.
        """
        if self.remaining < 4:
            raise FormatError("cut short")
        value: int = _U32.unpack_from(self._data, self._offset)[0]
        self._offset += 4
        return value

    def halves(self) -> tuple[int, int]:
        """
        A word as its upper and its lower sixteen bits.

        @raise FormatError: fewer than four bytes are left.
        """
        word = self.u32()
        return word >> 16, word & 0xFFFF

    def opaque(self, limit: int) -> bytes:
        """
        A byte string; what its padding holds does not matter.

        @param limit: the most bytes it may have.
        @raise FormatError: longer than that, or than the datagram.
        """
        length = self.u32()
        # Compared before it is used: a length near 2**32 must not wrap around.
        if length > limit:
            raise FormatError(f"a string of {length} bytes where {limit} are allowed")
        padded = length + (-length & 3)
        if padded > self.remaining:
            raise FormatError("cut short")
        value = self._data[self._offset : self._offset + length]
        self._offset += padded
        return bytes(value)

    def end(self) -> None:
        """
        @raise FormatError: bytes are left.
        """
        if self.remaining:
            raise FormatError(f"{self.remaining} bytes too many")


def u32(value: int) -> bytes:
    """A number as the wire has it."""
    return _U32.pack(value)


def halves(upper: int, lower: int) -> bytes:
    """Two numbers of sixteen bits in one word."""
    return _HALVES.pack(upper, lower)


def opaque(value: bytes) -> bytes:
    """A byte string with length and padding."""
    return u32(len(value)) + value + bytes(-len(value) & 3)
