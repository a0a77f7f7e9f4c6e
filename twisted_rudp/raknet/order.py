"""
Ordering and sequencing within a channel (raknet.md 7).

A sequenced message carries the order index of the ordered message that comes after
it, and a sequence index of its own.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TypeAlias

from twisted_rudp.core.serial import unwrap24
from twisted_rudp.raknet.wire import IS_SEQUENCED, Frame

_Waiting: TypeAlias = tuple[int, bool, int, int, Frame, int]
"""Order index, whether ordered (which goes last), sequence index, a tie breaker, the frame, and
how many order indices it has."""


class SendChannel:
    """
    Indices for what is sent on one channel, given when it is queued.

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


class ReceiveChannel:
    """
    Puts what arrives on one channel in order.

    @ivar next: the order index that may be delivered now.
    @ivar sequence: the least sequence index that may be delivered now. Both may be set
        before anything has come.
    @ivar size: bytes that wait for an earlier message.
    @ivar waiting: those messages, to be looked at only.
    """

    __slots__ = ("_arrival", "_indices", "next", "sequence", "size", "waiting")

    def __init__(self) -> None:
        self.next = self.sequence = 0
        self.size = 0
        self.waiting: list[_Waiting] = []
        self._indices: set[int] = set()
        self._arrival = 0

    def advance(self, count: int) -> None:
        """
        So many ordered messages were delivered without coming through here, while
        nothing was waiting.
        """
        self.next += count
        self.sequence = 0

    def put(self, frame: Frame) -> list[Frame]:
        """
        Take in a message.

        @return: what may be delivered now, in order.
        """
        assert frame.order is not None
        order = unwrap24(frame.order, self.next)
        if order < self.next:
            return []
        if order > self.next:
            self._wait(order, frame)
            return []
        delivered: list[Frame] = []
        self._pass(frame, delivered)
        waiting = self.waiting
        while waiting and waiting[0][0] <= self.next:
            order, ordered, _, _, held, count = heappop(waiting)
            self.size -= len(held.payload)
            if count > 1:
                self._indices.difference_update(range(order, order + count))
            elif ordered:
                self._indices.discard(order)
            if order == self.next:
                self._pass(held, delivered)
                self.next += count - 1
        return delivered

    def can_hold(self, first: int, end: int) -> bool:
        """The ordered messages C{first} .. C{end} - 1 are new, and wait for an earlier one."""
        return first > self.next and self._indices.isdisjoint(range(first, end))

    def hold(self, order: int, count: int, joined: Frame) -> None:
        """
        Take in ordered messages for which L{can_hold} is true.

        @param order: index of the first.
        @param joined: all of them as one, which they are when they are delivered.
        """
        self._indices.update(range(order, order + count))
        self._arrival += 1
        heappush(self.waiting, (order, True, 0, self._arrival, joined, count))
        self.size += len(joined.payload)

    def _pass(self, frame: Frame, delivered: list[Frame]) -> None:
        if not IS_SEQUENCED[frame.reliability]:
            self.next += 1
            self.sequence = 0
            delivered.append(frame)
            return
        assert frame.sequence is not None
        sequence = unwrap24(frame.sequence, self.sequence)
        if sequence >= self.sequence:
            self.sequence = sequence + 1
            delivered.append(frame)

    def _wait(self, order: int, frame: Frame) -> None:
        ordered = not IS_SEQUENCED[frame.reliability]
        if ordered:
            if order in self._indices:
                return
            self._indices.add(order)
        # Sequence indices start at 0 for each order index, so those that wait are
        # compared from there.
        sequence = unwrap24(frame.sequence or 0, 0)
        self._arrival += 1
        kept = frame._replace(payload=bytes(frame.payload))
        heappush(self.waiting, (order, ordered, sequence, self._arrival, kept, 1))
        self.size += len(kept.payload)
