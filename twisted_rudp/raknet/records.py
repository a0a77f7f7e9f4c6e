"""ACK and NACK datagrams (raknet.md 8)."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.serial import MASK24
from twisted_rudp.raknet.wire import ACK_BIT, ARRIVAL_RATE_BIT, u24

_HEAD = 3
_RATE = 4
_SINGLE = 4
_RANGE = 7


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
    for first, end in _cut(ranges):
        single = end - first == 1
        record = b"\x01" + u24(first) if single else b"\x00" + u24(first) + u24(end - 1)
        if len(record) > room:
            datagrams.append(_join(kind, records))
            records = []
            room = limit - _HEAD
        records.append(record)
        room -= len(record)
    if records:
        datagrams.append(_join(kind, records))
    return datagrams


def _cut(ranges: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    for first, end in ranges:
        while (wrap := (first | MASK24) + 1) < end:
            yield first, wrap
            first = wrap
        yield first, end


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
