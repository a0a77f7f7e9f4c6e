"""Messages outside of sessions (raknet.md 2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.raknet.wire import IP_UDP, Malformed, pack_address, parse_address

MAGIC = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")


class Id(IntEnum):
    """First bytes of messages outside of sessions (raknet.md 1.2)."""

    PING = 0x01
    PING_OPEN = 0x02
    REQUEST_1 = 0x05
    REPLY_1 = 0x06
    REQUEST_2 = 0x07
    REPLY_2 = 0x08
    OUT_OF_BAND = 0x0D
    ATTEMPT_FAILED = 0x11
    ALREADY_CONNECTED = 0x12
    FULL = 0x14
    BANNED = 0x17
    INCOMPATIBLE = 0x19
    RECENTLY_CONNECTED = 0x1A
    PONG = 0x1C


REFUSALS = frozenset(
    {Id.ATTEMPT_FAILED, Id.ALREADY_CONNECTED, Id.FULL, Id.BANNED, Id.RECENTLY_CONNECTED}
)
"""Messages of nothing but magic and GUID that end an attempt to connect."""

REPLIES = REFUSALS | {Id.REPLY_1, Id.REPLY_2, Id.INCOMPATIBLE}
"""What a dialler is answered."""


class Ping(NamedTuple):
    """
    @ivar guid: None in the short form that some programs send.
    @ivar only_open: answered only where one more session would be let in.
    """

    time: int
    guid: int | None
    only_open: bool = False


class Pong(NamedTuple):
    """
    @ivar data: what the application says of itself, as it is on the wire.
    """

    time: int
    guid: int
    data: bytes


class Request1(NamedTuple):
    """
    @ivar mtu: what the datagram's own length probes.
    """

    protocol: int
    mtu: int


class Reply1(NamedTuple):
    """
    @ivar cookie: to be returned; None without security.
    """

    guid: int
    cookie: int | None
    mtu: int


class Request2(NamedTuple):
    """
    @ivar cookie: of L{Reply1}, returned.
    @ivar server: where the dialler thinks that it is.
    """

    cookie: int | None
    server: Address
    mtu: int
    guid: int


class Reply2(NamedTuple):
    """
    @ivar client: how the listener sees the dialler.
    """

    guid: int
    client: Address
    mtu: int


class Incompatible(NamedTuple):
    """
    @ivar protocol: a version that the listener takes.
    """

    protocol: int
    guid: int


class Refusal(NamedTuple):
    """
    @ivar id: one of L{REFUSALS}.
    """

    id: Id
    guid: int


class OutOfBand(NamedTuple):
    """An application's message without a session."""

    guid: int
    data: bytes


Offline: TypeAlias = (
    Ping | Pong | Request1 | Reply1 | Request2 | Reply2 | Incompatible | Refusal | OutOfBand
)

_u16 = struct.Struct(">H")
_u64 = struct.Struct(">Q")


def parse(datagram: Buffer, magic: bytes = MAGIC) -> Offline | None:
    """Read a message outside of sessions; None if it is none."""
    data = bytes(datagram)
    try:
        return _PARSERS[data[0]](data, magic)
    except (KeyError, IndexError, struct.error, Malformed):
        return None


def _check(data: bytes, at: int, magic: bytes) -> int:
    end = at + len(magic)
    if data[at:end] != magic:
        raise Malformed("not our magic")
    return end


def _ping(data: bytes, magic: bytes) -> Ping:
    (time,) = _u64.unpack_from(data, 1)
    at = _check(data, 9, magic)
    guid = _u64.unpack_from(data, at)[0] if len(data) > at else None
    return Ping(time, guid, data[0] == Id.PING_OPEN)


def _pong(data: bytes, magic: bytes) -> Pong:
    time, guid = struct.unpack_from(">QQ", data, 1)
    return Pong(time, guid, data[_check(data, 17, magic) :])


def _request1(data: bytes, magic: bytes) -> Request1:
    return Request1(data[_check(data, 1, magic)], len(data) + IP_UDP)


def _reply1(data: bytes, magic: bytes) -> Reply1:
    at = _check(data, 1, magic)
    guid, secure = struct.unpack_from(">QB", data, at)
    if not secure:
        return Reply1(guid, None, _u16.unpack_from(data, at + 9)[0])
    cookie, mtu = struct.unpack_from(">IH", data, at + 9)
    return Reply1(guid, cookie, mtu)


def _request2(data: bytes, magic: bytes) -> Request2:
    """
    The two forms are told apart by their length: an address and ten bytes end
    each of them (raknet.md 2.4).
    """
    at = _check(data, 1, magic)
    cookie = None
    if len(data) - at in (22, 44):
        cookie = int.from_bytes(data[at : at + 4], "big")
        at += 5
    server, at = parse_address(data, at)
    if len(data) - at != 10:
        raise Malformed("not as long as its address says")
    mtu, guid = struct.unpack_from(">HQ", data, at)
    return Request2(cookie, server, mtu, guid)


def _reply2(data: bytes, magic: bytes) -> Reply2:
    at = _check(data, 1, magic)
    (guid,) = _u64.unpack_from(data, at)
    client, at = parse_address(data, at + 8)
    return Reply2(guid, client, _u16.unpack_from(data, at)[0])


def _incompatible(data: bytes, magic: bytes) -> Incompatible:
    return Incompatible(data[1], _u64.unpack_from(data, _check(data, 2, magic))[0])


def _refusal(data: bytes, magic: bytes) -> Refusal:
    return Refusal(Id(data[0]), _u64.unpack_from(data, _check(data, 1, magic))[0])


def _out_of_band(data: bytes, magic: bytes) -> OutOfBand:
    (guid,) = _u64.unpack_from(data, 1)
    return OutOfBand(guid, data[_check(data, 9, magic) :])


_PARSERS: dict[int, Callable[[bytes, bytes], Offline]] = {
    Id.PING: _ping,
    Id.PING_OPEN: _ping,
    Id.PONG: _pong,
    Id.REQUEST_1: _request1,
    Id.REPLY_1: _reply1,
    Id.REQUEST_2: _request2,
    Id.REPLY_2: _reply2,
    Id.INCOMPATIBLE: _incompatible,
    Id.OUT_OF_BAND: _out_of_band,
    **dict.fromkeys(REFUSALS, _refusal),
}


def pack(message: Offline, magic: bytes = MAGIC) -> bytes:
    """A message as it goes on the wire."""
    match message:
        case Ping(time, guid, only_open):
            head = bytes((Id.PING_OPEN if only_open else Id.PING,)) + _u64.pack(time) + magic
            return head if guid is None else head + _u64.pack(guid)
        case Pong(time, guid, data):
            return struct.pack(">BQQ", Id.PONG, time, guid) + magic + data
        case Request1(protocol, mtu):
            head = bytes((Id.REQUEST_1,)) + magic + bytes((protocol,))
            return head.ljust(mtu - IP_UDP, b"\0")
        case Reply1(guid, cookie, mtu):
            secure = b"\0" if cookie is None else b"\1" + cookie.to_bytes(4, "big")
            return bytes((Id.REPLY_1,)) + magic + _u64.pack(guid) + secure + _u16.pack(mtu)
        case Request2(cookie, server, mtu, guid):
            proof = b"" if cookie is None else cookie.to_bytes(4, "big") + b"\0"
            body = proof + pack_address(server) + struct.pack(">HQ", mtu, guid)
            return bytes((Id.REQUEST_2,)) + magic + body
        case Reply2(guid, client, mtu):
            body = _u64.pack(guid) + pack_address(client) + _u16.pack(mtu) + b"\0"
            return bytes((Id.REPLY_2,)) + magic + body
        case Incompatible(protocol, guid):
            return bytes((Id.INCOMPATIBLE, protocol)) + magic + _u64.pack(guid)
        case Refusal(kind, guid):
            return bytes((kind,)) + magic + _u64.pack(guid)
        case OutOfBand(guid, data):
            return bytes((Id.OUT_OF_BAND,)) + _u64.pack(guid) + magic + data
