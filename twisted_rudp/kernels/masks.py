"""
The masks of packet numbers over a whole run: XChaCha20 keystream, block 1.

Apart from the other kernels because the Python twin needs PyNaCl, which a program
that speaks KCP alone need not load.
"""

from __future__ import annotations

import os
from operator import index

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as _encrypt

from twisted_rudp.kernels.pure import Buffer

NONCE = 24
MASK = 6
KEY = 32

_ZEROS = bytes(MASK)
_PADDING = bytes(8 - MASK)


def pure_masks(key: bytes, run: Buffer, size: int, at: int) -> bytes:
    """
    The specification: for each datagram of a run the first six bytes of the
    XChaCha20 keystream at block 1, which is where the AEAD's encryption begins.

    @param key: 32 bytes.
    @param size: length of each datagram; the last may be shorter.
    @param at: where in each datagram the 24 bytes of the nonce begin.
    @return: eight bytes for each datagram, the last two zero, so that they can be
        read as integers. A datagram without a whole nonce ends the work.
    @raise ValueError: C{size} is not positive, C{at} is negative, or the key has
        another length.
    """
    size, at = index(size), index(at)
    if size <= 0 or at < 0 or len(key) != KEY:
        raise ValueError("size must be positive, at not negative and the key 32 bytes")
    view = memoryview(run)
    masks: list[bytes] = []
    if at + NONCE <= size:
        for start in range(at, len(view) - NONCE + 1, size):
            nonce = bytes(view[start : start + NONCE])
            masks += (_encrypt(_ZEROS, b"", nonce, key)[:MASK], _PADDING)
    return b"".join(masks)


sn_masks = pure_masks

if os.environ.get("TWISTED_RUDP_PURE") != "1":
    try:
        from twisted_rudp.kernels import _native
    except ImportError:
        pass
    else:
        sn_masks = _native.sn_masks

__all__ = ["pure_masks", "sn_masks"]
