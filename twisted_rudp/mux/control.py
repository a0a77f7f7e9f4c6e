"""
What two ends of twisted_rudp tell each other on the control stream of a multiplexed session:
a preface, proofs of a secret, and requests to listen (C{mux.md} section 3).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from twisted_rudp.core.lifecycle import Role

MAGIC: Final = b"\xf5rudpmux"
VERSION: Final = 1

NONCE_SIZE: Final = 32
PROOF_SIZE: Final = 32
CLIENT_ID_SIZE: Final = 16

LONGEST_BODY: Final = 512
LONGEST_TEXT: Final = 200
LONGEST_HOST: Final = 255

_PREFACE: Final = Struct(f">8sBB{NONCE_SIZE}s")
PREFACE_SIZE: Final = _PREFACE.size
_HEADER: Final = Struct(">BH")
_LISTEN: Final = Struct(f">H{CLIENT_ID_SIZE}sH")
_LISTENING: Final = Struct(">HH")
_REFUSED: Final = Struct(">HB")
_STOP: Final = Struct(">H")
_ORIGIN: Final = Struct(">HHB")


class Offer(IntFlag):
    """What an end says of itself in its preface."""

    SECRET = 1
    """The peer has to prove that it knows the secret."""

    STREAMS = 2
    """It accepts streams."""

    LISTENS = 4
    """It listens for its peer."""


class Refusal(IntEnum):
    """Why an end does not listen."""

    NOT_ALLOWED = 1
    IN_USE = 2
    LIMIT = 3
    FAILED = 4
    SECRET = 5


class ControlError(ValueError):
    """The peer breaks the rules of the control stream."""


class NotMultiplexed(ControlError):
    """What came is no preface: the peer does not multiplex."""


class Preface(NamedTuple):
    """The first thing on the control stream, in both directions."""

    version: int
    offer: Offer
    nonce: bytes


class Proof(NamedTuple):
    """That this end knows the secret; see L{proof}."""

    mac: bytes


class Listen(NamedTuple):
    """
    Listen on an address for me.

    @ivar request: a number that the client has chosen.
    @ivar client: random bytes, the same in all sessions of one client: it takes over what a
        lost session of its own still has.
    @ivar port: 0: any that is allowed.
    @ivar host: an IP address.
    """

    request: int
    client: bytes
    port: int
    host: str


class Listening(NamedTuple):
    """The answer: where."""

    request: int
    port: int
    host: str


class Refused(NamedTuple):
    """The other answer, or the end of a listening that had begun."""

    request: int
    code: int
    text: str


class Stop(NamedTuple):
    """Listen no more."""

    request: int


Message: TypeAlias = Proof | Listen | Listening | Refused | Stop


class Origin(NamedTuple):
    """
    The beginning of a stream that a listening end has opened.

    @ivar request: for which it listened.
    @ivar port: of the peer that was accepted; 0 if it has none.
    @ivar host: its address, or empty.
    """

    request: int
    port: int
    host: str


def pack_preface(offer: Offer, nonce: bytes, version: int = VERSION) -> bytes:
    """The bytes of a preface."""
    return _PREFACE.pack(MAGIC, version, offer, nonce)


def pack_message(message: Message) -> bytes:
    """The bytes of a message."""
    if isinstance(message, Proof):
        kind, body = 1, message.mac
    elif isinstance(message, Listen):
        kind, body = 2, _LISTEN.pack(*message[:3]) + message.host.encode("ascii")
    elif isinstance(message, Listening):
        kind, body = 3, _LISTENING.pack(*message[:2]) + message.host.encode("ascii")
    elif isinstance(message, Refused):
        text = message.text.encode("utf-8", "replace")[:LONGEST_TEXT]
        kind, body = 4, _REFUSED.pack(*message[:2]) + text
    else:
        kind, body = 5, _STOP.pack(*message)
    return _HEADER.pack(kind, len(body)) + body


def pack_origin(origin: Origin) -> bytes:
    """The bytes at the beginning of a stream."""
    host = origin.host.encode("ascii", "replace")[:LONGEST_HOST]
    return _ORIGIN.pack(origin.request, origin.port, len(host)) + host


def unpack_origin(data: bytes) -> tuple[Origin, int] | None:
    """
    The inverse.

    @return: None while it is not complete; else also how many bytes it took.
    @raise ControlError: it means nothing.
    """
    if len(data) < _ORIGIN.size:
        return None
    request, port, size = _ORIGIN.unpack_from(data)
    end = _ORIGIN.size + size
    if len(data) < end:
        return None
    return Origin(request, port, _ascii(data[_ORIGIN.size : end])), end


def proof(
    secret: bytes, role: Role, client: bytes, server: bytes, binding: bytes = b""
) -> bytes:
    """
    What the end with this role sends to prove that it knows the secret.

    @param client: the preface of the client.
    @param server: that of the server.
    @param binding: what only these two ends know of their session, where the transport has it.
    """
    label = b"rudpmux client" if role is Role.CLIENT else b"rudpmux server"
    return hmac.digest(secret, label + client + server + binding, "sha256")


class ControlReader:
    """
    Reads the control stream, which comes in pieces. It keeps at most one message that is
    incomplete.

    @ivar preface: its bytes, once it has come.
    """

    __slots__ = ("_buffer", "preface")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.preface = b""

    def feed(self, data: bytes) -> Iterator[Preface | Message]:
        """
        What is complete by now. It has to be taken to the end.

        @raise ControlError: nothing after this can be understood.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            if not self.preface:
                if bytes(buffer[: len(MAGIC)]) != MAGIC[: len(buffer)]:
                    raise NotMultiplexed("the peer does not multiplex as this end does")
                if len(buffer) < PREFACE_SIZE:
                    return
                self.preface, start = bytes(buffer[:PREFACE_SIZE]), PREFACE_SIZE
                yield _preface(self.preface)
            while len(buffer) - start >= _HEADER.size:
                kind, size = _HEADER.unpack_from(buffer, start)
                if size > LONGEST_BODY:
                    raise ControlError(f"a control message of {size} bytes")
                end = start + _HEADER.size + size
                if len(buffer) < end:
                    break
                yield _message(kind, bytes(buffer[start + _HEADER.size : end]))
                start = end
        finally:
            del buffer[:start]


def _preface(data: bytes) -> Preface:
    _, version, offer, nonce = _PREFACE.unpack(data)
    if version != VERSION:
        raise ControlError(
            f"the peer speaks version {version} of the control stream, this end {VERSION}"
        )
    if offer > Offer.SECRET | Offer.STREAMS | Offer.LISTENS:
        raise ControlError(f"flags {offer:#04x} are none of version {VERSION}")
    return Preface(version, Offer(offer), nonce)


def _message(kind: int, body: bytes) -> Message:
    if kind == 1 and len(body) == PROOF_SIZE:
        return Proof(body)
    if kind == 2 and len(body) >= _LISTEN.size:
        request, client, port = _LISTEN.unpack_from(body)
        return Listen(request, client, port, _host(body[_LISTEN.size :]))
    if kind == 3 and len(body) >= _LISTENING.size:
        request, port = _LISTENING.unpack_from(body)
        return Listening(request, port, _host(body[_LISTENING.size :]))
    if kind == 4 and _REFUSED.size <= len(body) <= _REFUSED.size + LONGEST_TEXT:
        request, code = _REFUSED.unpack_from(body)
        text = body[_REFUSED.size :].decode("utf-8", "replace")
        return Refused(request, code, "".join(c if c.isprintable() else "?" for c in text))
    if kind == 5 and len(body) == _STOP.size:
        return Stop(*_STOP.unpack(body))
    raise ControlError(f"control message {kind} with {len(body)} bytes")


def _host(data: bytes) -> str:
    if not data:
        raise ControlError("a control message without its address")
    return _ascii(data)


def _ascii(data: bytes) -> str:
    if len(data) > LONGEST_HOST or any(not 32 < each < 127 for each in data):
        raise ControlError("an address that is none")
    return data.decode("ascii")
