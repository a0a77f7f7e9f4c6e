"""
Joining single datagrams to runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted_rudp.kcp.packing import RUN_BYTES, RUN_DATAGRAMS
from twisted_rudp.kernels.pure import Buffer

Send: TypeAlias = Callable[[Buffer, int], bool]
"""
C{(run, size)} -> whether there is room for more.
"""


class RunWriter:
    """
    Collects datagrams, in order, into runs: equally long ones, of which a
    shorter one is the last.

    @ivar writable: the last answer of C{send}.
    """

    __slots__ = ("_ended", "_most", "_overhead", "_parts", "_send", "_size", "writable")

    def __init__(self, send: Send, overhead: int) -> None:
        """
        @param overhead: what each datagram grows by on its further way.
        """
        self._send = send
        self._overhead = overhead
        self._parts: list[bytes] = []
        self._size = 0
        self._most = 0
        self._ended = False
        self.writable = True

    def add(self, datagram: bytes) -> None:
        """
        Append a datagram.
        """
        parts = self._parts
        length = len(datagram)
        if parts and (self._ended or length > self._size or len(parts) >= self._most):
            self.flush()
            parts = self._parts
        if not parts:
            self._size = length
            self._most = min(RUN_DATAGRAMS, RUN_BYTES // (length + self._overhead))
            self._ended = False
        elif length < self._size:
            self._ended = True
        parts.append(datagram)

    def extend(self, datagrams: list[bytes]) -> None:
        """
        Append datagrams that are all equally long, but for those at the end.
        """
        start = 0
        while start < len(datagrams):
            self.add(datagrams[start])
            start += 1
            if not self._ended and len(datagrams[-1]) == self._size:
                more = datagrams[start : start + self._most - len(self._parts)]
                self._parts += more
                start += len(more)

    def flush(self) -> None:
        """
        Send what is held.
        """
        if self._parts:
            parts, self._parts = self._parts, []
            self.writable = self._send(b"".join(parts), self._size)
