"""
The first discovery protocol (discovery.md 1): announcements, queries, and answers that
are announcements.
"""

from __future__ import annotations

from typing import NamedTuple

from twisted_rudp.discovery.xdr import FormatError, Reader, halves, opaque, u32

ANNOUNCE = 0x20121025
QUERY = 0x19760309

PORT = 21025
"""Where announcements are broadcast to."""

SERVER_PORT = 22025

LONGEST = 1024
"""Bytes that the original reads of a datagram; longer ones were cut, and so void."""

ADDRESS_LENGTHS = (0, 4, 16)


class Announcement(NamedTuple):
    """
    A node is reachable.

    @ivar node_id: as it is on the wire, any bytes.
    @ivar ip: 4 or 16 bytes in answers of a server, else none.
    """

    port: int
    node_id: bytes
    ip: bytes = b""


class Query(NamedTuple):
    """Where is this node?"""

    node_id: bytes


class UnknownMagic(FormatError):
    """The datagram belongs to another protocol."""


def encode_announcement(announcement: Announcement) -> bytes:
    """
    @raise ValueError: an address of another length than 0, 4 or 16 bytes, or a port out
        of range.
    """
    if not 0 <= announcement.port <= 0xFFFF:
        raise ValueError(f"port is from 0 to 65535, not {announcement.port!r}")
    if len(announcement.ip) not in ADDRESS_LENGTHS:
        raise ValueError(f"an address of {len(announcement.ip)} bytes")
    return b"".join(
        (
            u32(ANNOUNCE),
            # The port is left-aligned in its word, unlike everything later (discovery.md 0).
            halves(announcement.port, 0),
            opaque(announcement.node_id),
            opaque(announcement.ip),
        )
    )


def encode_query(query: Query) -> bytes:
    """A query has no transaction number; the answer repeats the id."""
    return u32(QUERY) + opaque(query.node_id)


def decode(datagram: bytes, lenient: bool = False) -> Announcement | Query:
    """
    @param lenient: as the servers of 2014, which looked neither at the reserved
        half-word nor at what follows the packet.
    @raise UnknownMagic: not of this protocol.
    @raise FormatError: not well formed.
    """
    if len(datagram) > LONGEST:
        raise FormatError(f"{len(datagram)} bytes where {LONGEST} are allowed")
    reader = Reader(datagram)
    magic = reader.u32()
    packet: Announcement | Query
    if magic == ANNOUNCE:
        packet = _announcement(reader, lenient)
    elif magic == QUERY:
        packet = Query(reader.opaque(LONGEST))
    else:
        raise UnknownMagic(f"magic {magic:08x}")
    if not lenient:
        reader.end()
    return packet


def _announcement(reader: Reader, lenient: bool) -> Announcement:
    port, reserved = reader.halves()
    if reserved and not lenient:
        raise FormatError("the reserved half-word is not zero")
    node_id = reader.opaque(LONGEST)
    ip = reader.opaque(16)
    if len(ip) not in ADDRESS_LENGTHS:
        raise FormatError(f"an address of {len(ip)} bytes")
    return Announcement(port, node_id, ip)
