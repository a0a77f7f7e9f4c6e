"""RakNet datagrams in words: offline messages, acknowledgements, frames and their messages."""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.engine import Address
from twisted_rudp.decoding.words import place, spans
from twisted_rudp.raknet.offline import (
    OfflineMessage,
    OutOfBand,
    Ping,
    Pong,
    Reply1,
    Reply2,
    Request1,
    Request2,
    Reset,
    parse,
    unpack_text,
)
from twisted_rudp.raknet.wire import (
    ABORTED_MESSAGE,
    ACK_BIT,
    HEADER_SIZE,
    NACK_BIT,
    VALID,
    Frame,
    Malformed,
    MessageId,
    Reliability,
    is_users,
    pack_records,
    parse_connection_request,
    parse_frames,
    parse_new_incoming,
    parse_ping,
    parse_pong,
    parse_records,
    parse_request_accepted,
)

UNKNOWN_BITS: Final = 0x73
"""Bits of the first byte of a datagram with frames that no sender sets."""

_MOST_SHOWN: Final = 64
"""Ranges of one acknowledgement that are shown."""


class RakNetReader:
    """Reads the datagrams of one capture."""

    name = "raknet"

    def read(
        self, data: bytes, source: Address, destination: Address, certain: bool = True
    ) -> list[str] | None:
        """
        @param certain: it is known to be RakNet, so that it is also described if not all
            of it makes sense.
        @return: a line for each part; None if this is not RakNet.
        """
        if not data:
            return None
        if not data[0] & VALID:
            message = parse(data)
            if message is None:
                return ["no message of RakNet"] * certain or None
            return [offline(message)]
        if data[0] & (ACK_BIT | NACK_BIT):
            return _acknowledgement(data, certain)
        frames, broken = parse_frames(data)
        plain = not broken and frames and data[0] & UNKNOWN_BITS == 0
        if len(data) < HEADER_SIZE or not (plain or certain):
            return ["malformed"] * certain or None
        number = int.from_bytes(data[1:HEADER_SIZE], "little")
        lines = [f"datagram {number}: {_frame(frame)}" for frame in frames]
        if broken:
            lines.append(f"datagram {number}: the rest is malformed")
        return lines or [f"datagram {number}: empty"]


def offline(message: OfflineMessage) -> str:
    """A message outside of sessions."""
    match message:
        case Ping(time, _, only_open):
            return f"unconnected ping{' of open servers' * only_open}, time {time}"
        case Pong(time, guid, data):
            return f"unconnected pong, time {time} guid {guid:016x}: {unpack_text(data)}"
        case Request1(protocol, mtu):
            return f"open connection request 1, protocol {protocol} mtu {mtu}"
        case Reply1(guid, cookie, mtu):
            secure = "" if cookie is None else f" cookie {cookie:08x}"
            return f"open connection reply 1, guid {guid:016x} mtu {mtu}{secure}"
        case Request2(cookie, server, mtu, guid):
            secure = "" if cookie is None else f" cookie {cookie:08x}"
            return (
                f"open connection request 2, server {place(server)} mtu {mtu}"
                f" guid {guid:016x}{secure}"
            )
        case Reply2(guid, client, mtu):
            return f"open connection reply 2, client {place(client)} mtu {mtu} guid {guid:016x}"
        case Reset(number):
            return f"no session here, asked by datagram {number}"
        case OutOfBand(guid, data):
            return f"out-of-band message, {len(data)} bytes, guid {guid:016x}"
        case _:
            fields = ", ".join(
                f"{name} {value.name if isinstance(value, MessageId) else value}"
                for name, value in message._asdict().items()
            )
            return f"{type(message).__name__.lower()}, {fields}"


def _acknowledgement(data: bytes, certain: bool) -> list[str] | None:
    records = parse_records(data)
    if not certain and (not records or pack_records(data[0], _ended(records), 65536) != [data]):
        # Anything can begin like one, but few things end where they say.
        return None
    more = f" and {len(records) - _MOST_SHOWN} more" if len(records) > _MOST_SHOWN else ""
    name = "ACK" if data[0] & ACK_BIT else "NACK"
    return [f"{name} of datagrams {spans(records[:_MOST_SHOWN]) or 'none'}{more}"]


def _ended(records: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(first, last + 1) for first, last in records]


def _frame(frame: Frame) -> str:
    parts: list[str] = [Reliability(frame.reliability).name.lower().replace("_", " ")]
    for name, value in (
        ("index", frame.reliable),
        ("sequence", frame.sequence),
        ("order", frame.order),
    ):
        if value is not None:
            parts.append(f"{name} {value}")
    if frame.order is not None:
        parts.append(f"channel {frame.channel}")
    payload = bytes(frame.payload)
    if frame.split is not None:
        part = frame.split
        parts.append(f"part {part.number + 1} of {part.total} of message {part.ident}")
        content = f"{len(payload)} bytes"
    else:
        content = _message(payload)
    return f"{' '.join(parts)}: {content}"


def _message(payload: bytes) -> str:
    """A whole message inside of a session."""
    if is_users(payload[0]):
        return f"message {payload[0]:#04x}, {len(payload)} bytes"
    try:
        name = MessageId(payload[0]).name.lower().replace("_", " ")
        return f"{name}{_details(payload)}"
    except (ValueError, Malformed):
        return f"message {payload[0]:#04x}, {len(payload)} bytes, malformed or not known"


def _details(payload: bytes) -> str:
    """
    @raise Malformed: it cannot be read.
    """
    kind = payload[0]
    if kind == MessageId.CONNECTED_PING:
        return f", time {parse_ping(payload)}"
    if kind == MessageId.CONNECTED_PONG:
        return f", time {parse_pong(payload)}"
    if kind == MessageId.CONNECTION_REQUEST:
        request = parse_connection_request(payload)
        # The password is not for the screen.
        password = ", with a password" if request.password else ""
        return f", guid {request.guid:016x} time {request.time}{password}"
    if kind == MessageId.REQUEST_ACCEPTED:
        client = parse_request_accepted(payload).client
        return f", client {place(client) if client else 'unreadable'}"
    if kind == MessageId.NEW_INCOMING:
        return f", time {parse_new_incoming(payload).time}"
    if payload == ABORTED_MESSAGE:
        return ", given up"
    return ""

