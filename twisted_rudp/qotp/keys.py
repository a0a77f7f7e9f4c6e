"""Keys: identities, Diffie-Hellman, key files (qotp.md 1 and 10)."""

from __future__ import annotations

import os
import re
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final, NamedTuple

from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError

KEY_SIZE: Final = 32

_HEX: Final = re.compile(r"(0x)?([0-9a-fA-F]{64})", re.ASCII)


class LowOrder(ValueError):
    """A public key with which every exchange gives zeros. No honest key is like that."""


class KeyPair:
    """
    A private key and what belongs to it.

    @ivar public: 32 bytes, to be shown to everybody.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        """
        @param private: 32 bytes; clamped on use only (RFC 7748).
        """
        if len(private) != KEY_SIZE:
            raise ValueError(f"a private key has {KEY_SIZE} bytes, not {len(private)}")
        self._private = private
        self.public: bytes = crypto_scalarmult_base(private)

    @classmethod
    def from_text(cls, seed: str) -> KeyPair:
        """
        The release's key of a seed: SHA-256 of its UTF-8 text. As hard to guess as
        the text, no more.
        """
        return cls(sha256(seed.encode("utf-8")).digest())

    @classmethod
    def from_hex(cls, seed: str) -> KeyPair:
        """
        @param seed: 64 hex digits, with or without C{0x} in front.
        @raise ValueError: it is something else; the text is not repeated.
        """
        return cls(parse_key(seed))

    @classmethod
    def from_file(cls, path: str) -> KeyPair:
        """
        @param path: of a file that L{create_key_file} made.
        @raise OSError: it cannot be read.
        @raise ValueError: it holds something else.
        """
        return cls(parse_key(Path(path).read_text(encoding="ascii", errors="replace").strip()))

    def exchange(self, public: bytes) -> bytes:
        """
        X25519.

        @raise LowOrder: the result would be all zeros.
        """
        try:
            shared: bytes = crypto_scalarmult(self._private, public)
        except CryptoError as error:
            raise LowOrder("the other side's key is of low order") from error
        if not any(shared):
            raise LowOrder("the other side's key is of low order")
        return shared

    def derive(self, purpose: bytes) -> bytes:
        """32 secret bytes that only the owner of this key can make, the same each time."""
        return blake2b(purpose, key=self._private, digest_size=32).digest()

    def private_hex(self) -> str:
        """The secret itself, for a key file."""
        return self._private.hex()


class Secrets(NamedTuple):
    """
    What both sides know when they have exchanged keys.

    @ivar session: K.
    @ivar opening: K0; None in the in-band form.
    @ivar initiator: the initiator's ephemeral key, then its identity.
    @ivar responder: the same of the other side.
    """

    session: bytes
    opening: bytes | None
    initiator: tuple[bytes, bytes]
    responder: tuple[bytes, bytes]

    def __repr__(self) -> str:
        # A log or a traceback must not give the keys away.
        return f"Secrets of {self.initiator[0][:8].hex()}"


def parse_key(text: str) -> bytes:
    """
    A key in hex digits.

    @raise ValueError: not 64 hex digits. The text may be a secret and is not
        repeated.
    """
    found = _HEX.fullmatch(text)
    if found is None:
        raise ValueError("a key is 64 hex digits")
    return bytes.fromhex(found[2])


def create_key_file(path: str, private: bytes) -> KeyPair:
    """
    Write a new key file that its owner alone can read (mode 0600 from the first
    moment).

    @raise FileExistsError: there is one already; keys are never overwritten.
    """
    pair = KeyPair(private)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(pair.private_hex() + "\n")
    return pair
