"""KCP datagrams in words: encryption, FEC, segments, and what kcp-close.md adds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from twisted_rudp.core.engine import Address
from twisted_rudp.decoding.words import spans
from twisted_rudp.kcp.crypto import Crypt, make_crypt
from twisted_rudp.kcp.fec import (
    CODED_OFFSET,
    DATA,
    FEC_OVERHEAD,
    KIND_OFFSET,
    OUT_OF_BAND,
    OUT_OF_BAND_OVERHEAD,
    PARITY,
    SIZE_FIELD,
    Decoder,
    is_framed,
)
from twisted_rudp.kcp.wire import (
    ACK,
    CONV_SIZE,
    END,
    HEADER_SIZE,
    MARK,
    PUSH,
    QUESTION,
    RESET,
    WASK,
    WINS,
    Segment,
    segments,
)

NAMES: Final = {PUSH: "PUSH", ACK: "ACK", WASK: "WASK", WINS: "WINS"}

MOST_DECODERS: Final = 64
"""Directions for which packets of FEC are kept, so that lost ones can be rebuilt."""


class KCPReader:
    """Reads the datagrams of one capture."""

    name = "kcp"

    def __init__(
        self, crypt: str = "null", key: bytes = b"", shards: tuple[int, int] = (1, 1)
    ) -> None:
        """
        @param crypt: name of the cipher; C{null}: there is none.
        @param shards: data and parity packets of a group, if known; else they are found out
            where packets come without a gap.
        @raise ValueError: there is no such cipher, or the key does not fit it.
        """
        self._crypt: Crypt | None = make_crypt(crypt, key, bytes)
        self._shards = shards
        self._decoders: dict[tuple[Address, Address], Decoder] = {}

    def read(
        self, data: bytes, source: Address, destination: Address, certain: bool = True
    ) -> list[str] | None:
        """
        @param certain: it is known to be KCP, so that it is also described if not all of
            it makes sense.
        @return: a line for each part; None if this is not KCP.
        """
        if self._crypt is not None:
            if not data:
                return None
            opened = self._crypt.open(data, len(data))
            if opened.failed or not opened.run:
                return ["cannot be decrypted: another key or cipher, or not KCP"] * certain or None
            data = bytes(opened.run)
            certain = True
        if is_framed(data):
            return self._framed(data, source, destination, certain)
        return _bare(data, certain)

    def _framed(
        self, data: bytes, source: Address, destination: Address, certain: bool
    ) -> list[str] | None:
        kind = data[KIND_OFFSET]
        sequence = int.from_bytes(data[:4], "little")
        if kind == OUT_OF_BAND:
            if len(data) < OUT_OF_BAND_OVERHEAD:
                return ["FEC: cut short"] * certain or None
            conv = data[FEC_OVERHEAD : FEC_OVERHEAD + CONV_SIZE]
            size = len(data) - OUT_OF_BAND_OVERHEAD
            return [f"conv {_hex(conv)} out-of-band message, {size} bytes"]
        if kind == PARITY and len(data) >= CODED_OFFSET + SIZE_FIELD:
            lines = [f"FEC parity {sequence}, {len(data) - CODED_OFFSET} bytes"] * certain
        elif kind != DATA or len(data) < FEC_OVERHEAD + HEADER_SIZE:
            return ["FEC: cut short"] * certain or None
        else:
            inner = _bare(data[FEC_OVERHEAD:], certain)
            if inner is None:
                return None
            lines = [f"FEC data {sequence}: {inner[0]}", *inner[1:]]
        if not lines:
            return None
        for rebuilt in self._rebuilt(data, source, destination):
            lines += [f"rebuilt by FEC: {line}" for line in _bare(rebuilt, True) or ()]
        return lines

    def _rebuilt(self, data: bytes, source: Address, destination: Address) -> list[bytes]:
        """What this packet and those before it let us rebuild."""
        decoder = self._decoders.pop((source, destination), None) or Decoder(*self._shards)
        if len(self._decoders) >= MOST_DECODERS:
            del self._decoders[next(iter(self._decoders))]
        self._decoders[source, destination] = decoder
        return [
            bytes(run[start : start + size])
            for run, size, whole in decoder.decode(data, len(data))
            if not whole
            for start in range(0, len(run), size)
        ]


def _hex(conv: bytes) -> str:
    return f"{int.from_bytes(conv, 'little'):08x}"


def _bare(data: bytes, certain: bool) -> list[str] | None:
    """The segments of a datagram; None if it has none that fit."""
    found = list(segments(data))
    used = sum(HEADER_SIZE + each.length for each in found)
    if not found or (used != len(data) and not certain):
        return ["no KCP segment: encrypted?"] * certain or None
    lines = [
        line
        for conv, row in groupby(found, lambda each: each.conv)
        for line in _conversation(conv, list(row))
    ]
    if used != len(data):
        lines.append(f"{len(data) - used} bytes that are no segment")
    return lines


def _conversation(conv: int, row: Sequence[Segment]) -> list[str]:
    lines = []
    for command, each in groupby(row, lambda segment: segment.cmd):
        group = list(each)
        if command == ACK and len(group) > 1:
            numbers = spans(_ranges([segment.sn for segment in group]))
            last = group[-1]
            lines.append(f"ACK sn {numbers}, una {last.una} wnd {last.wnd}{_mark(last)}")
        else:
            lines += map(_segment, group)
    return [f"conv {conv:08x} {line}" for line in lines]


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as ranges, in their order."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _mark(segment: Segment) -> str:
    return " marked" if segment.cmd != PUSH and segment.frg == MARK else ""


def _segment(segment: Segment) -> str:
    rest = f"una {segment.una} wnd {segment.wnd} ts {segment.ts}"
    if segment.cmd == PUSH:
        if segment.frg == END and not segment.length:
            return f"PUSH sn {segment.sn} end of stream, {rest}"
        fragment = f" frg {segment.frg}" if segment.frg else ""
        return f"PUSH sn {segment.sn}{fragment}, {segment.length} bytes, {rest}"
    if segment.cmd == WINS and segment.frg == RESET:
        return f"WINS reset, snd_nxt {segment.sn} rcv_nxt {segment.una}"
    if segment.cmd == WASK and segment.frg == MARK and segment.sn == QUESTION:
        return f"WASK who is there, {rest}{_mark(segment)}"
    aside = f", message of {segment.length - 1} bytes" if segment.length else ""
    return f"{NAMES[segment.cmd]} sn {segment.sn} {rest}{_mark(segment)}{aside}"
