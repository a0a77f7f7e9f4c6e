"""Messages outside of sessions, and what a pong says (raknet.md 2)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.raknet.wire import (
    IP_UDP,
    Malformed,
    MessageId,
    pack_address,
    parse_address,
    u24,
)

MAGIC: Final = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")


REFUSALS: Final = frozenset(
    {
        MessageId.ATTEMPT_FAILED,
        MessageId.ALREADY_CONNECTED,
        MessageId.FULL,
        MessageId.BANNED,
        MessageId.RECENTLY_CONNECTED,
    }
)
"""Messages of nothing but magic and GUID that end an attempt to connect."""

REPLIES: Final = REFUSALS | {
    MessageId.OPEN_REPLY_1,
    MessageId.OPEN_REPLY_2,
    MessageId.INCOMPATIBLE,
    MessageId.DISCONNECTION,
}
"""What a dialler, or a session that the peer does not know any more, is answered."""


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

    id: MessageId
    guid: int


class Reset(NamedTuple):
    """
    There is no session at the address that a datagram was sent to. Only our own kind says
    and understands this; others pass over it, or take its first byte for what it means.

    @ivar number: of that datagram, 24 bits, so that only who has seen it can say this.
    """

    number: int


class OutOfBand(NamedTuple):
    """An application's message without a session."""

    guid: int
    data: bytes


OfflineMessage: TypeAlias = (
    Ping
    | Pong
    | Request1
    | Reply1
    | Request2
    | Reply2
    | Incompatible
    | Refusal
    | Reset
    | OutOfBand
)

_u16 = struct.Struct(">H")
_u64 = struct.Struct(">Q")


def parse(datagram: Buffer, magic: bytes = MAGIC) -> OfflineMessage | None:
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
    return Ping(time, guid, data[0] == MessageId.UNCONNECTED_PING_OPEN)


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
    return Refusal(MessageId(data[0]), _u64.unpack_from(data, _check(data, 1, magic))[0])


def _reset(data: bytes, magic: bytes) -> Reset:
    at = _check(data, 1, magic)
    if len(data) - at != 3:
        raise Malformed("no number")
    return Reset(int.from_bytes(data[at:], "little"))


def _out_of_band(data: bytes, magic: bytes) -> OutOfBand:
    (guid,) = _u64.unpack_from(data, 1)
    return OutOfBand(guid, data[_check(data, 9, magic) :])


_PARSERS: Final[dict[int, Callable[[bytes, bytes], OfflineMessage]]] = {
    MessageId.UNCONNECTED_PING: _ping,
    MessageId.UNCONNECTED_PING_OPEN: _ping,
    MessageId.UNCONNECTED_PONG: _pong,
    MessageId.OPEN_REQUEST_1: _request1,
    MessageId.OPEN_REPLY_1: _reply1,
    MessageId.OPEN_REQUEST_2: _request2,
    MessageId.OPEN_REPLY_2: _reply2,
    MessageId.INCOMPATIBLE: _incompatible,
    MessageId.OUT_OF_BAND: _out_of_band,
    MessageId.DISCONNECTION: _reset,
    **dict.fromkeys(REFUSALS, _refusal),
}


def pack(message: OfflineMessage, magic: bytes = MAGIC) -> bytes:
    """A message as it goes on the wire."""
    match message:
        case Ping(time, guid, only_open):
            kind = MessageId.UNCONNECTED_PING_OPEN if only_open else MessageId.UNCONNECTED_PING
            head = bytes((kind,)) + _u64.pack(time) + magic
            return head if guid is None else head + _u64.pack(guid)
        case Pong(time, guid, data):
            return struct.pack(">BQQ", MessageId.UNCONNECTED_PONG, time, guid) + magic + data
        case Request1(protocol, mtu):
            head = bytes((MessageId.OPEN_REQUEST_1,)) + magic + bytes((protocol,))
            return head.ljust(mtu - IP_UDP, b"\0")
        case Reply1(guid, cookie, mtu):
            secure = b"\0" if cookie is None else b"\1" + cookie.to_bytes(4, "big")
            head = bytes((MessageId.OPEN_REPLY_1,)) + magic + _u64.pack(guid)
            return head + secure + _u16.pack(mtu)
        case Request2(cookie, server, mtu, guid):
            proof = b"" if cookie is None else cookie.to_bytes(4, "big") + b"\0"
            body = proof + pack_address(server) + struct.pack(">HQ", mtu, guid)
            return bytes((MessageId.OPEN_REQUEST_2,)) + magic + body
        case Reply2(guid, client, mtu):
            body = _u64.pack(guid) + pack_address(client) + _u16.pack(mtu) + b"\0"
            return bytes((MessageId.OPEN_REPLY_2,)) + magic + body
        case Incompatible(protocol, guid):
            return bytes((MessageId.INCOMPATIBLE, protocol)) + magic + _u64.pack(guid)
        case Refusal(refusal, guid):
            return bytes((refusal,)) + magic + _u64.pack(guid)
        case Reset(number):
            return bytes((MessageId.DISCONNECTION,)) + magic + u24(number)
        case OutOfBand(guid, data):
            return bytes((MessageId.OUT_OF_BAND,)) + _u64.pack(guid) + magic + data


# what servers say of themselves in pongs (raknet.md 2.1)

_PREFIX: Final = 2

BEDROCK_EDITIONS: Final = ("MCPE", "MCEE")

BEDROCK_FIELDS: Final = (
    "edition",
    "motd",
    "protocol",
    "version",
    "players",
    "maxPlayers",
    "guid",
    "level",
    "gameMode",
    "gameModeNumber",
    "portV4",
    "portV6",
)
"""Names for the fields of Bedrock's text; from the seventh on they may be missing."""


def pack_text(text: str | bytes) -> bytes:
    """
    A text as most programs write it: its length in two bytes, then UTF-8. Bytes that have
    their length in front already stay as they are.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
    if isinstance(text, bytes) and _has_prefix(data):
        return data
    return len(data).to_bytes(_PREFIX, "big") + data


def _has_prefix(data: bytes) -> bool:
    return len(data) >= _PREFIX and int.from_bytes(data[:_PREFIX], "big") == len(data) - _PREFIX


def unpack_text(data: bytes) -> str:
    """The text of a pong, with or without a length in front. What is no UTF-8 is replaced."""
    if _has_prefix(data):
        data = data[_PREFIX:]
    return data.decode("utf-8", "replace")


def bedrock_fields(text: str) -> Mapping[str, str] | None:
    """
    The fields of a Bedrock server's text by name; None if it is none. A semicolon
    inside of a field has a backslash before it.
    """
    fields: list[str] = [""]
    escaped = False
    for character in text:
        if character == ";" and not escaped:
            fields.append("")
        elif character != "\\" or escaped:
            fields[-1] += character
        escaped = character == "\\" and not escaped
    if fields[0] not in BEDROCK_EDITIONS:
        return None
    return dict(zip(BEDROCK_FIELDS, fields, strict=False))
