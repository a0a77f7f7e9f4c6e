"""The sending half of FEC (kcp.md 3.2)."""

from __future__ import annotations

from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp.fec_groups import parity_packets, protect
from twisted_rudp.kcp.fec_wire import FEC_OVERHEAD, data_packet, end_of_ids
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS
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

    __slots__ = ("_end", "_last", "_shards", "always", "data", "next", "parity")

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
        self._shards: list[Buffer] = []
        self._last: int | None = None

    def encode(
        self, run: Buffer, size: int, now: int, out: RunWriter, protected: bool, copies: int = 1
    ) -> None:
        """
        Frame the datagrams of a run; parity follows the packet that completes
        its group.

        @param now: nanoseconds.
        @param protected: False passes over the ids of parity instead of sending it.
        @param copies: send each data packet so often.
        """
        view = memoryview(run)
        start = 0
        while start < len(view):
            length = min(size, len(view) - start)
            count = (len(view) - start) // length
            if not protected or copies > 1 or not self._is_regular(count, length, now):
                count = min(count, self.data - len(self._shards))
                end = start + count * length
                self._step(view[start:end], length, now, out, protected, copies)
            else:
                end = start + count * length
                self._stride(view[start:end], length, count, out)
            self._last = now
            start = end

    def _is_timely(self, count: int, now: int) -> bool:
        """Whether a group that is completed by C{count} more packets gets parity."""
        return (
            self.always
            or count > 1
            or (self._last is not None and now - self._last < SKIP_AFTER)
        )

    def _is_regular(self, count: int, size: int, now: int) -> bool:
        """
        So many datagrams of this size may be framed in one go: all the groups that
        they complete get parity, as long as they are, and no id wraps.
        """
        shards = self._shards
        groups = (len(shards) + count) // self.data
        return self.next + count + groups * self.parity <= self._end and (
            not groups
            or (
                self._is_timely(self.data - len(shards), now)
                and max(map(len, shards), default=0) <= size + FEC_OVERHEAD
            )
        )

    def _stride(self, run: Buffer, size: int, count: int, out: RunWriter) -> None:
        packets = protect(self._shards, run, size, self.next, self.data, self.parity)
        width = size + FEC_OVERHEAD
        out.add_run(packets, width)
        groups, left = divmod(len(self._shards) + count, self.data)
        self.next += count + groups * self.parity
        if groups:
            self._shards = []
        fresh = left - len(self._shards)
        if fresh:
            # A copy, as a view would keep all of the run.
            kept = memoryview(packets[-fresh * width :])
            self._shards += [kept[at : at + width] for at in range(0, len(kept), width)]
        elif self.next >= self._end:
            self.next = 0

    def _step(
        self, run: memoryview, size: int, now: int, out: RunWriter, protected: bool, copies: int
    ) -> None:
        """Not beyond the end of the group."""
        starts = range(0, len(run), size)
        packets = [
            data_packet(number, run[at : at + size]) for number, at in enumerate(starts, self.next)
        ]
        self.next += len(packets)
        for packet in packets:
            for _ in range(copies):
                out.add(packet)
        self._shards += packets
        if len(self._shards) < self.data:
            return
        if protected and self._is_timely(len(packets), now):
            for packet in parity_packets(self._shards, self.next, self.parity):
                out.add(packet)
        self.next += self.parity
        self._shards = []
        if self.next >= self._end:
            self.next = 0
