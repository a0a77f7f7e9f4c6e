"""
Encryption of datagrams (kcp.md 4), whole runs at a time: keys, ciphers by the names that
kcptun and kcp-go give them, and nonces.

A L{Crypt} belongs to a socket. It keeps its cipher contexts running instead of
making one for each datagram:

  - Encrypting, the first block of a datagram is random and thrown away by the
    receiver, and CFB decrypts a block by the one before it. So it does not
    matter what the register held before, and it is never reset.
  - Decrypting, the fixed initial vector is fed as a block in front of each
    datagram; CFB falls into step by itself.
"""

from __future__ import annotations

import hashlib
import os
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, repeat
from struct import iter_unpack
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, CipherAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES, SM4

from twisted_rudp.kcp.legacy_ciphers import EncryptBlock, tea, twofish, xtea
from twisted_rudp.kernels import check_frame, check_take, gather_run, spread_run
from twisted_rudp.kernels.pure import Buffer
from twisted_rudp.kernels.pure_framing import CHECKED_OVERHEAD, NONCE_SIZE

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    # Moved there in cryptography 47.
    from cryptography.hazmat.primitives.ciphers.modes import CFB

AEAD_NONCE_SIZE: Final = 12
AEAD_TAG_SIZE: Final = 16
AEAD_OVERHEAD: Final = AEAD_NONCE_SIZE + AEAD_TAG_SIZE

INITIAL_VECTOR: Final = bytes.fromhex("a7734f9c12ac1b01a415f2c1fc78e66b")
"""The one of kcp-go; ciphers with blocks of 8 bytes take its first half."""

_XOR_SALT: Final = b"sH3CIVoF#rWLtJo6"
_XOR_ITERATIONS: Final = 32

XOR_REACH: Final = 1500
"""Bytes of a datagram that C{xor} covers, so none may be longer."""

Entropy: TypeAlias = Callable[[int], bytes]
"""A cryptographically secure source: number of bytes -> so many."""

_BATCH: Final = 4096


_forks = 0


def _forked() -> None:
    """This process is a child: what its parent has drawn and not used is its parent's."""
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Nonces:
    """
    Draws from a source in batches: one call of the system for each nonce would
    cost a quarter of the encryption. A child that was forked draws anew, or both would seal
    with one nonce, which AES-GCM does not survive.
    """

    __slots__ = ("_entropy", "_forks", "_position", "_store")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._store = b""
        self._position = 0
        self._forks = _forks

    def take(self, count: int) -> bytes:
        """The next C{count} bytes; none is given twice."""
        if self._forks != _forks:
            self._store, self._position, self._forks = b"", 0, _forks
        end = self._position + count
        if end > len(self._store):
            rest = self._store[self._position :]
            self._store = rest + self._entropy(max(_BATCH, count))
            self._position, end = 0, count
        taken = self._store[self._position : end]
        self._position = end
        return taken


class Opened(NamedTuple):
    """
    A run after decryption.

    @ivar run: the datagrams that passed, C{size} bytes each.
    @ivar failed: those that did not, as received.
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


class DatagramCipher(Protocol):
    """A cipher, applied to datagrams that lie back to back."""

    @property
    def block(self) -> int:
        """Each datagram is to be padded to a multiple of this."""

    @property
    def lead(self) -> bytes:
        """What is to be put in front of each datagram before decrypting."""

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

    @ivar cipher: the cipher alone, without the framing.
    """

    overhead: Final = CHECKED_OVERHEAD

    def __init__(self, cipher: DatagramCipher, nonces: Nonces) -> None:
        self.cipher = cipher
        self._nonces = nonces

    def seal(self, run: Buffer, size: int) -> tuple[bytes, int]:
        """See L{Crypt}."""
        cipher = self.cipher
        total = len(run)
        count = -(-total // size)
        width = size + CHECKED_OVERHEAD
        stride = width + -width % cipher.block
        framed = check_frame(run, size, self._nonces.take(NONCE_SIZE * count), cipher.block)
        sealed = cipher.encrypt(framed, stride)
        total += count * CHECKED_OVERHEAD
        if len(sealed) == total:
            return sealed, width
        return gather_run(sealed, stride, 0, width, total), width

    def open(self, run: Buffer, size: int) -> Opened:
        """See L{Crypt}."""
        cipher = self.cipher
        lead = cipher.lead
        stride = len(lead) + size + -size % cipher.block
        plain = cipher.decrypt(spread_run(run, size, lead, cipher.block), stride)
        good, wrong = check_take(plain, stride, len(lead), size, len(run))
        failed = [run[size * at : size * (at + 1)] for at in wrong]
        return Opened(good, size - CHECKED_OVERHEAD, failed)


class AuthenticatedCrypt:
    """kcp-go's framing of AEAD ciphers: nonce, ciphertext, tag (kcp.md 4.4)."""

    overhead: Final = AEAD_OVERHEAD

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


def datagrams(data: bytes, stride: int) -> Iterator[bytes]:
    """The datagrams of a run, one by one."""
    for start in range(0, len(data), stride):
        yield data[start : start + stride]


class CFBCipher:
    """A block cipher in full-block CFB, one running context each way."""

    def __init__(self, algorithm: CipherAlgorithm) -> None:
        assert isinstance(algorithm, BlockCipherAlgorithm)
        self.block = algorithm.block_size // 8
        self.lead = INITIAL_VECTOR[: self.block]
        cipher = Cipher(algorithm, CFB(self.lead))
        self._encryptor = cipher.encryptor()
        self._decryptor = cipher.decryptor()

    def encrypt(self, data: bytes, stride: int) -> bytes:
        return self._encryptor.update(data)

    def decrypt(self, data: bytes, stride: int) -> bytes:
        return self._decryptor.update(data)


class NoCipher:
    """C{none}: framed as if encrypted, and not encrypted."""

    block: Final = 1
    lead: Final = b""

    def encrypt(self, data: bytes, stride: int) -> bytes:
        return data

    def decrypt(self, data: bytes, stride: int) -> bytes:
        return data


class XorCipher:
    """
    C{xor}: the same 1500 bytes over every datagram. It hides nothing from
    an observer.
    """

    block: Final = 1
    lead: Final = b""

    def __init__(self, key: bytes) -> None:
        self._table = hashlib.pbkdf2_hmac("sha1", key, _XOR_SALT, _XOR_ITERATIONS, XOR_REACH)

    def encrypt(self, data: bytes, stride: int) -> bytes:
        row = self._table[:stride].ljust(stride, b"\0")
        mask = (row * -(-len(data) // stride))[: len(data)]
        mixed = int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")
        return mixed.to_bytes(len(data), "little")

    def decrypt(self, data: bytes, stride: int) -> bytes:
        return self.encrypt(data, stride)


class BlockFunctionCFB:
    """A block cipher, given as a function, in full-block CFB."""

    block: Final = 1
    lead: Final = b""

    def __init__(self, encrypt: EncryptBlock, size: int) -> None:
        self._encrypt = encrypt
        self._size = size

    def encrypt(self, data: bytes, stride: int) -> bytes:
        return b"".join(self._feed(each, True) for each in datagrams(data, stride))

    def decrypt(self, data: bytes, stride: int) -> bytes:
        return b"".join(self._feed(each, False) for each in datagrams(data, stride))

    def _feed(self, data: bytes, encrypting: bool) -> bytes:
        size = self._size
        register = INITIAL_VECTOR[:size]
        out: list[bytes] = []
        for start in range(0, len(data), size):
            block = data[start : start + size]
            stream = self._encrypt(register)[: len(block)]
            mixed = int.from_bytes(block, "big") ^ int.from_bytes(stream, "big")
            result = mixed.to_bytes(len(block), "big")
            out.append(result)
            register = result if encrypting else block
        return b"".join(out)


def salsa20() -> Callable[..., Any]:
    """
    The constructor of pycryptodome's cipher, imported when it is chosen.

    @raise ValueError: pycryptodome is not installed.
    """
    try:
        module = import_module("Crypto.Cipher.Salsa20")
    except ImportError:
        raise ValueError(
            "crypt=salsa20 needs pycryptodome: pip install 'twisted_rudp[legacy]'"
        ) from None
    new: Callable[..., Any] = module.new
    return new


class Salsa20Cipher:
    """Salsa20/20; the first 8 bytes of a datagram are its nonce and stay in clear."""

    block: Final = 1
    lead: Final = b""

    def __init__(self, key: bytes) -> None:
        """
        @param key: at most 32 bytes; a shorter one is padded with zeros, as kcp-go does.
        @raise ValueError: pycryptodome is not installed.
        """
        self._new = salsa20()
        self._key = key.ljust(32, b"\0")

    def encrypt(self, data: bytes, stride: int) -> bytes:
        return b"".join(self._mix(each) for each in datagrams(data, stride))

    def decrypt(self, data: bytes, stride: int) -> bytes:
        return self.encrypt(data, stride)

    def _mix(self, datagram: bytes) -> bytes:
        nonce = datagram[:8]
        if len(nonce) < 8:
            # Too short for anything: the checksum refuses it.
            return datagram
        body: bytes = self._new(key=self._key, nonce=nonce).encrypt(datagram[8:])
        return nonce + body


DEFAULT: Final = "aes"
"""What a key without a cipher means: nobody gets plaintext by forgetting an argument."""

CipherName: TypeAlias = Literal[
    "null",
    "none",
    "aes",
    "aes-128",
    "aes-192",
    "aes-128-gcm",
    "aes-192-gcm",
    "aes-256-gcm",
    "sm4",
    "blowfish",
    "cast5",
    "3des",
    "xor",
    "salsa20",
    "twofish",
    "tea",
    "xtea",
]

WITHOUT_KEY: Final = frozenset({"null", "none"})


@dataclass(frozen=True)
class CipherKind:
    """
    What is known of a cipher before there is a key.

    @ivar taken: how many bytes of a longer key it uses, as in kcptun.
    @ivar sizes: key lengths that are used unchanged.
    @ivar slow: it is computed in Python.
    @ivar overhead: bytes that it adds to a datagram.
    @ivar needs: raises C{ValueError} where an extra is missing.
    """

    make: Callable[[bytes, Nonces], Crypt]
    taken: int
    sizes: range | tuple[int, ...]
    slow: bool = False
    overhead: int = CHECKED_OVERHEAD
    needs: Callable[[], object] | None = None

    def fit(self, key: bytes) -> bytes:
        """
        The part of a key that the cipher uses.

        @raise ValueError: the key is too short. The error shows its length, not the key.
        """
        if len(key) in self.sizes:
            return key
        if len(key) < self.taken:
            sizes = ", ".join(map(str, self.sizes[:4]))
            raise ValueError(f"key: {len(key)} bytes are too few: {sizes} or more are needed")
        return key[: self.taken]


def _checked(cipher: Callable[[bytes], DatagramCipher]) -> Callable[[bytes, Nonces], Crypt]:
    return lambda key, nonces: CheckedCrypt(cipher(key), nonces)


def _library(algorithm: Callable[[bytes], CipherAlgorithm], taken: int, *sizes: int) -> CipherKind:
    return CipherKind(_checked(lambda key: CFBCipher(algorithm(key))), taken, sizes or (taken,))


def _old(name: str) -> Callable[[bytes], CipherAlgorithm]:
    """
    A cipher that C{cryptography} moved to its package C{decrepit} in release 43. Before, importing
    it gave a warning; so it is imported when it is chosen.
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
    C{cryptography} wants keys of four bytes or more. The cipher repeats its key, so a shorter
    one is equal to itself written several times.
    """
    return _old("Blowfish")(key if len(key) >= 4 else key * 4)


def _plain(
    block: Callable[[bytes], EncryptBlock], size: int, taken: int, *sizes: int
) -> CipherKind:
    return CipherKind(
        _checked(lambda key: BlockFunctionCFB(block(key), size)),
        taken,
        sizes or (taken,),
        slow=True,
    )


def _authenticated(size: int) -> CipherKind:
    return CipherKind(
        lambda key, nonces: AuthenticatedCrypt(AESGCM(key), nonces),
        size,
        (size,),
        overhead=AEAD_OVERHEAD,
    )


CIPHERS: Final[Mapping[str, CipherKind]] = MappingProxyType(
    {
        "none": CipherKind(_checked(lambda key: NoCipher()), 0, (0,)),
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
        "xor": CipherKind(_checked(XorCipher), 1, range(1, 4097)),
        "salsa20": CipherKind(_checked(Salsa20Cipher), 32, range(1, 33), needs=salsa20),
        "twofish": _plain(twofish, 16, 32, 16, 24, 32),
        "tea": _plain(tea, 8, 16),
        "xtea": _plain(xtea, 8, 16),
    }
)
"""All but C{null}, which means neither cipher nor header."""

NAMES: Final = ("null", *CIPHERS)


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


_SALT: Final = b"kcp-go"
_ITERATIONS: Final = 4096
_KEY_SIZE: Final = 32


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
        @raise ValueError: the cipher is not known, has no key, or is C{null} and has one.
        """
        name = crypt or (DEFAULT if key is not None else "null")
        if name not in NAMES:
            kind_of(name)
        if name == "null" and key is not None:
            raise ValueError("crypt=null encrypts nothing, so it takes no key or password")
        if name in WITHOUT_KEY:
            # kcptun's users always give a key; C{none} frames as ciphers do and does not use it.
            key = None
        if name not in WITHOUT_KEY and key is None:
            raise ValueError(f"crypt={name} needs a key, a keyFile or a password")
        if key is not None:
            kind = kind_of(name)
            kind.fit(key)
            if kind.needs is not None:
                kind.needs()
        self.crypt = name
        self._key = key or b""

    def reveal(self) -> bytes:
        """The key itself."""
        return self._key

    def __repr__(self) -> str:
        return f"<Secret {self.crypt}>"
