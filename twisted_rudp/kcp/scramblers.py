"""
Ciphers as L{Scrambler<twisted_rudp.kcp.crypto.Scrambler>}: the fast ones of the
C{cryptography} package, and the trivial ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    # Moved there in cryptography 47.
    from cryptography.hazmat.primitives.ciphers.modes import CFB

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherAlgorithm

INITIAL_VECTOR = bytes.fromhex("a7734f9c12ac1b01a415f2c1fc78e66b")
"""The one of kcp-go; ciphers with blocks of 8 bytes take its first half."""

_XOR_SALT = b"sH3CIVoF#rWLtJo6"
_XOR_ITERATIONS = 32

XOR_REACH = 1500
"""Bytes of a datagram that C{xor} covers, so none may be longer."""


class CFBScrambler:
    """A block cipher in full-block CFB, one running context each way."""

    def __init__(self, algorithm: CipherAlgorithm) -> None:
        assert isinstance(algorithm, BlockCipherAlgorithm)
        self.block = algorithm.block_size // 8
        self.lead = INITIAL_VECTOR[: self.block]
        cipher = Cipher(algorithm, CFB(self.lead))
        self._encryptor = cipher.encryptor()
        self._decryptor = cipher.decryptor()

    def encrypt(self, data: bytes, stride: int) -> bytes:
        return self._encryptor.update(data)

    def decrypt(self, data: bytes, stride: int) -> bytes:
        return self._decryptor.update(data)


class NoScrambler:
    """C{none}: framed as if encrypted, and not encrypted."""

    block = 1
    lead = b""

    def encrypt(self, data: bytes, stride: int) -> bytes:
        return data

    def decrypt(self, data: bytes, stride: int) -> bytes:
        return data


class XorScrambler:
    """
    C{xor}: the same 1500 bytes over every datagram. It hides nothing from
    anybody who looks twice.
    """

    block = 1
    lead = b""

    def __init__(self, key: bytes) -> None:
        self._table = hashlib.pbkdf2_hmac("sha1", key, _XOR_SALT, _XOR_ITERATIONS, XOR_REACH)

    def encrypt(self, data: bytes, stride: int) -> bytes:
        row = self._table[:stride].ljust(stride, b"\0")
        mask = (row * -(-len(data) // stride))[: len(data)]
        mixed = int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")
        return mixed.to_bytes(len(data), "little")

    decrypt = encrypt


def datagrams(data: bytes, stride: int) -> Iterator[bytes]:
    """What lies back to back, one by one."""
    for start in range(0, len(data), stride):
        yield data[start : start + stride]
