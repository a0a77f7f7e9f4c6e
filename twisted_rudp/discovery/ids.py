"""Node ids, and their text form: device ids with check symbols (discovery.md 3.5)."""

from __future__ import annotations

import re
from base64 import b32decode, b32encode
from dataclasses import dataclass, field
from hashlib import sha256

LENGTH = 32

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_VALUES = {symbol: value for value, symbol in enumerate(_ALPHABET)}
_GROUP = 13
_PLAIN = 52
_CHECKED = 56
_TYPED = str.maketrans("018", "OIB", "- ")


def device_id_unchecked(raw: bytes) -> str:
    """The 52 symbols without the check symbols, as ids were written before 2014."""
    return b32encode(raw).decode("ascii").rstrip("=")


def to_device_id(raw: bytes) -> str:
    """
    Eight groups of seven symbols; the empty text for the id that is all zero.

    @param raw: 32 bytes.
    """
    if not any(raw):
        return ""
    plain = device_id_unchecked(raw)
    groups = [plain[start : start + _GROUP] for start in range(0, _PLAIN, _GROUP)]
    checked = "".join(group + _check_symbol(group) for group in groups)
    return "-".join(checked[start : start + 7] for start in range(0, _CHECKED, 7))


def from_device_id(text: str) -> bytes:
    """
    Reads what people type: any case, with or without dashes and spaces, 0, 1 and 8
    for the letters they look like, 52 symbols without check symbols.

    @return: 32 bytes; the empty text gives the id that is all zero.
    @raise ValueError: says what is wrong.
    """
    symbols = text.strip("=").upper().translate(_TYPED)
    if not symbols:
        return bytes(LENGTH)
    if len(symbols) not in (_PLAIN, _CHECKED):
        raise ValueError(f"a device id has {_CHECKED} letters and digits, not {len(symbols)}")
    for symbol in symbols:
        if symbol not in _VALUES:
            raise ValueError(f"{symbol!r} does not occur in a device id")
    if len(symbols) == _CHECKED:
        symbols = _without_checks(symbols)
    return b32decode(symbols + "====")


def _without_checks(symbols: str) -> str:
    groups = [symbols[start : start + _GROUP + 1] for start in range(0, _CHECKED, _GROUP + 1)]
    for group in groups:
        if _check_symbol(group[:_GROUP]) != group[_GROUP]:
            raise ValueError(f"a typing error in or near {group[:7]}-{group[7:]}")
    return "".join(group[:_GROUP] for group in groups)


def _check_symbol(group: str) -> str:
    """
    Luhn's idea modulo 32 as the original has it: from left to right, beginning with
    factor one, which libraries for Luhn do not compute.
    """
    total = 0
    factor = 1
    for symbol in group:
        product = factor * _VALUES[symbol]
        total += product // 32 + product % 32
        factor = 3 - factor
    return _ALPHABET[-total % 32]


LONGEST_NAME = 64
"""Bytes of a name; the servers from 2014 on take no longer ids (discovery.md 1.3)."""

_NAMED = b"twisted_rudp node name\0"
_HEX = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_SYMBOLS = re.compile(r"[A-Za-z2-7]{52}([A-Za-z0-8]{4})?", re.ASCII)
_GROUPS = re.compile(r"[A-Za-z0-9]{7}([- ][A-Za-z0-9]{7}){7}", re.ASCII)


@dataclass(frozen=True)
class NodeId:
    """
    32 bytes that name a node: its public key, the hash of its certificate, or the hash
    of a name somebody chose. Only the first two can be proved.

    @ivar key: what is compared, and what v4 carries.
    @ivar name: what v1 carries, where the id comes from a name.
    """

    key: bytes
    name: bytes | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """
        @raise ValueError: not 32 bytes, or all zero.
        """
        if len(self.key) != LENGTH or not any(self.key):
            raise ValueError("a node's id is 32 bytes, not all of them zero")

    @classmethod
    def from_name(cls, name: bytes) -> NodeId:
        """
        The id of a node that is called so.

        @raise ValueError: an empty or too long name.
        """
        if not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"a node's name has 1 to {LONGEST_NAME} bytes, not {len(name)}")
        return cls(sha256(_NAMED + name).digest(), name)

    @classmethod
    def from_key(cls, key: bytes, name: bytes) -> NodeId:
        """
        The id with this key, called so if that is what the key is made from.

        @raise ValueError: not 32 bytes, or all zero.
        """
        if 0 < len(name) <= LONGEST_NAME and cls.from_name(name).key == key:
            return cls(key, name)
        return cls(key)

    @classmethod
    def from_text(cls, text: str) -> NodeId:
        """
        What a person typed: a device id with or without check symbols, 64 hexadecimal
        digits of a key, or else a name.

        @raise ValueError: a device id with a typing error, or a name that is too long.
        """
        if _HEX.fullmatch(text):
            return cls(bytes.fromhex(text))
        if _GROUPS.fullmatch(text) or _SYMBOLS.fullmatch(text):
            return cls(from_device_id(text))
        return cls.from_name(text.encode("utf-8", "strict"))

    @classmethod
    def from_v1(cls, wire: bytes) -> NodeId:
        """
        What v1 carried: the text of a device id, as its programs sent, or any bytes.

        @raise ValueError: no bytes or too many.
        """
        text = wire.decode("latin-1")
        if _GROUPS.fullmatch(text) or _SYMBOLS.fullmatch(text):
            try:
                return cls(from_device_id(text))
            except ValueError:
                return cls.from_name(wire)
        return cls.from_name(wire)

    @property
    def v1(self) -> bytes:
        """As v1 carries it."""
        if self.name is not None:
            return self.name
        return device_id_unchecked(self.key).encode("ascii")

    @property
    def text(self) -> str:
        """For people; L{from_text} reads it. Unprintable bytes of a name are escaped."""
        if self.name is None:
            return to_device_id(self.key)
        name = self.name.decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
