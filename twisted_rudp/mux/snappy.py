"""
The snappy framing format, which kcptun puts between smux and KCP (C{kcp.md} 8.5).

cramjam compresses and checks the chunks. Here they are found in the stream, and one that
would expand beyond the format's 65536 bytes is refused before it is expanded.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Final

STREAM_IDENTIFIER: Final = b"\xff\x06\x00\x00sNaPpY"

MOST_UNCOMPRESSED: Final = 65536
"""Bytes that one chunk may hold when it is expanded."""

_MOST_COMPRESSED: Final = 4 + 32 + MOST_UNCOMPRESSED + MOST_UNCOMPRESSED // 6
"""A checksum and the longest snappy block of so many bytes."""

_COMPRESSED: Final = 0x00
_PLAIN: Final = 0x01
_FIRST_SKIPPABLE: Final = 0x80
_IDENTIFIER: Final = 0xFF


class SnappyError(ValueError):
    """The peer's stream is not in the snappy framing format, or damaged."""


def load() -> ModuleType:
    """
    The library that does the work.

    @raise ValueError: it is not installed; names the extra to install.
    """
    try:
        # An extra; whoever needs none of it lives without.
        return import_module("cramjam")
    except ImportError:
        raise ValueError(
            "compression needs the package cramjam: pip install 'twisted_rudp[kcptun]',"
            " or switch it off at both ends (nocomp)"
        ) from None


class Compressor:
    """One direction's sending half."""

    __slots__ = ("_snappy", "_started")

    def __init__(self) -> None:
        """
        @raise ValueError: see L{load}.
        """
        self._snappy = load().snappy
        self._started = False

    def compress(self, data: bytes) -> bytes:
        """
        What goes on the wire for some bytes, which the peer can expand as soon as it has
        it.

        @param data: not empty.
        """
        framed = bytes(self._snappy.compress(data))
        if self._started:
            return framed[len(STREAM_IDENTIFIER) :]
        self._started = True
        return framed


class Decompressor:
    """One direction's receiving half. It keeps at most one chunk that is incomplete."""

    __slots__ = ("_buffer", "_cramjam", "_identified")

    def __init__(self) -> None:
        """
        @raise ValueError: see L{load}.
        """
        self._cramjam = load()
        self._buffer = bytearray()
        self._identified = False

    def decompress(self, data: bytes) -> bytes:
        """
        What the bytes of the wire, cut anywhere, mean so far.

        @raise SnappyError: they mean nothing.
        """
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        start = 0
        while len(buffer) - start >= 4:
            kind = buffer[start]
            length = int.from_bytes(buffer[start + 1 : start + 4], "little")
            self._check(kind, length)
            end = start + 4 + length
            if kind in (_COMPRESSED, _PLAIN) and len(buffer) >= start + 8:
                self._check_size(kind, length, buffer, start + 8)
            if len(buffer) < end:
                break
            if kind == _IDENTIFIER:
                self._identify(bytes(buffer[start:end]))
            elif kind < _FIRST_SKIPPABLE:
                found.append(self._expand(bytes(buffer[start:end])))
            start = end
        del buffer[:start]
        return b"".join(found)

    def _check(self, kind: int, length: int) -> None:
        if not self._identified and kind != _IDENTIFIER:
            raise SnappyError("the peer does not compress: set nocomp alike at both ends")
        if _PLAIN < kind < _FIRST_SKIPPABLE:
            raise SnappyError(f"chunk type {kind:#04x} may not be skipped and is not known")
        if length > _MOST_COMPRESSED or (kind < _FIRST_SKIPPABLE and length < 4):
            raise SnappyError(f"a chunk of {length} bytes")

    def _check_size(self, kind: int, length: int, buffer: bytearray, at: int) -> None:
        """See how large a chunk becomes before anything is done with it."""
        if kind == _PLAIN:
            if length - 4 > MOST_UNCOMPRESSED:
                raise SnappyError(f"a plain chunk of {length - 4} bytes")
            return
        size = shift = 0
        for octet in bytes(buffer[at : at + 5]):
            size |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
        if size > MOST_UNCOMPRESSED:
            raise SnappyError(f"a chunk that expands to {size} bytes")

    def _identify(self, chunk: bytes) -> None:
        if chunk != STREAM_IDENTIFIER:
            raise SnappyError("a wrong stream identifier")
        self._identified = True

    def _expand(self, chunk: bytes) -> bytes:
        try:
            return bytes(self._cramjam.snappy.decompress(STREAM_IDENTIFIER + chunk))
        except self._cramjam.DecompressionError as problem:
            raise SnappyError(f"a damaged chunk: {problem}") from None
