"""Segments of datagrams as values, for the tests of the ARQ."""

from __future__ import annotations

from typing import NamedTuple

from twisted_rudp.kcp.wire import ACK, HEADER_SIZE, PUSH, WASK, WINS, pack_header, unpack_header


class Segment(NamedTuple):
    """One segment, fields as on the wire."""

    conv: int
    cmd: int
    frg: int
    wnd: int
    ts: int
    sn: int
    una: int
    payload: bytes = b""

    def pack(self) -> bytes:
        return pack_header(*self[:7], len(self.payload)) + self.payload


def parse(datagram: bytes) -> list[Segment]:
    """
    The segments of a well-formed datagram; fewer bytes than a header at its end
    are ignored, as by every receiver (kcp.md 1.7).
    """
    segments = []
    position = 0
    while len(datagram) - position >= HEADER_SIZE:
        *fields, length = unpack_header(datagram, position)
        position += HEADER_SIZE
        payload = bytes(datagram[position : position + length])
        if len(payload) != length or fields[1] not in (PUSH, ACK, WASK, WINS):
            raise ValueError("not a sequence of segments")
        segments.append(Segment(*fields, payload))
        position += length
    return segments


def split(run: bytes, size: int) -> list[bytes]:
    """The datagrams of a run."""
    run = bytes(run)
    return [run[start : start + size] for start in range(0, len(run), size)]


class Wire:
    """
    An C{emit} that keeps what it was given.

    @ivar runs: the runs, as pairs of bytes and size.
    @ivar room: answer False from so many runs on.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.runs: list[tuple[bytes, int]] = []
        self.room = room

    def __call__(self, run: bytes, size: int) -> bool:
        self.runs.append((bytes(run), size))
        self.room -= 1
        return self.room > 0

    def emit(self, run: bytes, size: int, address: object) -> bool:
        """As an engine's C{emit}."""
        return self(run, size)

    def datagrams(self) -> list[bytes]:
        """All datagrams so far; forgets them."""
        found = [datagram for run, size in self.runs for datagram in split(run, size)]
        self.runs.clear()
        return found

    def segments(self) -> list[Segment]:
        """All segments so far; forgets them."""
        return [segment for datagram in self.datagrams() for segment in parse(datagram)]
