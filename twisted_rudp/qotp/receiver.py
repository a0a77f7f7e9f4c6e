"""
The receiving half of a connection: the segments of its streams, the window, and the
acknowledgements (qotp.md 5.4, 5.5 and 6, rules R6, R7 and R10, W6).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from twisted_rudp.core.engine import Event
from twisted_rudp.core.ranges import Ranges
from twisted_rudp.qotp.extensions import (
    CONTROL,
    MORE_RANGES,
    Extensions,
    Peer,
    RangesWriter,
    offer_ack,
    range_ack,
    window_ack,
)
from twisted_rudp.qotp.protection import PacketWriter
from twisted_rudp.qotp.settings import Budget
from twisted_rudp.qotp.streams import Reassembly, Stream, StreamTable
from twisted_rudp.qotp.wire import (
    HEAD,
    LONGEST_SEGMENT,
    NARROW,
    NARROW_BYTES,
    PLAIN,
    WIDE,
    WIDE_BYTES,
    Ack,
    Segment,
    encode,
)

SMALLEST: Final = 8 * 1400
"""A connection always has room for so many bytes."""

FIRST: Final = 256 << 10
LARGEST: Final = 16 << 20

GROWN_AT: Final = 8
"""The window doubles when this share of it was read. A sender that doubles its rate each round
trip has sent seven times as much when that arrives behind a hole that is filled late."""

STEP: Final = 2 * 1400
MOST_BEYOND: Final = 2 * LARGEST
"""
By so much more than there is room for a window is announced that a hole has shut, and by twice
as much more each time until something comes. The release never has more than L{LARGEST} in flight,
but repeats nothing without room for a datagram beside that.
"""

MAX_QUEUED: Final = 4096
"""Segments waiting to be acknowledged; the oldest go first, for they will be sent again (W6)."""

COPIES_AGAIN: Final = 3
COPIES: Final = 2
"""
How often a segment of the release is acknowledged that it has sent again, and any segment where it
sends many again. It looks at the oldest segment alone, waits twice as long after each sending, and
gives up the connection after the sixth, so a lost acknowledgement costs more than one too many.
"""

MANY_AGAIN: Final = 1 / 28
SMOOTHING: Final = 1 / 256
"""Where one in 50 is lost each way, 1 in 25 are sent again, and half as many with two copies."""

MAX_ECHOES: Final = 4
"""Challenges of our address that wait for their answer; there is one in a quarter of a second."""

_ECHO: Final = 14
"""Bytes of an acknowledgement with a wide offset."""

NO_PLACE: Final = NARROW
"""Offset of a stream header that says nothing. The release echoes it as it would our
end at that place (rule R8), so it must not be one where a stream is likely to end."""

class ReceiveWindow:
    """
    What one connection may keep: it starts small and doubles whenever the
    application has read a share of it and keeps up.

    @ivar held: bytes that are kept now.
    @ivar free: bytes that can still come; what is announced.
    @ivar told: what was announced last.
    """

    __slots__ = (
        "_beyond", "_budget", "_capacity", "_read", "_reserved", "_step", "free", "held", "told",
    )  # fmt: skip

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._reserved = budget.reserve(FIRST)
        self._capacity = max(self._reserved, SMALLEST)
        self._read = 0
        self._beyond = 0
        self._step = STEP
        self.held = 0
        self.free = self.told = self._capacity

    def confine(self) -> None:
        """Keep as little as possible: the peer's address may be forged."""
        self._budget.leave(self)
        self._budget.free += self._reserved
        self._reserved = 0
        self._capacity = self.told = SMALLEST
        self.keep(0)

    def open(self) -> None:
        """The peer's address is validated."""
        if not self._reserved:
            self._reserved = self._budget.reserve(FIRST)
            self._capacity = max(self._reserved, SMALLEST)
            self.keep(0)

    def keep(self, size: int) -> None:
        """So many more bytes are kept, less if negative."""
        self.held += size
        free = self._capacity - self.held
        self.free = (free if free > 0 else 0) + self._beyond

    def _grow(self, wanted: int) -> None:
        """Reserve so much more, or what there is."""
        more = self._budget.reserve(wanted, self._reserved)
        if more:
            self._reserved += more
            self._capacity += more
            self._budget.enter(self)

    @property
    def spare(self) -> int:
        """See L{Keeper<twisted_rudp.qotp.settings.Keeper>}."""
        used = self.held if self.held > FIRST else FIRST
        return self._reserved - used

    def give_back(self, size: int) -> None:
        """
        See L{Keeper<twisted_rudp.qotp.settings.Keeper>}. What the peer has sent into that part
        of the window meanwhile is dropped, and sent again.
        """
        self._budget.free += size
        self._reserved -= size
        self._capacity -= size
        if self._reserved <= FIRST:
            self._budget.leave(self)
        self.keep(0)

    @property
    def room(self) -> int:
        """
        What those bytes may cost: if the first of a window is lost, all others are
        pieces out of order.
        """
        return self._capacity + self._capacity // 4 - self.held

    @property
    def capacity(self) -> int:
        """Bytes that may be kept."""
        return self._capacity

    def expect_bursts(self) -> None:
        """
        The release has no congestion window and takes a peer to have room for L{LARGEST}: what
        it sends behind a hole would close a smaller window, and then it repeats nothing. So
        it is given that much, or a quarter of what all others leave.
        """
        wanted = min(LARGEST - self._capacity, self._budget.free // 4)
        if wanted > 0:
            self._grow(wanted)
            self.keep(0)

    def stuck(self) -> None:
        """
        A hole has closed the window, so that the release does not repeat what is missing.
        Announce more than there is room for. What comes of it beyond the room is dropped.
        """
        self._beyond = min(self._beyond + self._step, MOST_BEYOND)
        self._step *= 2
        self.keep(0)

    def moved(self, holes: bool) -> None:
        """
        Something has come.

        @param holes: something is missing still. Then what is announced stays, because the
            release has still in flight what it had, and more would come that is new, not that
            which is missing.
        """
        self._step = STEP
        if not holes:
            self._beyond = 0
        self.keep(0)

    def took(self, size: int) -> None:
        """The application has read something, which is kept no more."""
        self._read += size
        if self._read >= self._capacity // GROWN_AT:
            self._read = 0
            if self.held - size <= self._capacity // 2 and self._capacity < LARGEST:
                self._grow(self._capacity)
        self.keep(-size)

    def held_up(self, size: int) -> None:
        """
        So many bytes of a stream wait behind a hole. The application cannot read them however fast
        it is, and where a loss is repeated in vain they would close the window.
        """
        if size > self._capacity // 2 and FIRST <= self._capacity < LARGEST:
            self._grow(self._capacity)

    def reopened(self, free: int) -> bool:
        """
        There is so much more room than the peer knows of that it should be told
        (rule R7).

        @param free: what L{free} is now.
        """
        more = free - self.told
        return more > 0 and (more >= self._capacity // 2 or self.told < 4 * 1400)

    def release(self) -> None:
        """The connection is over."""
        self._budget.leave(self)
        self._budget.free += self._reserved
        self._reserved = self._capacity = 0
        self.keep(0)


class Receiver:
    """
    The receiving half of a connection: what comes for which stream, and what the
    application is told of it (qotp.md 5.4 and 5.5).

    @ivar window: what may be kept.
    @ivar events: for the application.
    @ivar waiting: something has come that is not in order, or for which there is no room;
        for the caller to clear.
    @ivar refused: streams to be reset: the peer opened them beyond the limit, or goes on
        writing where nobody reads.
    @ivar contradicted: a stream ended in two places, or went on behind its end (W17).
    """

    def __init__(
        self,
        streams: StreamTable,
        window: ReceiveWindow,
        events: list[tuple[Any, ...]],
        counters: Counter[str],
    ) -> None:
        self._streams = streams
        self.window = window
        self.events = events
        self.waiting = False
        self.refused: list[int] = []
        self.contradicted = False
        self._counters = counters
        self._readable: dict[Stream, None] = {}

    def segment(self, segment: Segment) -> bool:
        """
        Take in one segment.

        @return: whether it is to be acknowledged. Also what was received before, and
            what belongs to a stream that is over, is.
        """
        number = segment.stream
        stream = self._streams.open.get(number)
        if stream is None:
            if self._streams.finished(number):
                if segment.data and self._streams.unwanted(number):
                    self.refused.append(number)
                return True
            if not segment.data and not segment.close:
                return True
            stream = self._streams.heard(number)
            if stream is None:
                self._counters["streams_refused"] += 1
                self.refused.append(number)
                return False
            self.events.append((Event.STREAM_OPENED, number))
        incoming = stream.incoming
        held = incoming.held
        unread = incoming.unread
        if segment.data:
            room = self.window.room
            if segment.offset <= incoming.next and held > unread:
                # What fills a hole sets free what it held up, and must find room for that.
                room += LONGEST_SEGMENT
            if not incoming.insert(segment.offset, segment.data, room):
                self._counters["no_room"] += 1
                self.waiting = True
                return False
            if incoming.held != held and incoming.unread == unread:
                self.waiting = True
                self.window.held_up(incoming.held - unread)
            if stream.discarding:
                incoming.take(incoming.unread)
        if segment.close or incoming.end is not None:
            self._check_end(incoming, segment)
        self.window.keep(incoming.held - held)
        if incoming.unread > unread:
            self._readable[stream] = None
        elif incoming.end is not None:
            self.tell_end(stream)
        return True

    def _check_end(self, incoming: Reassembly, segment: Segment) -> None:
        stop = segment.offset + len(segment.data)
        if segment.close:
            agrees = incoming.finish(stop)
        else:
            agrees = incoming.end is None or stop <= incoming.end or not segment.data
        if not agrees:
            self.contradicted = True

    def tell_readable(self) -> None:
        """Once for everything that came in one call."""
        if self._readable:
            for stream in self._readable:
                self.events.append((Event.READABLE, stream.number))
            self._readable.clear()

    def take(self, stream: Stream, limit: int) -> bytes:
        """The next bytes for the application."""
        incoming = stream.incoming
        if not incoming.unread:
            return b""
        data = incoming.take(limit)
        self.window.took(len(data))
        if incoming.end is not None:
            self.tell_end(stream)
        return data

    def tell_end(self, stream: Stream) -> None:
        """After the last byte was taken."""
        incoming = stream.incoming
        if incoming.complete and not incoming.unread and not stream.end_told:
            stream.end_told = True
            if not stream.discarding:
                self.events.append((Event.STREAM_ENDED, stream.number))
            if stream.stopped:
                self.events.append((Event.STREAM_RESET, stream.number, 0))
            if stream.over:
                self._streams.drop(stream)

    def has_holes(self) -> bool:
        """Something is missing before what has come."""
        streams = self._streams.open.values()
        return any(each.incoming.held > each.incoming.unread for each in streams)

    def drop(self, stream: Stream) -> None:
        """Nobody wants the rest of this stream."""
        self.window.keep(-stream.incoming.held)
        stream.incoming.discard()
        stream.discarding = True
        self._readable.pop(stream, None)

    def discard(self, stream: Stream) -> None:
        """Nobody wants the rest of this stream, but its end is awaited."""
        stream.discarding = True
        size = stream.incoming.unread
        stream.incoming.take(size)
        self.window.keep(-size)
        self._readable.pop(stream, None)
        self.tell_end(stream)


class Heard(NamedTuple):
    """
    A segment of the release that is to be acknowledged.

    @ivar completing: with a stream header, so that the release sees that all of the
        stream has arrived (rule R6).
    """

    stream: int
    offset: int
    length: int
    completing: bool


class PendingAcks:
    """
    What is to be acknowledged on one connection.

    @ivar window: what we have room for now.
    @ivar wanted: there is something to be acknowledged.
    @ivar announce: tell the window even if there is nothing to acknowledge.
    """

    __slots__ = (
        "_again", "_echoes", "_extensions", "_heard", "_ranges", "_received", "announce", "wanted",
        "window",
    )  # fmt: skip

    def __init__(self, received: Ranges, extensions: Extensions) -> None:
        """
        @param received: packet numbers.
        @param extensions: what the other side understands.
        """
        self.window = 0
        self.announce = False
        self.wanted = False
        self._received = received
        self._ranges = RangesWriter()
        self._extensions = extensions
        self._heard: deque[Heard] = deque(maxlen=MAX_QUEUED)
        self._again = 0.0
        self._echoes: deque[int] = deque(maxlen=MAX_ECHOES)

    def heard(
        self, stream: int, offset: int, length: int, complete: bool, again: bool = False
    ) -> None:
        """
        A segment of the release has come.

        @param complete: all of its stream has, so this may be the acknowledgement
            that the release still lacks.
        @param again: what comes behind it had come before.
        """
        one = Heard(stream, offset, length, complete and stream != 0)
        self._again += (again - self._again) * SMOOTHING
        copies = COPIES_AGAIN if again else COPIES if self._again > MANY_AGAIN else 1
        for _ in range(copies):
            self._heard.append(one)
        self.wanted = True

    def echo(self, offset: int) -> None:
        """An extended peer challenges our address with this offset (W10)."""
        self._echoes.append(offset)
        self.wanted = True

    def take_block(self) -> Ack | None:
        """
        The next acknowledgement, to ride along with a segment. None if the next one
        needs a datagram of its own.
        """
        if self._extensions.offering:
            return offer_ack(self.window)
        if self._echoes:
            return None
        if self._extensions.peer is not Peer.EXTENDED:
            return None if self._heard and self._heard[0].completing else self._exact()
        if len(self._received) != 1:
            return None
        self.wanted = self.announce = False
        for first, end in self._received.newest(1):
            return range_ack(first, end, self.window)
        return None

    def _exact(self) -> Ack | None:
        if not self._heard:
            if not self.announce:
                return None
            self.announce = False
            return window_ack(self.window)
        self.announce = False
        one = self._heard.popleft()
        self.wanted = bool(self._heard)
        return Ack(one.stream, one.offset, one.length, self.window)

    def flush(self, writer: PacketWriter) -> None:
        """Send all of them in datagrams of their own."""
        if self._extensions.peer is Peer.EXTENDED:
            self._flush_ranges(writer)
        else:
            self._flush_segments(writer)

    def _flush_ranges(self, writer: PacketWriter) -> None:
        ranges = self._received.newest(MORE_RANGES + 1)
        if not ranges:
            self.announce = False
            return
        while self._echoes and writer.room(_ECHO):
            writer.send([encode(Ack(CONTROL, self._echoes.popleft(), 0, self.window), None)])
        block = range_ack(*ranges[0], self.window)
        segment = None
        if len(ranges) > 1:
            segment = Segment(CONTROL, 0, self._ranges.write(ranges[0][0], ranges[1:]))
        payload = encode(block, segment)
        if writer.room(len(payload)):
            writer.send([payload])
            self.wanted = bool(self._echoes)
            self.announce = False

    def _flush_segments(self, writer: PacketWriter) -> None:
        payloads: list[bytes] = []
        room = writer.room(24)
        while (self._heard or self.announce) and len(payloads) < room:
            header = None
            if self._heard and self._heard[0].completing:
                header = Segment(self._heard[0].stream, NO_PLACE, b"")
            payloads.append(encode(self._exact(), header))
        if payloads:
            writer.send(payloads)


def coalesce(
    opened: Sequence[tuple[int, bytes] | None], at: int
) -> tuple[int, Segment] | None:
    """
    Datagrams in a row that carry nothing but the next bytes of one stream are one piece of it:
    the short way of a bulk transfer, and of most small messages.

    @param opened: packet numbers and payloads.
    @param at: where in them to begin.
    @return: of how many datagrams, and their bytes as one segment; None if the first
        are not such.
    """
    one = opened[at]
    if one is None:
        return None
    number, plain = one
    kind = plain[0]
    if kind == PLAIN:
        width = NARROW_BYTES
    elif kind == PLAIN | WIDE:
        width = WIDE_BYTES
    else:
        return None
    size = HEAD.size + width
    if len(plain) <= size:
        return None
    head = plain[: HEAD.size]
    place = start = int.from_bytes(plain[HEAD.size : size], "little")
    end = 1 << 8 * width
    pieces: list[bytes] = []
    for each in opened[at:] if at else opened:
        if each is None or each[0] != number or place >= end:
            break
        plain = each[1]
        length = len(plain) - size
        if length <= 0 or not plain.startswith(head + place.to_bytes(width, "little")):
            break
        pieces.append(plain[size:])
        place += length
        number += 1
    stream = HEAD.unpack(head)[1]
    if stream == CONTROL:
        return None
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return len(pieces), Segment(stream, start, data)
