"""
The receiving half: order, window, acknowledgements, the peer's end of stream.

Segment numbers are unbounded integers here.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import Final

from twisted_rudp.core.queues import NOTHING
from twisted_rudp.core.serial import MASK32, unwrap32
from twisted_rudp.kcp.control import Control
from twisted_rudp.kcp.wire import Counters

JOIN_BELOW: Final = 16_384
"""
Chunks shorter than this are joined with what follows when they are taken: one
copy costs less than one more turn through the application.
"""


SEGMENT_COST: Final = 128
"""What a kept segment costs beside its payload: a peer may send a byte in each."""

UNCOUNTED: Final = 16_384
"""Sessions that keep less than this are not counted in the port's budget."""

UNVALIDATED_LIMIT: Final = 131_072
"""Bytes kept for a peer whose address may be forged."""


class ReceiveBudget:
    """
    What all sessions of a port keep for their applications.

    @ivar limit: bytes; beyond, a session takes in only what is next when it has nothing.
    @ivar used: bytes that they keep now.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


LARGEST_LIMIT: Final = 1 << 62

UNLIMITED: Final = ReceiveBudget(LARGEST_LIMIT)

MOST_NAMED: Final = 64
"""Of the repetitions that came in one turn so many are named, where there are too many
acknowledgements to hold."""


class ReceiveQueue:
    """
    What arrived in order and waits for the application (C{rcv_queue} of kcp-go):
    chunks, each the payload of one or more equally long segments.

    @ivar segments: how many segments are held; those of which some bytes are
        still to be taken count.
    @ivar size: bytes that can be taken now. In message mode those of whole
        messages.
    @ivar unfinished: bytes of a message that is not whole.
    """

    __slots__ = ("_chunks", "_offset", "_stream", "segments", "size", "unfinished")

    def __init__(self, stream: bool) -> None:
        self._stream = stream
        self._chunks: deque[tuple[bytes, int, int]] = NOTHING
        self._offset = 0
        self.unfinished = 0
        self.segments = 0
        self.size = 0

    def append(self, chunk: bytes, unit: int, count: int, frg: int = 0) -> None:
        """
        Add segments.

        @param unit: payload bytes of each of the C{count} segments in C{chunk}.
        @param frg: their fragment field; other than 0 only for a single one.
        """
        if self._stream:
            if not chunk:
                return
            self.size += len(chunk)
        elif frg:
            self.unfinished += len(chunk)
        else:
            self._complete(len(chunk))
        if self._chunks is NOTHING:
            self._chunks = deque()
        self._chunks.append((chunk, unit, frg))
        self.segments += count

    def _complete(self, size: int) -> None:
        """C{size} bytes with the fragment field 0 end the message begun before them."""
        self.size += self.unfinished + size
        self.unfinished = 0

    def take(self, limit: int) -> bytes:
        """The next bytes, at most C{limit}, whatever the borders of messages."""
        if len(self._chunks) == 1 and not self._offset and self.size <= limit:
            chunk, _, _ = self._chunks[0]
            self._chunks = NOTHING
            self.segments = self.size = 0
            return chunk
        parts: list[bytes] = []
        while self._chunks and limit > 0:
            part = self._take_from_first(limit)
            parts.append(part)
            limit -= len(part)
            if len(part) >= JOIN_BELOW or (self._chunks and len(self._chunks[0][0]) > limit):
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_from_first(self, limit: int) -> bytes:
        chunk, unit, _ = self._chunks[0]
        start = self._offset
        end = min(start + limit, len(chunk))
        self.segments -= end // unit - start // unit
        self.size -= end - start
        if end == len(chunk):
            self._drop_first()
            self._offset = 0
        else:
            self._offset = end
        return chunk[start:end] if end - start < len(chunk) else chunk

    def _drop_first(self) -> None:
        self._chunks.popleft()
        if not self._chunks:
            self._chunks = NOTHING

    @property
    def readable(self) -> bool:
        """There is something to take."""
        return self.size > 0 if self._stream else self.has_message

    @property
    def has_message(self) -> bool:
        """A whole message is there (kcp.md 1.5)."""
        return bool(self._chunks) and self.segments > self._chunks[0][2]

    def take_message(self) -> bytes | None:
        """The next whole message, or None."""
        if not self.has_message:
            return None
        parts: list[bytes] = []
        frg = 1
        while frg and self._chunks:
            chunk, unit, frg = self._chunks[0]
            if len(chunk) > unit:
                parts.append(self._take_from_first(unit))
                continue
            self._drop_first()
            self.segments -= 1
            self.size -= len(chunk)
            parts.append(chunk)
        if frg:
            # A peer that miscounts: enough fragments, but no last one among them.
            self.size += self.unfinished
            self.unfinished = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Receiver:
    """
    Puts PUSH segments in order and notes what is to be acknowledged.

    @ivar nxt: the number waited for.
    @ivar wnd: most segments kept for the application; also how far ahead of
        L{nxt} one may be (kcp.md 1.7).
    @ivar acks: pairs of number and timestamp to be acknowledged, in order of
        arrival.
    @ivar named: those of them that came by a repetition, most likely: they filled a gap, or
        were here already. Not C{una} but only their echo tells the peer which transmission
        has arrived.
    @ivar end: number of the peer's end of stream, None before it was heard;
        C{end_ts} is the timestamp it came with.
    @ivar held: segments out of order: by number, the first number, count, payload and
        fragment field of the piece that has it. Payload None is not delivered.
    @ivar shut: advertise no window whatever is free.
    @ivar limit: bytes in order beyond which nothing is taken in; also of all bytes, beyond
        which nothing is taken in that is out of order.
    @ivar held_bytes: payload of L{held}.
    @ivar budget: what this and the other sessions of the port keep.
    @ivar charged: what the budget was charged with for this session; not 0 while it keeps
        more than a little.
    @ivar control: where it is noted that the window has opened again.
    """

    __slots__ = (
        "_counters",
        "_told",
        "acks",
        "budget",
        "charged",
        "control",
        "end",
        "end_ts",
        "held",
        "held_bytes",
        "limit",
        "named",
        "nxt",
        "queue",
        "shut",
        "wnd",
    )

    def __init__(
        self, first: int, wnd: int, stream: bool, control: Control, counters: Counters
    ) -> None:
        """
        @param first: the first number of the peer.
        @param wnd: window in segments.
        @param control: where to note that the window has opened again.
        """
        self.nxt = first
        self.wnd = wnd
        self.acks: list[tuple[int, int]] = []
        self.named: list[tuple[int, int]] = []
        self._told: list[tuple[int, int]] = []
        self.end: int | None = None
        self.end_ts = 0
        self.shut = False
        self.control = control
        self.queue = ReceiveQueue(stream)
        self.limit = LARGEST_LIMIT
        self.budget = UNLIMITED
        self.held_bytes = 0
        self.charged = 0
        self.held: dict[int, tuple[int, int, bytes | None, int]] = {}
        self._counters = counters

    @property
    def free(self) -> int:
        """The window to advertise (kcp.md 1.6)."""
        queue = self.queue
        free = 0 if self.shut else self.wnd - queue.segments
        if free <= 0 or (queue.size and self.full):
            return 0
        return free

    @property
    def full(self) -> bool:
        """
        No more bytes in order are taken in: this session has its share of them, or has some
        and the port has all that it may.
        """
        queue = self.queue
        size = queue.size + queue.unfinished
        return size >= self.limit or (size > 0 and self.budget.used >= self.budget.limit)

    @property
    def crowded(self) -> bool:
        """No more bytes out of order are taken in."""
        queue = self.queue
        size = queue.size + queue.unfinished + self.held_bytes
        return size >= self.limit or self.budget.used >= self.budget.limit

    @property
    def cost(self) -> int:
        """Bytes of memory that are kept for the application."""
        queue = self.queue
        segments = queue.segments + len(self.held)
        return queue.size + queue.unfinished + self.held_bytes + SEGMENT_COST * segments

    def settle(self) -> None:
        """Charge the port's budget with what is kept, unless that is little."""
        queue = self.queue
        if queue.size > UNCOUNTED or queue.unfinished > UNCOUNTED or self.held or self.charged:
            cost = self.cost
            self.budget.used += cost - self.charged
            self.charged = cost

    @property
    def end_in_order(self) -> bool:
        """The peer's end of stream and all before it has arrived."""
        return self.end is not None and self.nxt > self.end

    @property
    def end_received(self) -> bool:
        """
        L{end_in_order}, and everything before it was taken. A message that the
        peer did not complete counts for nothing.
        """
        return self.end is not None and self.nxt > self.end and not self.queue.readable

    def append_run(self, count: int, payload: bytes, unit: int, ts: int) -> None:
        """
        Take in the next C{count} segments, in order, with C{frg} 0, no more than
        the window admits.

        @param ts: timestamp of the last. Of the others C{una} tells the peer.
        """
        nxt = self.nxt
        self.nxt = nxt + count
        self.acks.append((nxt + count - 1, ts))
        self.queue.append(payload, unit, count)

    def hold_run(self, sn: int, count: int, payload: bytes, ts: int) -> bool:
        """
        Take in consecutive segments with C{frg} 0 and one timestamp that lie
        within the window, while no end is in sight.

        @return: False, and nothing is done, if some are here already.
        """
        first = self.nxt + ((sn - self.nxt) & MASK32)
        numbers = range(first, first + count)
        if not self.held.keys().isdisjoint(numbers):
            return False
        self.acks.extend(zip(numbers, repeat(ts)))
        self.held.update(dict.fromkeys(numbers, (first, count, payload, 0)))
        self.held_bytes += len(payload)
        if first == self.nxt:
            self.advance()
        return True

    def push(self, sn: int, ts: int, frg: int, payload: bytes, regular: bool) -> None:
        """Take in one segment (kcp.md 1.7 step 3)."""
        if (
            sn == self.nxt & MASK32
            and not self.held
            and self.end is None
            and self.queue.segments < self.wnd
            and self.queue.size < self.limit
            and not self.charged
        ):
            self.acks.append((self.nxt, ts))
            self.nxt += 1
            self.queue.append(payload, len(payload), 1, frg)
            return
        number = unwrap32(sn, self.nxt)
        if self.end is not None and number > self.end:
            self._counters.data_after_end += 1
        elif number >= self.nxt and (self.full if number == self.nxt else self.crowded):
            self._counters.receive_limited += 1
        elif not self._acknowledge(number, ts):
            self._counters.repeat_segs += regular
        elif number >= self.nxt and number not in self.held:
            if number == self.nxt and self.held:
                self.named.append((number, ts))
            self.held[number] = (number, 1, payload, frg)
            self.held_bytes += len(payload)
            self.advance()
        else:
            self.named.append((number, ts))
            self._counters.repeat_segs += regular

    def push_end(self, sn: int, ts: int) -> bool:
        """
        Take in the peer's end of stream (kcp-close.md 3).

        @return: it is one: of the number known, or within the window.
        """
        number = unwrap32(sn, self.nxt)
        if self.end is not None and number != self.end:
            self._counters.second_ends += 1
            return False
        if not self._acknowledge(number, ts):
            return False
        if self.end is not None or number < self.nxt or number in self.held:
            self._counters.repeat_segs += 1
            return self.end is not None
        self.end = number
        self.end_ts = ts
        for later in [held for held in self.held if held > number]:
            _, count, payload, _ = self.held.pop(later)
            self.held_bytes -= len(payload or b"") // count
            self._counters.data_after_end += 1
        self.advance()
        return True

    def skip(self, sn: int, ts: int) -> None:
        """
        Take in a segment that has a number and is not to be delivered: the end
        of stream of a peer that should not send one (kcp-close.md 2).
        """
        number = unwrap32(sn, self.nxt)
        if self._acknowledge(number, ts) and number >= self.nxt and number not in self.held:
            self.held[number] = (number, 1, None, 0)
            self.advance()

    def _acknowledge(self, number: int, ts: int) -> bool:
        """Note an acknowledgement, also for what is old, unless the number is beyond the window."""
        if number >= self.nxt + self.wnd:
            return False
        self.acks.append((number, ts))
        return True

    def thin(self) -> None:
        """
        Keep of each number the last echo, and of the old numbers, which C{una}
        covers, only the last of all: no more than the window and one. For an
        owner that takes in much before it may send.
        """
        last = self.acks[-1]
        latest = {number: ts for number, ts in self.acks if number >= self.nxt}
        latest.pop(last[0], None)
        self.acks = [*latest.items(), last]
        del self.named[:-MOST_NAMED]

    def advance(self) -> None:
        """Move what is in order now to the queue, as far as there is room."""
        held = self.held
        queue = self.queue
        while self.nxt in held and queue.segments < self.wnd:
            first, count, payload, frg = held[self.nxt]
            start = self.nxt - first
            stop = min(count, start + self.wnd - queue.segments)
            if payload is not None:
                unit = len(payload) // count
                if stop - start < count:
                    payload = payload[start * unit : stop * unit]
                self.held_bytes -= len(payload)
                queue.append(payload, unit, stop - start, frg)
            for number in range(self.nxt, first + stop):
                del held[number]
            self.nxt = first + stop
        if self.nxt == self.end:
            self.nxt += 1

    def take(self, limit: int) -> bytes:
        """As L{ReceiveQueue.take}; opens the window."""
        queue = self.queue
        segments = queue.segments
        if not segments:
            return b""
        full = (
            segments >= self.wnd or queue.size >= self.limit or (self.charged > 0 and self.full)
        )
        data = queue.take(limit)
        if self.held or full:
            self._reopen(full)
        if self.charged:
            self.settle()
        return data

    def take_message(self) -> bytes | None:
        """As L{ReceiveQueue.take_message}; opens the window."""
        full = self.queue.segments >= self.wnd or (self.charged > 0 and self.full)
        message = self.queue.take_message()
        self._reopen(full)
        if self.charged:
            self.settle()
        return message

    def _reopen(self, was_full: bool) -> None:
        if self.held:
            self.advance()
        if was_full and self.free:
            self.control.tell = True

    def acknowledgements(self, most: int = 0) -> list[tuple[int, int]]:
        """
        What is to be acknowledged now, as numbers and timestamps on the wire:
        all that C{una} does not cover, and the last in any case (kcp.md 1.11
        step 1). They count as sent.

        @param most: for a peer of ours, how many may leave at once. Then what came by a
            repetition is named too, and what was acknowledged the last time is said once
            more where both fit: a datagram of acknowledgements that is lost looks like the
            loss of all that it names.
        """
        acks = self.acks
        if not acks:
            return acks
        self.acks = []
        nxt = self.nxt
        if len(acks) == 1 and not self.named and not self._told:
            number, ts = acks[0]
            if most and number >= nxt:
                self._told = acks
            return [(number & MASK32, ts)]
        last = acks.pop()
        wanted = [ack for ack in acks if ack[0] >= nxt]
        if most:
            wanted += [ack for ack in self.named if ack[0] < nxt and ack != last]
            again, self._told = self._told, wanted
            if last[0] >= nxt:
                self._told = [*wanted, last]
            if len(again) + len(wanted) < most:
                wanted = [ack for ack in again if ack != last] + wanted
        self.named = []
        wanted.append(last)
        return [(number & MASK32, ts) for number, ts in wanted]

    def release(self) -> None:
        """Drop all data."""
        self.held.clear()
        self.held_bytes = 0
        self.acks.clear()
        self.named.clear()
        self._told.clear()
        self.queue = ReceiveQueue(stream=True)
        self.settle()

    def requeue(self, acks: list[tuple[int, int]]) -> None:
        """Give back what L{acknowledgements} gave and could not be sent."""
        self.acks[:0] = [(unwrap32(sn, self.nxt), ts) for sn, ts in acks]
