"""How segments get on the wire: encoded, and packed into runs of datagrams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from twisted_rudp.core.batch import RUN_BYTES, RUN_DATAGRAMS, run_capacity
from twisted_rudp.core.serial import MASK32
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.path import pieces
from twisted_rudp.kcp.sent import SentBatch
from twisted_rudp.kcp.wire import HEADER_SIZE, PUSH, Counters, pack_header, pack_wins
from twisted_rudp.kernels import build_run
from twisted_rudp.kernels.pure import Buffer

Emit: TypeAlias = Callable[[Buffer, int], bool]

Stamp: TypeAlias = tuple[int, int, int, int, int, int]
"""
What all segments of one flush have in common (kcp.md 1.11): C{conv}, C{wnd}, C{ts} and
C{una} as they go on the wire, then the unbounded clock of which C{ts} is cut, in
milliseconds, and the time in nanoseconds.
"""

REMEMBERED_SENDINGS: Final = 64
"""How many transmissions are kept to recognise the first acknowledgement by."""


class Packer:
    """
    Fills datagrams with segments in the order given and hands them on as runs.

    All datagrams of a run are as long as its first one; a shorter one ends it.
    The last one stays open, so that what comes next may share it: that is how
    acknowledgements ride in the tail of the data.

    @ivar spent: bytes emitted, the overhead of each datagram included.
    @ivar blocked: C{emit} has answered that it wants no more.
    """

    __slots__ = (
        "_closed",
        "_emit",
        "_fill",
        "_limit",
        "_most",
        "_mtu",
        "_overhead",
        "_parts",
        "_total",
        "blocked",
        "spent",
    )

    def __init__(self, emit: Emit, mtu: int, overhead: int) -> None:
        """
        @param mtu: longest datagram.
        @param overhead: what each datagram grows by on its further way.
        """
        self._emit = emit
        self._mtu = mtu
        self._most = segments_per_run(mtu - HEADER_SIZE, overhead)
        self._overhead = overhead
        self.spent = 0
        self.blocked = False
        self._start()

    def _start(self) -> None:
        self._parts: list[Buffer] = []
        self._total = 0
        self._closed = 0
        self._fill = 0
        self._limit = self._mtu

    @property
    def cost(self) -> int:
        """L{spent} and what is still held here."""
        if not self._total:
            return self.spent
        return self.spent + self._total + self._overhead * (self._closed + 1)

    def add(self, segments: Buffer) -> None:
        """
        Append segments that are to stay in one datagram. What is longer than a
        datagram (a segment from before the mtu shrank) goes alone.
        """
        need = len(segments)
        if self._total and self._fill + need > self._limit:
            self._close(need)
        self._parts.append(segments)
        self._total += need
        self._fill += need

    def _close(self, need: int) -> None:
        """End the open datagram; C{need} bytes are to follow it."""
        if not self._closed:
            self._limit = self._fill
        if (
            self._fill != self._limit
            or need > self._limit
            or self._closed + 2 > RUN_DATAGRAMS
            or self._total + need + self._overhead * (self._closed + 2) > RUN_BYTES
        ):
            self.finish()
        else:
            self._closed += 1
            self._fill = 0

    def add_run(self, run: Buffer, size: int) -> None:
        """
        Append datagrams that were built as a run; the last one stays open.

        @param run: not empty.
        @param size: length of each but the last. No more of them than
            L{RUN_DATAGRAMS} and L{RUN_BYTES} allow.
        """
        total = len(run)
        if total <= size:
            self.add(run)
            return
        before = (total - 1) // size
        if self._total:
            if (
                self._fill == size
                and (not self._closed or self._limit == size)
                and self._closed + before + 2 <= RUN_DATAGRAMS
                and self._total + total + self._overhead * (self._closed + before + 2)
                <= RUN_BYTES
            ):
                self._closed += 1
            else:
                self.finish()
        self._parts.append(run)
        self._total += total
        self._limit = size
        self._closed += before
        self._fill = total - before * size

    def admits(self, budget: int) -> int:
        """
        How many full datagrams may be made next: what the open run takes, all of a run
        if it can take none, and none when there is no room or C{budget} is spent. The last
        one may cross it.
        """
        left = budget - self.cost
        if self.blocked or left <= 0:
            return 0
        most = self._most
        if self._total:
            most = most - self._closed - 1 or most
        full = self._mtu + self._overhead
        if left >= most * full:
            return most
        # What is less than half of a run waits for the rest.
        return -(-left // full) if 2 * left >= most * full or not self.spent else 0

    def pass_run(self, run: Buffer, size: int) -> None:
        """
        Append datagrams that were built as a run; what nothing more can be added to
        leaves at once, so that L{blocked} is known before more is made.
        """
        total = len(run)
        if self._total or total < self._most * size:
            self.add_run(run, size)
            if self._closed + 1 >= self._most and self._fill == self._limit:
                self.finish()
            return
        self.spent += total + self._overhead * self._most
        if not self._emit(run, size):
            self.blocked = True

    def add_headers(self, segments: bytes) -> None:
        """
        Append segments without payload; they may be divided between datagrams
        at any border of a header.
        """
        if self._total and self._fill + len(segments) <= self._limit:
            self.add(segments)
            return
        step = self._mtu // HEADER_SIZE * HEADER_SIZE
        for start in range(0, len(segments), step):
            self.add(segments[start : start + step])

    def finish(self) -> None:
        """Emit what is held."""
        total = self._total
        if not total:
            return
        parts = self._parts
        run = parts[0] if len(parts) == 1 else b"".join(parts)
        size = self._limit if self._closed else total
        self.spent += total + self._overhead * (self._closed + 1)
        if not self._emit(run, size):
            self.blocked = True
        self._start()


def segments_per_run(mss: int, overhead: int) -> int:
    """How many full segments, a datagram each, fit one run."""
    return run_capacity(mss + HEADER_SIZE + overhead)


class Transmitter:
    """
    Encodes segments that have numbers, for the first time and again.

    @ivar end: number of our end of stream, once it has one.
    @ivar end_sendings: how often it was sent.
    @ivar validated: the peer has echoed number and timestamp of something we sent, so
        it receives at its address.
    @ivar dead: some segment was sent C{dead_link} times; only a mark (kcp.md 1.13).
    @ivar dead_link: so often; 0: no number is too many. May be set.
    @ivar longest: payload beyond which segments go in pieces, to one of our own kind. May be set.
    """

    __slots__ = (
        "_counters", "_overhead", "_sendings", "dead", "dead_link", "end", "end_sendings",
        "longest", "validated",
    )  # fmt: skip

    def __init__(self, counters: Counters, overhead: int, dead_link: int) -> None:
        self._counters = counters
        self._overhead = overhead
        self._sendings: list[tuple[int, int, int]] = []
        self.dead = False
        self.dead_link = dead_link
        self.end: int | None = None
        self.end_sendings = 0
        self.validated = False
        self.longest = NEVER

    def encode(self, batch: SentBatch, first: int, end: int, stamp: Stamp) -> bytes:
        """
        The segments C{first} .. C{end} - 1 of a batch, a datagram each, back to back.
        They count as sent.
        """
        self.note(first, end - first, stamp[2])
        conv, wnd, ts, una, _, _ = stamp
        frg = batch.fragment(first) if batch.frg else 0
        data = batch.payload(first, end)
        number = first & MASK32
        if end - first == 1:
            return pack_header(conv, PUSH, frg, wnd, ts, number, una, len(data)) + data
        return build_run(conv, wnd, ts, number, una, frg, batch.mss, data)

    def transmit(
        self, batch: SentBatch, first: int, end: int, stamp: Stamp, packer: Packer
    ) -> None:
        """Send segments of a batch."""
        if batch.mss > self.longest:
            self._transmit_pieces(batch, first, end, stamp, packer)
            return
        packer.add_run(self.encode(batch, first, end, stamp), batch.mss + HEADER_SIZE)

    def _transmit_pieces(
        self, batch: SentBatch, first: int, end: int, stamp: Stamp, packer: Packer
    ) -> None:
        """Segments of which some are longer than what the path takes."""
        conv, wnd, ts, una, _, _ = stamp
        self.note(first, end - first, ts)
        for number in range(first, end):
            data = bytes(batch.payload(number, number + 1))
            frg = batch.fragment(number)
            sn = number & MASK32
            if len(data) <= self.longest:
                packer.add(pack_header(conv, PUSH, frg, wnd, ts, sn, una, len(data)) + data)
                continue
            for body in pieces(sn, ts, frg, data, self.longest):
                packer.add(pack_wins(conv, wnd, sn, una, body))

    def note(self, first: int, count: int, ts: int) -> None:
        """Count segments that leave now, and remember them until one is echoed."""
        self._counters.out_segs += count
        if first == self.end:
            self.end_sendings += 1
        if not self.validated:
            self._sendings.append((first & MASK32, count, ts))
            if len(self._sendings) > REMEMBERED_SENDINGS:
                del self._sendings[0]

    def count_sendings(self, most: int) -> None:
        """Some segment was sent so often."""
        if self.dead_link and most >= self.dead_link:
            self.dead = True

    def cost(self, batch: SentBatch, numbers: Sequence[int]) -> int:
        """What segments of a batch cost on the wire, a datagram each."""
        size = sum(batch.size(number, number + 1) for number in numbers)
        return size + len(numbers) * (HEADER_SIZE + self._overhead)

    def prove(self, sn: int, ts: int) -> None:
        """See whether an acknowledgement echoes a transmission of ours."""
        for first, count, sent in self._sendings:
            if ts == sent and (sn - first) & MASK32 < count:
                self.validated = True
                self._sendings.clear()
                return

    def release(self) -> None:
        """All data was dropped."""
        self._sendings.clear()
