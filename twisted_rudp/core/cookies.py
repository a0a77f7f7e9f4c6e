"""
Cookies: proof that a peer receives at its address, kept without state.

A cookie is a keyed hash of what is to be bound (address, conversation ...) and
of a coarse time slot. Whoever returns it has received it; nobody else can know
it, and we need to remember nothing until it comes back.
"""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest

from twisted_rudp.core.engine import SECOND, Address

SLOT = 10 * SECOND


class Cookies:
    """
    Makes and checks 32-bit cookies. Never 0, which wires use for I{none}.

    @param secret: 16 to 32 random bytes; a new one makes all old cookies void.
    @param slot: nanoseconds for which a cookie is made; it is accepted for one
        slot more.
    """

    __slots__ = ("_secret", "_slot")

    def __init__(self, secret: bytes, slot: int = SLOT) -> None:
        if not 16 <= len(secret) <= 32:
            raise ValueError(f"secret: {len(secret)} bytes; 16 to 32 are needed")
        self._secret = secret
        self._slot = slot

    def make(self, address: Address, what: int, now: int) -> int:
        """
        The cookie of this time slot.

        @param what: a number to bind beside the address, below 2**64.
        """
        return self._hash(address, what, now // self._slot)

    def check(self, cookie: int, address: Address, what: int, now: int) -> bool:
        """Whether a cookie was made for this in the present slot or the last."""
        if not 0 < cookie <= 0xFFFFFFFF:
            return False
        slot = now // self._slot
        given = cookie.to_bytes(4, "big")
        return any(
            compare_digest(given, self._hash(address, what, s).to_bytes(4, "big"))
            for s in (slot, slot - 1)
        )

    def _hash(self, address: Address, what: int, slot: int) -> int:
        text = b"\0".join(str(part).encode("utf-8", "backslashreplace") for part in address)
        bound = slot.to_bytes(8, "big", signed=True) + what.to_bytes(8, "big") + text
        digest = blake2s(bound, key=self._secret, digest_size=4).digest()
        return int.from_bytes(digest, "big") or 1
