"""
The two layers of encryption, run by run (C{qotp.md} 2.3 to 2.6).

Inside the library a packet number is one unbounded integer, epoch and sequence
number together; on the wire there are its lower 48 bits, encrypted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from twisted_rudp.core.engine import Buffer
from twisted_rudp.kernels.masks import sn_masks
from twisted_rudp.qotp.wire import (
    DATA_PREFIX,
    LEAST_PAYLOAD,
    NONCE_SIZE,
    NUMBER_SIZE,
    NUMBERS,
)

INITIATOR = 0x80
"""Direction bit of what the initiator sends: bit 7 of the nonce's first byte."""

RESPONDER = 0

_LOW = NUMBERS - 1
_EPOCH = _LOW & ~0x80


def nonce_of(number: int, direction: int) -> bytes:
    """
    The nonce of the payload: epoch, then sequence number; the direction takes the
    place of one bit of the epoch (section 2.3).
    """
    return (((number & _LOW) << 48) | (number >> 48 & _EPOCH) | direction).to_bytes(12, "little")


@lru_cache(16)
def _integers(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")


class Cipher:
    """One key: K of a session, or K0 of an opening message."""

    __slots__ = ("_decrypt", "_encrypt", "_key")

    def __init__(self, key: bytes) -> None:
        aead = ChaCha20Poly1305(key)
        self._key = key
        self._encrypt = aead.encrypt
        self._decrypt = aead.decrypt

    # sealing

    def seal(self, prefix: bytes, number: int, direction: int, payload: bytes) -> bytes:
        """
        One datagram.

        @raise ValueError: the payload is too short for the mask of the number.
        """
        if len(payload) < LEAST_PAYLOAD:
            raise ValueError(f"a payload has {LEAST_PAYLOAD} bytes at least")
        low = number & _LOW
        nonce = (low << 48 | number >> 48 & _EPOCH | direction).to_bytes(12, "little")
        sealed: bytes = self._encrypt(nonce, payload, prefix)
        mask = int.from_bytes(sn_masks(self._key, sealed[:NONCE_SIZE], NONCE_SIZE, 0), "little")
        return prefix + (low ^ mask).to_bytes(NUMBER_SIZE, "little") + sealed

    def seal_run(
        self, prefix: bytes, number: int, direction: int, payloads: Sequence[bytes]
    ) -> bytes:
        """
        A run of Data datagrams, numbered from C{number}, within one epoch.

        @param payloads: of one length, the last may be shorter.
        """
        encrypt = self._encrypt
        epoch = number >> 48 & _EPOCH | direction
        low = number & _LOW
        sealed: list[bytes] = [
            encrypt((sn << 48 | epoch).to_bytes(12, "little"), payload, prefix)
            for sn, payload in enumerate(payloads, low)
        ]
        count = len(sealed)
        nonces = b"".join([each[:NONCE_SIZE] for each in sealed])
        masks = _integers(count).unpack(sn_masks(self._key, nonces, NONCE_SIZE, 0))
        parts: list[bytes] = []
        for sn, mask, each in zip(range(low, low + count), masks, sealed, strict=True):
            parts += (prefix, (sn ^ mask).to_bytes(NUMBER_SIZE, "little"), each)
        return b"".join(parts)

    # opening

    def open(
        self, datagram: bytes, prefix: int, direction: int, epoch: int
    ) -> tuple[int, bytes] | None:
        """
        Number and payload of one datagram; None if it is not authentic.

        @param prefix: length of the cleartext.
        @param direction: that of the sender.
        @param epoch: the receiver's; its neighbours are tried too (section 2.6).
        """
        start = prefix + NUMBER_SIZE
        masks = sn_masks(self._key, datagram[start : start + NONCE_SIZE], NONCE_SIZE, 0)
        if not masks:
            return None
        sn = int.from_bytes(datagram[prefix:start], "little") ^ int.from_bytes(masks, "little")
        nonce = (sn << 48 | epoch & _EPOCH | direction).to_bytes(12, "little")
        try:
            payload = self._decrypt(nonce, datagram[start:], datagram[:prefix])
        except InvalidTag:
            return self._open(sn, datagram[:prefix], datagram[start:], direction, epoch)
        return epoch << 48 | sn, payload

    def open_run(
        self, run: Buffer, size: int, direction: int, epoch: int
    ) -> list[tuple[int, bytes] | None]:
        """
        As L{open} for each datagram of a run of Data with one connection id. A
        datagram that is too short is None too.
        """
        view = memoryview(run)
        start = DATA_PREFIX + NUMBER_SIZE
        found = sn_masks(self._key, view, size, start)
        masks = _integers(len(found) // 8).unpack(found)
        prefix = bytes(view[:DATA_PREFIX])
        decrypt = self._decrypt
        base = epoch & _EPOCH | direction
        opened: list[tuple[int, bytes] | None] = []
        first = epoch << 48
        for at, mask in zip(range(0, len(view), size), masks, strict=False):
            number = int.from_bytes(view[at + DATA_PREFIX : at + start], "little") ^ mask
            nonce = (number << 48 | base).to_bytes(12, "little")
            try:
                payload = decrypt(nonce, view[at + start : at + size], prefix)
            except InvalidTag:
                sealed = bytes(view[at + start : at + size])
                opened.append(self._open(number, prefix, sealed, direction, epoch))
            else:
                opened.append((first | number, payload))
        opened += [None] * (-(-len(view) // size) - len(opened))
        return opened

    def _open(
        self, sn: int, prefix: bytes, sealed: bytes, direction: int, epoch: int
    ) -> tuple[int, bytes] | None:
        """Try the neighbours of the epoch that it was not of."""
        for candidate in (epoch - 1, epoch + 1):
            if candidate < 0:
                continue
            number = candidate << 48 | sn
            try:
                return number, self._decrypt(nonce_of(number, direction), sealed, prefix)
            except InvalidTag:
                continue
        return None
