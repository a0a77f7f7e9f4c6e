"""
Encryption of datagrams (kcp.md 4), whole runs at a time.

A L{Crypt} belongs to a socket. It keeps its cipher contexts running instead of
making one for each datagram:

  - Encrypting, the first block of a datagram is random and thrown away by the
    receiver, and CFB decrypts a block by the one before it. So it does not
    matter what the register held before, and it is never reset.
  - Decrypting, the fixed initial vector is fed as a block in front of each
    datagram; CFB falls into step by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from zlib import crc32

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twisted_rudp.kcp.nonces import Nonces
from twisted_rudp.kernels.pure import Buffer

NONCE_SIZE = 16
CHECK_SIZE = 4
CHECKED_OVERHEAD = NONCE_SIZE + CHECK_SIZE

AEAD_NONCE_SIZE = 12
AEAD_TAG_SIZE = 16


class Opened(NamedTuple):
    """
    What came of a run.

    @ivar run: the datagrams that were right, C{size} bytes each.
    @ivar failed: those that were not, as they came.
    """

    run: Buffer
    size: int
    failed: Sequence[Buffer]


class Crypt(Protocol):
    """
    The encryption of one socket.
    """

    @property
    def overhead(self) -> int:
        """
        Bytes by which a datagram grows.
        """

    def seal(self, run: Buffer, size: int) -> tuple[bytes, int]:
        """
        Encrypt a run.
        """

    def open(self, run: Buffer, size: int) -> Opened:
        """
        Decrypt and check a run.
        """


class Scrambler(Protocol):
    """
    A cipher, applied to datagrams that lie back to back.

    @cvar block: each datagram is to be padded to a multiple of this.
    @cvar lead: what is to be put in front of each datagram before decrypting.
    """

    block: int
    lead: bytes

    def encrypt(self, data: bytes, stride: int) -> bytes:
        """
        @param stride: length of each datagram but the last.
        """

    def decrypt(self, data: bytes, stride: int) -> bytes:
        """
        @param stride: as above, C{lead} included.
        """


class CheckedCrypt:
    """
    kcp-go's framing of everything that is not AEAD: 16 random bytes, a CRC-32,
    the datagram; then all of it through a cipher.
    """

    overhead = CHECKED_OVERHEAD

    def __init__(self, scrambler: Scrambler, nonces: Nonces) -> None:
        self._scrambler = scrambler
        self._nonces = nonces

    def seal(self, run: Buffer, size: int) -> tuple[bytes, int]:
        """
        See L{Crypt}.
        """
        scrambler = self._scrambler
        view = memoryview(run)
        total = len(view)
        count = -(-total // size)
        random = self._nonces.take(NONCE_SIZE * count)
        width = size + CHECKED_OVERHEAD
        pad = bytes(-width % scrambler.block)
        parts: list[Buffer] = []
        nonce = 0
        for start in range(0, total, size):
            body = view[start : start + size]
            check = crc32(body).to_bytes(CHECK_SIZE, "little")
            parts += (random[nonce : nonce + NONCE_SIZE], check, body, pad)
            nonce += NONCE_SIZE
        tail = total - (count - 1) * size + CHECKED_OVERHEAD
        if tail < width:
            parts[-1] = bytes(-tail % scrambler.block)
        stride = width + len(pad)
        sealed = scrambler.encrypt(b"".join(parts), stride)
        if not pad:
            return sealed[: (count - 1) * width + tail], width
        last = (count - 1) * stride
        cut = [sealed[start : start + width] for start in range(0, last, stride)]
        cut.append(sealed[last : last + tail])
        return b"".join(cut), width

    def open(self, run: Buffer, size: int) -> Opened:
        """
        See L{Crypt}.
        """
        scrambler = self._scrambler
        view = memoryview(run)
        lead = scrambler.lead
        pad = bytes(-size % scrambler.block)
        parts: list[Buffer] = []
        for start in range(0, len(view), size):
            parts += (lead, view[start : start + size], pad)
        tail = (len(view) - 1) % size + 1
        parts[-1] = bytes(-tail % scrambler.block)
        stride = len(lead) + size + len(pad)
        plain = memoryview(scrambler.decrypt(b"".join(parts), stride))
        good: list[Buffer] = []
        failed: list[Buffer] = []
        at = len(lead) + NONCE_SIZE
        for start in range(0, len(view), size):
            length = min(size, len(view) - start) - CHECKED_OVERHEAD
            body = plain[at + CHECK_SIZE : at + CHECK_SIZE + max(length, 0)]
            if length > 0 and crc32(body) == int.from_bytes(plain[at : at + CHECK_SIZE], "little"):
                good.append(body)
            else:
                failed.append(view[start : start + size])
            at += stride
        return Opened(b"".join(good), size - CHECKED_OVERHEAD, failed)


class AuthenticatedCrypt:
    """
    kcp-go's framing of AEAD ciphers: nonce, ciphertext, tag (kcp.md 4.4).
    """

    overhead = AEAD_NONCE_SIZE + AEAD_TAG_SIZE

    def __init__(self, cipher: AESGCM, nonces: Nonces) -> None:
        self._cipher = cipher
        self._nonces = nonces

    def seal(self, run: Buffer, size: int) -> tuple[bytes, int]:
        """
        See L{Crypt}.
        """
        encrypt = self._cipher.encrypt
        view = memoryview(run)
        parts: list[bytes] = []
        for start in range(0, len(view), size):
            nonce = self._nonces.take(AEAD_NONCE_SIZE)
            parts += (nonce, encrypt(nonce, view[start : start + size], None))
        return b"".join(parts), size + self.overhead

    def open(self, run: Buffer, size: int) -> Opened:
        """
        See L{Crypt}.
        """
        decrypt = self._cipher.decrypt
        view = memoryview(run)
        good: list[Buffer] = []
        failed: list[Buffer] = []
        for start in range(0, len(view), size):
            sealed = view[start : start + size]
            if len(sealed) <= self.overhead:
                failed.append(sealed)
                continue
            try:
                good.append(decrypt(sealed[:AEAD_NONCE_SIZE], sealed[AEAD_NONCE_SIZE:], None))
            except InvalidTag:
                failed.append(sealed)
        return Opened(b"".join(good), size - self.overhead, failed)
