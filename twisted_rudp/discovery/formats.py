"""Which protocol a datagram belongs to, by its magic (discovery.md 0)."""

from __future__ import annotations

from enum import Enum

from twisted_rudp.discovery import legacy, v1, v4


class Format(Enum):
    """What a datagram claims to be."""

    V1_ANNOUNCE = "v1"
    V1_QUERY = "v1 query"
    V2_ANNOUNCE = "v2"
    V2_QUERY = "v2 query"
    V3_ANNOUNCE = "v3"
    V3_QUERY = "v3 query"
    V0_12 = "v0.12"
    V0_13 = "v0.13"
    V4 = "v4"
    UNKNOWN = "unknown"


_MAGICS = {
    v1.ANNOUNCE: Format.V1_ANNOUNCE,
    v1.QUERY: Format.V1_QUERY,
    legacy.V2_ANNOUNCE: Format.V2_ANNOUNCE,
    legacy.V2_QUERY: Format.V2_QUERY,
    legacy.V3_ANNOUNCE: Format.V3_ANNOUNCE,
    legacy.V3_QUERY: Format.V3_QUERY,
    legacy.V0_12_ANNOUNCE: Format.V0_12,
    legacy.V0_13_ANNOUNCE: Format.V0_13,
    v4.MAGIC: Format.V4,
}

OLD = frozenset(_MAGICS.values()) - {Format.V1_ANNOUNCE, Format.V1_QUERY, Format.V4}
"""Formats that are recognised and not used."""


def format_of(datagram: bytes) -> Format:
    """By the first four bytes only; whether the rest fits is for the decoders."""
    return _MAGICS.get(int.from_bytes(datagram[:4], "big"), Format.UNKNOWN)
