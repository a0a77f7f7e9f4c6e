"""
The sending half: what is queued, numbers, windows, our end of stream.

Segment numbers and times are unbounded integers here.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol, TypeAlias

from twisted_rudp.core.pacer import NEAR
from twisted_rudp.core.queues import NOTHING, joined
from twisted_rudp.core.recovery import COPIED_BEFORE
from twisted_rudp.core.serial import HALF32, MASK32
from twisted_rudp.kcp.kcpgo import SkipRecovery
from twisted_rudp.kcp.packing import Packer, Stamp, Transmitter, segments_per_run
from twisted_rudp.kcp.recovery import PacedRecovery
from twisted_rudp.kcp.sent import Data, SentBatch, SentSegments
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import END, HEADER_SIZE, MAXIMUM_FRAGMENTS, PUSH, Counters, pack_header
from twisted_rudp.kernels import build_run
from twisted_rudp.kernels.pure import MAXIMUM_PARTS, Buffer

INITIAL_PEER_WINDOW: Final = 32
"""Guess of the peer's window before it was heard (kcp.md 1.2)."""

Piece: TypeAlias = tuple[Data, int, int]
"""
Data that becomes consecutive segments: the bytes, the payload length of each
segment but the last, and the fragment field of the first.
"""


class StreamQueue:
    """
    What the application gave and has no numbers yet (C{snd_queue} of kcp-go), as bytes without
    borders: segments are full as long as there are bytes. What was written is referred to, not
    copied. L{ByteQueue<twisted_rudp.core.queues.ByteQueue>} keeps pieces in the same way, but
    cuts at any byte, not into whole segments. There is no common base, because each write would
    then enter one more module.

    @ivar size: bytes queued.
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
            self._pieces.append(piece)
            self.size += len(piece)

    def segments(self, mss: int) -> int:
        """How many segments they will make."""
        return -(-self.size // mss)

    def cut(self, count: int, mss: int) -> Piece:
        """Remove the next segments, at most C{count}. Not to be asked when L{size} is 0."""
        start = self._offset
        end = start + count * mss
        first = self._pieces[0]
        if len(first) > end:
            # Most of bulk comes here: the next part of a large piece.
            self._offset = end
            self.size -= end - start
            return memoryview(first)[start:end], mss, 0
        if len(self._pieces) == 1:
            self._pieces = NOTHING
            self._offset = self.size = 0
            return memoryview(first)[start:] if start else first, mss, 0
        parts: list[Buffer] = []
        while count > 0 and self.size and len(parts) < MAXIMUM_PARTS:
            part = self._next(count, mss)
            count -= -(-len(part) // mss)
            parts.append(part)
        return (parts[0] if len(parts) == 1 else tuple(parts)), mss, 0

    def cut_short(self, size: int, mss: int) -> Piece:
        """Remove one segment of at most C{size} bytes, less than C{mss}."""
        data, _, _ = self.cut(1, min(size, mss))
        return data, len(data), 0

    def _next(self, count: int, mss: int) -> Buffer:
        """
        Remove whole segments: those of the first piece, or what is left of it joined with
        pieces after it. To join costs a copy that lives as long as the data does, so of a large
        piece no more is taken than makes one segment.
        """
        pieces, start = self._pieces, self._offset
        first = pieces[0]
        units = (len(first) - start) // mss
        data: Buffer
        if units > 0:
            end = start + (units if units < count else count) * mss
            data = memoryview(first)[start:end]
            self._offset = end
            if end == len(first):
                pieces.popleft()
                self._offset = 0
        else:
            large = len(pieces) > 1 and len(pieces[1]) >= count * mss
            size = mss if large else count * mss
            data, self._offset = joined(pieces, start, size if size < self.size else self.size)
        self.size -= len(data)
        if not pieces:
            self._pieces = NOTHING
        return data


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
        # The mtu may have grown since the message was divided.
        if size >= self.mss or (self.left == 1 and rest <= size):
            return self.take(1)
        if self.offset:
            return None
        left = -(-(rest - size) // self.mss)
        if left + 1 > MAXIMUM_FRAGMENTS:
            return None
        self.offset = size
        self.left = left
        return memoryview(self.data)[:size], size, left


class MessageQueue:
    """
    The same for messages, each of which is divided into fragments that count down to 0.

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
        """How many segments they will make."""
        return self._segments

    def cut(self, count: int, mss: int) -> Piece:
        """Remove the next segments of one message, at most C{count}. Not to be asked when empty."""
        message = self._messages[0]
        left = message.left
        return self._account(message, left, message.take(count))

    def cut_short(self, size: int, mss: int) -> Piece | None:
        """
        Remove one segment of at most C{size} bytes, less than C{mss}; None if that is not
        possible.
        """
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


class Recovery(Protocol):
    """
    Decides what is sent again and how much may be in flight.

    @ivar mss: payload bytes of a full new segment.
    """

    mss: int

    def set_mss(self, mss: int) -> None:
        """New segments carry so many bytes."""

    def open(self) -> None:
        """Open the window before the first flush does."""

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on."""

    def take_over(self, stamp: Stamp) -> None:
        """Go on with what another recovery has sent."""

    def new_path(self) -> None:
        """The peer is at another host: what was learnt of the way there counts no more."""

    def give_up(self) -> None:
        """What is in flight was too long for the path: send it again as soon as possible."""

    def release(self) -> None:
        """All data was dropped."""

    @property
    def window(self) -> int:
        """How many segments may be in flight."""

    @property
    def room(self) -> int:
        """How many more the congestion window admits; may be negative."""

    @property
    def timeout(self) -> int:
        """Of a retransmission, in nanoseconds."""

    @property
    def smoothed(self) -> int:
        """The smoothed round trip in nanoseconds; 0 before it was measured."""

    def facts(self) -> dict[str, float | int]:
        """For people. Times are seconds."""

    def quiet(self, stamp: Stamp, waiting: bool) -> bool:
        """
        Begin a flush that may be small. There is nothing to be sent again and nothing to be
        waited for.

        @param waiting: there is something that has no number yet.
        """

    def acknowledge(
        self, acks: list[tuple[int, int, int]], clock: int, repeated: bool
    ) -> None:
        """
        Take in acknowledgements of single segments.

        @param acks: number and echoed timestamp on the wire, and how many there are with the
            next numbers and the same timestamp.
        @param repeated: the peer repeats its acknowledgements, so only the first of each
            segment counts.
        """

    def heard(self, echo: int, clock: int, covered: int, peer_window: int) -> None:
        """
        A datagram was read.

        @param echo: the timestamp that it has echoed last; -1: it has echoed none.
        @param covered: by how much it has moved C{una} on.
        """

    def copy_later(self, first: int, end: int, stamp: Stamp) -> None:
        """Segments that have just been sent are to be sent again soon, twice."""

    def launched(self, batch: SentBatch, stamp: Stamp, last: bool = False) -> None:
        """
        A batch leaves for the first time.

        @param last: nothing more waits.
        """

    def begin(self, stamp: Stamp) -> None:
        """A flush begins."""

    def retransmit(
        self, stamp: Stamp, packer: Packer, budget: int, window: int, strict: bool, idle: bool
    ) -> bool:
        """Send again what has to be; answers whether only the budget ended that."""

    def admit(self, room: int, stamp: Stamp) -> int:
        """How many of C{room} new segments may leave now."""

    def finish(self, stamp: Stamp, waiting: bool, room: int) -> None:
        """A flush is over."""

    def deadline(self) -> int:
        """When a flush is wanted though nothing comes."""


class Sender:
    """
    Numbers what is queued as the windows allow, and keeps it until it is acknowledged.
    What is sent again, and how much may be in flight, is the recovery's decision.

    @ivar queue: what has no number yet.
    @ivar sent: what has one and is not acknowledged.
    @ivar recovery: finds what is lost.
    @ivar transmitter: encodes.
    @ivar peer_window: the window the peer advertised last; C{widest} is the widest so far.
    @ivar snd_wnd: most numbers in use at a time.
    @ivar mss: payload bytes of a full new segment.
    @ivar ending: our end of stream is to follow the data.
    @ivar lags: the peer has acknowledged less than before; who reads it takes it back.
    """

    __slots__ = (
        "_copied",
        "_counters",
        "_epoch",
        "_paced",
        "_repair",
        "_run_limit",
        "_stream",
        "ending",
        "lags",
        "mss",
        "overhead",
        "peer_window",
        "queue",
        "recovery",
        "sent",
        "snd_wnd",
        "transmitter",
        "widest",
    )

    def __init__(
        self, first: int, settings: Settings, counters: Counters, overhead: int, epoch: int
    ) -> None:
        """
        @param first: the first number.
        @param epoch: what the wire's clock shows at time 0, in milliseconds.
        @param overhead: bytes by which each datagram grows on its further way.
        """
        self.queue: StreamQueue | MessageQueue = (
            StreamQueue() if settings.stream else MessageQueue()
        )
        self.sent = SentSegments(first)
        self.overhead = overhead
        self.transmitter = Transmitter(counters, overhead, settings.dead_link)
        self._counters = counters
        self._epoch = epoch
        self._repair = 0
        self.recovery = self._make_recovery(settings)
        self.peer_window = INITIAL_PEER_WINDOW
        self.widest = 0
        self.snd_wnd = settings.send_window
        self.ending = False
        self.lags = False
        self._copied: list[tuple[int, int]] = []
        self._stream = settings.stream
        self.set_mss(settings.mss)

    def expect_repair(self, group: int, delay: int = 0, runs: int = 0) -> None:
        """
        FEC repairs losses when up to C{group} later datagrams have arrived.

        @param delay: nanoseconds for which a repetition waits for that.
        @param runs: nanoseconds that runs of losses last; 0: losses do not come in runs.
        """
        self._repair = group
        if isinstance(self.recovery, PacedRecovery):
            self.recovery.expect_repair(group, delay, runs)

    def set_mss(self, mss: int) -> None:
        """Change the size of what will be numbered from now on."""
        self.mss = mss
        self.recovery.set_mss(mss)
        self._run_limit = segments_per_run(mss, self.overhead)

    def _make_recovery(self, settings: Settings) -> Recovery:
        self._paced = settings.paced
        sent, transmitter, counters = self.sent, self.transmitter, self._counters
        if settings.paced:
            paced = PacedRecovery(settings, sent, transmitter, counters, self.overhead)
            paced.expect_repair(self._repair)
            return paced
        return SkipRecovery(settings, sent, transmitter, counters, self._epoch)

    def adopt(self, settings: Settings, stamp: Stamp) -> None:
        """Go by other settings from now on, with what is in flight."""
        if settings.paced == self._paced:
            self.recovery.adopt(settings)
        else:
            self.recovery = self._make_recovery(settings)
            self.recovery.set_mss(self.mss)
            self.recovery.take_over(stamp)
        self.snd_wnd = settings.send_window
        self.transmitter.dead_link = settings.dead_link

    def release(self) -> None:
        """Drop all data, keep the numbers."""
        self.queue = StreamQueue() if self._stream else MessageQueue()
        self._copied.clear()
        self.sent.release()
        self.transmitter.release()
        self.recovery.release()

    # what the peer says

    def update_window(self, window: int) -> None:
        """The peer advertises another window than before."""
        self.peer_window = window
        if window > self.widest:
            self.widest = window

    @property
    def peer_holds_data(self) -> bool:
        """The peer's application has not read all that has arrived."""
        return self.peer_window < self.widest

    def cover(self, una: int) -> bool:
        """
        Take in a cumulative acknowledgement from the wire. One of what was never
        sent is ignored and counted (kcp-close.md 7.3).

        @return: it was news.
        """
        sent = self.sent
        step = ((una - sent.una + HALF32) & MASK32) - HALF32
        if step <= 0:
            self.lags = self.lags or step < 0
            return False
        if step > sent.nxt - sent.una:
            self._counters.una_beyond += 1
            return False
        sent.cover(sent.una + step)
        return True

    # what there is

    @property
    def window(self) -> int:
        """How many segments may be in flight."""
        return min(self.snd_wnd, self.peer_window, self.recovery.window)

    @property
    def room(self) -> int:
        """How many segments may get a number now; may be negative."""
        room = self.recovery.room
        sent = self.sent
        least = self.snd_wnd if self.snd_wnd < self.peer_window else self.peer_window
        numbers = least - (sent.nxt - sent.una)
        return numbers if numbers < room else room

    @property
    def _numbers(self) -> int:
        """How many numbers the peer's window and our own have left; may be negative."""
        least = self.snd_wnd if self.snd_wnd < self.peer_window else self.peer_window
        return least - (self.sent.nxt - self.sent.una)

    @property
    def wait_snd(self) -> int:
        """Segments queued and in flight, as kcp-go counts them (kcp.md 1.4)."""
        return self.sent.nxt - self.sent.una + self.queue.segments(self.mss)

    @property
    def drained(self) -> bool:
        """
        Nothing is queued and all that was sent is acknowledged, our end of
        stream included if it was sent.
        """
        return not self.queue.size and not self.sent.outstanding

    @property
    def end_sent(self) -> bool:
        """Our end of stream has been numbered."""
        return self.transmitter.end is not None

    @property
    def end_acknowledged(self) -> bool:
        """Our end of stream and everything before it is acknowledged."""
        return self.transmitter.end is not None and not self.sent.outstanding

    @property
    def only_end_outstanding(self) -> bool:
        """Everything but our end of stream has arrived."""
        return self.transmitter.end is not None and self.sent.outstanding == 1

    def may_end(self, peer_marked: bool) -> bool:
        """Our end of stream is the next thing to get a number."""
        return (
            self.ending
            and peer_marked
            and self.transmitter.end is None
            and not self.queue.size
        )

    # what leaves

    def flush(
        self, stamp: Stamp, packer: Packer, budget: int, strict: bool, peer_marked: bool
    ) -> bool:
        """
        Steps 4 to 6 of kcp.md 1.11.

        @param budget: bytes, overhead of each datagram included.
        @param strict: never more than that; else what crosses it still goes out.
        @return: something is left that only C{budget} or the packer stopped.
        """
        recovery = self.recovery
        recovery.begin(stamp)
        room = self.room
        new = room > 0 and (self.queue.size > 0 or self.may_end(peer_marked))
        more = recovery.retransmit(stamp, packer, budget, self.window, strict, not new)
        if new and not more:
            if strict:
                more = self._send_within(stamp, packer, budget, peer_marked)
            else:
                room = recovery.admit(room, stamp)
                more = self._send_new(stamp, packer, budget, room, peer_marked)
        waiting = self.queue.size > 0 or self.may_end(peer_marked)
        recovery.finish(stamp, waiting, self._numbers)
        return more

    def send_one(self, stamp: Stamp) -> bytes:
        """
        Number the last segment that waits.

        @return: the segment.
        """
        piece = self.queue.cut(1, self.mss)
        first = self._launch(piece, stamp, last=True).first
        if self.transmitter.validated:
            self._counters.out_segs += 1
        else:
            self.transmitter.note(first, 1, stamp[2])
        conv, wnd, ts, una, _, _ = stamp
        data, _, frg = piece
        assert not isinstance(data, tuple)
        return pack_header(conv, PUSH, frg, wnd, ts, first & MASK32, una, len(data)) + data

    def _send_new(
        self, stamp: Stamp, packer: Packer, budget: int, room: int, peer_marked: bool
    ) -> bool:
        """
        Number and send what the window and the budget admit.

        @param room: how many segments the window admits.
        """
        queue = self.queue
        while room > 0 and queue.size:
            most = packer.admits(budget)
            if not most:
                return True
            run, count, mss = self._next_run(most if most < room else room, stamp)
            room -= count
            packer.pass_run(run, mss + HEADER_SIZE)
        if room > 0 and self.may_end(peer_marked):
            self._send_end(stamp, packer)
        return False

    def _next_run(self, most: int, stamp: Stamp) -> tuple[bytes, int, int]:
        """
        Number and encode what makes one run: of messages one at most.

        @param most: how many segments it may have.
        @return: the run, how many it has, and their payload length.
        """
        batch = self._number(most, stamp)
        first, mss = batch.first, batch.mss
        count = batch.end - first
        conv, wnd, ts, una, _, _ = stamp
        self.transmitter.note(first, count, ts)
        run = build_run(conv, wnd, ts, first & MASK32, una, batch.frg, mss, batch.data)
        return run, count, mss

    def _number(self, most: int, stamp: Stamp) -> SentBatch:
        """Give the next numbers, at most C{most}, to what is queued. It counts as sent."""
        return self._launch(self.queue.cut(most, self.mss), stamp)

    def _launch(self, piece: Piece, stamp: Stamp, last: bool = False) -> SentBatch:
        data, mss, frg = piece
        batch = SentBatch(self.sent.nxt, data, mss, frg)
        self.sent.add(batch)
        self.recovery.launched(batch, stamp, last)
        if self._copied:
            self._plan_copies(batch, stamp)
        if self.transmitter.dead_link == 1:
            self.transmitter.dead = True
        return batch

    def copy_next(self, size: int) -> None:
        """So many bytes of what is queued next are sent again soon after they left, twice."""
        self._copied.append((self.queue.size, self.queue.size + size))

    def _plan_copies(self, batch: SentBatch, stamp: Stamp) -> None:
        """A batch has left, in which there may be something that is to be copied."""
        length, left = batch.length, []
        for start, end in self._copied:
            if start < length and self.recovery.smoothed >= NEAR:
                first = batch.first + max(start, 0) // batch.mss
                past = min(batch.first + -(-min(end, length) // batch.mss), batch.end)
                if past - self.sent.una <= COPIED_BEFORE:
                    first = self.sent.una
                self.recovery.copy_later(first, past, stamp)
            if end > length:
                left.append((start - length, end - length))
        self._copied = left

    def _send_end(self, stamp: Stamp, packer: Packer) -> None:
        self.transmitter.end = self.sent.nxt
        self._send_piece((b"", self.mss, END), stamp, packer)

    def _send_piece(self, piece: Piece, stamp: Stamp, packer: Packer) -> None:
        batch = self._launch(piece, stamp)
        self.transmitter.transmit(batch, batch.first, batch.end, stamp, packer)

    def _send_within(
        self, stamp: Stamp, packer: Packer, budget: int, peer_marked: bool
    ) -> bool:
        """
        Number and send no more than a third of what is left of a strict budget,
        so that all of it can be repeated twice, and that only while nothing
        else is to be repeated.
        """
        share = (budget - packer.cost) // 3
        header = HEADER_SIZE + self.overhead
        if packer.blocked or self.sent.outstanding or share < header:
            return True
        queue = self.queue
        if not queue.size:
            self._send_end(stamp, packer)
            return False
        count = share // (self.mss + header)
        if count:
            most = min(count, self.room, self._run_limit)
            self._send_piece(queue.cut(most, self.mss), stamp, packer)
        elif share > header:
            piece = queue.cut_short(share - header, self.mss)
            if piece is not None:
                self._send_piece(piece, stamp, packer)
        return self.room > 0 and (queue.size > 0 or self.may_end(peer_marked))
