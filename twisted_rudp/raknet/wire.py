"""
Datagrams, frames, acknowledgements and the protocol's own messages (raknet.md 1, 4 to 8).

Numbers of 24 bits are little-endian, everything else that is wider than a byte
is big-endian. Parsers here take anything; what they cannot read is C{None}, an
early end, or L{Malformed} where the docstring says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.core.serial import MASK24
from twisted_rudp.messages import Delivery

VALID: Final = 0x80
"""Set in the first byte of what belongs to a session (raknet.md 5)."""

ACK: Final = 0xC0
NACK: Final = 0xA0
DATA: Final = 0x84
CONTINUED: Final = 0x8C
"""First bytes. C{CONTINUED} says that more was waiting already."""

ACK_BIT: Final = 0x40
NACK_BIT: Final = 0x20
ARRIVAL_RATE_BIT: Final = 0x20
"""In an ACK it announces a number between first byte and records."""

HEADER_SIZE: Final = 4
"""First byte and number of a datagram."""

IP_UDP: Final = 28
"""What the wire's MTU counts beside the UDP payload, over IPv6 too (raknet.md 3)."""

CHANNELS: Final = 32
PRIORITIES: Final = 4
SPLIT_SIZE: Final = 10
MAX_PAYLOAD: Final = 0xFFFF >> 3
"""Bytes of one frame, whose length is written in bits."""


class Malformed(ValueError):
    """What the peer sent cannot be read."""


class MessageId(IntEnum):
    """First bytes of messages, inside and outside of sessions (raknet.md 1.2)."""

    CONNECTED_PING = 0x00
    UNCONNECTED_PING = 0x01
    UNCONNECTED_PING_OPEN = 0x02
    CONNECTED_PONG = 0x03
    DETECT_LOST_CONNECTIONS = 0x04
    OPEN_REQUEST_1 = 0x05
    OPEN_REPLY_1 = 0x06
    OPEN_REQUEST_2 = 0x07
    OPEN_REPLY_2 = 0x08
    CONNECTION_REQUEST = 0x09
    OUT_OF_BAND = 0x0D
    REQUEST_ACCEPTED = 0x10
    ATTEMPT_FAILED = 0x11
    ALREADY_CONNECTED = 0x12
    NEW_INCOMING = 0x13
    FULL = 0x14
    DISCONNECTION = 0x15
    BANNED = 0x17
    INVALID_PASSWORD = 0x18
    INCOMPATIBLE = 0x19
    RECENTLY_CONNECTED = 0x1A
    TIMESTAMP = 0x1B
    UNCONNECTED_PONG = 0x1C


class Reliability(IntEnum):
    """
    How a frame is carried (raknet.md 6). The last three ask the sender's own side
    for a receipt and are never written.
    """

    UNRELIABLE = 0
    UNRELIABLE_SEQUENCED = 1
    RELIABLE = 2
    RELIABLE_ORDERED = 3
    RELIABLE_SEQUENCED = 4
    UNRELIABLE_RECEIPT = 5
    RELIABLE_RECEIPT = 6
    RELIABLE_ORDERED_RECEIPT = 7


_R = Reliability

IS_RELIABLE: Final = (False, False, True, True, True, False, True, True)
"""By reliability: numbered, sent again, and removed when it comes twice."""

IS_SEQUENCED: Final = (False, True, False, False, True, False, False, False)
HAS_ORDER: Final = (False, True, False, True, True, False, False, True)

WITHOUT_RECEIPT: Final = (
    _R.UNRELIABLE,
    _R.UNRELIABLE_SEQUENCED,
    _R.RELIABLE,
    _R.RELIABLE_ORDERED,
    _R.RELIABLE_SEQUENCED,
    _R.UNRELIABLE,
    _R.RELIABLE,
    _R.RELIABLE_ORDERED,
)
"""By reliability: what it is once the receipt is left to the sender."""

WHEN_SPLIT: Final = (
    _R.RELIABLE,
    _R.RELIABLE_SEQUENCED,
    _R.RELIABLE,
    _R.RELIABLE_ORDERED,
    _R.RELIABLE_SEQUENCED,
)
"""By reliability without receipt: unreliable fragments would never complete."""

HEADER_BYTES: Final = tuple(
    3 + 3 * IS_RELIABLE[r] + 3 * IS_SEQUENCED[r] + 4 * HAS_ORDER[r] for r in range(8)
)
"""By reliability: length of the frame header without split fields."""

FRAME_HEADER: Final = HEADER_BYTES[Reliability.RELIABLE_ORDERED]
"""That of bulk data."""

STREAM_FRAME: Final = FRAME_HEADER + 1
"""What a piece of the stream has in front of it in its frame, the user id included."""

STREAM_LEAD: Final = HEADER_SIZE + STREAM_FRAME
"""The same in its datagram."""


class Split(NamedTuple):
    """Which fragment of which message a frame is."""

    total: int
    ident: int
    number: int


class Frame(NamedTuple):
    """
    A frame as it is on the wire; indices are None where it has none.

    @ivar reliability: any of the eight.
    """

    reliability: int
    payload: Buffer
    reliable: int | None = None
    sequence: int | None = None
    order: int | None = None
    channel: int = 0
    split: Split | None = None


_split: Final = struct.Struct(">IHI")
_bits: Final = struct.Struct(">H")


def u24(number: int) -> bytes:
    """A number as 24 bits, taken modulo 2^24."""
    return (number & MASK24).to_bytes(3, "little")


def pack_header(number: int, first: int = DATA) -> bytes:
    """The header of a datagram with frames."""
    return bytes((first,)) + u24(number)


def pack_frame_header(
    reliability: int,
    size: int,
    reliable: int = 0,
    sequence: int = 0,
    order: int = 0,
    channel: int = 0,
    split: Split | None = None,
) -> bytes:
    """
    What stands before C{size} bytes of payload. Indices that the reliability
    does not have are left out.
    """
    parts = [bytes((reliability << 5 | (split is not None) << 4,)), _bits.pack(size << 3)]
    if IS_RELIABLE[reliability]:
        parts.append(u24(reliable))
    if IS_SEQUENCED[reliability]:
        parts.append(u24(sequence))
    if HAS_ORDER[reliability]:
        parts.append(u24(order) + bytes((channel,)))
    if split is not None:
        parts.append(_split.pack(*split))
    return b"".join(parts)


def parse_frames(datagram: Buffer, start: int = HEADER_SIZE) -> tuple[list[Frame], bool]:
    """
    All frames of a datagram up to its end, to padding (a frame without payload),
    or to one that does not fit.

    @return: the frames, and whether the rest could not be read.
    """
    view = memoryview(datagram)
    frames: list[Frame] = []
    at, total = start, len(view)
    while at < total:
        if total - at < 3:
            return frames, True
        flags = view[at]
        reliability = flags >> 5
        size = ((view[at + 1] << 8 | view[at + 2]) + 7) >> 3
        if not size:
            return frames, False
        head = at + 3
        is_split = flags & 0x10
        body = at + HEADER_BYTES[reliability] + (SPLIT_SIZE if is_split else 0)
        end = body + size
        if end > total:
            return frames, True
        reliable = sequence = order = split = None
        channel = 0
        if IS_RELIABLE[reliability]:
            reliable = int.from_bytes(view[head : head + 3], "little")
            head += 3
        if IS_SEQUENCED[reliability]:
            sequence = int.from_bytes(view[head : head + 3], "little")
            head += 3
        if HAS_ORDER[reliability]:
            order = int.from_bytes(view[head : head + 3], "little")
            channel = view[head + 3]
            head += 4
        if is_split:
            split = Split(*_split.unpack_from(view, head))
        frames.append(
            Frame(reliability, view[body:end], reliable, sequence, order, channel, split)
        )
        at = end
    return frames, False


# addresses (raknet.md 1.1)

EMPTY_ADDRESS: Final = b"\x04\xff\xff\xff\xff\x00\x00"
"""0.0.0.0:0, for slots that tell nothing."""

EXTENDED_ADDRESS: Final = b"\x04\xff\x8d\x8a\x9b\x00\x01"
"""
0.114.117.100:1, which is nobody's: in the last slot of the handshake's addresses it tells
our own kind that the peer takes large windows, acknowledges each datagram several times
and knows L{RESET}. Others pass over the addresses.
"""

_V4_SIZE: Final = 7
_V6_SIZE: Final = 29
_INVERT: Final = bytes(255 - byte for byte in range(256))


def pack_address(address: Address) -> bytes:
    """A raw address. IPv4 inside IPv6 is written as the IPv4 that it is; zones are left out."""
    ip = ip_address(str(address[0]).partition("%")[0])
    port = int(address[1]).to_bytes(2, "big")
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return b"\x06\x17\x00" + port + bytes(4) + ip.packed + bytes(4)
        ip = ip.ipv4_mapped
    return b"\x04" + ip.packed.translate(_INVERT) + port


def parse_address(data: Buffer, at: int) -> tuple[Address, int]:
    """
    The address at an offset, and where it ends. The family inside an IPv6 one is
    the sender's platform's and means nothing.

    @raise Malformed: there is none.
    """
    view = memoryview(data)
    version = view[at] if at < len(view) else -1
    if version in (0, 4) and at + _V4_SIZE <= len(view):
        host = IPv4Address(bytes(view[at + 1 : at + 5]).translate(_INVERT))
        port = int.from_bytes(view[at + 5 : at + 7], "big")
        return (str(host), port), at + _V4_SIZE
    if version == 6 and at + _V6_SIZE <= len(view):
        ip = IPv6Address(bytes(view[at + 9 : at + 25]))
        port = int.from_bytes(view[at + 3 : at + 5], "big")
        return (str(ip), port, 0, 0), at + _V6_SIZE
    raise Malformed(f"no address of version {version}")


# records of ACK and NACK datagrams (raknet.md 8)

_HEAD: Final = 3
_RATE: Final = 4
_SINGLE: Final = 4
_RANGE: Final = 7


def pack_records(kind: int, ranges: Iterable[tuple[int, int]], limit: int) -> list[bytes]:
    """
    As many datagrams as are needed.

    @param kind: C{ACK} or C{NACK}.
    @param ranges: pairs of first number and end, unbounded integers; one that
        crosses a multiple of 2^24 becomes two records.
    @param limit: longest datagram.
    """
    datagrams: list[bytes] = []
    records: list[bytes] = []
    room = limit - _HEAD
    for first, end in ranges:
        while first < end:
            stop = min(end, (first | MASK24) + 1)
            record = (first & MASK24).to_bytes(3, "little")
            if stop - first == 1:
                record = b"\x01" + record
            else:
                record = b"\x00" + record + ((stop - 1) & MASK24).to_bytes(3, "little")
            if len(record) > room:
                datagrams.append(_join(kind, records))
                records = []
                room = limit - _HEAD
            records.append(record)
            room -= len(record)
            first = stop
    if records:
        datagrams.append(_join(kind, records))
    return datagrams


def _join(kind: int, records: list[bytes]) -> bytes:
    return bytes((kind,)) + len(records).to_bytes(2, "big") + b"".join(records)


def parse_records(datagram: Buffer) -> list[tuple[int, int]]:
    """
    The records as pairs of first and last number on the wire, in their order. A
    record that runs backwards is left out; of a list that is cut short the
    complete records are used.
    """
    data = bytes(datagram)
    at = 1
    if data and data[0] & ACK_BIT and data[0] & ARRIVAL_RATE_BIT:
        at += _RATE
    count = int.from_bytes(data[at : at + 2], "big") if at + 2 <= len(data) else 0
    at += 2
    records: list[tuple[int, int]] = []
    for _ in range(count):
        if at + _SINGLE > len(data):
            break
        first = last = int.from_bytes(data[at + 1 : at + 4], "little")
        if data[at]:
            at += _SINGLE
        elif at + _RANGE > len(data):
            break
        else:
            last = int.from_bytes(data[at + 4 : at + 7], "little")
            at += _RANGE
        if first <= last:
            records.append((first, last))
    return records


# messages of the protocol's own inside of sessions (raknet.md 4)

FIRST_USER_ID: Final = 0x80
"""From here on first bytes are the application's (raknet.md 1.2)."""

CLOSED_MESSAGE: Final = bytes((MessageId.DISCONNECTION,))
"""The session ends in order."""

ABORTED_MESSAGE: Final = bytes((MessageId.DISCONNECTION, 1))
"""
As L{CLOSED_MESSAGE} to everybody else; to our own kind the second byte says that
the session was given up, so that a lost tail is not taken for a proper end.
"""


class ConnectionRequest(NamedTuple):
    """
    @ivar security: the peer asks for libcat's key exchange.
    """

    guid: int
    time: int
    security: int = 0
    password: bytes = b""

    def __repr__(self) -> str:
        # The password must not come into a log or a traceback.
        return f"ConnectionRequest(guid={self.guid}, time={self.time}, security={self.security})"


class RequestAccepted(NamedTuple):
    """
    @ivar client: None if the list of addresses could not be read.
    @ivar request_time: of L{ConnectionRequest}, echoed.
    """

    client: Address | None
    request_time: int
    time: int


class NewIncoming(NamedTuple):
    """
    @ivar server_time: of L{RequestAccepted}, echoed; garbage from C++ peers with ten
        addresses (raknet.md 4), so it proves something but its absence nothing.
    """

    server_time: int
    time: int


_two_times: Final = struct.Struct(">QQ")
_ping: Final = struct.Struct(">BQ")
_pong: Final = struct.Struct(">BQQ")
_request: Final = struct.Struct(">BQQB")


def pack_ping(time: int) -> bytes:
    """
    @param time: 64 bits of our own clock.
    """
    return _ping.pack(MessageId.CONNECTED_PING, time)


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
    return _pong.pack(MessageId.CONNECTED_PONG, echoed, time)


def parse_pong(data: Buffer) -> int:
    """
    The time of our ping. The peer's own time is nothing to us.

    @raise Malformed: too short.
    """
    if len(data) < _ping.size:
        raise Malformed("pong")
    time: int = _ping.unpack_from(data)[1]
    return time


def pack_connection_request(request: ConnectionRequest) -> bytes:
    """The dialler's first message."""
    kind = MessageId.CONNECTION_REQUEST
    return _request.pack(kind, request.guid, request.time, request.security) + request.password


def parse_connection_request(data: Buffer) -> ConnectionRequest:
    """
    @raise Malformed: too short.
    """
    if len(data) < _request.size:
        raise Malformed("connection request")
    _, guid, time, security = _request.unpack_from(data)
    return ConnectionRequest(guid, time, security, bytes(data[_request.size :]))


def pack_request_accepted(
    message: RequestAccepted, addresses: int, extended: bool = False
) -> bytes:
    """
    @param addresses: how many empty slots to write; stock RakNet has 10, Bedrock 20.
    @param extended: say L{EXTENDED_ADDRESS}.
    """
    client = EMPTY_ADDRESS if message.client is None else pack_address(message.client)
    times = _two_times.pack(message.request_time, message.time)
    head = bytes((MessageId.REQUEST_ACCEPTED,)) + client + bytes(2)
    return head + _slots(addresses, extended) + times


def _slots(addresses: int, extended: bool) -> bytes:
    if extended:
        return EMPTY_ADDRESS * (addresses - 1) + EXTENDED_ADDRESS
    return EMPTY_ADDRESS * addresses


def is_extended(message: Buffer) -> bool:
    """Whether a message of the handshake, 10 or 13, is from our own kind."""
    at = len(message) - _two_times.size
    return bytes(message[at - len(EXTENDED_ADDRESS) : at]) == EXTENDED_ADDRESS


def parse_request_accepted(data: Buffer) -> RequestAccepted:
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
    return RequestAccepted(client, *_two_times.unpack_from(data, len(data) - _two_times.size))


def pack_new_incoming(
    server: Address, message: NewIncoming, addresses: int, extended: bool = False
) -> bytes:
    """The dialler's last message of the handshake."""
    times = _two_times.pack(*message)
    head = bytes((MessageId.NEW_INCOMING,)) + pack_address(server)
    return head + _slots(addresses, extended) + times


def parse_new_incoming(data: Buffer) -> NewIncoming:
    """
    @raise Malformed: too short.
    """
    if len(data) < 1 + _two_times.size:
        raise Malformed("new incoming connection")
    return NewIncoming(*_two_times.unpack_from(data, len(data) - _two_times.size))


def pack_invalid_password(guid: int) -> bytes:
    """The refusal of a wrong password."""
    return _ping.pack(MessageId.INVALID_PASSWORD, guid)


# the application's messages

_TIMESTAMP: Final = 0x1B


def is_users(first: int) -> bool:
    """
    Messages that begin with this byte are the application's (raknet.md 15), not the
    protocol's own.
    """
    return first >= FIRST_USER_ID or first == _TIMESTAMP


def check_message(data: bytes, delivery: Delivery, channel: int, priority: int) -> None:
    """
    @raise ValueError: no session of RakNet carries this.
    """
    if delivery is Delivery.OUT_OF_BAND:
        raise ValueError("delivery: a session of RakNet has no OUT_OF_BAND")
    if not data:
        raise ValueError("data: RakNet has no empty messages")
    if not is_users(data[0]):
        raise ValueError(f"data: first byte {data[0]:#04x} is the protocol's, not yours")
    if not 0 <= channel < CHANNELS:
        raise ValueError(f"channel={channel!r} is not in 0 to {CHANNELS - 1}")
    if not 0 <= priority < PRIORITIES:
        raise ValueError(f"priority={priority!r} is not in 0 to {PRIORITIES - 1}")
