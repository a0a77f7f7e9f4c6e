"""What the application has written and the window has not admitted yet."""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted_rudp.raknet.wire import (
    FIRST_USER_ID,
    HEADER_BYTES,
    IS_RELIABLE,
    PRIORITIES,
    SPLIT_SIZE,
    Reliability,
    Split,
    pack_frame_header,
)

_PLAIN: Final = int(Reliability.RELIABLE_ORDERED)


class SendChannel:
    """
    Indices for what is sent on one channel (raknet.md 7). A sequenced message carries the order
    index of the ordered message that comes after it, and a sequence index of its own.

    @ivar order: the next order index.
    @ivar sequence: the next sequence index. Both may be set before anything is sent.
    """

    __slots__ = ("order", "sequence")

    def __init__(self) -> None:
        self.order = self.sequence = 0

    def ordered(self, count: int = 1) -> int:
        """
        @return: the order index of the first of C{count} ordered messages.
        """
        first = self.order
        self.order += count
        self.sequence = 0
        return first

    def sequenced(self) -> tuple[int, int]:
        """
        @return: order and sequence index of a sequenced message.
        """
        sequence = self.sequence
        self.sequence += 1
        return self.order, sequence


class OutgoingMessage:
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
        """Have it go in pieces."""
        self._fragment = fragment
        self.fragments = self.unacknowledged = -(-len(self.payload) // fragment)

    @property
    def is_reliable(self) -> bool:
        """It is sent until it is acknowledged."""
        return IS_RELIABLE[self.reliability]

    @property
    def left(self) -> int:
        """Bytes that have not left the queue."""
        return max(len(self.payload) - self.cut * self._fragment, 0)

    @property
    def next_size(self) -> int:
        """Length of its next frame."""
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


class MessageBatch:
    """
    Whole messages of one length, one after the other, reliable and ordered on channel
    0, of which nobody wants a receipt: they need no objects of their own.

    @ivar order: the order index of the first.
    @ivar size: bytes of each.
    @ivar priority: in whose queue it is.
    @ivar messages: what has not left.
    """

    __slots__ = ("messages", "order", "priority", "size")

    def __init__(self, order: int, payload: bytes, priority: int) -> None:
        self.order = order
        self.size = len(payload)
        self.priority = priority
        self.messages = [payload]

    def take(self, count: int) -> list[bytes]:
        """Remove the next ones, at most C{count}."""
        taken = self.messages[:count]
        del self.messages[:count]
        self.order += len(taken)
        return taken


class SendQueue:
    """
    Messages by priority, first come first served within each.

    @ivar size: payload bytes that have not left; 0 exactly if it is empty.
    @ivar whole: longest message that goes in one piece.
    """

    __slots__ = ("_growing", "_queues", "_unstamped", "_zero", "size", "whole")

    def __init__(self, zero: SendChannel) -> None:
        """
        @param zero: channel 0.
        """
        self._zero = zero
        self.whole = 0
        self._growing: MessageBatch | None = None
        self._unstamped: list[OutgoingMessage] = []
        self._queues: tuple[deque[OutgoingMessage | MessageBatch], ...] = tuple(
            deque() for _ in range(PRIORITIES)
        )
        self.size = 0

    def put(self, message: OutgoingMessage, priority: int) -> None:
        """Append to the queue of a priority."""
        self._queues[priority].append(message)
        self.size += len(message.payload)
        if not message.is_reliable:
            self._unstamped.append(message)

    def put_first(self, message: OutgoingMessage, priority: int) -> None:
        """Put a message before all others of a priority."""
        self.interrupt()
        self._queues[priority].appendleft(message)
        self.size += message.left

    def remove(self, message: OutgoingMessage) -> None:
        """Take a message out, if it is here."""
        for queue in self._queues:
            if message in queue:
                queue.remove(message)
                self.size -= message.left

    def put_plain(self, payload: bytes, priority: int) -> bool:
        """
        Append a message that is reliable and ordered on channel 0 and wants no receipt,
        if it goes whole and is certainly the application's.

        @return: it is queued.
        """
        size = len(payload)
        if not 0 < size <= self.whole or payload[0] < FIRST_USER_ID:
            return False
        batch = self._growing
        if batch is not None and batch.size == size and batch.priority == priority:
            batch.messages.append(payload)
            self._zero.order += 1
        elif 0 <= priority < PRIORITIES:
            batch = self._growing = MessageBatch(self._zero.ordered(), payload, priority)
            self._queues[priority].append(batch)
        else:
            return False
        self.size += size
        return True

    def interrupt(self) -> None:
        """
        Another message gets an index or a place in a queue: what follows it is no part
        of the batch before it.
        """
        self._growing = None

    def stamp(self, now: int) -> None:
        """What came since the last call, and may grow too old, was queued now."""
        if self._unstamped:
            for message in self._unstamped:
                message.queued = now
            self._unstamped.clear()

    def priorities(self) -> list[int]:
        """Those that have something waiting, most urgent first."""
        return [priority for priority in reversed(range(PRIORITIES)) if self._queues[priority]]

    def head(self, priority: int) -> OutgoingMessage | MessageBatch | None:
        """What is next within a priority."""
        queue = self._queues[priority]
        return queue[0] if queue else None

    def took(self, priority: int, size: int) -> None:
        """
        So many payload bytes of the message at the head of a queue have left; it goes
        when there are no more.
        """
        self.size -= size
        first = self._queues[priority][0]
        if isinstance(first, OutgoingMessage) and not first.left:
            self._queues[priority].popleft()

    def next_batch(self) -> tuple[MessageBatch, bool] | None:
        """The batch that is next of all, if that is one, and whether nothing follows it."""
        for queue in reversed(self._queues):
            if queue:
                first = queue[0]
                if type(first) is not MessageBatch:
                    return None
                return first, len(queue) == sum(map(len, self._queues)) == 1
        return None

    def cut(self, batch: MessageBatch, count: int) -> list[bytes]:
        """Remove the next messages of the batch that is at the head of its queue."""
        taken = batch.take(count)
        self.size -= batch.size * len(taken)
        if not batch.messages:
            self._remove(batch)
        return taken

    def _remove(self, batch: MessageBatch) -> None:
        """A batch, the first in its queue, is empty."""
        self._queues[batch.priority].popleft()
        if batch is self._growing:
            self._growing = None

    def single(self, batch: MessageBatch) -> OutgoingMessage:
        """Make the first message of the batch at the head of a queue one of its own there."""
        order = batch.order
        (payload,) = batch.take(1)
        message = OutgoingMessage(payload, _PLAIN, 0, order)
        if not batch.messages:
            self._remove(batch)
        self._queues[batch.priority].appendleft(message)
        return message

    def drop(self, priority: int) -> OutgoingMessage:
        """Throw the message at the head of a queue away."""
        message = self._queues[priority].popleft()
        assert isinstance(message, OutgoingMessage)
        self.size -= message.left
        return message

    def release(self) -> list[OutgoingMessage]:
        """
        Empty it.

        @return: what was there and may have a receipt.
        """
        left = [one for queue in self._queues for one in queue if isinstance(one, OutgoingMessage)]
        for queue in self._queues:
            queue.clear()
        self._growing = None
        self.size = 0
        return left
