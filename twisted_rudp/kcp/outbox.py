"""What the application gave to send and has no numbers yet (C{snd_queue})."""

from __future__ import annotations

from collections import deque
from typing import Protocol, TypeAlias

from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.kcp.wire import MAXIMUM_FRAGMENTS
from twisted_rudp.kernels.pure import Buffer

Piece: TypeAlias = tuple[Buffer, int, int]
"""
Data that becomes consecutive segments: the bytes, the payload length of each
segment but the last, and the fragment field of the first.
"""


class Outbox(Protocol):
    """
    A queue that gives data in pieces of whole segments.

    @ivar size: bytes queued.
    """

    size: int

    def segments(self, mss: int) -> int:
        """How many segments they will make."""

    def cut(self, count: int, mss: int) -> Piece:
        """Remove the next segments, at most C{count}. Not to be asked when L{size} is 0."""

    def cut_short(self, size: int, mss: int) -> Piece | None:
        """
        Remove one segment of at most C{size} bytes, less than C{mss}; None if
        that is not possible.
        """


class StreamOutbox(ByteQueue):
    """Bytes without borders: segments are full as long as there are bytes."""

    __slots__ = ()

    def segments(self, mss: int) -> int:
        return -(-self.size // mss)

    def cut(self, count: int, mss: int) -> Piece:
        start = self._offset
        end = start + count * mss
        first = self._pieces[0]
        if len(self._pieces) == 1 and self.size <= end - start:
            return self.take(self.size), mss, 0
        if len(first) <= end:
            return self.take_units(count, mss), mss, 0
        # Most of bulk comes here: the next part of a large piece.
        self._offset = end
        self.size -= end - start
        return memoryview(first)[start:end], mss, 0

    def cut_short(self, size: int, mss: int) -> Piece | None:
        data = self.take(min(size, mss))
        return data, len(data), 0


class _Message:
    """
    A message and how far it is numbered. Its division is fixed when it is
    queued (kcp.md 1.4), so a later change of the mtu does not concern it.
    """

    __slots__ = ("data", "left", "mss", "offset")

    def __init__(self, data: bytes, mss: int) -> None:
        self.data = data
        self.mss = mss
        self.offset = 0
        self.left = -(-len(data) // mss)

    def take(self, count: int) -> Piece:
        count = min(count, self.left)
        start = self.offset
        self.offset = min(start + count * self.mss, len(self.data))
        frg = self.left - 1
        self.left -= count
        whole = start == 0 and self.offset == len(self.data)
        data = self.data if whole else memoryview(self.data)[start : self.offset]
        return data, self.mss, frg

    def take_short(self, size: int) -> Piece | None:
        rest = len(self.data) - self.offset
        if self.left == 1 and rest <= size:
            return self.take(1)
        if self.offset:
            return None
        left = -(-(rest - size) // self.mss)
        if left + 1 > MAXIMUM_FRAGMENTS:
            return None
        self.offset = size
        self.left = left
        return memoryview(self.data)[:size], size, left


class MessageOutbox:
    """
    Messages, each divided into fragments that count down to 0.

    @ivar size: bytes queued.
    """

    __slots__ = ("_messages", "_segments", "size")

    def __init__(self) -> None:
        self._messages: deque[_Message] = deque()
        self._segments = 0
        self.size = 0

    def append(self, data: bytes, mss: int) -> None:
        """
        @raise ValueError: the message is empty or makes more than 255
            fragments (kcp.md 1.3).
        """
        if not data:
            raise ValueError("an empty message cannot be sent")
        if len(data) > MAXIMUM_FRAGMENTS * mss:
            raise ValueError(
                f"a message of {len(data)} bytes is too long:"
                f" at most {MAXIMUM_FRAGMENTS} pieces of {mss} bytes"
            )
        message = _Message(data, mss)
        self._messages.append(message)
        self._segments += message.left
        self.size += len(data)

    def segments(self, mss: int) -> int:
        return self._segments

    def cut(self, count: int, mss: int) -> Piece:
        message = self._messages[0]
        left = message.left
        return self._account(message, left, message.take(count))

    def cut_short(self, size: int, mss: int) -> Piece | None:
        message = self._messages[0]
        left = message.left
        piece = message.take_short(size)
        return None if piece is None else self._account(message, left, piece)

    def _account(self, message: _Message, before: int, piece: Piece) -> Piece:
        self.size -= len(piece[0])
        self._segments -= before - message.left
        if not message.left:
            self._messages.popleft()
        return piece
