"""Packing segments into runs of datagrams."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted_rudp.kcp.wire import HEADER_SIZE
from twisted_rudp.kernels.pure import Buffer

Emit: TypeAlias = Callable[[Buffer, int], bool]

RUN_DATAGRAMS = 64
"""Most datagrams of one run: what older kernels take in one call."""

RUN_BYTES = 65_000
"""Longest run; UDP ends at 65507."""


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
        if it can take none, and none when there is no room or C{budget} is spent.
        """
        if self.blocked:
            return 0
        if not self._total:
            return self._most if self.spent < budget else 0
        if self.cost >= budget:
            return 0
        return self._most - self._closed - 1 or self._most

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
    return max(1, min(RUN_DATAGRAMS, RUN_BYTES // (mss + HEADER_SIZE + overhead)))
