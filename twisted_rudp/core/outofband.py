"""Messages beside the stream: sent once, never repeated, and not worth waiting for."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from twisted_rudp.core.queues import NOTHING

MOST_MESSAGES: Final = 1024
MOST_BYTES: Final = 256 * 1024
"""So many, and so many bytes but for the last one, are kept each way: the oldest go first."""


class OutOfBandQueue:
    """
    Messages that wait to be sent, or to be taken.

    @ivar size: bytes held.
    @ivar dropped: messages that made room for newer ones.
    """

    __slots__ = ("_messages", "dropped", "size")

    def __init__(self) -> None:
        # Most sessions have none, and an empty deque is large.
        self._messages: deque[Any] = NOTHING
        self.size = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: bytes) -> None:
        """Keep a message."""
        if self._messages is NOTHING:
            self._messages = deque()
        messages = self._messages
        messages.append(message)
        self.size += len(message)
        while len(messages) > MOST_MESSAGES or (self.size > MOST_BYTES and len(messages) > 1):
            self.take()
            self.dropped += 1

    def take(self) -> bytes:
        """
        Remove the oldest message.

        @raise IndexError: there is none.
        """
        message: bytes = self._messages.popleft()
        self.size -= len(message)
        return message

    def clear(self) -> None:
        """Throw everything away."""
        self._messages = NOTHING
        self.size = 0
