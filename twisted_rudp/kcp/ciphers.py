"""The ciphers by the names that kcptun and kcp-go give them (kcp.md 4.2 to 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

from cryptography.hazmat.primitives.ciphers import CipherAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES, SM4

from twisted_rudp.kcp.crypto import (
    AuthenticatedCrypt,
    CheckedCrypt,
    Crypt,
    Scrambler,
)
from twisted_rudp.kcp.nonces import Entropy, Nonces
from twisted_rudp.kcp.scramblers import CFBScrambler, NoScrambler, XorScrambler
from twisted_rudp.kcp.slow_ciphers import (
    EncryptBlock,
    Salsa20Scrambler,
    SlowCFB,
    tea,
    twofish,
    xtea,
)
from twisted_rudp.kernels.pure_framing import CHECKED_OVERHEAD

DEFAULT = "aes"
"""What a key without a cipher means: nobody gets plaintext by forgetting an argument."""

WITHOUT_KEY = frozenset({"null", "none"})


@dataclass(frozen=True)
class CipherKind:
    """
    What is to be known of a cipher before there is a key.

    @ivar taken: how many bytes it takes of a longer key, as kcptun has it.
    @ivar sizes: key lengths that are used as they are.
    @ivar slow: it is in plain Python.
    @ivar overhead: bytes that it adds to a datagram.
    """

    make: Callable[[bytes, Nonces], Crypt]
    taken: int
    sizes: range | tuple[int, ...]
    slow: bool = False
    overhead: int = CHECKED_OVERHEAD

    def fit(self, key: bytes) -> bytes:
        """
        What the cipher uses of a key.

        @raise ValueError: it is too short; says how long it is, not what it is.
        """
        if len(key) in self.sizes:
            return key
        if len(key) < self.taken:
            sizes = ", ".join(map(str, self.sizes[:4]))
            raise ValueError(f"a key of {len(key)} bytes is too short: {sizes} or more are needed")
        return key[: self.taken]


def _checked(scrambler: Callable[[bytes], Scrambler]) -> Callable[[bytes, Nonces], Crypt]:
    return lambda key, nonces: CheckedCrypt(scrambler(key), nonces)


def _library(
    algorithm: Callable[[bytes], CipherAlgorithm], taken: int, *sizes: int
) -> CipherKind:
    return CipherKind(
        _checked(lambda key: CFBScrambler(algorithm(key))), taken, sizes or (taken,)
    )


def _old(name: str) -> Callable[[bytes], CipherAlgorithm]:
    """
    A cipher that C{cryptography} keeps apart since its release 43 and before warned
    of when it was imported; so that is done when it is chosen.
    """

    def make(key: bytes) -> CipherAlgorithm:
        try:
            module = import_module("cryptography.hazmat.decrepit.ciphers.algorithms")
        except ImportError:
            module = import_module("cryptography.hazmat.primitives.ciphers.algorithms")
        algorithm: CipherAlgorithm = getattr(module, name)(key)
        return algorithm

    return make


def _blowfish(key: bytes) -> CipherAlgorithm:
    """
    C{cryptography} takes four bytes or more. The cipher goes round and round its
    key, so a shorter one is the same as itself written several times.
    """
    return _old("Blowfish")(key if len(key) >= 4 else key * 4)


def _plain(
    block: Callable[[bytes], EncryptBlock], size: int, taken: int, *sizes: int
) -> CipherKind:
    return CipherKind(
        _checked(lambda key: SlowCFB(block(key), size)), taken, sizes or (taken,), slow=True
    )


def _authenticated(size: int) -> CipherKind:
    return CipherKind(
        lambda key, nonces: AuthenticatedCrypt(AESGCM(key), nonces),
        size,
        (size,),
        overhead=AuthenticatedCrypt.overhead,
    )


CIPHERS: Mapping[str, CipherKind] = MappingProxyType(
    {
        "none": CipherKind(_checked(lambda key: NoScrambler()), 0, (0,)),
        "aes": _library(AES, 32),
        "aes-128": _library(AES, 16),
        "aes-192": _library(AES, 24),
        "aes-128-gcm": _authenticated(16),
        "aes-192-gcm": _authenticated(24),
        "aes-256-gcm": _authenticated(32),
        "sm4": _library(SM4, 16),
        "blowfish": _library(_blowfish, 32, *range(1, 57)),
        "cast5": _library(_old("CAST5"), 16),
        "3des": _library(_old("TripleDES"), 24),
        "xor": CipherKind(_checked(XorScrambler), 1, range(1, 4097)),
        "salsa20": CipherKind(_checked(Salsa20Scrambler), 32, range(1, 33), slow=True),
        "twofish": _plain(twofish, 16, 32, 16, 24, 32),
        "tea": _plain(tea, 8, 16),
        "xtea": _plain(xtea, 8, 16),
    }
)
"""All but C{null}, which is no cipher and no header."""

NAMES = ("null", *CIPHERS)


def make_crypt(name: str, key: bytes, entropy: Entropy) -> Crypt | None:
    """
    The encryption for one socket.

    @param key: ignored by C{null} and C{none}.
    @return: None for C{null}.
    @raise ValueError: the name is not known, or the key too short.
    """
    if name == "null":
        return None
    kind = kind_of(name)
    fitting = b"" if name in WITHOUT_KEY else kind.fit(key)
    return kind.make(fitting, Nonces(entropy))


def kind_of(name: str) -> CipherKind:
    """
    @raise ValueError: there is no such cipher; names all.
    """
    try:
        return CIPHERS[name]
    except KeyError:
        raise ValueError(f"crypt={name!r} is not one of {', '.join(NAMES)}") from None


def overhead_of(name: str) -> int:
    """
    Bytes that encryption adds to a datagram.

    @raise ValueError: there is no such cipher.
    """
    return 0 if name == "null" else kind_of(name).overhead
