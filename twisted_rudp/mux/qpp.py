"""
The quantum permutation pad that newer kcptun can put over each stream (C{kcp.md} 8.6). It
is no substitute for a cipher: both directions use the same key stream.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import pbkdf2_hmac
from itertools import cycle, islice
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

_DERIVE: Final = b"___QUANTUM_PERMUTATION_PAD_SEED_DERIVE___"
_SHUFFLE: Final = b"___QUANTUM_PERMUTATION_PAD_SHUFFLE_SALT___"
_GENERATOR: Final = b"___QUANTUM_PERMUTATION_PAD_PRNG_SALT___"
_SELECTOR: Final = b"PERMUTATION_MATRIX_SELECTOR"

_CHUNKS: Final = 7
_KEY: Final = 32
_MASK64: Final = (1 << 64) - 1

MOST_PADS: Final = 1024
"""Each takes tens of milliseconds to make."""


def _stretched(secret: bytes, salt: bytes, rounds: int) -> bytes:
    return pbkdf2_hmac("sha1", secret, salt, rounds, _KEY)


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & _MASK64


class Pads:
    """The permutations that a password gives, shared by all streams of a session."""

    __slots__ = ("_inverse", "_pads", "_state")

    def __init__(self, password: bytes, count: int) -> None:
        """
        @param password: not empty; the one of kcptun's C{--key}.
        @param count: permutations, 1 or more; the same at both ends.
        @raise ValueError: one of them is not possible.
        """
        if not password:
            raise ValueError("QPP needs a key")
        if not 1 <= count <= MOST_PADS:
            raise ValueError(f"QPPCount={count!r} is invalid: expected 1 to {MOST_PADS}")
        chunks = _chunks(password)
        ciphers = [Cipher(AES(_stretched(each, _SHUFFLE, 128)), ECB()) for each in chunks]
        encrypt = [cipher.encryptor().update for cipher in ciphers]
        self._pads = [_permutation(chunks, encrypt, index) for index in range(count)]
        self._inverse = [_inverted(pad) for pad in self._pads]
        seed = hmac.digest(password, _SELECTOR, "sha256")
        words = _stretched(seed, _GENERATOR, 128)
        self._state = [int.from_bytes(words[at : at + 8], "little") for at in range(0, 32, 8)]

    def encoder(self) -> Callable[[bytes], bytes]:
        """For what is sent on one stream, from its first byte on."""
        return _Direction(self._state, self._pads).encode

    def decoder(self) -> Callable[[bytes], bytes]:
        """For what is received on one stream, from its first byte on."""
        return _Direction(self._state, self._inverse).decode


class _Direction:
    """One direction of one stream: a generator and where it stands."""

    __slots__ = ("_pads", "_position", "_state", "_word")

    def __init__(self, state: list[int], pads: list[bytes]) -> None:
        self._state = list(state)
        self._pads = pads
        self._position = 0
        self._word = self._draw()

    def _draw(self) -> int:
        """The next of xoshiro256**."""
        state = self._state
        a, b, c, d = state
        drawn = _rotated(b * 5 & _MASK64, 7) * 9 & _MASK64
        shifted = b << 17 & _MASK64
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= shifted
        state[:] = [a, b, c, _rotated(d, 45)]
        return drawn

    def encode(self, data: bytes) -> bytes:
        """Exclusive-or with the generator, then a permutation."""
        return self._run(data, True)

    def decode(self, data: bytes) -> bytes:
        """The inverse."""
        return self._run(data, False)

    def _run(self, data: bytes, forward: bool) -> bytes:
        pads = self._pads
        parts: list[bytes] = []
        start, length = 0, len(data)
        while start < length:
            offset = self._position % 8
            piece = data[start : start + 8 - offset]
            size = len(piece)
            pad = pads[self._word % 65536 % len(pads)]
            # Eight bytes share a permutation and a word of the generator.
            key = self._word >> 8 * offset & ((1 << 8 * size) - 1)
            if not forward:
                piece = piece.translate(pad)
            piece = (int.from_bytes(piece, "little") ^ key).to_bytes(size, "little")
            parts.append(piece.translate(pad) if forward else piece)
            start += size
            self._position += size
            if self._position % 8 == 0:
                self._word = self._draw()
        return b"".join(parts)


def _chunks(password: bytes) -> list[bytes]:
    seed = password if len(password) >= _KEY else _stretched(password, _DERIVE, 128)
    endless = cycle(seed)
    return [
        _stretched(bytes(islice(endless, _KEY)), _DERIVE, 1024) for _ in range(_CHUNKS)
    ]


def _permutation(
    chunks: list[bytes], encrypt: Sequence[Callable[[bytes], bytes]], index: int
) -> bytes:
    """A permutation of all bytes, shuffled by what AES makes of a digest."""
    pad = bytearray(range(256))
    state = hmac.digest(chunks[index % _CHUNKS], b"QPP_%s" % f"{index:b}".encode(), "sha256")
    for place in range(255, 0, -1):
        for each in encrypt:
            state = each(state)
        other = int.from_bytes(state, "big") % (place + 1)
        pad[place], pad[other] = pad[other], pad[place]
    return bytes(pad)


def _inverted(pad: bytes) -> bytes:
    inverse = bytearray(256)
    for position, value in enumerate(pad):
        inverse[value] = position
    return bytes(inverse)
