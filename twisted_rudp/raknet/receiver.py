"""The receiving half: from datagrams to messages in order, and the ACKs (raknet.md 7 and 8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from heapq import heappop, heappush
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.ranges import Ranges, merged
from twisted_rudp.core.serial import unwrap24
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.kernels import take_messages, take_stream
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.raknet import timers as t
from twisted_rudp.raknet.settings import Settings
from twisted_rudp.raknet.wire import (
    ACK,
    CHANNELS,
    FIRST_USER_ID,
    HAS_ORDER,
    HEADER_SIZE,
    IS_RELIABLE,
    IS_SEQUENCED,
    NACK,
    STREAM_LEAD,
    WITHOUT_RECEIPT,
    Frame,
    Reliability,
    Split,
    is_users,
    pack_records,
    parse_frames,
)


@dataclass(slots=True)
class ReceiveCounters:
    """
    What the receiving half of a session counts.

    @ivar datagrams_in: with frames; repeats included, not what was withheld.
    @ivar bytes_in: of their UDP payload.
    @ivar datagrams_withheld: not acknowledged for lack of room.
    @ivar datagrams_far: numbered beyond belief.
    @ivar messages_foreign: user messages that are not part of the stream.
    @ivar messages_unread_dropped: unreliable ones, because others had not been read.
    """

    datagrams_in: int = 0
    bytes_in: int = 0
    datagrams_repeated: int = 0
    datagrams_withheld: int = 0
    datagrams_far: int = 0
    datagrams_malformed: int = 0
    frames_repeated: int = 0
    frames_malformed: int = 0
    messages_joined: int = 0
    messages_foreign: int = 0
    messages_early_dropped: int = 0
    messages_unread_dropped: int = 0


class Delivered(NamedTuple):
    """
    What is to be handed up next.

    @ivar payload: valid during the call that gave it.
    @ivar reliability: one of the first five.
    """

    payload: Buffer
    reliability: int
    channel: int


HELD_FRAME: Final = 400
"""What a frame that waits costs beside its payload, in bytes: objects and table entries."""

UNREAD_MESSAGE: Final = 64
"""The same for a message that nobody has taken yet."""


class LimitExceeded(Exception):
    """The peer makes this session hold more than it may."""


RECOGNIZED: Final = 8192
"""How far back a repeated number is recognised."""

MOST_STRETCHES: Final = 64
"""Stretches of numbers that have come; with more the old ones are forgotten."""

FIRST_DATAGRAMS: Final = 32
"""Acknowledged at once at the start of a session, so that the peer learns the round
trip (raknet.md 8.1)."""


class Arrival(Enum):
    """What a datagram's number means."""

    NEW = auto()
    REPEATED = auto()
    FAR = auto()
    """Too far ahead to be believed."""


_NEW: Final = Arrival.NEW


class ReceivedDatagrams:
    """
    @ivar expected: the number after the highest that has come. It may be set before the
        first has come.
    @ivar waiting: datagrams to be acknowledged.
    @ivar withholding: something was dropped for lack of room.
    """

    def __init__(self, settings: Settings, timers: Timers) -> None:
        self._settings = settings
        self._timers = timers
        self.expected = 0
        self._count = 0
        self._seen = Ranges()
        self._acks = Ranges()
        self._told: deque[list[tuple[int, int]]] = deque(maxlen=settings.ack_repeats)
        self.waiting = 0
        self._bytes = 0
        self._gaps: deque[tuple[int, int, int]] = deque()
        self._leeway = 0
        self._withheld = Ranges()
        self.withholding = False

    def unwrap(self, number: int) -> int:
        """The integer that a number on the wire stands for."""
        return unwrap24(number, self.expected)

    def accept(self, number: int, count: int, size: int, now: int, guard: int) -> Arrival:
        """
        Note datagrams with consecutive numbers, to be acknowledged whether new or
        not. With C{count} above 1 none of them has come.

        @param size: their bytes.
        @param guard: how long a gap before them may close by itself.
        """
        ahead = number - self.expected
        if ahead > self._settings.jump:
            return Arrival.FAR
        end = number + count
        if ahead > 0:
            oldest = max(self.expected, number - self._settings.nack_limit)
            # Where datagrams come in company, the next are here before a timer, and their
            # turn, which acknowledges too, reports the gap.
            self._leeway = guard // 2 if count > 1 or self.waiting else 0
            self._gaps.append((now + guard, oldest, number))
            self._timers.set_earlier(t.NACK, now + guard + self._leeway)
        if end > self.expected:
            self.expected = end
        self._acks.add(number, end)
        self._count += count
        self.waiting += count
        self._bytes += size
        if self.waiting == count:
            self._timers.due[t.ACK] = now + self._settings.ack_delay
        if self.withholding:
            self._withheld.remove(number, end)
            self.withholding = bool(self._withheld)
        if number < self.expected - RECOGNIZED:
            return Arrival.REPEATED
        if not self._seen.add(number, end):
            return Arrival.REPEATED
        if len(self._seen.starts) > MOST_STRETCHES:
            self._seen.remove(-(1 << 62), self.expected - RECOGNIZED)
        return _NEW

    def withhold(self, number: int) -> None:
        """
        A datagram that there is no room for: it is not acknowledged, and asked for
        again when there is (raknet.md 15).
        """
        if abs(number - self.expected) < RECOGNIZED:
            self._withheld.add(number, number + 1)
            self.withholding = True

    def release(self, now: int) -> None:
        """There is room again."""
        self._leeway = 0
        for first, end in self._withheld:
            self._gaps.append((now, first, end))
            self._timers.set_earlier(t.NACK, now)
            self.expected = max(self.expected, end)
        self._withheld.clear()
        self.withholding = False

    def hurry(self, now: int) -> None:
        """Acknowledge with the next flush."""
        if self.waiting:
            self._timers.set(t.ACK, now)

    def due(self, now: int, limit: int) -> list[bytes]:
        """
        The NACKs and ACKs with which this turn ends (raknet.md 8.1, adapted to runs: two
        full datagrams at once do not wait).

        @param limit: bytes of a full datagram.
        """
        settings, timers = self._settings, self._timers.due
        found: list[bytes] = []
        gaps = self._gaps
        # The first gap may have had its time before the timer, which comes a leeway later.
        if now >= timers[t.NACK] or (gaps and gaps[0][0] <= now):
            found = self.nacks(now, limit)
        waiting = self.waiting
        if waiting and (
            now >= timers[t.ACK]
            or waiting >= settings.ack_count
            or (
                settings.prompt
                and (self._bytes >= 2 * limit or self._count <= FIRST_DATAGRAMS)
            )
        ):
            found += self.acknowledgements(limit)
        return found

    def acknowledgements(self, limit: int) -> list[bytes]:
        """
        Acknowledge everything that waits, and what was acknowledged just before.

        @param limit: longest datagram.
        """
        if not self.waiting:
            return []
        fresh = self._acks.pop_all()
        told = merged([*chain.from_iterable(self._told), *fresh])
        self._told.append(fresh)
        self.waiting = self._bytes = 0
        self._timers.due[t.ACK] = NEVER
        return pack_records(ACK, told, limit)

    def nacks(self, now: int, limit: int) -> list[bytes]:
        """Report the gaps that had their time to close; each is reported once."""
        missing: list[tuple[int, int]] = []
        gaps = self._gaps
        while gaps and gaps[0][0] <= now:
            _, first, end = gaps.popleft()
            for start, stop in self._seen.gaps(first, end):
                # What was withheld is asked for when there is room for it.
                missing += self._withheld.gaps(start, stop) if self.withholding else [(start, stop)]
        self._timers.set(t.NACK, gaps[0][0] + self._leeway if gaps else NEVER)
        return pack_records(NACK, missing, limit)


class SplitMismatch(ValueError):
    """A fragment that cannot be one."""


class _PartialMessage:
    """
    A message some fragments of which are here. Memory follows what was received,
    never what was announced.
    """

    __slots__ = ("first", "fragments", "kind", "size", "total", "touched")

    def __init__(self, frame: Frame, total: int) -> None:
        self.first = frame
        self.kind = kind_of(frame)
        self.total = total
        self.fragments: dict[int, bytes] = {}
        self.size = 0
        self.touched = 0


def kind_of(frame: Frame) -> tuple[object, ...]:
    """What all fragments of one message have in common."""
    return (WITHOUT_RECEIPT[frame.reliability], frame.order, frame.channel, frame.sequence)


class SplitMessages:
    """
    The incomplete messages of one session.

    @ivar size: bytes held.
    @ivar fragments: how many fragments they are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._partials: dict[int, _PartialMessage] = {}
        self.size = self.fragments = 0

    def __len__(self) -> int:
        return len(self._partials)

    def has_room(self, split: Split, now: int) -> bool:
        """
        Whether a fragment can be taken in, if it is possible at all. What is refused
        for lack of room must not be acknowledged: the rest of its message would come in
        vain.
        """
        partials, most = self._partials, self._settings.splits
        if split.ident in partials or len(partials) < most or not self._is_possible(split):
            return True
        self.expire(now)
        return len(partials) < most

    def _is_possible(self, split: Split) -> bool:
        return 0 < split.total <= self._settings.split_count and split.number < split.total

    def add(self, frame: Frame, now: int) -> Frame | None:
        """
        Take in a fragment.

        @return: the whole message as an unsplit frame, when this completes it.
        @raise SplitMismatch: it is not possible, or disagrees with earlier ones.
        """
        split = frame.split
        assert split is not None
        if not self._is_possible(split):
            raise SplitMismatch("impossible split")
        partial = self._partials.get(split.ident)
        if partial is None:
            if not self.has_room(split, now):
                raise SplitMismatch("too many split messages")
            partial = _PartialMessage(frame._replace(payload=b""), split.total)
            self._partials[split.ident] = partial
        elif partial.total != split.total or partial.kind != kind_of(frame):
            raise SplitMismatch("not like the fragments before")
        if split.number not in partial.fragments:
            partial.fragments[split.number] = bytes(frame.payload)
            partial.size += len(frame.payload)
            self.size += len(frame.payload)
            self.fragments += 1
            partial.touched = now
        if len(partial.fragments) < partial.total:
            return None
        del self._partials[split.ident]
        self.size -= partial.size
        self.fragments -= partial.total
        whole = b"".join(partial.fragments[index] for index in range(partial.total))
        return partial.first._replace(payload=whole, split=None)

    def expire(self, now: int) -> int:
        """
        Forget messages that had no new fragment for too long.

        @return: how many.
        """
        span = self._settings.split_expiry
        old = [ident for ident, one in self._partials.items() if one.touched + span <= now]
        for ident in old:
            partial = self._partials.pop(ident)
            self.size -= partial.size
            self.fragments -= len(partial.fragments)
        return len(old)


_Waiting: TypeAlias = tuple[int, bool, int, int, Frame, int]
"""Order index, whether ordered (which goes last), sequence index, a tie breaker, the frame, and
how many order indices it has."""


class ReceiveChannel:
    """
    Puts what arrives on one channel in order (raknet.md 7).

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


_PLAIN: Final = Delivery.RELIABLE_ORDERED


class StreamBuffer:
    """
    Bytes in order, for the application: it is given whole pieces as long as they fit, so that
    none is cut, and as C{bytes}. L{ByteQueue<twisted_rudp.core.queues.ByteQueue>} gives just as
    much as is asked for, as views.

    @ivar size: how many.
    """

    __slots__ = ("_offset", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._offset = 0
        self.size = 0

    def put(self, piece: bytes) -> None:
        """Append bytes."""
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self, limit: int) -> bytes:
        """The next bytes: as many whole pieces as C{limit} allows, or a part of one."""
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
        """Throw everything away."""
        self._pieces.clear()
        self._offset = 0
        self.size = 0


class MessageBuffer:
    """
    Messages in the order of their delivery.

    @ivar size: bytes in them.
    @ivar count: how many there are.
    """

    __slots__ = ("_messages", "count", "size")

    def __init__(self) -> None:
        self._messages: deque[Message | list[bytes]] = deque()
        self.size = self.count = 0

    def put_plain(self, payloads: list[bytes]) -> None:
        """Append messages that came reliably and in order on channel 0."""
        self._messages.append(payloads)
        self.size += sum(map(len, payloads))
        self.count += len(payloads)

    def put(self, message: Message) -> None:
        """Append a message."""
        self._messages.append(message)
        self.size += len(message.data)
        self.count += 1

    def take(self) -> Iterator[Message]:
        """All of them, each taken when it is asked for."""
        messages = self._messages
        while messages:
            message = messages.popleft()
            if type(message) is list:
                yield from self._take_plain(message)
            else:
                assert isinstance(message, Message)
                self.size -= len(message.data)
                self.count -= 1
                yield message

    def _take_plain(self, payloads: list[bytes]) -> Iterator[Message]:
        """What was appended together; what is not asked for is put back."""
        count = size = 0
        new = tuple.__new__
        try:
            for payload in payloads:
                count += 1
                size += len(payload)
                # As Message(payload), in half the time.
                yield new(Message, (payload, _PLAIN, 0))
        finally:
            self.size -= size
            self.count -= count
            if count < len(payloads):
                self._messages.appendleft(payloads[count:])

    def clear(self) -> None:
        """Throw everything away."""
        self._messages.clear()
        self.size = self.count = 0


class ReceiveBuffer:
    """
    What has arrived for the application: bytes of the stream or messages.

    @ivar stream: the one of a session that carries bytes.
    @ivar messages: those of a session that carries messages.
    @ivar left: what the application has left, with what its objects cost.
    @ivar released: bytes of it that had waited behind a gap, which were bounded there.
    """

    __slots__ = (
        "_counters",
        "_early",
        "_early_size",
        "_settings",
        "left",
        "messages",
        "released",
        "stream",
    )

    def __init__(self, settings: Settings, counters: ReceiveCounters) -> None:
        self.stream = StreamBuffer()
        self.messages = MessageBuffer()
        self._early: deque[Delivered] = deque()
        self._early_size = 0
        self.left = self.released = 0
        self._settings = settings
        self._counters = counters

    @property
    def size(self) -> int:
        """Bytes that can be taken."""
        return self.stream.size + self.messages.size

    @property
    def cost(self) -> int:
        """Bytes that can be taken, with what their objects cost."""
        return self.stream.size + self.messages.size + UNREAD_MESSAGE * self.messages.count

    @property
    def full(self) -> bool:
        """Nothing reliable is to be taken in before some of it was read."""
        return self.left - self.released >= self._settings.receive_buffer

    @property
    def half_empty(self) -> bool:
        """There is room again for what was withheld."""
        return 2 * self.cost <= self._settings.receive_buffer and not self.early_full

    def offered(self) -> bool:
        """
        The application has had the opportunity to take what is here. What comes in one turn
        does not count before.

        @return: it has left something.
        """
        if not (self.stream.size or self.messages.count):
            self.left = self.released = 0
            return False
        self.left = self.cost
        if self.released > self.left:
            self.released = self.left
        return True

    def put(self, delivered: Delivered) -> None:
        """Append a message of the application's."""
        payload, reliability, channel = delivered
        if self.full and not IS_RELIABLE[reliability]:
            # Nobody asks for it again, so that is the only bound.
            self._counters.messages_unread_dropped += 1
        elif not self._settings.stream:
            self.messages.put(Message(bytes(payload), Delivery(reliability), channel))
        elif payload[0] == self._settings.user_id:
            self.stream.put(bytes(payload[1:]))
        else:
            self._counters.messages_foreign += 1

    @property
    def early_full(self) -> bool:
        """Nothing more should come before the handshake is done."""
        settings = self._settings
        return len(self._early) >= settings.early or self._early_size >= settings.receive_buffer

    def keep(self, delivered: Delivered) -> None:
        """
        A message has come before the handshake is done: put it aside. If it will be
        acknowledged there has to be room for it; the others are dropped when there is
        none.
        """
        if self.early_full and not IS_RELIABLE[delivered.reliability]:
            self._counters.messages_early_dropped += 1
            return
        payload = bytes(delivered.payload)
        self._early.append(delivered._replace(payload=payload))
        self._early_size += len(payload)

    def put_kept(self) -> None:
        """The handshake is done: append what was put aside."""
        while self._early:
            self.put(self._early.popleft())
        self._early_size = 0

    def clear(self) -> None:
        """Throw everything away."""
        self.stream.clear()
        self.messages.clear()
        self._early.clear()
        self._early_size = self.left = self.released = 0


class Receiver:
    """
    @ivar counters: see L{ReceiveCounters}.
    @ivar datagrams: the numbers of datagrams.
    @ivar reliable: the first reliable index that has not come. It may be set before the
        first has come.
    @ivar bad: datagrams that could not be read, or not to their end.
    @ivar buffer: what was delivered and not taken.
    """

    __slots__ = (
        "_above",
        "_channels",
        "_ordering",
        "_ordering_size",
        "_settings",
        "_splits",
        "_zero",
        "bad",
        "buffer",
        "counters",
        "datagrams",
        "reliable",
    )

    def __init__(self, settings: Settings, timers: Timers) -> None:
        self.counters = ReceiveCounters()
        self.reliable = 0
        self.datagrams = ReceivedDatagrams(settings, timers)
        self.bad = 0
        self.buffer = ReceiveBuffer(settings, self.counters)
        self._settings = settings
        self._above = Ranges()
        self._channels: dict[int, ReceiveChannel] = {}
        self._splits = SplitMessages(settings)
        self._zero = self.channel(0)
        self._ordering = self._ordering_size = 0

    @property
    def held(self) -> int:
        """Bytes that wait for something else."""
        return self._splits.size + self._ordering_size

    def channel(self, number: int) -> ReceiveChannel:
        """The order of what arrives on one channel."""
        found = self._channels.get(number)
        if found is None:
            found = self._channels[number] = ReceiveChannel()
        return found

    def take(self, run: Buffer, size: int, now: int) -> tuple[int, bytes | list[bytes]]:
        """
        Take in the leading datagrams of a run if they are bulk data and just what is
        expected next, while nothing waits for anything.

        @return: how many bytes they have, and their part of the stream or their
            messages.
        """
        zero = self._zero
        if zero.waiting or self._above.starts:
            return 0, b""
        settings, datagrams = self._settings, self.datagrams
        number = datagrams.expected
        taken: bytes | list[bytes]
        if settings.stream:
            count, taken = take_stream(
                run, size, number, self.reliable, zero.next, settings.user_id
            )
            frames = count
        else:
            count, taken = take_messages(
                run, size, number, self.reliable, zero.next, FIRST_USER_ID
            )
            frames = len(taken)
        if not count:
            return 0, b""
        self.reliable += frames
        # Nothing waits there, so this is all that the channel would do.
        zero.next += frames
        zero.sequence = 0
        length = min(count * size, len(run))
        datagrams.accept(number, count, length, now, 0)
        self.counters.datagrams_in += count
        self.counters.bytes_in += length
        return length, taken

    def hold(self, run: Buffer, size: int, now: int, guard: int) -> int:
        """
        Take in the leading datagrams of a run if they are a new part of the stream that
        waits for an earlier one.

        @param guard: how long a gap may close by itself.
        @return: how many bytes they have; 0 if they are to be looked at one by one.
        """
        settings, datagrams, zero = self._settings, self.datagrams, self._zero
        if not settings.stream or len(run) < 2 * size or size <= STREAM_LEAD:
            return 0
        lead = bytes(run[:STREAM_LEAD])
        number = datagrams.unwrap(int.from_bytes(lead[1:4], "little"))
        reliable = unwrap24(int.from_bytes(lead[7:10], "little"), self.reliable)
        order = unwrap24(int.from_bytes(lead[10:13], "little"), zero.next)
        if number < datagrams.expected or reliable <= self.reliable or order <= zero.next:
            return 0
        count, data = take_stream(run, size, number, reliable, order, settings.user_id)
        cost = self._cost + HELD_FRAME + len(data)
        if (
            count < 2
            or reliable + count > self.reliable + settings.reliable_window
            or cost > settings.held
            or self._ordering >= settings.order_limit
            or self._above.gaps(reliable, reliable + count) != [(reliable, reliable + count)]
            or not zero.can_hold(order, order + count)
        ):
            return 0
        length = min(count * size, len(run))
        if datagrams.accept(number, count, length, now, guard) is not _NEW:
            return 0
        self._above.add(reliable, reliable + count)
        joined = Frame(
            Reliability.RELIABLE_ORDERED, settings.user_id.to_bytes(1, "little") + data, reliable
        )
        zero.hold(order, count, joined)
        self._ordering += 1
        self._ordering_size += len(joined.payload)
        self.counters.datagrams_in += count
        self.counters.bytes_in += length
        return length

    def datagram(
        self, datagram: memoryview, now: int, guard: int, full: bool, early: bool = False
    ) -> Iterator[Delivered]:
        """
        Process any datagram with frames.

        @param guard: how long a gap may close by itself.
        @param full: nothing reliable is taken in.
        @param early: nothing reliable of the application's is taken in.
        @raise LimitExceeded: the session cannot go on.
        """
        counters = self.counters
        if len(datagram) < HEADER_SIZE:
            counters.datagrams_malformed += 1
            self.bad += 1
            return
        datagrams = self.datagrams
        number = datagrams.unwrap(int.from_bytes(datagram[1:HEADER_SIZE], "little"))
        frames, broken = parse_frames(datagram)
        if self._unwelcome(frames, full, early, now):
            counters.datagrams_withheld += 1
            datagrams.withhold(number)
            return
        arrival = datagrams.accept(number, 1, len(datagram), now, guard)
        if arrival is Arrival.FAR:
            counters.datagrams_far += 1
            if self._settings.jump_ends:
                raise LimitExceeded("datagram numbers jumped")
            return
        counters.datagrams_in += 1
        counters.bytes_in += len(datagram)
        if arrival is Arrival.REPEATED:
            counters.datagrams_repeated += 1
            return
        for frame in frames:
            yield from self._frame(frame, now)
        if broken:
            counters.datagrams_malformed += 1
            self.bad += 1

    def _unwelcome(self, frames: list[Frame], full: bool, early: bool, now: int) -> bool:
        """Something here cannot be taken in now and would be lost if acknowledged."""
        edge = self.reliable + self._settings.reliable_window
        for frame in frames:
            if frame.reliable is None:
                continue
            number = unwrap24(frame.reliable, self.reliable)
            if full or number >= edge:
                return True
            if early and not (frame.split and frame.split.number) and is_users(frame.payload[0]):
                # Of a message in pieces the first says whose it is.
                return True
            if (
                frame.split is not None
                and not self._splits.has_room(frame.split, now)
                and number >= self.reliable
                and number not in self._above
            ):
                return True
        return False

    def _frame(self, frame: Frame, now: int) -> Iterator[Delivered]:
        counters = self.counters
        if frame.channel >= CHANNELS:
            counters.frames_malformed += 1
            self.bad += 1
            return
        if frame.reliable is not None and not self._is_first(frame.reliable):
            counters.frames_repeated += 1
            return
        whole: Frame | None = frame
        if frame.split is not None:
            try:
                whole = self._splits.add(frame, now)
            except SplitMismatch:
                counters.frames_malformed += 1
                self.bad += 1
                return
            if whole is None:
                self._check_held()
                return
            counters.messages_joined += 1
        assert whole is not None
        if not HAS_ORDER[whole.reliability]:
            yield self._deliver(whole)
            return
        channel = self.channel(whole.channel)
        count, size = len(channel.waiting), channel.size
        found = channel.put(whole)
        self._ordering += len(channel.waiting) - count
        self._ordering_size += channel.size - size
        if channel.size < size:
            self.buffer.released += size - channel.size
        for each in found:
            yield self._deliver(each)
        if channel.waiting:
            if self._ordering > self._settings.order_limit:
                raise LimitExceeded("too many messages wait for an earlier one")
            self._check_held()

    def _deliver(self, frame: Frame) -> Delivered:
        return Delivered(frame.payload, WITHOUT_RECEIPT[frame.reliability], frame.channel)

    def _is_first(self, index: int) -> bool:
        """
        Note a reliable index.

        @return: it had not come before.
        """
        number = unwrap24(index, self.reliable)
        if number == self.reliable:
            self.reliable = self._above.pop_through(number + 1)
            return True
        return number > self.reliable and self._above.add(number, number + 1) > 0

    @property
    def _cost(self) -> int:
        """Bytes of memory of what waits for something else."""
        return self.held + HELD_FRAME * (self._ordering + self._splits.fragments)

    def _check_held(self) -> None:
        if self._cost > self._settings.held:
            raise LimitExceeded("too many bytes wait for others")
