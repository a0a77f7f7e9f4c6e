"""Messages of the protocol itself inside of sessions (raknet.md 4)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.raknet.wire import EMPTY_ADDRESS, Malformed, pack_address, parse_address

FIRST_USER_ID = 0x80
"""From here on first bytes are the application's (raknet.md 1.2)."""


class Id(IntEnum):
    """First bytes of system messages."""

    PING = 0x00
    PONG = 0x03
    DETECT_LOST = 0x04
    REQUEST = 0x09
    ACCEPTED = 0x10
    INCOMING = 0x13
    DISCONNECTION = 0x15
    INVALID_PASSWORD = 0x18


NOTIFICATION = bytes((Id.DISCONNECTION,))
"""The session ends in order."""

ABORTED = bytes((Id.DISCONNECTION, 1))
"""
As L{NOTIFICATION} to everybody else; to our own kind the second byte says that
the session was given up, so that a lost tail is not taken for a proper end.
"""

DETECT_LOST = bytes((Id.DETECT_LOST,))


class Request(NamedTuple):
    """
    @ivar security: the peer asks for libcat's key exchange.
    """

    guid: int
    time: int
    security: int = 0
    password: bytes = b""


class Accepted(NamedTuple):
    """
    @ivar client: None if the list of addresses could not be read.
    @ivar request_time: of L{Request}, echoed.
    """

    client: Address | None
    request_time: int
    time: int


class Incoming(NamedTuple):
    """
    @ivar server_time: of L{Accepted}, echoed; garbage from C++ peers with ten
        addresses (raknet.md 4), so it proves something but its absence nothing.
    """

    server_time: int
    time: int


_two_times = struct.Struct(">QQ")
_ping = struct.Struct(">BQ")
_pong = struct.Struct(">BQQ")
_request = struct.Struct(">BQQB")


def pack_ping(time: int) -> bytes:
    """
    @param time: 64 bits of our own clock.
    """
    return _ping.pack(Id.PING, time)


def parse_ping(data: Buffer) -> int:
    """
    The peer's time, to be echoed.

    @raise Malformed: too short.
    """
    if len(data) < _ping.size:
        raise Malformed("ping")
    time: int = _ping.unpack_from(data)[1]
    return time


def pack_pong(echoed: int, time: int) -> bytes:
    """The answer to a ping."""
    return _pong.pack(Id.PONG, echoed, time)


def parse_pong(data: Buffer) -> int:
    """
    The time of our ping. The peer's own time is nothing to us.

    @raise Malformed: too short.
    """
    if len(data) < _ping.size:
        raise Malformed("pong")
    time: int = _ping.unpack_from(data)[1]
    return time


def pack_request(request: Request) -> bytes:
    """The dialler's first message."""
    head = _request.pack(Id.REQUEST, request.guid, request.time, request.security)
    return head + request.password


def parse_request(data: Buffer) -> Request:
    """
    @raise Malformed: too short.
    """
    if len(data) < _request.size:
        raise Malformed("connection request")
    _, guid, time, security = _request.unpack_from(data)
    return Request(guid, time, security, bytes(data[_request.size :]))


def pack_accepted(message: Accepted, addresses: int) -> bytes:
    """
    @param addresses: how many empty slots to write; stock RakNet has 10, Bedrock 20.
    """
    client = EMPTY_ADDRESS if message.client is None else pack_address(message.client)
    times = _two_times.pack(message.request_time, message.time)
    return bytes((Id.ACCEPTED,)) + client + bytes(2) + EMPTY_ADDRESS * addresses + times


def parse_accepted(data: Buffer) -> Accepted:
    """
    However many addresses there are: the times are the last sixteen bytes.

    @raise Malformed: too short.
    """
    if len(data) < 1 + _two_times.size:
        raise Malformed("connection request accepted")
    try:
        client, _ = parse_address(data[: -_two_times.size], 1)
    except Malformed:
        client = None
    return Accepted(client, *_two_times.unpack_from(data, len(data) - _two_times.size))


def pack_incoming(server: Address, message: Incoming, addresses: int) -> bytes:
    """The dialler's last word of the handshake."""
    times = _two_times.pack(*message)
    return bytes((Id.INCOMING,)) + pack_address(server) + EMPTY_ADDRESS * addresses + times


def parse_incoming(data: Buffer) -> Incoming:
    """
    @raise Malformed: too short.
    """
    if len(data) < 1 + _two_times.size:
        raise Malformed("new incoming connection")
    return Incoming(*_two_times.unpack_from(data, len(data) - _two_times.size))


def pack_invalid_password(guid: int) -> bytes:
    """The refusal of a wrong password."""
    return _ping.pack(Id.INVALID_PASSWORD, guid)
