"""
From segments in any order to a stream of bytes (qotp.md 5.4), without the
release's faults: every overlap is resolved, and of a byte that comes twice the first
copy is kept.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.ranges import Ranges

PIECE_COST: Final = 184
"""What a piece out of order costs beside its bytes: measured, so that many small ones
cost no more than they are counted for (W6)."""

_SMALL: Final = 256
_JOINED: Final = 8192


class Reassembly:
    """
    The receiving half of one stream.

    @ivar next: all bytes before this offset have come.
    @ivar end: where the stream ends, once known; the first word counts.
    @ivar unread: bytes in order that were not taken.
    @ivar held: what all that is kept here costs.
    """

    __slots__ = ("_ahead", "_cost", "_pieces", "_ready", "end", "held", "next", "unread")

    def __init__(self, piece_cost: int = PIECE_COST) -> None:
        self.next = 0
        self.end: int | None = None
        self.unread = 0
        self.held = 0
        self._cost = piece_cost
        self._ready: deque[Buffer] = deque()
        self._ahead = Ranges()
        self._pieces: dict[int, bytes] = {}

    @property
    def complete(self) -> bool:
        """Everything up to the end has come."""
        return self.end is not None and self.next >= self.end

    def finish(self, end: int) -> bool:
        """
        Note where the stream ends.

        @return: False if that contradicts what is known: another end, or bytes
            beyond it (W17).
        """
        if self.end is not None:
            return self.end == end
        if (self._ahead.end or self.next) > end:
            return False
        self.end = end
        return True

    def insert(self, offset: int, data: Buffer, room: int) -> bool:
        """
        Take in a segment; the buffer is kept.

        @param room: by how much C{held} may grow.
        @return: False if there is no room, and nothing was kept.
        """
        if offset == self.next and not self._pieces and self.end is None:
            if len(data) > room:
                return False
            self._append(data)
            return True
        stop = offset + len(data)
        if self.end is not None:
            stop = min(stop, self.end)
        gaps = self._ahead.gaps(max(offset, self.next), stop)
        if sum(high - low + self._cost for low, high in gaps) > room + self._cost:
            return False
        view = memoryview(data)
        for low, high in gaps:
            self._keep(low, view[low - offset : high - offset])
        return True

    def take(self, limit: int) -> bytes:
        """The next bytes in order, at most C{limit}."""
        ready = self._ready
        if self.unread <= limit:
            data = b"".join(ready)
            ready.clear()
        else:
            parts: list[Buffer] = []
            left = limit
            while left:
                piece = ready.popleft()
                if len(piece) > left:
                    view = memoryview(piece)
                    ready.appendleft(view[left:])
                    piece = view[:left]
                parts.append(piece)
                left -= len(piece)
            data = b"".join(parts)
        self.unread -= len(data)
        self.held -= len(data)
        return data

    def discard(self) -> None:
        """Forget everything that is kept."""
        self._ready.clear()
        self._ahead.clear()
        self._pieces.clear()
        self.unread = self.held = 0

    def _keep(self, offset: int, data: memoryview) -> None:
        if offset != self.next:
            self._ahead.add(offset, offset + len(data))
            # Not the view: it would keep the whole datagram.
            self._pieces[offset] = bytes(data)
            self.held += len(data) + self._cost
            return
        self._append(data)
        end = self._ahead.pop_through(self.next)
        while self.next < end:
            piece = self._pieces.pop(self.next)
            self.held -= len(piece) + self._cost
            self._append(piece)

    def _append(self, data: Buffer) -> None:
        """
        The next bytes in order. Small ones are joined, or their objects would cost
        more than they hold.
        """
        size = len(data)
        self.next += size
        self.unread += size
        self.held += size
        if size > _SMALL:
            self._ready.append(data)
            return
        last = self._ready[-1] if self._ready else None
        if isinstance(last, bytearray) and len(last) < _JOINED:
            last += data
        else:
            self._ready.append(bytearray(data))
