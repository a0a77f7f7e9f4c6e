"""Bytes of KCP segments (kcp.md 1.1) and of what C{kcp-close.md} adds to them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from twisted_rudp.kernels.pure import Buffer

PUSH: Final = 81
ACK: Final = 82
WASK: Final = 83
WINS: Final = 84

HEADER_SIZE: Final = 24

CONV_SIZE: Final = 4
"""Each segment begins with the conversation id."""

MARK: Final = 0xE5
"""C{frg} of every ACK, WASK and WINS of ours (kcp-close.md 1)."""

RESET: Final = 0xE6
"""C{frg} of a WINS that is a reset."""

QUESTION: Final = 0xFFFFFFFF
"""C{sn} of a marked WASK by which a listener asks who is there (kcp-close.md 14)."""

END: Final = 255
"""C{frg} of the empty PUSH that ends a stream. kcp-go's largest is 254."""

MAXIMUM_FRAGMENTS: Final = 255
"""Most segments of one message (kcp-go; the C library stops at 127)."""

Header: TypeAlias = tuple[int, int, int, int, int, int, int, int]
"""C{(conv, cmd, frg, wnd, ts, sn, una, len)}."""

_header: Final = struct.Struct("<IBBHIIII")

pack_header: Final = _header.pack
"""C{(conv, cmd, frg, wnd, ts, sn, una, len) -> bytes}, each within its width."""

unpack_header: Final[Callable[..., Header]] = _header.unpack_from
"""C{(buffer, offset) -> header}. Its type has compiled code compare numbers, not objects."""


def reset(conv: int, snd_nxt: int, rcv_nxt: int) -> bytes:
    """The reset of C{kcp-close.md} section 1; both numbers are modulo 2^32."""
    return pack_header(conv, WINS, RESET, 0, 0, snd_nxt, rcv_nxt, 0)


def pack_wins(conv: int, wnd: int, sn: int, una: int, payload: bytes) -> bytes:
    """A segment in which one end of ours tells the other something beside the stream."""
    return pack_header(conv, WINS, MARK, wnd, 0, sn, una, len(payload)) + payload


FORGOTTEN: Final = 4
"""The first byte of the payload of a WINS: the session is not here (kcp-close.md 7.4)."""

_forgotten = struct.Struct("<BII")


def pack_forgotten(conv: int, wnd: int, sn: int, una: int) -> bytes:
    """
    For who sent a PUSH with these numbers. The una of the segment itself is 0, which acknowledges
    nothing to a peer that does not know the payload.
    """
    return pack_wins(conv, wnd, 0, 0, _forgotten.pack(FORGOTTEN, sn, una))


def unpack_forgotten(payload: bytes) -> tuple[int, int] | None:
    """The numbers of the PUSH that is answered; None if the payload is not valid."""
    if len(payload) != _forgotten.size:
        return None
    _, sn, una = _forgotten.unpack(payload)
    return sn, una


def is_acknowledgement(run: Buffer) -> bool:
    """Nothing but ACK segments is in these datagrams."""
    count, rest = divmod(len(run), HEADER_SIZE)
    return not rest and bytes(run[CONV_SIZE::HEADER_SIZE]) == bytes((ACK,)) * count


class Segment(NamedTuple):
    """A header as it stands on the wire."""

    conv: int
    cmd: int
    frg: int
    wnd: int
    ts: int
    sn: int
    una: int
    length: int


def segments(datagram: Buffer) -> Iterator[Segment]:
    """The headers in a datagram, up to the first that is wrong (kcp.md 1.7)."""
    total = len(datagram)
    position = 0
    while total - position >= HEADER_SIZE:
        segment = Segment._make(unpack_header(datagram, position))
        position += HEADER_SIZE + segment.length
        if position > total or not PUSH <= segment.cmd <= WINS:
            return
        yield segment


@dataclass(slots=True)
class Counters:
    """
    What the ARQ counts. The first group are kcp-go's, whose names are those
    here without the underscores (C{in_segs} is C{InSegs}, C{kcp_in_errors} is
    C{KCPInErrors}; kcp.md 6).

    @ivar in_segs: segments of datagrams that were parsed without an error.
    @ivar out_segs: segments sent, of all kinds, repetitions too.
    @ivar lost_segs: sent again because of a timeout.
    @ivar fast_retrans_segs: sent again because enough later ones arrived.
    @ivar early_retrans_segs: sent again because later ones arrived and nothing
        new was to be sent, or once more before anything shows a loss.
    @ivar repeat_segs: PUSH segments that were duplicates, old or beyond the
        window.
    @ivar kcp_in_errors: datagrams with an error.
    @ivar bad_resets: resets that did not fit our numbers.
    @ivar data_after_end: PUSH segments numbered after the peer's end.
    @ivar second_ends: ends of stream with another number than the first.
    @ivar unmarked_ends: ends of stream from a peer that does not know them.
    @ivar una_beyond: acknowledgements of what was never sent.
    @ivar bad_shapes: announcements and confirmations of shapes that did not fit our numbers.
    @ivar receive_limited: PUSH segments not taken in because of a bound on bytes.
    """

    in_segs: int = 0
    out_segs: int = 0
    lost_segs: int = 0
    fast_retrans_segs: int = 0
    early_retrans_segs: int = 0
    repeat_segs: int = 0
    kcp_in_errors: int = 0
    bad_resets: int = 0
    data_after_end: int = 0
    second_ends: int = 0
    unmarked_ends: int = 0
    una_beyond: int = 0
    bad_shapes: int = 0
    receive_limited: int = 0

    @property
    def repeated(self) -> tuple[int, int]:
        """Segments sent again because later ones had arrived, and because of a timeout."""
        return self.fast_retrans_segs + self.early_retrans_segs, self.lost_segs

    @property
    def retrans_segs(self) -> int:
        """All that was sent again (C{RetransSegs})."""
        return self.lost_segs + self.fast_retrans_segs + self.early_retrans_segs
