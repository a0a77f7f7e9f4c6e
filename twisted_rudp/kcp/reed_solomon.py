"""
The code of kcp-go's FEC (kcp.md 3.3).

Field GF(2^8) modulo 0x11D. The bytes at one place of the shards of a group are
the values of one polynomial at the points 0, 1, 2, ...; with C{d} data shards
its degree is below C{d}. So parity and recovery are the same question: I{what
are the values at those points, if at these points they are these?}

With the native kernel that is a matrix product. Without it zfec answers: its
block 0 stands for the point 0 and its block C{b} for the point 2^(b-1), and as
it takes the values at its own first points only, it is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import zfec

from twisted_rudp import kernels
from twisted_rudp.kernels.pure import Buffer

MAXIMUM_SHARDS: Final = 256
"""Data and parity shards of a group together: there are so many points."""

Points: TypeAlias = tuple[int, ...]

Evaluate: TypeAlias = Callable[[Points, Sequence[Buffer], Points, int], bytes]
"""
C{(points, shards, wanted, length)}: the values at C{wanted}, C{length} bytes
each, back to back. A shard shorter than C{length} ends in zeros.
"""

_POLYNOMIAL: Final = 0x11D


def _powers() -> tuple[bytes, bytes]:
    """2^0 .. 2^254, and the exponent for each non-zero element."""
    power = bytearray(255)
    exponent = bytearray(256)
    value = 1
    for index in range(255):
        power[index] = value
        exponent[value] = index
        value = value << 1 ^ (_POLYNOMIAL if value & 0x80 else 0)
    return bytes(power), bytes(exponent)


_POWER, _EXPONENT = _powers()


@lru_cache(128)
def coefficients(points: Points, wanted: Points) -> bytes:
    """
    The matrix from values at C{points} to those at C{wanted}, row by row: the
    Lagrange polynomials of C{points}, as sums of exponents.

    @param points: all different.
    """
    exponent = _EXPONENT
    denominators = [
        sum([exponent[point ^ other] for other in points if other != point]) for point in points
    ]
    rows = bytearray()
    for at in wanted:
        if at in points:
            rows += bytes([at == point for point in points])
            continue
        numerator = sum([exponent[at ^ point] for point in points])
        rows += bytes(
            [
                _POWER[(numerator - exponent[at ^ point] - denominator) % 255]
                for point, denominator in zip(points, denominators, strict=True)
            ]
        )
    return bytes(rows)


@lru_cache(64)
def _zfec(count: int) -> tuple[zfec.Decoder, zfec.Encoder]:
    return zfec.Decoder(count, MAXIMUM_SHARDS), zfec.Encoder(count, MAXIMUM_SHARDS)


def _blocks(points: Points) -> list[int]:
    return [1 + _EXPONENT[point] if point else 0 for point in points]


def evaluate_by_zfec(
    points: Points, shards: Sequence[Buffer], wanted: Points, length: int
) -> bytes:
    """See L{Evaluate}."""
    decoder, encoder = _zfec(len(points))
    padded = [bytes(shard).ljust(length, b"\0") for shard in shards]
    primaries = decoder.decode(padded, _blocks(points))
    return b"".join(encoder.encode(primaries, _blocks(wanted)))


def evaluate_by_kernel(
    points: Points, shards: Sequence[Buffer], wanted: Points, length: int
) -> bytes:
    """See L{Evaluate}."""
    assert kernels.gf_matmul is not None
    return kernels.gf_matmul(coefficients(points, wanted), shards, length)


evaluate: Evaluate = evaluate_by_zfec if kernels.gf_matmul is None else evaluate_by_kernel
