"""What datagrams say, for traces: numbers, frames, and which earlier ones were lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.serial import unwrap24
from twisted_rudp.kcp.fec import DATA as FEC_DATA
from twisted_rudp.kcp.fec import FEC_OVERHEAD, KIND_OFFSET, is_framed
from twisted_rudp.kcp.wire import ACK, PUSH, WASK, WINS, Segment, segments
from twisted_rudp.raknet.wire import (
    ACK_BIT,
    HEADER_SIZE,
    NACK_BIT,
    VALID,
    Reliability,
    parse_frames,
    parse_records,
)
from twisted_rudp.tracing.qlog import Opaque, Packet, PacketReader

MOST_KEPT: Final = 65536
"""Numbers of which it is remembered in which datagram they were sent last."""

MOST_RANGES: Final = 256

FRAME_TYPES: Final = {PUSH: "push", ACK: "ack_segment", WASK: "wask", WINS: "wins"}
"""qlog's own C{ack} is another frame beside them: it names datagrams."""


class _LastSent:
    """In which datagram each number was sent last."""

    def __init__(self) -> None:
        self._datagrams: dict[int, tuple[int, int]] = {}

    def put(self, number: int, datagram: int, stamp: int = -1) -> int | None:
        """
        Note that a number goes into a datagram.

        @param stamp: the same for copies that leave together.
        @return: the datagram that it was in before, which was lost then.
        """
        datagrams = self._datagrams
        before, stamped = datagrams.pop(number, (datagram, stamp))
        datagrams[number] = datagram, stamp
        if len(datagrams) > MOST_KEPT:
            del datagrams[next(iter(datagrams))]
        copied = before == datagram or stamped == stamp >= 0
        return None if copied else before

    def pop(self, number: int) -> int | None:
        """The number was acknowledged."""
        found = self._datagrams.pop(number, None)
        return None if found is None else found[0]

    def below(self, end: int) -> list[int]:
        """All numbers up to one were acknowledged (numbers of 32 bits)."""
        found = []
        for number in list(self._datagrams):
            if (number - end) & 0x80000000:
                found.append(self._datagrams.pop(number)[0])
            else:
                break
        return found


def ranges(numbers: list[int]) -> list[list[int]]:
    """Ascending ranges of first and last number, as qlog has them."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found[-MOST_RANGES:]


class KCPPackets:
    """
    KCP's datagrams have no numbers: they are counted. What is acknowledged are segments;
    shown are the datagrams in which those were sent last.
    """

    opaque = False

    def __init__(self) -> None:
        self._last = _LastSent()

    def sent(self, datagram: Buffer, count: int) -> Packet:
        frames: list[dict[str, Any]] = []
        lost = []
        for segment in _segments(datagram, frames):
            if segment.cmd == PUSH:
                before = self._last.put(segment.sn, count, segment.ts)
                if before is not None:
                    lost.append(before)
        return Packet(count, frames, tuple(dict.fromkeys(lost)))

    def received(self, datagram: Buffer, count: int) -> Packet:
        frames: list[dict[str, Any]] = []
        acked: list[int] = []
        for segment in _segments(datagram, frames):
            acked += self._last.below(segment.una)
            found = self._last.pop(segment.sn) if segment.cmd == ACK else None
            if found is not None:
                acked.append(found)
        if acked:
            frames.append({"frame_type": "ack", "acked_ranges": ranges(acked)})
        return Packet(count, frames)


def _segments(datagram: Buffer, frames: list[dict[str, Any]]) -> list[Segment]:
    """The segments of a datagram; each adds a frame."""
    data = bytes(datagram)
    if is_framed(data):
        if data[KIND_OFFSET] != FEC_DATA:
            frames.append({"frame_type": "unknown", "frame_type_value": data[KIND_OFFSET]})
            return []
        data = data[FEC_OVERHEAD:]
    found = list(segments(data))
    frames += [
        {
            "frame_type": FRAME_TYPES[each.cmd],
            "length": each.length,
            "sn": each.sn,
            "una": each.una,
            "wnd": each.wnd,
        }
        for each in found
    ]
    return found


class RakNetPackets:
    """RakNet's datagrams have numbers; frames that are sent again show which were lost."""

    opaque = False

    def __init__(self) -> None:
        self._last = _LastSent()
        self._next = 0
        self._near = 0

    def sent(self, datagram: Buffer, count: int) -> Packet:
        data = bytes(datagram)
        if not data[0] & VALID or data[0] & (ACK_BIT | NACK_BIT) or len(data) < HEADER_SIZE:
            return Packet(None, _control(data))
        number = unwrap24(int.from_bytes(data[1:HEADER_SIZE], "little"), self._next)
        self._next = max(self._next, number + 1)
        frames, lost = [], []
        for frame in parse_frames(data)[0]:
            frames.append(_frame(frame.reliability, len(frame.payload), frame.reliable))
            if frame.reliable is not None:
                before = self._last.put(frame.reliable, number)
                if before is not None:
                    lost.append(before)
        return Packet(number, frames, tuple(dict.fromkeys(lost)))

    def received(self, datagram: Buffer, count: int) -> Packet:
        data = bytes(datagram)
        if not data[0] & VALID or (data[0] & NACK_BIT and not data[0] & ACK_BIT):
            return Packet(None, _control(data))
        if data[0] & ACK_BIT:
            acked = [
                [unwrap24(first, self._next), unwrap24(first, self._next) + last - first]
                for first, last in parse_records(data)
            ]
            return Packet(None, [{"frame_type": "ack", "acked_ranges": acked[:MOST_RANGES]}])
        if len(data) < HEADER_SIZE:
            return Packet(None, [])
        number = unwrap24(int.from_bytes(data[1:HEADER_SIZE], "little"), self._near)
        self._near = max(self._near, number + 1)
        frames = [
            _frame(frame.reliability, len(frame.payload), frame.reliable)
            for frame in parse_frames(data)[0]
        ]
        return Packet(number, frames)


def _control(data: bytes) -> list[dict[str, Any]]:
    """Acknowledgements that we send, and what is outside of the session."""
    return [{"frame_type": "unknown", "frame_type_value": data[0]}]


def _frame(reliability: int, length: int, index: int | None) -> dict[str, Any]:
    frame: dict[str, Any] = {
        "frame_type": "message",
        "length": length,
        "reliability": Reliability(reliability).name.lower(),
    }
    if index is not None:
        frame["index"] = index
    return frame


READERS: Final[Mapping[str, Callable[[], PacketReader]]] = {
    "kcp": KCPPackets,
    "raknet": RakNetPackets,
    "qotp": Opaque,
}
"""By transport. QOTP's datagrams are encrypted before they leave the engine."""
