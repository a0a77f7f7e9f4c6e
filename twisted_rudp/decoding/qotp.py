"""QOTP datagrams in words; what is encrypted, with a key log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted_rudp.core.engine import Address
from twisted_rudp.qotp.extensions import (
    CHALLENGE,
    CONTROL,
    OFFER_OFFSET,
    Abort,
    FrameType,
    NewId,
    Reset,
    decode_frame,
)
from twisted_rudp.qotp.protection import KeyLogReader, Read
from twisted_rudp.qotp.settings import LEAST_MTU
from twisted_rudp.qotp.wire import ID_END, ID_OFFSET, OVERHEAD, PREFIX, SHORTEST, Ack, Kind, Segment

NAMES: Final = {
    Kind.INIT_SND: "InitSnd",
    Kind.INIT_RCV: "InitRcv",
    Kind.INIT_CRYPTO_SND: "InitCryptoSnd",
    Kind.INIT_CRYPTO_RCV: "InitCryptoRcv",
    Kind.DATA: "Data",
}

MOST_NAMES: Final = 65536
"""Connection ids that are remembered; the oldest goes first."""


class QOTPReader:
    """Reads the datagrams of one capture."""

    name = "qotp"

    def __init__(self, key_log: Iterable[str] = ()) -> None:
        """
        @param key_log: its lines; without those of a connection, what is encrypted stays so.
        """
        self._keys = KeyLogReader(key_log)
        self._names: dict[bytes, None] = {}

    def read(
        self, data: bytes, source: Address, destination: Address, certain: bool = True
    ) -> list[str] | None:
        """
        @param certain: it is known to be QOTP, so that it is also described if it cannot be
            decrypted.
        @return: a line for each part; None if this is not QOTP.
        """
        if len(data) < SHORTEST or data[0] not in PREFIX or len(data) < OVERHEAD[data[0]]:
            return ["no datagram of QOTP"] * certain or None
        kind, name = Kind(data[0]), data[ID_OFFSET:ID_END]
        found = self._keys.read(data)
        opening = kind in (Kind.INIT_SND, Kind.INIT_CRYPTO_SND)
        # Of what is not known, only the form of an InitSnd is unmistakable.
        plain = kind is Kind.INIT_SND and len(data) >= LEAST_MTU and not any(data[65:])
        if found is None and not (certain or plain or name in self._names):
            return None
        if opening or found is not None:
            self._names[name] = None
            if len(self._names) > MOST_NAMES:
                del self._names[next(iter(self._names))]
        head = f"{NAMES[kind]} id {name.hex()}"
        if kind is Kind.INIT_SND:
            return [f"{head}, identity {data[33:65].hex()}"]
        if found is None:
            return [f"{head}, {len(data) - OVERHEAD[kind]} bytes encrypted, key not known"]
        return self._opened(head, found)

    def _opened(self, head: str, found: Read) -> list[str]:
        side = "dialler" if found.from_initiator else "listener"
        head = f"{head} of the {side}, packet {found.number}"
        if found.payload is None:
            return [f"{head}: malformed payload"]
        ack, segment = found.payload
        parts = [_ack(ack)] if ack is not None else []
        if segment is not None:
            parts.append(_segment(segment))
        return [f"{head}: {'; '.join(parts)}"]


def _ack(ack: Ack) -> str:
    window = f"window {ack.window}"
    if ack.stream != CONTROL:
        return f"ACK stream {ack.stream} offset {ack.offset} length {ack.length}, {window}"
    if ack.length:
        first = (ack.offset - ack.length + 1) & 0xFFFFFF
        return f"ACK packets {first}-{ack.offset}, {window}"
    if ack.offset == OFFER_OFFSET:
        return f"offer of extensions, {window}"
    if ack.offset >= CHALLENGE:
        return f"answer to a challenge, {window}"
    return window


def _segment(segment: Segment) -> str:
    data = bytes(segment.data)
    if segment.stream == CONTROL:
        return _control(segment.offset, data)
    if not data and not segment.close:
        if segment.offset == CHALLENGE | OFFER_OFFSET:
            return "PING, offer of extensions"
        return f"PING stream {segment.stream} offset {segment.offset}"
    end = " end of stream" if segment.close else ""
    return f"stream {segment.stream} offset {segment.offset}, {len(data)} bytes{end}"


def _control(offset: int, data: bytes) -> str:
    if not data:
        return "challenge of the address" if offset >= CHALLENGE else "PING"
    match decode_frame(data):
        case Reset(stream, code):
            return f"reset of stream {stream}, code {code}"
        case Abort(code):
            return f"abort, code {code}"
        case NewId(made, _):
            return f"new connection id {made.hex()}"
    if data[0] == FrameType.RANGES:
        return "more acknowledged ranges"
    if data[0] == FrameType.FILL:
        return f"fill of {len(data)} bytes"
    if data[0] == FrameType.DATAGRAM:
        return f"message of {len(data) - 1} bytes"
    return f"control frame, {len(data)} bytes"
