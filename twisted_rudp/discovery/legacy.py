"""
The announcement formats of 2014 to 2016 (discovery.md 2), for reading only, and the
magics of all formats. A listener logs the nodes that still use one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.xdr import FormatError, Reader

_Item = TypeVar("_Item")

V2_ANNOUNCE = 0x029E4C77
V2_QUERY = 0x23D63A9A
V3_ANNOUNCE = 0x9D79BC39
V3_QUERY = 0x2CA856F5
V0_12_ANNOUNCE = 0x9D79BC40
V0_13_ANNOUNCE = 0x7D79BC40

_TEXT_ID = 64
_RAW_ID = 32
_ITEMS = 16
_URL = 2083


@dataclass(frozen=True)
class Endpoint:
    """An address of v2 and v3. An empty C{ip} means the sender's."""

    ip: bytes
    port: int


@dataclass(frozen=True)
class Relay:
    """
    A relay of v0.12.

    @ivar latency: milliseconds, signed on the wire.
    """

    url: str
    latency: int


@dataclass(frozen=True)
class Node:
    """One node with what it can be reached at: endpoints up to v3, URLs later."""

    node_id: bytes
    endpoints: tuple[Endpoint, ...] = ()
    urls: tuple[str, ...] = ()
    relays: tuple[Relay, ...] = ()


@dataclass(frozen=True)
class Announcement:
    """
    @ivar extra: other nodes that the sender knows.
    """

    magic: int
    this: Node
    extra: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Query:
    """A question to a server of that time."""

    magic: int
    node_id: bytes


def decode(datagram: bytes) -> Announcement | Query:
    """
    Read a datagram of any of these formats; they differ by magic.

    Stricter than the originals where those kept nonsense: an address has 0, 4 or 16
    bytes, the unused half of a port's word is zero, and nothing follows.

    @raise FormatError: not well formed, or of none of them.
    """
    reader = Reader(datagram)
    magic = reader.u32()
    packet: Announcement | Query
    if magic in _QUERIES:
        packet = Query(magic, reader.opaque(_QUERIES[magic]))
    elif magic in _NODES:
        node = _NODES[magic]
        this = node(reader)
        # The flat form of v2 ends here, the later one goes on (discovery.md 2).
        flat = magic == V2_ANNOUNCE and not reader.remaining
        packet = Announcement(magic, this, () if flat else _list(reader, node))
    else:
        raise FormatError(f"magic {magic:08x}")
    reader.end()
    return packet


def _list(reader: Reader, item: Callable[[Reader], _Item]) -> tuple[_Item, ...]:
    count = reader.u32()
    if count > _ITEMS:
        raise FormatError(f"{count} items where {_ITEMS} are allowed")
    return tuple(item(reader) for _ in range(count))


def _ip(reader: Reader) -> bytes:
    ip = reader.opaque(16)
    if len(ip) not in (0, 4, 16):
        raise FormatError(f"an address of {len(ip)} bytes")
    return ip


def _left_aligned(reader: Reader) -> Endpoint:
    ip = _ip(reader)
    port, unused = reader.halves()
    if unused:
        raise FormatError("the unused half of a port is not zero")
    return Endpoint(ip, port)


def _right_aligned(reader: Reader) -> Endpoint:
    ip = _ip(reader)
    unused, port = reader.halves()
    if unused:
        raise FormatError("the unused half of a port is not zero")
    return Endpoint(ip, port)


def _url(reader: Reader) -> str:
    try:
        return reader.opaque(_URL).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise FormatError("a URL that is not UTF-8") from problem


def _relay(reader: Reader) -> Relay:
    url = _url(reader)
    latency = reader.u32()
    return Relay(url, latency - (latency >> 31 << 32))


def _node_v2(reader: Reader) -> Node:
    return Node(reader.opaque(_TEXT_ID), endpoints=_list(reader, _left_aligned))


def _node_v3(reader: Reader) -> Node:
    return Node(reader.opaque(_RAW_ID), endpoints=_list(reader, _right_aligned))


def _node_v0_12(reader: Reader) -> Node:
    return Node(reader.opaque(_RAW_ID), urls=_list(reader, _url), relays=_list(reader, _relay))


def _node_v0_13(reader: Reader) -> Node:
    return Node(reader.opaque(_RAW_ID), urls=_list(reader, _url))


_QUERIES = {V2_QUERY: _TEXT_ID, V3_QUERY: _RAW_ID}

_NODES: dict[int, Callable[[Reader], Node]] = {
    V2_ANNOUNCE: _node_v2,
    V3_ANNOUNCE: _node_v3,
    V0_12_ANNOUNCE: _node_v0_12,
    V0_13_ANNOUNCE: _node_v0_13,
}


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
    V2_ANNOUNCE: Format.V2_ANNOUNCE,
    V2_QUERY: Format.V2_QUERY,
    V3_ANNOUNCE: Format.V3_ANNOUNCE,
    V3_QUERY: Format.V3_QUERY,
    V0_12_ANNOUNCE: Format.V0_12,
    V0_13_ANNOUNCE: Format.V0_13,
    v4.MAGIC: Format.V4,
}

OLD = frozenset(_MAGICS.values()) - {Format.V1_ANNOUNCE, Format.V1_QUERY, Format.V4}
"""Formats that are recognised and not used."""


def format_of(datagram: bytes) -> Format:
    """By the first four bytes only; whether the rest fits is for the decoders."""
    return _MAGICS.get(int.from_bytes(datagram[:4], "big"), Format.UNKNOWN)


def describe(datagram: bytes) -> str:
    """The version of a datagram of an old format, and the node it names, for a log."""
    version = format_of(datagram).value
    try:
        packet = decode(datagram)
        wire = packet.node_id if isinstance(packet, Query) else packet.this.node_id
        raw = packet.magic not in (V2_ANNOUNCE, V2_QUERY)
        node = NodeId(wire) if raw else NodeId.from_v1(wire)
    except ValueError as problem:
        return f"{version} (malformed: {problem})"
    return f"{version} of node {node.text}"
