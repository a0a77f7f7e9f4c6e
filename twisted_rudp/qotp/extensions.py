"""
What our own peers say to each other beyond the release (qotp.md 17).

A listener's first answer carries a PING of stream 0 at an offset where no stream will
ever be, L{OFFER}; the release answers it as it does any PING. A dialler that knows it puts
an acknowledgement of L{CONTROL} at L{OFFER_OFFSET} into what it sends until it is
answered in kind; the release ignores acknowledgements of streams that it never used.
So both know of each other from the first datagram, and nobody else is shown more.

From then on:

  - an acknowledgement of L{CONTROL} with a length is a I{range}: so many packet
    numbers up to C{offset}, modulo 2^24;
  - bytes of the stream L{CONTROL} are I{control frames}: more ranges, the reset of a
    stream, the reset of the session, a new connection id with its reset token, fill, to
    see whether a longer datagram gets through, what authenticates the dialler, or a message
    that is never repeated. Empty, they are a PING; at an offset from L{CHALLENGE} on it is
    the challenge of an address, and acknowledged with that offset;
  - CLOSE ends one direction of a stream only;
  - a listener gives the dialler a new connection id for what it sends, and a dialler that
    listens on the same socket gives one to the listener. Made of the giver's key, it is known
    again by who has lost the connection, and answered with a stateless reset (RFC 9000 section
    10.3). An id that a dialler of the release has chosen is never answered: an unexpected
    datagram ends its loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from hashlib import blake2b
from hmac import compare_digest
from struct import Struct
from typing import Final, NamedTuple

from twisted_rudp.core.serial import unwrap24
from twisted_rudp.qotp.wire import LONGEST_SEGMENT, NARROW, Ack, Kind, Segment

CONTROL: Final = 0xFFFFFFFF
"""The stream of control frames."""

CHALLENGE: Final = 1 << 47
"""The least offset of a PING that has to be echoed."""

OFFER_OFFSET: Final = 0x727501
OFFER = Segment(0, CHALLENGE | OFFER_OFFSET, b"")
"""A listener's offer of the extensions. It makes the release's dialler send Data at once,
also one that has nothing to say yet, and so completes the handshake."""

_MOST_WANTED: Final = 3

MORE_RANGES: Final = 32
"""Ranges told beside the newest."""

_MOST_KNOWN: Final = 8 * MORE_RANGES
"""Ranges that a reader remembers."""

_range: Final = Struct("<II")
_reset: Final = Struct("<BII")
_abort: Final = Struct("<BI")
_new_id: Final = Struct("<B8s16s")
_proof: Final = Struct("<BBB32s32s")
_accepted: Final = Struct("<BB32s")

_NONCE: Final = 5
"""Of the eight bytes of a new connection id; the others prove who has made it."""


class Peer(Enum):
    """What the other side understands."""

    UNKNOWN = "not heard yet"
    BASELINE = "the release's protocol and no more"
    EXTENDED = "the extensions too"


class Extensions:
    """
    What is known of the other side of one connection.

    @ivar peer: what it understands.
    @ivar offering: what is sent goes with the dialler's offer, which was not answered yet.
    """

    __slots__ = ("offering", "peer")

    def __init__(self) -> None:
        self.peer = Peer.UNKNOWN
        self.offering = False


class FrameType(IntEnum):
    """First byte of a control frame."""

    RANGES = 1
    RESET = 2
    ABORT = 3
    NEW_ID = 4
    FILL = 5
    PROOF = 6
    ACCEPTED = 7
    DATAGRAM = 8


_RANGES: Final = bytes((FrameType.RANGES,))
_DATAGRAM: Final = bytes((FrameType.DATAGRAM,))


class Reset(NamedTuple):
    """A stream is given up in both directions."""

    stream: int
    code: int


class Abort(NamedTuple):
    """The session is given up."""

    code: int


class NewId(NamedTuple):
    """
    What is sent to us is to carry this connection id.

    @ivar token: how a stateless reset of the connection ends.
    """

    id: bytes
    token: bytes

    def __repr__(self) -> str:
        # With the token anybody could end the connection.
        return f"NewId({self.id.hex()})"

    def resets(self, datagram: bytes) -> bool:
        """Whether a datagram with this id is a stateless reset."""
        return compare_digest(datagram[-len(self.token) :], self.token)


class Proof(NamedTuple):
    """
    A dialler authenticates itself.

    @ivar given: which proofs follow, as bits.
    """

    version: int
    given: int
    key: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"Proof(version {self.version}, {self.given:02b})"


class Accepted(NamedTuple):
    """A listener has found a dialler's proof right, and gives its own."""

    version: int
    password: bytes

    def __repr__(self) -> str:
        return f"Accepted(version {self.version})"


class StatelessReset:
    """A listener's new connection ids, and what it answers when it has forgotten one."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """
        @param key: secret, and the same after a restart.
        """
        self._key = key

    def new_id(self, nonce: bytes) -> NewId:
        """
        @param nonce: five random bytes.
        """
        nonce = nonce[:_NONCE]
        made = nonce + self._mac(b"id" + nonce, 8 - _NONCE)
        return NewId(made, self._mac(b"token" + made, 16))

    def owns(self, id: bytes) -> bool:
        """Whether this connection id was made here."""
        return compare_digest(id, self.new_id(id).id)

    def datagram(self, id: bytes, fill: bytes) -> bytes:
        """
        The stateless reset of a connection: as short as Data can be, and like it to
        everybody but the peer.
        """
        return bytes((Kind.DATA,)) + id + fill + self.new_id(id).token

    def _mac(self, text: bytes, size: int) -> bytes:
        return blake2b(text, key=self._key, digest_size=size).digest()


def offer(wanted: int) -> Segment:
    """
    A listener's offer.

    @param wanted: what the dialler is to prove, as bits.
    """
    return Segment(0, OFFER.offset + 2 * wanted, b"")


def wanted_by(segment: Segment | None) -> int | None:
    """What a listener's offer asks for; None if it is no offer."""
    if segment is None or segment.stream or segment.data or segment.close:
        return None
    wanted, odd = divmod(segment.offset - OFFER.offset, 2)
    return None if odd or not 0 <= wanted <= _MOST_WANTED else wanted


def offer_ack(window: int) -> Ack:
    """A dialler's offer."""
    return Ack(CONTROL, OFFER_OFFSET, 0, window)


def peer_of(ack: Ack | None) -> Peer:
    """What a dialler understands, by its first Data."""
    if ack is not None and ack.stream == CONTROL and (ack.length or ack.offset == OFFER_OFFSET):
        return Peer.EXTENDED
    return Peer.BASELINE


def window_ack(window: int) -> Ack:
    """Announces a window and acknowledges nothing (rule R7)."""
    return Ack(CONTROL, 0, 0, window)


def range_ack(first: int, end: int, window: int) -> Ack:
    """Acknowledges packet numbers, as many below C{end} as fit."""
    length = end - first
    if length > LONGEST_SEGMENT:
        length = LONGEST_SEGMENT
    return Ack(CONTROL, (end - 1) & NARROW, length, window)


def decode_range(ack: Ack, near: int) -> tuple[int, int] | None:
    """
    The first packet number of an acknowledgement and its end.

    @param near: the next number we shall send.
    @return: None if it is not one of a range, or of what we never sent.
    """
    last = unwrap24(ack.offset, near)
    if ack.stream != CONTROL or not ack.length or not 0 <= last < near:
        return None
    first = last - ack.length + 1
    return first if first > 0 else 0, last + 1


def encode_ranges(first: int, ranges: Sequence[tuple[int, int]]) -> bytes:
    """
    The ranges below the newest, highest first.

    @param first: the first number of the newest range.
    """
    parts = [_RANGES]
    for low, end in ranges:
        # On the wire a gap counts from the last number of a range to the next one's first.
        gap, length = first - end + 1, end - low
        if gap >> 32 or length >> 32:
            break
        parts.append(_range.pack(gap, length))
        first = low
    return b"".join(parts)


class RangesWriter:
    """L{encode_ranges} for one acknowledgement after the other, which say mostly the same."""

    __slots__ = ("_body", "_first", "_ranges")

    def __init__(self) -> None:
        self._body = b""
        self._first = -1
        self._ranges: list[tuple[int, int]] = []

    def write(self, first: int, ranges: list[tuple[int, int]]) -> bytes:
        """See L{encode_ranges}."""
        if first == self._first and ranges == self._ranges:
            return self._body
        body = self._extended(first, ranges) or encode_ranges(first, ranges)
        self._body = body
        self._first = first
        whole = len(body) == 1 + len(ranges) * _range.size
        self._ranges = ranges if whole else []
        return body

    def _extended(self, first: int, ranges: list[tuple[int, int]]) -> bytes:
        """What was written last, behind the ranges that are new; nothing if others changed too."""
        before = self._first
        at = 0
        for low, _ in ranges:
            at += 1
            if low <= before:
                break
        kept = len(ranges) - at
        if not at or ranges[at - 1][0] != before or ranges[at:] != self._ranges[:kept]:
            return b""
        return encode_ranges(first, ranges[:at]) + self._body[1 : 1 + kept * _range.size]


class RangesReader:
    """What one acknowledgement after the other says that those before have not said."""

    __slots__ = ("_body", "_first", "_known")

    def __init__(self) -> None:
        self._body = b""
        self._first = -1
        self._known: dict[int, int] = {}

    def read(self, body: bytes, first: int) -> list[tuple[int, int]]:
        """
        The inverse of L{encode_ranges}, without what is known. What makes no sense ends it, and
        other frames have none.

        @param first: the first number of the newest range.
        """
        found: list[tuple[int, int]] = []
        if body[:1] != _RANGES:
            return found
        body = body[1 : 1 + MORE_RANGES * _range.size]
        body = body[: len(body) - len(body) % _range.size]
        before, known = self._first, self._known
        self._first = first
        last, self._body = self._body, body
        if first == before and last.startswith(body):
            return found
        if len(known) > _MOST_KNOWN:
            known.clear()
        at = 0
        for gap, length in _range.iter_unpack(body):
            at += _range.size
            end = first - gap + 1
            low = end - length
            if gap < 2 or not length or low < 0:
                break
            if known.get(low) != end:
                known[low] = end
                found.append((low, end))
            if low == before and last.startswith(body[at:]):
                # What follows stood in the last one.
                break
            first = low
        return found


def encode_reset(stream: int, code: int) -> bytes:
    """Gives a stream up."""
    return _reset.pack(FrameType.RESET, stream, code & 0xFFFFFFFF)


def encode_abort(code: int = 0) -> bytes:
    """Gives the session up."""
    return _abort.pack(FrameType.ABORT, code)


def encode_new_id(new: NewId) -> bytes:
    """Gives the peer a connection id for what it sends."""
    return _new_id.pack(FrameType.NEW_ID, *new)


def encode_fill(size: int) -> bytes:
    """So many bytes that are acknowledged and mean nothing."""
    return bytes((FrameType.FILL,)).ljust(size, b"\0")


def encode_proof(proof: Proof) -> bytes:
    """Authenticates a dialler."""
    return _proof.pack(FrameType.PROOF, *proof)


def encode_accepted(accepted: Accepted) -> bytes:
    """Tells a dialler that it is authenticated."""
    return _accepted.pack(FrameType.ACCEPTED, *accepted)


def encode_datagram(data: bytes) -> bytes:
    """A message beside the streams, as RFC 9221 has it."""
    return _DATAGRAM + data


def decode_frame(body: bytes) -> Reset | Abort | NewId | Proof | Accepted | None:
    """What a control frame says; None for ranges, fill and whatever else it is."""
    if len(body) == _new_id.size and body[0] == FrameType.NEW_ID:
        _, made, token = _new_id.unpack(body)
        return NewId(made, token)
    if len(body) == _reset.size and body[0] == FrameType.RESET:
        _, stream, code = _reset.unpack(body)
        return Reset(stream, code)
    if len(body) == _abort.size and body[0] == FrameType.ABORT:
        return Abort(_abort.unpack(body)[1])
    if len(body) == _proof.size and body[0] == FrameType.PROOF:
        return Proof(*_proof.unpack(body)[1:])
    if len(body) == _accepted.size and body[0] == FrameType.ACCEPTED:
        return Accepted(*_accepted.unpack(body)[1:])
    return None
