"""Queues of bytes, which copy as little as they can, and of messages beside them."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from twisted_rudp.kernels.pure import Buffer

NOTHING: Final[deque[Any]] = deque(maxlen=0)
"""
What an empty queue refers to; it takes nothing in. An empty C{deque} of its own would
be the largest part of an idle session.
"""


def joined(pieces: deque[bytes], offset: int, size: int) -> tuple[bytes, int]:
    """
    Remove bytes from the front of pieces, which have as many at least.

    @param offset: of the first piece so many were removed before.
    @return: them, and of what is the first piece now how many were removed.
    """
    parts: list[Buffer] = []
    while size:
        first: Buffer = pieces[0]
        end = offset + size
        if end < len(first):
            parts.append(memoryview(first)[offset:end])
            return b"".join(parts), end
        parts.append(memoryview(first)[offset:] if offset else first)
        size = end - len(first)
        pieces.popleft()
        offset = 0
    return b"".join(parts), offset


SHORT: Final = 64
"""Shorter pieces take more for themselves than for their bytes."""

_JOINED: Final = 256


class ByteQueue:
    """
    A stream of bytes, kept as the pieces it was given and cut where it is asked
    for. Pieces are referred to, not copied, but for short ones.

    @ivar size: bytes held.
    """

    __slots__ = ("_offset", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = NOTHING
        self._offset = 0
        self.size = 0

    def append(self, piece: bytes) -> None:
        """Add to the end."""
        if piece:
            if self._pieces is NOTHING:
                self._pieces = deque()
            if len(piece) < SHORT and self.size and len(self._pieces[-1]) < _JOINED:
                self._pieces[-1] += piece
            else:
                self._pieces.append(piece)
            self.size += len(piece)

    def clear(self) -> None:
        """Throw everything away."""
        self._pieces = NOTHING
        self._offset = 0
        self.size = 0

    def take(self, size: int) -> Buffer:
        """
        Remove the next C{size} bytes, fewer if there are not so many. A view
        when a piece has to be cut, else the piece itself or a joined copy.
        """
        pieces = self._pieces
        if not pieces or size <= 0:
            return b""
        offset = self._offset
        first = pieces[0]
        left = len(first) - offset
        if left > size:
            self._offset = offset + size
            self.size -= size
            return memoryview(first)[offset : offset + size]
        if left == size or len(pieces) == 1:
            pieces.popleft()
            if not pieces:
                self._pieces = NOTHING
            self._offset = 0
            self.size -= left
            return memoryview(first)[offset:] if offset else first
        size = min(size, self.size)
        data, self._offset = joined(pieces, offset, size)
        self.size -= size
        if not self.size:
            self._pieces = NOTHING
        return data


MOST_MESSAGES: Final = 1024
MOST_BYTES: Final = 256 * 1024
"""So many, and so many bytes but for the last one, are kept each way: the oldest go first."""


class OutOfBandQueue:
    """
    Messages beside the stream, which are sent once, never repeated, and not worth waiting for.
    They wait to be sent, or to be taken.

    @ivar count: how many are held.
    @ivar size: their bytes.
    @ivar dropped: messages that made room for newer ones.
    """

    __slots__ = ("_messages", "count", "dropped", "size")

    def __init__(self) -> None:
        # Most sessions have none, and an empty deque is large.
        self._messages: deque[Any] = NOTHING
        self.count = self.size = 0
        self.dropped = 0

    def put(self, message: bytes) -> None:
        """Keep a message."""
        if self._messages is NOTHING:
            self._messages = deque()
        messages = self._messages
        messages.append(message)
        self.count += 1
        self.size += len(message)
        while self.count > MOST_MESSAGES or (self.size > MOST_BYTES and self.count > 1):
            self.take()
            self.dropped += 1

    def take(self) -> bytes:
        """
        Remove the oldest message.

        @raise IndexError: there is none.
        """
        message: bytes = self._messages.popleft()
        self.count -= 1
        self.size -= len(message)
        return message

    def clear(self) -> None:
        """Throw everything away."""
        self._messages = NOTHING
        self.count = self.size = 0
