"""
The test data of C{peers/kcpgo/internal/pattern}, made here: block I{i} of the
stream of a seed is SHAKE128 of the text C{seed:i}, 65536 bytes long. And that of
C{peers/raknetgo/internal/pattern}: see L{series}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

BLOCK_SIZE = 1 << 16


def blocks(seed: int, length: int) -> Iterator[bytes]:
    """The first C{length} bytes of a stream in pieces of at most L{BLOCK_SIZE}."""
    for index in range(-(-length // BLOCK_SIZE)):
        size = min(BLOCK_SIZE, length - index * BLOCK_SIZE)
        yield hashlib.shake_128(b"%d:%d" % (seed, index)).digest(size)


def digest(seed: int, length: int) -> str:
    """SHA-256 of the first C{length} bytes of a stream, in hexadecimal."""
    whole = hashlib.sha256()
    for block in blocks(seed, length):
        whole.update(block)
    return whole.hexdigest()


def messages(seed: int, length: int, longest: int) -> Iterator[bytes]:
    """
    The same bytes as messages: number I{i} is 1 + 977 I{i} mod C{longest} bytes
    long, the last one what is left.
    """
    data = b"".join(blocks(seed, length))
    start = number = 0
    while start < length:
        end = start + 1 + 977 * number % longest
        yield data[start:end]
        start = end
        number += 1


def series(seed: int, count: int, size: int = 0, longest: int = 1350) -> Iterator[bytes]:
    """
    Messages for RakNet: number I{i} is the byte FE, then SHAKE128 of the text
    C{seed:i}; C{size} bytes in all, or if that is 0, 1 + 977 I{i} mod C{longest}.
    """
    for index in range(count):
        length = size or 1 + 977 * index % longest
        yield b"\xfe" + hashlib.shake_128(b"%d:%d" % (seed, index)).digest(length - 1)


def framedDigest(pieces: Iterator[bytes]) -> str:
    """
    SHA-256 over each piece with its length in front, four bytes little endian:
    equal only if the boundaries are.
    """
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(len(piece).to_bytes(4, "little") + piece)
    return whole.hexdigest()
