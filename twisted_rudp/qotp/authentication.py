"""
Authentication of the dialler, and with a password of both sides, between our own ends
(qotp.md 17.1).

The listener's first answer says what it asks for. The dialler's first Data carries its
proofs, the listener takes nothing else from it before they are found right, and it answers
with its own proof or with the reason of its refusal. All proofs contain a secret of this
connection that only its two ends know, so none is of use in another one.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b, scrypt
from typing import Final

from twisted_rudp.core.engine import Address
from twisted_rudp.core.limits import network_of
from twisted_rudp.qotp.extensions import Accepted, Proof
from twisted_rudp.qotp.keys import KeyPair, LowOrder

KEY: Final = 1
"""The dialler is to prove that it owns the identity key that it has shown."""

PASSWORD: Final = 2
"""Both sides are to prove that they know the password."""

VERSION: Final = 1

LABEL: Final = b"twisted_rudp authentication 1"
"""Of the exported secret that all proofs contain."""

MAX_WAITING: Final = 1024
"""Diallers of one socket that have not authenticated themselves, those that were refused of
late included."""

MAX_WAITING_OF_NETWORK: Final = 32
"""Of these from one IPv4 address or IPv6 /64. It bounds how fast a password can be tried."""

_NOTHING: Final = bytes(32)
_SALT: Final = b"twisted_rudp QOTP password"


class Refusal(IntEnum):
    """Why a dialler was refused: the code of the abort that it gets."""

    VERSION = 0x101
    UNPROVED = 0x102
    NOT_ALLOWED = 0x103
    PASSWORD = 0x104


LISTENERS_WORDS: Final[dict[Refusal, str]] = {
    Refusal.VERSION: "it authenticates itself in another version",
    Refusal.UNPROVED: "it did not prove that it owns its key",
    Refusal.NOT_ALLOWED: "its key is not among the allowed ones",
    Refusal.PASSWORD: "its password is missing or wrong",
}

DIALLERS_WORDS: Final[dict[Refusal, str]] = {
    Refusal.VERSION: "the server authenticates clients in another version",
    Refusal.UNPROVED: "the server found no proof of our key",
    Refusal.NOT_ALLOWED: "the server does not allow our key",
    Refusal.PASSWORD: "the server asks for a password, and ours is missing or wrong",
}


def refusal_of(code: int) -> Refusal | None:
    """The refusal that an abort tells of, if it is one."""
    return Refusal(code) if Refusal.VERSION <= code <= Refusal.PASSWORD else None


class Password:
    """What is kept of a password: a key that takes 30 ms to make of it, against guessing."""

    __slots__ = ("_key",)

    def __init__(self, text: str | bytes) -> None:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self._key = scrypt(data, salt=_SALT, n=1 << 14, r=8, p=1, dklen=32)

    def proof(self, whose: bytes, secret: bytes) -> bytes:
        """
        @param whose: C{b"dialler"} or C{b"listener"}: one side's proof is not the other's.
        @param secret: of the connection.
        """
        return hmac.digest(self._key, whose + b" knows the password" + secret, "sha256")


@dataclass(frozen=True)
class Policy:
    """
    Who may talk to us.

    @ivar password: both sides have to know it.
    @ivar allowed: says whether a listener accepts a dialler with this key; None: it accepts
        all.
    @ivar ask_key: a listener asks every dialler to prove its key, and accepts who cannot.
    """

    password: Password | None = None
    allowed: Callable[[bytes], bool] | None = None
    ask_key: bool = False

    @property
    def wanted(self) -> int:
        """What a listener asks its diallers to prove."""
        key = KEY if self.ask_key or self.allowed is not None else 0
        return key if self.password is None else key | PASSWORD

    @property
    def required(self) -> bool:
        """A listener refuses a dialler that proves nothing."""
        return self.allowed is not None or self.password is not None


def _key_proof(shared: bytes, secret: bytes) -> bytes:
    key = blake2b(b"dialler's key", key=shared, digest_size=32).digest()
    return hmac.digest(key, secret, "sha256")


class InitiatorAuthentication:
    """The dialler's part, on one connection."""

    __slots__ = ("_password", "_secret")

    def __init__(self, password: Password | None, secret: bytes) -> None:
        """
        @param secret: exported from the connection.
        """
        self._password = password
        self._secret = secret

    def proof(self, wanted: int, identity: KeyPair, ephemeral: bytes) -> Proof:
        """
        What proves who we are.

        @param wanted: L{KEY} and L{PASSWORD}, as far as the listener asks for them.
        @param ephemeral: the listener's key of this connection.
        """
        given = 0
        key = password = _NOTHING
        if wanted & KEY:
            given |= KEY
            key = _key_proof(identity.exchange(ephemeral), self._secret)
        if wanted & PASSWORD and self._password is not None:
            given |= PASSWORD
            password = self._password.proof(b"dialler", self._secret)
        return Proof(VERSION, given, key, password)

    def accepts(self, answer: Accepted) -> bool:
        """Whether the listener knows the password, if there is one."""
        password = self._password
        if password is None:
            return True
        wanted = password.proof(b"listener", self._secret)
        return hmac.compare_digest(answer.password, wanted)


class ResponderAuthentication:
    """
    The listener's part, on one connection.

    @ivar policy: whom to accept.
    @ivar passed: to be called when the dialler has been accepted.
    """

    __slots__ = ("_ephemeral", "passed", "policy")

    def __init__(self, policy: Policy, ephemeral: KeyPair, passed: Callable[[], None]) -> None:
        """
        @param ephemeral: our key of this connection.
        """
        self._ephemeral = ephemeral
        self.policy = policy
        self.passed = passed

    def judge(self, proof: Proof, identity: bytes, secret: bytes) -> Refusal | None:
        """
        See whether a dialler is who it should be.

        @param identity: the key that it has shown.
        @param secret: exported from the connection.
        @return: None if it is.
        """
        policy = self.policy
        if proof.version != VERSION:
            return Refusal.VERSION
        if policy.wanted & KEY:
            if not self._owns(proof, identity, secret):
                return Refusal.UNPROVED
            if policy.allowed is not None and not policy.allowed(identity):
                return Refusal.NOT_ALLOWED
        password = policy.password
        if password is not None:
            right = hmac.compare_digest(proof.password, password.proof(b"dialler", secret))
            if not (right and proof.given & PASSWORD):
                return Refusal.PASSWORD
        return None

    def _owns(self, proof: Proof, identity: bytes, secret: bytes) -> bool:
        try:
            shared = self._ephemeral.exchange(identity)
        except LowOrder:
            return False
        return bool(proof.given & KEY) and hmac.compare_digest(
            proof.key, _key_proof(shared, secret)
        )

    def answer(self, secret: bytes) -> Accepted:
        """The proof that we know the password too, for who has proved that it does."""
        password = self.policy.password
        proof = _NOTHING if password is None else password.proof(b"listener", secret)
        return Accepted(VERSION, proof)


class Waiting:
    """The diallers of one socket that have not authenticated themselves: how many there may be."""

    def __init__(
        self, total: int = MAX_WAITING, each: int = MAX_WAITING_OF_NETWORK
    ) -> None:
        self._total = total
        self._each = each
        self._waiting: dict[bytes, Hashable] = {}
        self._networks: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, name: bytes, address: Address) -> bool:
        """
        One more.

        @param name: its connection id.
        @return: whether there is room for it.
        """
        network = network_of(address)
        if len(self._waiting) >= self._total or self._networks[network] >= self._each:
            if not self._networks[network]:
                del self._networks[network]
            return False
        self._waiting[name] = network
        self._networks[network] += 1
        return True

    def leave(self, name: bytes) -> None:
        """It has authenticated itself, or is gone. Harmless for others."""
        network = self._waiting.pop(name, None)
        if network is not None:
            self._networks[network] -= 1
            if not self._networks[network]:
                del self._networks[network]
