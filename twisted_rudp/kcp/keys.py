"""
Keys: from hexadecimal digits, from a password as kcptun has it, and which
cipher goes with them. No error text repeats a secret.
"""

from __future__ import annotations

import hashlib
import string

from twisted_rudp.kcp.ciphers import DEFAULT, NAMES, WITHOUT_KEY, kind_of

_SALT = b"kcp-go"
_ITERATIONS = 4096
_KEY_SIZE = 32


def from_hex(digits: str) -> bytes:
    """
    @param digits: white space around them does not count.
    @raise ValueError: they are not hexadecimal, or not in pairs, or none.
    """
    digits = digits.strip()
    if not digits or len(digits) % 2 or not set(digits) <= set(string.hexdigits):
        raise ValueError(
            "key: pairs of hexadecimal digits are expected; what kcptun calls key is password"
        )
    return bytes.fromhex(digits)


def from_password(password: str) -> bytes:
    """kcptun's derivation (kcp.md 8.2): 32 bytes, of which each cipher takes the first ones."""
    return hashlib.pbkdf2_hmac("sha1", password.encode(), _SALT, _ITERATIONS, _KEY_SIZE)


class Secret:
    """
    A cipher and its key, which show nothing of the key.

    @ivar crypt: name of the cipher.
    """

    __slots__ = ("_key", "crypt")

    def __init__(self, crypt: str | None, key: bytes | None) -> None:
        """
        @param crypt: None: C{aes} with a key, C{null} without.
        @raise ValueError: the cipher is not known, has no key, or needs none
            and has one.
        """
        name = crypt or (DEFAULT if key is not None else "null")
        if name not in NAMES:
            kind_of(name)
        if name in WITHOUT_KEY and key is not None:
            raise ValueError(f"crypt={name} encrypts nothing, so it takes no key or password")
        if name not in WITHOUT_KEY and key is None:
            raise ValueError(f"crypt={name} needs a key, a keyFile or a password")
        if key is not None:
            kind_of(name).fit(key)
        self.crypt = name
        self._key = key or b""

    def reveal(self) -> bytes:
        """The key itself."""
        return self._key

    def __repr__(self) -> str:
        return f"<Secret {self.crypt}>"
