"""Who a node is, whatever the wire calls it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256

from twisted_rudp.discovery import deviceid

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
        if len(self.key) != deviceid.LENGTH or not any(self.key):
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
            return cls(deviceid.from_text(text))
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
                return cls(deviceid.from_text(text))
            except ValueError:
                return cls.from_name(wire)
        return cls.from_name(wire)

    @property
    def v1(self) -> bytes:
        """As v1 carries it."""
        if self.name is not None:
            return self.name
        return deviceid.unchecked(self.key).encode("ascii")

    @property
    def text(self) -> str:
        """For people; L{from_text} reads it. Unprintable bytes of a name are escaped."""
        if self.name is None:
            return deviceid.to_text(self.key)
        name = self.name.decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
