"""
What has arrived and was not taken yet.
"""

from __future__ import annotations

from collections import deque

from twisted_rudp.core.engine import Message


class StreamInbox:
    """
    Bytes in order.

    @ivar size: how many.
    """

    __slots__ = ("_offset", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._offset = 0
        self.size = 0

    def put(self, piece: bytes) -> None:
        """
        Append bytes.
        """
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self, limit: int) -> bytes:
        """
        The next bytes: as many whole pieces as C{limit} allows, or a part of one.
        """
        pieces, offset = self._pieces, self._offset
        if not pieces or limit <= 0:
            return b""
        first = pieces[0]
        left = len(first) - offset
        if left > limit:
            self._offset = offset + limit
            self.size -= limit
            return first[offset : offset + limit]
        pieces.popleft()
        self._offset = 0
        parts = [first[offset:] if offset else first]
        while pieces and left + len(pieces[0]) <= limit:
            left += len(pieces[0])
            parts.append(pieces.popleft())
        self.size -= left
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def clear(self) -> None:
        """
        Throw everything away.
        """
        self._pieces.clear()
        self._offset = 0
        self.size = 0


class MessageInbox:
    """
    Messages in the order of their delivery.

    @ivar size: bytes in them.
    """

    __slots__ = ("_messages", "size")

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self.size = 0

    def put(self, message: Message) -> None:
        """
        Append a message.
        """
        self._messages.append(message)
        self.size += len(message.data)

    def take(self) -> Message | None:
        """
        The next one.
        """
        if not self._messages:
            return None
        message = self._messages.popleft()
        self.size -= len(message.data)
        return message

    def clear(self) -> None:
        """
        Throw everything away.
        """
        self._messages.clear()
        self.size = 0
