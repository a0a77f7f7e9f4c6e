"""Handing datagrams on as runs."""

from __future__ import annotations

from twisted_rudp.core.engine import Address, Emit

RUN_DATAGRAMS = 64
"""Most datagrams of one run: what older kernels take in one call."""

RUN_BYTES = 65_000
"""Longest run; UDP ends at 65507."""


class Packer:
    """
    Joins datagrams that follow each other and are equally long; a shorter one ends
    its run.

    @ivar spent: bytes emitted.
    @ivar blocked: C{emit} has answered that it wants no more.
    """

    __slots__ = ("_address", "_emit", "_held", "_parts", "_size", "blocked", "spent")

    def __init__(self, emit: Emit, address: Address) -> None:
        """
        @param address: where everything goes.
        """
        self._emit = emit
        self._address = address
        self._parts: list[bytes] = []
        self._size = 0
        self._held = 0
        self.spent = 0
        self.blocked = False

    @property
    def cost(self) -> int:
        """L{spent} and what is still held here."""
        return self.spent + self._held

    def add(self, datagram: bytes) -> None:
        """Append one datagram."""
        size = len(datagram)
        if self._parts and (
            size > self._size
            or len(self._parts) >= RUN_DATAGRAMS
            or self._held + size > RUN_BYTES
        ):
            self.finish()
        if not self._parts:
            self._size = size
        self._parts.append(datagram)
        self._held += size
        if size < self._size:
            self.finish()

    def add_run(self, run: bytes, size: int) -> None:
        """
        Append datagrams of C{size} bytes each, of which the last may be shorter, no
        more than L{RUN_DATAGRAMS} and L{RUN_BYTES} allow.
        """
        if len(run) <= size:
            self.add(run)
            return
        self.finish()
        self._send(run, size)

    def finish(self) -> None:
        """Emit what is held."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._held = 0
            self._send(parts[0] if len(parts) == 1 else b"".join(parts), self._size)

    def _send(self, run: bytes, size: int) -> None:
        self.spent += len(run)
        if not self._emit(run, size, self._address):
            self.blocked = True
