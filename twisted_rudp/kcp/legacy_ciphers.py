"""
Block ciphers of kcp-go that no kept library has, in plain Python: hundreds of times
slower than AES. They are here to reach peers that use nothing else.

Sources: Wheeler and Needham (TEA with 8 cycles as kcp-go has it, XTEA), Schneier and
others, "Twofish: A 128-Bit Block Cipher" (1998).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

EncryptBlock: TypeAlias = Callable[[bytes], bytes]
"""One block of plaintext to one block of ciphertext."""

_WORD: Final = 0xFFFFFFFF
_DELTA: Final = 0x9E3779B9
_two_words = struct.Struct(">II")
_four_words = struct.Struct("<4I")


def tea(key: bytes) -> EncryptBlock:
    """TEA with 8 cycles instead of the usual 32 (kcp.md 10.13)."""
    k0, k1, k2, k3 = struct.unpack(">4I", key)

    def encrypt(block: bytes) -> bytes:
        y, z = _two_words.unpack(block)
        total = 0
        for _ in range(8):
            total = (total + _DELTA) & _WORD
            y = (y + (((z << 4) + k0) ^ (z + total) ^ ((z >> 5) + k1))) & _WORD
            z = (z + (((y << 4) + k2) ^ (y + total) ^ ((y >> 5) + k3))) & _WORD
        return _two_words.pack(y, z)

    return encrypt


def xtea(key: bytes) -> EncryptBlock:
    """XTEA with 32 cycles."""
    keys = struct.unpack(">4I", key)
    rounds: list[tuple[int, int]] = []
    total = 0
    for _ in range(32):
        first = (total + keys[total & 3]) & _WORD
        total = (total + _DELTA) & _WORD
        rounds.append((first, (total + keys[total >> 11 & 3]) & _WORD))

    def encrypt(block: bytes) -> bytes:
        y, z = _two_words.unpack(block)
        for first, second in rounds:
            y = (y + (((z << 4 ^ z >> 5) + z) ^ first)) & _WORD
            z = (z + (((y << 4 ^ y >> 5) + y) ^ second)) & _WORD
        return _two_words.pack(y, z)

    return encrypt


def _permutation(tables: Sequence[str]) -> bytes:
    """One of Twofish's two fixed permutations of bytes, from its four of nibbles."""
    t0, t1, t2, t3 = [[int(digit, 16) for digit in table] for table in tables]
    out = bytearray()
    for x in range(256):
        a, b = x >> 4, x & 15
        a, b = a ^ b, a ^ (b >> 1 | (b & 1) << 3) ^ (a << 3 & 15)
        a, b = t0[a], t1[b]
        a, b = a ^ b, a ^ (b >> 1 | (b & 1) << 3) ^ (a << 3 & 15)
        out.append(t3[b] << 4 | t2[a])
    return bytes(out)


_Q0: Final = _permutation(
    ("817d6f320b59eca4", "ecb81235f4a6709d", "ba5e6d90c8f32471", "d7f4126e9b3085ca")
)
_Q1: Final = _permutation(
    ("28bdf76e31940ac5", "1e2b4c376da5f908", "4c75169a0ed82b3f", "b951c3de647f208a")
)
_Q_BEFORE_KEY: Final = (
    ((_Q1, _Q0, _Q0, _Q1), 3),
    ((_Q1, _Q1, _Q0, _Q0), 2),
    ((_Q0, _Q1, _Q0, _Q1), 1),
    ((_Q0, _Q0, _Q1, _Q1), 0),
)
_Q_LAST: Final = (_Q1, _Q0, _Q1, _Q0)
_MDS: Final = (
    (0x01, 0xEF, 0x5B, 0x5B),
    (0x5B, 0xEF, 0xEF, 0x01),
    (0xEF, 0x5B, 0x01, 0xEF),
    (0xEF, 0x01, 0xEF, 0x5B),
)
_RS: Final = (
    (0x01, 0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E),
    (0xA4, 0x56, 0x82, 0xF3, 0x1E, 0xC6, 0x68, 0xE5),
    (0x02, 0xA1, 0xFC, 0xC1, 0x47, 0xAE, 0x3D, 0x19),
    (0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E, 0x03),
)


def _multiply(a: int, b: int, polynomial: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= polynomial
        b >>= 1
    return product


def _substitution(words: Sequence[bytes]) -> list[list[int]]:
    """
    Twofish's function I{h} for fixed key words, as a table of words for each of
    the four bytes of its argument.
    """
    tables: list[list[int]] = []
    for place in range(4):
        column = [
            [_multiply(_MDS[row][place], value, 0x169) for row in range(4)] for value in range(256)
        ]
        table = []
        for value in range(256):
            for permutations, index in _Q_BEFORE_KEY:
                if index < len(words):
                    value = permutations[place][value] ^ words[index][place]
            table.append(int.from_bytes(bytes(column[_Q_LAST[place][value]]), "little"))
        tables.append(table)
    return tables


def _rotate(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & _WORD


def twofish(key: bytes) -> EncryptBlock:
    """Twofish with a key of 16, 24 or 32 bytes."""
    words = [key[at : at + 4] for at in range(0, len(key), 4)]
    even, odd = _substitution(words[::2]), _substitution(words[1::2])
    subkeys: list[int] = []
    for at in range(20):
        a = even[0][2 * at] ^ even[1][2 * at] ^ even[2][2 * at] ^ even[3][2 * at]
        b = 2 * at + 1
        b = _rotate(odd[0][b] ^ odd[1][b] ^ odd[2][b] ^ odd[3][b], 8)
        subkeys += ((a + b) & _WORD, _rotate((a + 2 * b) & _WORD, 9))
    mixed: list[bytes] = []
    for start in range(0, len(key), 8):
        eight = key[start : start + 8]
        word = bytearray(4)
        for row in range(4):
            for factor, byte in zip(_RS[row], eight, strict=True):
                word[row] ^= _multiply(factor, byte, 0x14D)
        mixed.insert(0, bytes(word))
    s0, s1, s2, s3 = _substitution(mixed)
    k = subkeys
    rounds = [(k[at], k[at + 1], k[at + 2], k[at + 3]) for at in range(8, 40, 4)]

    def encrypt(block: bytes) -> bytes:
        a, b, c, d = _four_words.unpack(block)
        a, b, c, d = a ^ k[0], b ^ k[1], c ^ k[2], d ^ k[3]
        for k0, k1, k2, k3 in rounds:
            x = s0[a & 255] ^ s1[a >> 8 & 255] ^ s2[a >> 16 & 255] ^ s3[a >> 24]
            y = s1[b & 255] ^ s2[b >> 8 & 255] ^ s3[b >> 16 & 255] ^ s0[b >> 24]
            c ^= (x + y + k0) & _WORD
            c = c >> 1 | (c & 1) << 31
            d = ((d << 1 | d >> 31) & _WORD) ^ (x + 2 * y + k1) & _WORD
            x = s0[c & 255] ^ s1[c >> 8 & 255] ^ s2[c >> 16 & 255] ^ s3[c >> 24]
            y = s1[d & 255] ^ s2[d >> 8 & 255] ^ s3[d >> 16 & 255] ^ s0[d >> 24]
            a ^= (x + y + k2) & _WORD
            a = a >> 1 | (a & 1) << 31
            b = ((b << 1 | b >> 31) & _WORD) ^ (x + 2 * y + k3) & _WORD
        return _four_words.pack(c ^ k[4], d ^ k[5], a ^ k[6], b ^ k[7])

    return encrypt
