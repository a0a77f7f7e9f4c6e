"""
What the application has written and the window has not admitted yet.
"""

from __future__ import annotations

from collections import deque

from twisted_rudp.raknet.wire import (
    HEADER_BYTES,
    IS_RELIABLE,
    IS_SEQUENCED,
    SPLIT_SIZE,
    Split,
    pack_frame_header,
)

PRIORITIES = range(4)
"""The larger goes first: low, medium, high, immediate."""


class Outgoing:
    """
    A message on its way out.

    @ivar reliability: as it goes on the wire.
    @ivar order: its order index, and C{sequence} its sequence index, if it has one.
    @ivar receipt: under which its sender wants to hear of its fate, or None.
    @ivar queued: when the first flush after it was queued came; None before.
    @ivar fragments: how many it is cut into; 1: it goes whole.
    @ivar cut: how many of them have left the queue.
    @ivar unacknowledged: how many have not arrived.
    """

    __slots__ = (
        "_fragment",
        "channel",
        "cut",
        "fragments",
        "ident",
        "order",
        "payload",
        "queued",
        "receipt",
        "reliability",
        "sequence",
        "unacknowledged",
    )

    def __init__(
        self,
        payload: bytes,
        reliability: int,
        channel: int = 0,
        order: int = 0,
        sequence: int = 0,
        receipt: int | None = None,
    ) -> None:
        self.payload = payload
        self.reliability = reliability
        self.channel = channel
        self.order = order
        self.sequence = sequence
        self.receipt = receipt
        self.queued: int | None = None
        self.ident = 0
        self.fragments = 1
        self.cut = 0
        self.unacknowledged = 1
        self._fragment = len(payload)

    def split(self, fragment: int) -> None:
        """
        Have it go in pieces.
        """
        self._fragment = fragment
        self.fragments = self.unacknowledged = -(-len(self.payload) // fragment)

    @property
    def is_reliable(self) -> bool:
        """
        It is sent until it is acknowledged.
        """
        return IS_RELIABLE[self.reliability]

    @property
    def left(self) -> int:
        """
        Bytes that have not left the queue.
        """
        return max(len(self.payload) - self.cut * self._fragment, 0)

    @property
    def next_size(self) -> int:
        """
        Length of its next frame.
        """
        size = HEADER_BYTES[self.reliability] + min(self.left, self._fragment)
        return size + SPLIT_SIZE if self.fragments > 1 else size

    def next_frame(self, reliable: int) -> bytes:
        """
        Cut off the next frame.

        @param reliable: its reliable index.
        """
        start = self.cut * self._fragment
        piece = self.payload[start : start + self._fragment]
        split = Split(self.fragments, self.ident, self.cut) if self.fragments > 1 else None
        self.cut += 1
        head = pack_frame_header(
            self.reliability, len(piece), reliable, self.sequence, self.order, self.channel, split
        )
        return head + piece

    @property
    def is_sequenced(self) -> bool:
        """
        The newest on its channel is enough.
        """
        return IS_SEQUENCED[self.reliability]


class Outbox:
    """
    Messages by priority, first come first served within each.

    @ivar size: payload bytes that have not left.
    """

    __slots__ = ("_queues", "_unstamped", "size")

    def __init__(self) -> None:
        self._unstamped: list[Outgoing] = []
        self._queues: tuple[deque[Outgoing], ...] = tuple(deque() for _ in PRIORITIES)
        self.size = 0

    def __bool__(self) -> bool:
        return any(self._queues)

    def put(self, message: Outgoing, priority: int) -> None:
        """
        Append to the queue of a priority.
        """
        self._queues[priority].append(message)
        self.size += len(message.payload)
        if not message.is_reliable:
            self._unstamped.append(message)

    def stamp(self, now: int) -> None:
        """
        What came since the last call, and may grow too old, was queued now.
        """
        if self._unstamped:
            for message in self._unstamped:
                message.queued = now
            self._unstamped.clear()

    def priorities(self) -> list[int]:
        """
        Those that have something waiting, most urgent first.
        """
        return [priority for priority in reversed(PRIORITIES) if self._queues[priority]]

    def head(self, priority: int) -> Outgoing | None:
        """
        What is next within a priority.
        """
        queue = self._queues[priority]
        return queue[0] if queue else None

    def took(self, priority: int, size: int) -> None:
        """
        So many payload bytes of the head of a queue have left; it goes when there are
        no more.
        """
        self.size -= size
        if not self._queues[priority][0].left:
            self._queues[priority].popleft()

    def drop(self, priority: int) -> Outgoing:
        """
        Throw the head of a queue away.
        """
        message = self._queues[priority].popleft()
        self.size -= message.left
        return message

    def release(self) -> list[Outgoing]:
        """
        Empty it.

        @return: what was there.
        """
        left = [message for queue in self._queues for message in queue]
        for queue in self._queues:
            queue.clear()
        self.size = 0
        return left
