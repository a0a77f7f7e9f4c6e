"""
Cookies: proof that a peer receives at its address, kept without state.

A cookie is a keyed hash of what is to be bound (address, conversation ...) and
of a coarse time slot. Whoever returns it has received it; nobody else can know
it, and we need to remember nothing until it comes back. What one was used for and is over is
remembered for the life of a cookie, so that a recording of it proves nothing any more.
"""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest
from itertools import islice
from typing import Final

from twisted_rudp.core.engine import SECOND, Address

SLOT: Final = 10 * SECOND

MOST_REVOKED: Final = 65_536
"""Entries kept; the oldest goes first."""


class Cookies:
    """
    Makes and checks 32-bit cookies. Never 0, which wires use for I{none}.

    @param secret: 16 to 32 random bytes; a new one makes all old cookies void.
    @param slot: nanoseconds for which a cookie is made; it is accepted for one
        slot more.
    @param began: nanoseconds to be added to the time, so that processes that share the secret
        have the same slots.
    """

    __slots__ = ("_began", "_revoked", "_secret", "_slot")

    def __init__(self, secret: bytes, slot: int = SLOT, began: int = 0) -> None:
        if not 16 <= len(secret) <= 32:
            raise ValueError(f"secret: {len(secret)} bytes; 16 to 32 are needed")
        self._secret = secret
        self._slot = slot
        self._began = began
        # What was revoked: until when, and how often since.
        self._revoked: dict[tuple[Address, int], tuple[int, int]] = {}

    def make(self, address: Address, number: int, now: int) -> int:
        """
        The cookie of this time slot.

        @param number: a number to bind beside the address, below 2**64.
        """
        slot = (now + self._began) // self._slot
        return self._hash(address, number, slot, self._times(address, number, now))

    def check(self, cookie: int, address: Address, number: int, now: int) -> bool:
        """
        Whether a cookie was made for this in the present slot or the last, and not revoked
        since.
        """
        if not 0 < cookie <= 0xFFFFFFFF:
            return False
        slot = (now + self._began) // self._slot
        given = cookie.to_bytes(4, "big")
        times = self._times(address, number, now)
        return any(
            compare_digest(given, self._hash(address, number, s, times).to_bytes(4, "big"))
            for s in (slot, slot - 1)
        )

    def revoke(self, address: Address, number: int, now: int) -> None:
        """The cookies that were made for this so far are void; new ones are as good as ever."""
        revoked = self._revoked
        key = (address, number)
        times = self._times(address, number, now)
        revoked.pop(key, None)
        revoked[key] = (now + 2 * self._slot, (times + 1) & 0xFFFFFFFF)
        # In the order of their ends, so the lapsed are in front.
        for old in tuple(islice(revoked, 2)):
            if revoked[old][0] <= now or len(revoked) > MOST_REVOKED:
                del revoked[old]

    def __len__(self) -> int:
        """How much is remembered."""
        return len(self._revoked)

    def _times(self, address: Address, number: int, now: int) -> int:
        """How often this was revoked while the oldest cookie that is still valid lives."""
        if not self._revoked:
            return 0
        until, times = self._revoked.get((address, number), (0, 0))
        return times if now < until else 0

    def _hash(self, address: Address, number: int, slot: int, times: int) -> int:
        text = b"\0".join(str(part).encode("utf-8", "backslashreplace") for part in address)
        bound = slot.to_bytes(8, "big", signed=True) + number.to_bytes(8, "big")
        bound += times.to_bytes(4, "big") + text
        digest = blake2s(bound, key=self._secret, digest_size=4).digest()
        return int.from_bytes(digest, "big") or 1
