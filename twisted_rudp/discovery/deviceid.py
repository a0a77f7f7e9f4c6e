"""
Device ids: the SHA-256 of a certificate, or a public key, as text with check symbols
that catch a typing error (discovery.md 3.5).
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from hashlib import sha256

LENGTH = 32

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_VALUES = {symbol: value for value, symbol in enumerate(_ALPHABET)}
_GROUP = 13
_PLAIN = 52
_CHECKED = 56
_TYPED = str.maketrans("018", "OIB", "- ")


def from_certificate(der: bytes) -> bytes:
    """The id of whoever has this certificate."""
    return sha256(der).digest()


def unchecked(raw: bytes) -> str:
    """The 52 symbols without the check symbols, as ids were written before 2014."""
    return b32encode(raw).decode("ascii").rstrip("=")


def to_text(raw: bytes) -> str:
    """
    Eight groups of seven symbols; the empty text for the id that is all zero.

    @param raw: 32 bytes.
    """
    if not any(raw):
        return ""
    plain = unchecked(raw)
    groups = [plain[start : start + _GROUP] for start in range(0, _PLAIN, _GROUP)]
    checked = "".join(group + _check_symbol(group) for group in groups)
    return "-".join(checked[start : start + 7] for start in range(0, _CHECKED, 7))


def from_text(text: str) -> bytes:
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
