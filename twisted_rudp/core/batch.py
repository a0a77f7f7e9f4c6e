"""Runs of datagrams, collected in the order in which they are to leave."""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.engine import Address, Buffer, Emit

RUN_DATAGRAMS: Final = 64
"""Most datagrams of one run: what older kernels take in one call."""

RUN_BYTES: Final = 65_000
"""Longest run; a UDP datagram over IPv4 ends at 65507."""


def run_capacity(size: int) -> int:
    """How many datagrams of C{size} bytes, more than 0, one run may hold; at least 1."""
    return max(min(RUN_DATAGRAMS, RUN_BYTES // size), 1)


class RunWriter:
    """
    Collects datagrams into runs of equally long ones, of which a shorter one is the
    last, and emits each run when it is complete.

    @ivar held: bytes that wait for the rest of their run.
    @ivar spent: bytes emitted, without what the demultiplexer adds.
    @ivar blocked: C{emit} has answered that the socket takes no more.
    """

    __slots__ = (
        "_address",
        "_count",
        "_emit",
        "_overhead",
        "_parts",
        "_size",
        "blocked",
        "held",
        "spent",
    )

    def __init__(self, emit: Emit, address: Address, overhead: int = 0) -> None:
        """
        @param address: where everything goes.
        @param overhead: bytes by which each datagram grows on its further way.
        """
        self._emit = emit
        self._address = address
        self._overhead = overhead
        self._parts: list[Buffer] = []
        self._size = 0
        self._count = 0
        self.held = 0
        self.spent = 0
        self.blocked = False

    @property
    def cost(self) -> int:
        """L{spent} and L{held}."""
        return self.spent + self.held

    def add(self, datagram: Buffer) -> None:
        """Append one datagram, which may be any length above 0."""
        size = len(datagram)
        if self._parts and (
            size > self._size
            or self._count >= RUN_DATAGRAMS
            or (self._count + 1) * (self._size + self._overhead) > RUN_BYTES
        ):
            self.finish()
        if not self._parts:
            self._size = size
        self._parts.append(datagram)
        self._count += 1
        self.held += size
        if size < self._size:
            self.finish()

    def add_run(self, run: Buffer, size: int) -> None:
        """Append datagrams of C{size} bytes that lie back to back; the last may be shorter."""
        length = len(run)
        if length <= size:
            self.add(run)
            return
        if self._parts and size != self._size:
            self.finish()
        most = run_capacity(size + self._overhead)
        if not self._parts and length <= most * size:
            # The usual case: a run that fits as it is.
            self._send(run, size)
            return
        view = memoryview(run)
        start = 0
        self._size = size
        while start < length:
            piece = view[start : start + (most - self._count) * size]
            start += len(piece)
            self._parts.append(piece)
            self._count += -(-len(piece) // size)
            self.held += len(piece)
            if self._count >= most or len(piece) % size:
                self.finish()

    def finish(self) -> None:
        """Emit what is held."""
        if self._parts:
            parts, self._parts = self._parts, []
            self.held = self._count = 0
            self._send(parts[0] if len(parts) == 1 else b"".join(parts), self._size)

    def _send(self, run: Buffer, size: int) -> None:
        self.spent += len(run)
        if not self._emit(run, size, self._address):
            self.blocked = True
