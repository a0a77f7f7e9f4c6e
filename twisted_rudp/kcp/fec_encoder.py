"""
The sending half of FEC (kcp.md 3.2).
"""

from __future__ import annotations

from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp.fec_wire import (
    CODED_OFFSET,
    PARITY,
    data_packet,
    end_of_ids,
    pack_parity_header,
)
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS, evaluate
from twisted_rudp.kcp.runs import RunWriter
from twisted_rudp.kernels.pure import Buffer

SKIP_AFTER = 500 * MILLISECOND
"""
A group whose last data packet came so long after the one before it gets no
parity: its other packets were lost, or not, long ago.
"""


class Encoder:
    """
    Numbers the datagrams of one session and adds parity to each full group.

    @ivar data: data packets of a group; C{parity}: parity packets.
    @ivar always: add parity whatever time has passed; may be set.
    """

    __slots__ = ("_end", "_last", "_points", "_shards", "always", "data", "next", "parity")

    def __init__(
        self, data: int, parity: int, always: bool = False, first: int = 0
    ) -> None:
        """
        @param always: add parity whatever time has passed, as kcp-go did until
            5.6.5.
        @param first: sequence id of the first packet, the beginning of a group.
        @raise ValueError: there are none of one kind, or more than 256 of both.
        """
        if data < 1 or parity < 1 or data + parity > MAXIMUM_SHARDS:
            raise ValueError(
                f"data={data!r}, parity={parity!r}: at least 1 of each and"
                f" {MAXIMUM_SHARDS} together are possible"
            )
        self.data = data
        self.parity = parity
        self.next = first
        self.always = always
        self._end = end_of_ids(data + parity)
        self._points = tuple(range(data)), tuple(range(data, data + parity))
        self._shards: list[bytes] = []
        self._last: int | None = None

    def encode(
        self, run: Buffer, size: int, now: int, out: RunWriter, protect: bool, copies: int = 1
    ) -> None:
        """
        Frame the datagrams of a run; parity follows the packet that completes
        its group.

        @param now: nanoseconds.
        @param protect: False passes over the ids of parity instead of sending it.
        @param copies: send each data packet so often.
        """
        view = memoryview(run)
        total = len(view)
        start = 0
        while start < total:
            first = self.next
            end = min(start + (self.data - len(self._shards)) * size, total)
            packets = [
                data_packet(number, view[at : at + size])
                for number, at in enumerate(range(start, end, size), first)
            ]
            self.next = first + len(packets)
            if copies > 1:
                out.extend([packet for packet in packets for _ in range(copies)])
            else:
                out.extend(packets)
            before = self._last if len(packets) == 1 else now
            self._last = now
            self._shards += packets
            if len(self._shards) == self.data:
                self._end_group(before is not None and now - before < SKIP_AFTER, protect, out)
            start = end

    def _end_group(self, timely: bool, protect: bool, out: RunWriter) -> None:
        if protect and (timely or self.always):
            self._add_parity(out)
        else:
            self.next += self.parity
        self._shards = []
        if self.next >= self._end:
            self.next = 0

    def _add_parity(self, out: RunWriter) -> None:
        length = max(map(len, self._shards)) - CODED_OFFSET
        coded = [memoryview(packet)[CODED_OFFSET:] for packet in self._shards]
        points, wanted = self._points
        blocks = evaluate(points, coded, wanted, length)
        first = self.next
        self.next = first + self.parity
        out.extend(
            [
                pack_parity_header(number, PARITY) + blocks[start : start + length]
                for number, start in enumerate(range(0, len(blocks), length), first)
            ]
        )
