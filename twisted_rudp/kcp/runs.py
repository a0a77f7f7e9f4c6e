"""Joining single datagrams to runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted_rudp.kcp.packing import RUN_BYTES, RUN_DATAGRAMS
from twisted_rudp.kernels.pure import Buffer

Send: TypeAlias = Callable[[Buffer, int], bool]
"""C{(run, size)} -> whether there is room for more."""


class RunWriter:
    """
    Collects datagrams, in order, into runs: equally long ones, of which a
    shorter one is the last.

    @ivar writable: the last answer of C{send}.
    """

    __slots__ = (
        "_count",
        "_ended",
        "_most",
        "_overhead",
        "_parts",
        "_send",
        "_size",
        "writable",
    )

    def __init__(self, send: Send, overhead: int) -> None:
        """
        @param overhead: what each datagram grows by on its further way.
        """
        self._send = send
        self._overhead = overhead
        self._parts: list[Buffer] = []
        self._count = 0
        self._size = 0
        self._most = 0
        self._ended = False
        self.writable = True

    def add(self, datagram: Buffer) -> None:
        """Append a datagram."""
        length = len(datagram)
        if self._parts and (
            self._ended or length > self._size or self._count >= self._most
        ):
            self.flush()
        if not self._parts:
            self._size = length
            self._most = min(RUN_DATAGRAMS, RUN_BYTES // (length + self._overhead))
            self._ended = False
        elif length < self._size:
            self._ended = True
        self._parts.append(datagram)
        self._count += 1

    def add_run(self, run: Buffer, size: int) -> None:
        """Append datagrams that lie back to back, all C{size} bytes long."""
        view = memoryview(run)
        start = 0
        while start < len(view):
            self.add(view[start : start + size])
            start += size
            if not self._ended:
                more = view[start : start + (self._most - self._count) * size]
                if more:
                    self._parts[-1] = view[start - size : start + len(more)]
                    self._count += len(more) // size
                    start += len(more)

    def flush(self) -> None:
        """Send what is held."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._count = 0
            run = parts[0] if len(parts) == 1 else b"".join(parts)
            self.writable = self._send(run, self._size)
