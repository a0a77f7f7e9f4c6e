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
from itertools import chain, repeat
from struct import iter_unpack
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twisted_rudp.kcp.nonces import Nonces
from twisted_rudp.kernels import check_frame, check_take, gather_run, spread_run
from twisted_rudp.kernels.pure import Buffer
from twisted_rudp.kernels.pure_framing import CHECKED_OVERHEAD, NONCE_SIZE

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
    """The encryption of one socket."""

    @property
    def overhead(self) -> int:
        """Bytes by which a datagram grows."""

    def seal(self, run: Buffer, size: int) -> tuple[bytes, int]:
        """Encrypt a run."""

    def open(self, run: Buffer, size: int) -> Opened:
        """Decrypt and check a run."""


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
        """See L{Crypt}."""
        scrambler = self._scrambler
        total = len(run)
        count = -(-total // size)
        width = size + CHECKED_OVERHEAD
        stride = width + -width % scrambler.block
        framed = check_frame(run, size, self._nonces.take(NONCE_SIZE * count), scrambler.block)
        sealed = scrambler.encrypt(framed, stride)
        total += count * CHECKED_OVERHEAD
        if len(sealed) == total:
            return sealed, width
        return gather_run(sealed, stride, 0, width, total), width

    def open(self, run: Buffer, size: int) -> Opened:
        """See L{Crypt}."""
        scrambler = self._scrambler
        lead = scrambler.lead
        stride = len(lead) + size + -size % scrambler.block
        plain = scrambler.decrypt(spread_run(run, size, lead, scrambler.block), stride)
        good, wrong = check_take(plain, stride, len(lead), size, len(run))
        failed = [run[size * at : size * (at + 1)] for at in wrong]
        return Opened(good, size - CHECKED_OVERHEAD, failed)


class AuthenticatedCrypt:
    """kcp-go's framing of AEAD ciphers: nonce, ciphertext, tag (kcp.md 4.4)."""

    overhead = AEAD_NONCE_SIZE + AEAD_TAG_SIZE

    def __init__(self, cipher: AESGCM, nonces: Nonces) -> None:
        self._cipher = cipher
        self._nonces = nonces

    def seal(self, run: Buffer, size: int) -> tuple[bytes, int]:
        """See L{Crypt}."""
        encrypt = self._cipher.encrypt
        if len(run) <= size:
            nonce = self._nonces.take(AEAD_NONCE_SIZE)
            return nonce + encrypt(nonce, run, None), size + self.overhead
        view = memoryview(run)
        rest = len(view) % size
        plain = [each for (each,) in iter_unpack(f"{size}s", view[: len(view) - rest])]
        if rest:
            plain.append(view[-rest:])
        drawn = self._nonces.take(AEAD_NONCE_SIZE * len(plain))
        nonces = [each for (each,) in iter_unpack(f"{AEAD_NONCE_SIZE}s", drawn)]
        sealed = map(encrypt, nonces, plain, repeat(None))
        joined = b"".join(chain.from_iterable(zip(nonces, sealed, strict=True)))
        return joined, size + self.overhead

    def open(self, run: Buffer, size: int) -> Opened:
        """See L{Crypt}."""
        view = memoryview(run)
        good: list[Buffer] = []
        failed: list[Buffer] = []
        whole = 0
        if len(view) > size > self.overhead:
            whole = len(view) - len(view) % size
            # Without a step of Python for each datagram.
            layout = f"{AEAD_NONCE_SIZE}s{size - AEAD_NONCE_SIZE}s"
            nonces, sealed = zip(*iter_unpack(layout, view[:whole]), strict=True)
            try:
                good += map(self._cipher.decrypt, nonces, sealed, repeat(None))
            except InvalidTag:
                # Those that were right are in C{good} already.
                whole = len(good) * size
        for start in range(whole, len(view), size):
            self._open_one(view[start : start + size], good, failed)
        return Opened(b"".join(good), size - self.overhead, failed)

    def _open_one(self, datagram: memoryview, good: list[Buffer], failed: list[Buffer]) -> None:
        if len(datagram) <= self.overhead:
            failed.append(datagram)
            return
        nonce, sealed = datagram[:AEAD_NONCE_SIZE], datagram[AEAD_NONCE_SIZE:]
        try:
            good.append(self._cipher.decrypt(nonce, sealed, None))
        except InvalidTag:
            failed.append(datagram)
