"""
What was sent and is not acknowledged yet: its frames, what is retransmitted, receipts, and
the numbers that a peer may be missing (raknet.md 9 and 13).

Which datagrams are in flight, acknowledged or lost is known by L{Recovery
<twisted_rudp.core.recovery.Recovery>}; here it is known what was in them. A reliable frame
gets a record of its own, a L{SentFrame}, when it shares a datagram with others or when
loss makes it be sent again; the datagrams of a run of bulk data are known by their place
in their L{SentBatch}.

Numbers are unbounded integers here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Protocol, TypeAlias

from twisted_rudp.core.congestion import Controller
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.ranges import Ranges
from twisted_rudp.core.recovery import Copies, Recovery
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.core.serial import unwrap24
from twisted_rudp.core.timers import NEVER
from twisted_rudp.raknet.queue import OutgoingMessage
from twisted_rudp.raknet.settings import Settings
from twisted_rudp.raknet.wire import HEADER_SIZE

FIRST_TIMEOUT: Final = 400 * MILLISECOND
MIN_TIMEOUT: Final = 100 * MILLISECOND
MAX_TIMEOUT: Final = 3 * SECOND
DEVIATION_FLOOR: Final = 30 * MILLISECOND
ACK_ALLOWANCE: Final = 20 * MILLISECOND
"""Retransmission timeouts of raknet.md 9. The first is the one for the handshake,
with which every session begins."""

GUESSED_ROUND_TRIP: Final = 50 * MILLISECOND
"""The round trip of the go-raknet profile before there is a sample (raknet.md 9)."""

SPARE: Final = 8
"""The share of a window of numbers that new data leaves to retransmissions, pings and
fillings: enough for what a tenth of loss makes to be repeated, and for that again.
Retransmissions leave half of it."""

FILL_BEHIND: Final = 4
"""A gap is filled when a window's share of numbers lies beyond it."""

FILLINGS: Final = 6
"""How often a gap is filled before the peer is taken to have it no more. go-raknet
is silent about a number that it has once named: its NACK was lost."""

REMEMBERED: Final = 10 * SECOND
"""How long a late acknowledgement of what was given up still counts."""

PERSIST: Final = 5
"""After so many probes, since a frame was acknowledged, that brought no acknowledgement of
another, the peer is taken to have no room, or the path to deliver nothing: only probes leave
then, less and less often, until a frame arrives (RFC 9293 3.8.6.1)."""

EXTENDED_WINDOW: Final = 8000
"""Reliable indices in flight towards our own kind, whose receiver takes 8192: behind the
gaps of a path of 100 Mbit/s, 200 ms and a loss of one in twenty, four bandwidth-delay
products of them wait."""

EXTENDED_NUMBERS: Final = 1 << 15
"""The same for datagram numbers; a receiver of our kind believes jumps of 50 000."""

MOST_SENT: Final = 8192
"""Records of datagrams that are not in flight any more."""

MOST_REPORTED: Final = 256
"""Intervals of numbers in NACKs that are remembered; below them none is believed any more."""

_first_of: Final = attrgetter("first")

OUTSTANDING: Final = 0
ACKNOWLEDGED: Final = 1
LOST: Final = 2
MISSING: Final = 3
"""What became of a datagram. The peer has named what is lost, or was given the time to;
what is missing has timed out and may be a gap at the peer yet, though its frames arrive
in another datagram."""


@dataclass(slots=True)
class SendCounters:
    """
    What the sending half of a session counts.

    @ivar datagrams_out: with frames; retransmissions included.
    @ivar bytes_out: of their UDP payload.
    @ivar retransmitted: reliable frames sent again.
    @ivar lost: datagrams that count as lost.
    @ivar lost_reported: those of them that the peer asked for again.
    @ivar lost_spurious: those that have arrived after all.
    @ivar gaps_filled: datagrams sent again under their old numbers, which the peer may
        be missing.
    @ivar messages_stale: unreliable messages too old to be sent.
    """

    datagrams_out: int = 0
    bytes_out: int = 0
    retransmitted: int = 0
    lost: int = 0
    lost_reported: int = 0
    lost_spurious: int = 0
    gaps_filled: int = 0
    messages_stale: int = 0


class SentFrame:
    """
    One reliable frame.

    @ivar data: the whole frame as it goes into a datagram.
    @ivar reliable: its reliable index.
    @ivar message: whose part it is; None for a piece of the stream.
    @ivar alone: it is the protocol's own, and shares no datagram with the application's:
        a peer that has no room for those does not acknowledge the datagram.
    @ivar waiting: it waits to be sent again.
    @ivar done: some datagram with it was acknowledged.
    """

    __slots__ = ("alone", "data", "done", "message", "reliable", "waiting")

    def __init__(
        self, data: bytes, reliable: int, message: OutgoingMessage | None, alone: bool = False
    ) -> None:
        self.data = data
        self.reliable = reliable
        self.message = message
        self.alone = alone
        self.waiting = False
        self.done = False


def _order(frame: SentFrame) -> tuple[bool, int]:
    """Lost frames are sent again in this order."""
    return not frame.alone, frame.reliable


class Sent(Protocol):
    """
    What was in datagrams with consecutive numbers.

    @ivar first: the first number; C{end} the one after the last.
    @ivar size: bytes of each, but perhaps the last.
    @ivar sent: when they were.
    @ivar due: when its gaps are to be filled.
    @ivar live: some datagram is neither acknowledged nor lost.
    @ivar finished: every frame in it is acknowledged, here or elsewhere.
    @ivar missing: some datagram is.
    @ivar fillings: how often its gaps were filled to no avail.
    @ivar filled: the next number when they were last.
    """

    first: int
    end: int
    size: int
    sent: int
    due: int
    fillings: int
    filled: int
    open: int

    @property
    def live(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    @property
    def missing(self) -> bool: ...

    def acknowledge(self, first: int, end: int, table: SentPackets) -> int:
        """
        Datagrams C{first} .. C{end} - 1, which are all here, have arrived.

        @return: how many of them had been given up.
        """

    def lose(self, first: int, end: int, table: SentPackets, state: int) -> int:
        """
        They have not.

        @param state: L{LOST} or L{MISSING}.
        @return: how many of them had been outstanding.
        """

    def probe(self, last: bool, table: SentPackets) -> bool:
        """
        Send the frames of one outstanding datagram again, though it may arrive.

        @param last: of the last, else of the first.
        @return: it has frames.
        """

    def copy(self, first: int, end: int, table: SentPackets) -> None:
        """Send the frames of those of them that are outstanding again, though they may arrive."""

    def gaps(self) -> list[tuple[int, bytes]]:
        """
        What fills the gaps that the peer may have: the number of each missing
        datagram, with those frames of it that have not arrived otherwise, so that its
        acknowledgement tells the truth.
        """

    def forget(self) -> None:
        """The peer has no gap here."""


class SentPacket:
    """One datagram with any frames."""

    __slots__ = (
        "_frames",
        "_state",
        "_unreliable",
        "due",
        "end",
        "filled",
        "fillings",
        "first",
        "open",
        "sent",
        "size",
    )

    def __init__(
        self,
        number: int,
        frames: Sequence[SentFrame],
        unreliable: Sequence[OutgoingMessage],
        sent: int,
        size: int = 0,
    ) -> None:
        """
        @param unreliable: messages in it that want a receipt.
        """
        self.size = size
        self.first = number
        self.end = number + 1
        self.sent = sent
        self.due = sent
        self.fillings = self.filled = 0
        self._frames = frames
        self._unreliable = unreliable
        self._state = OUTSTANDING
        self.open = 1

    @property
    def live(self) -> bool:
        return self._state == OUTSTANDING

    @property
    def finished(self) -> bool:
        return self._state != OUTSTANDING and all(frame.done for frame in self._frames)

    @property
    def missing(self) -> bool:
        return self._state == MISSING

    def acknowledge(self, first: int, end: int, table: SentPackets) -> int:
        state = self._state
        if state == ACKNOWLEDGED:
            return 0
        self._state = ACKNOWLEDGED
        self.open = 0
        for message in self._unreliable:
            table.tell(message, True)
        self._unreliable = ()
        for frame in self._frames:
            if not frame.done:
                table.frame_acknowledged(frame)
        return int(state != OUTSTANDING)

    def lose(self, first: int, end: int, table: SentPackets, state: int) -> int:
        if self._state != OUTSTANDING:
            if self._state == MISSING and state == LOST:
                self._state = LOST
            return 0
        self._state = state
        for message in self._unreliable:
            table.tell(message, False)
        self._unreliable = ()
        for frame in self._frames:
            table.frame_lost(frame)
        return 1

    def probe(self, last: bool, table: SentPackets) -> bool:
        for frame in self._frames:
            table.frame_lost(frame)
        return len(self._frames) > 0

    def copy(self, first: int, end: int, table: SentPackets) -> None:
        if self._state == OUTSTANDING:
            self.probe(False, table)

    def gaps(self) -> list[tuple[int, bytes]]:
        return [(self.first, _unfinished(self._frames))]

    def forget(self) -> None:
        self._state = LOST


def _unfinished(frames: Iterable[SentFrame]) -> bytes:
    return b"".join(frame.data for frame in frames if not frame.done)


Build: TypeAlias = Callable[[int], bytes]
"""C{(index)} -> the datagram at this place of a run."""


def _nothing(index: int) -> bytes:
    return b""


class SentBatch:
    """
    Datagrams of bulk data (L{Bulk<twisted_rudp.raknet.sender.Bulk>}), equally long but for the
    last, with equally many frames of one length in each but the last.
    """

    __slots__ = (
        "_build",
        "_count",
        "_frames",
        "_live",
        "_per",
        "_reliable",
        "_states",
        "due",
        "end",
        "filled",
        "fillings",
        "first",
        "open",
        "sent",
        "size",
    )

    def __init__(
        self,
        number: int,
        frames: tuple[int, int, int],
        length: int,
        size: int,
        build: Build,
        sent: int,
    ) -> None:
        """
        @param frames: reliable index of the first, how many there are, and how many
            to a datagram.
        @param length: bytes of all datagrams, C{size} in each but the last.
        @param build: makes datagrams of it once more. The data it is made of has other
            owners too; a built run would fill the memory a second time.
        """
        count = -(-length // size)
        self.first = number
        self.end = number + count
        self.sent = self.due = sent
        self.fillings = self.filled = 0
        self._reliable, self._count, self._per = frames
        self.size = size
        self._build = build
        self._states: bytearray | None = None
        self._frames: dict[int, list[SentFrame]] = {}
        self._live = self.open = count

    @property
    def live(self) -> bool:
        return self._live > 0

    @property
    def finished(self) -> bool:
        return not self.open or (
            not self._live
            and all(frame.done for frames in self._frames.values() for frame in frames)
        )

    @property
    def missing(self) -> bool:
        return self._states is not None and MISSING in self._states

    def acknowledge(self, first: int, end: int, table: SentPackets) -> int:
        states = self._states
        if states is None:
            if first == self.first and end == self.end:
                # The usual case: nothing was lost of a whole run.
                self._live = self.open = 0
                self._states = bytearray(b"\1" * (end - first))
                table.settle(self._reliable, self._count)
                self._build = _nothing
                return 0
            states = self._states = bytearray(self.end - self.first)
        late = 0
        low, high = first - self.first, end - self.first
        if states.count(ACKNOWLEDGED, low, high) == high - low:
            # A peer of ours names each datagram several times.
            return 0
        for start, stop in list(_stretches(states, low, high, OUTSTANDING)):
            states[start:stop] = b"\1" * (stop - start)
            self._live -= stop - start
            self.open -= stop - start
            if self._frames:
                self._settle_probed(start, stop, table)
            else:
                at = start * self._per
                table.settle(self._reliable + at, min(stop * self._per, self._count) - at)
        if len(self._frames):
            for index in range(low, high):
                if states[index] >= LOST:
                    states[index] = ACKNOWLEDGED
                    self.open -= 1
                    late += 1
                    for frame in self._frames[index]:
                        if not frame.done:
                            table.frame_acknowledged(frame)
        return late

    def _settle_probed(self, start: int, stop: int, table: SentPackets) -> None:
        """Some of these datagrams may have frames of their own: they were sent twice."""
        for index in range(start, stop):
            frames = self._frames.get(index)
            if frames is None:
                at = index * self._per
                table.settle(self._reliable + at, min(at + self._per, self._count) - at)
                continue
            for frame in frames:
                if not frame.done:
                    table.frame_acknowledged(frame)

    def lose(self, first: int, end: int, table: SentPackets, state: int) -> int:
        states = self._states
        if states is None:
            states = self._states = bytearray(self.end - self.first)
        low, high = first - self.first, end - self.first
        if state == LOST:
            states[low:high] = states[low:high].replace(b"\3", b"\2")
        found = 0
        for start, stop in list(_stretches(states, low, high, OUTSTANDING)):
            states[start:stop] = bytes((state,)) * (stop - start)
            found += stop - start
            for index in range(start, stop):
                for frame in self._own_frames(index):
                    table.frame_lost(frame)
        self._live -= found
        return found

    def probe(self, last: bool, table: SentPackets) -> bool:
        states = self._states
        if states is None:
            index = self.end - self.first - 1 if last else 0
        else:
            index = states.rfind(OUTSTANDING) if last else states.find(OUTSTANDING)
        for frame in self._own_frames(index):
            table.frame_lost(frame)
        return True

    def copy(self, first: int, end: int, table: SentPackets) -> None:
        states = self._states
        for index in range(first - self.first, end - self.first):
            if states is None or states[index] == OUTSTANDING:
                for frame in self._own_frames(index):
                    table.frame_lost(frame)

    def gaps(self) -> list[tuple[int, bytes]]:
        states = self._states
        if states is None:
            return []
        return [
            (self.first + index, _unfinished(self._frames[index]))
            for start, stop in _stretches(states, 0, len(states), MISSING)
            for index in range(start, stop)
        ]

    def forget(self) -> None:
        if self._states is not None:
            self._states = self._states.replace(b"\3", b"\2")

    def _own_frames(self, index: int) -> list[SentFrame]:
        """The frames of one datagram, each by itself."""
        if self._states is None:
            self._states = bytearray(self.end - self.first)
        frames = self._frames.get(index)
        if frames is None:
            body = self._build(index)[HEADER_SIZE:]
            length = (self.size - HEADER_SIZE) // self._per
            reliable = self._reliable + index * self._per
            frames = self._frames[index] = [
                SentFrame(body[at : at + length], reliable + number, None)
                for number, at in enumerate(range(0, len(body), length))
            ]
        return frames


def _stretches(states: bytearray, start: int, end: int, state: int) -> Iterator[tuple[int, int]]:
    """Where neighbours are in one state."""
    mark = bytes((state,))
    at = states.find(state, start, end)
    while at >= 0:
        stop = end - len(states[at:end].lstrip(mark))
        yield at, stop
        at = states.find(state, stop, end)


class SentPackets:
    """
    @ivar counters: see L{SendCounters}.
    @ivar recovery: what is in flight, acknowledged and lost, and the round trip. Another
        may take its place before the first datagram.
    @ivar reliable: the next reliable index.
    @ivar base: the first reliable index that is not acknowledged. Both may be set before
        the first frame.
    @ivar extended: the peer is of our own kind: it acknowledges each datagram several
        times, and takes larger windows.
    @ivar outstanding: reliable frames that are not acknowledged.
    @ivar lost: frames to be sent again.
    @ivar open_splits: split messages that have fragments out.
    @ivar receipts: fates not yet told, as pairs of receipt and whether it arrived.
    @ivar copies: datagrams whose frames are to be sent once more soon.
    @ivar gaps: datagrams to be sent again under their old numbers.
    @ivar fill_due: when gaps are to be filled.
    @ivar long: datagrams of more bytes count as long.
    @ivar long_lost: how many long ones were lost since one was acknowledged.
    @ivar short_heard: how many acknowledgements of short ones there were in the meantime.
    """

    __slots__ = (
        "_ask_again",
        "_compact_at",
        "_denied",
        "_earlier",
        "_edge",
        "_edge_at",
        "_reported",
        "_settings",
        "_settled",
        "_table",
        "_unanswered",
        "base",
        "copies",
        "counters",
        "extended",
        "fill_due",
        "gaps",
        "long",
        "long_lost",
        "lost",
        "open_splits",
        "outstanding",
        "receipts",
        "recovery",
        "reliable",
        "short_heard",
    )

    def __init__(self, settings: Settings) -> None:
        self.counters = SendCounters()
        self.recovery = Recovery(
            RoundTrip(FIRST_TIMEOUT, MIN_TIMEOUT, MAX_TIMEOUT, DEVIATION_FLOOR, ACK_ALLOWANCE),
            allowance=ACK_ALLOWANCE,
            longest=MAX_TIMEOUT,
        )
        self.reliable = self.base = 0
        self.extended = False
        self.outstanding = 0
        self.lost: deque[SentFrame] = deque()
        # What is lost and belongs before others there.
        self._earlier: list[SentFrame] = []
        # So often in a row a NACK has named all that was in flight.
        self._denied = 0
        # Numbers that the peer has named in NACKs.
        self._reported = Ranges(MOST_REPORTED)
        self.open_splits = 0
        self.receipts: list[tuple[int, bool]] = []
        self.copies = Copies()
        self.gaps: list[tuple[int, bytes]] = []
        self.fill_due = NEVER
        self.long = 0
        self.long_lost = self.short_heard = 0
        self._settings = settings
        self._table: list[Sent] = []
        self._settled = Ranges()
        self._edge_at = 0
        self._edge = 0
        self._ask_again = 0
        self._unanswered = 0
        self._compact_at = 128

    @property
    def number(self) -> int:
        """The next datagram number."""
        return self.recovery.next

    @property
    def round_trip(self) -> RoundTrip:
        """The estimate of the round trip."""
        return self.recovery.round_trip

    @property
    def frames_room(self) -> int:
        """
        How many reliable frames may still get an index, and how many datagrams with
        new data a number.
        """
        if self.recovery.persisting:
            return 0
        frames = self.reliable - self.base
        following = self.recovery.next
        numbers = following - self._edge if self._table else 0
        if self.extended:
            by_frames, by_numbers = EXTENDED_WINDOW - frames, EXTENDED_NUMBERS - numbers
        else:
            window = self._settings.window
            by_frames, by_numbers = window - frames, window - window // SPARE - numbers
        return by_frames if by_frames < by_numbers else by_numbers

    @property
    def may_retransmit(self) -> bool:
        """
        Another datagram of retransmissions may get a number. Others close the session when
        these run too far ahead of one that they miss (raknet.md 13).
        """
        numbers = self.recovery.next - self.edge
        if self.extended:
            return numbers < EXTENDED_NUMBERS
        window = self._settings.window
        return numbers < window - window // (2 * SPARE)

    @property
    def edge(self) -> int:
        """The peer may be missing nothing before this number."""
        return self._edge if self._table else self.recovery.next

    @property
    def timeout(self) -> int:
        """How long to wait for a datagram's acknowledgement where the peer gives each once."""
        factor = self._settings.resend_factor
        if factor is None:
            return self.round_trip.timeout
        wanted = int(factor * (self.round_trip.smoothed or GUESSED_ROUND_TRIP))
        step = self._settings.resend_interval
        return -(-max(wanted, 1) // step) * step

    def release(self) -> None:
        """Forget everything but the numbers."""
        self.recovery.stop()
        self._table.clear()
        self._edge_at = 0
        self.lost.clear()
        self._earlier.clear()
        self.copies.clear()
        self.gaps.clear()
        self.outstanding = 0
        self.fill_due = NEVER

    # sending

    def enter(
        self,
        sent: Sent,
        now: int,
        size: int,
        last_size: int,
        draining: bool,
        frames: int = 0,
        limited: bool = False,
    ) -> None:
        """
        Note what is being sent. Its numbers begin at L{number}.

        @param size: bytes of each datagram but the last.
        @param draining: the controller's.
        @param frames: reliable frames in it that get their indices now.
        @param limited: there is room for more, and nothing to be sent.
        """
        count = sent.end - sent.first
        self.reliable += frames
        self.outstanding += frames
        self.recovery.on_sent(count, size, now, last_size, draining, limited)
        self.counters.datagrams_out += count
        self.counters.bytes_out += (count - 1) * size + last_size
        if not self._table:
            self._edge = sent.first
        self._table.append(sent)
        if len(self._table) > self._compact_at:
            # A peer that acknowledges nothing brings no turn that would do it.
            self._prune(now)
        if self.fill_due == NEVER and not self.extended and self._is_far(self._edge):
            self.fill_due = now + self.timeout

    def framed(self, frames: int) -> None:
        """Reliable frames got an index and are in flight."""
        self.reliable += frames
        self.outstanding += frames

    def retransmitting(self, frame: SentFrame) -> None:
        """A lost frame is in flight again."""
        frame.waiting = False
        self.counters.retransmitted += 1

    def copy(self, now: int) -> None:
        """Send once more, by other datagrams, what was sent a while ago and has not arrived."""
        for first, end in self.copies.take(now):
            for sent, low, high in self._between(first, end):
                sent.copy(low, high, self)
        self._order_lost()

    # what the peer says

    def acknowledged(self, records: Sequence[tuple[int, int]], now: int) -> bool:
        """
        Take in the records of an ACK; what follows from them L{turn} finds out.

        @return: some of it was news.
        """
        news = 0
        newest = -1
        for start, stop in self._named(records):
            found = self.recovery.on_acknowledged(start, stop)
            news += found
            if found:
                self._denied = 0
            for sent, first, end in self._between(start, stop):
                late = sent.acknowledge(first, end, self)
                if late:
                    news += late
                    self.counters.lost_spurious += late
                    newest = sent.sent
                if sent.size > self.long:
                    self.long_lost = self.short_heard = 0
                elif found:
                    self.short_heard += 1
        if newest >= 0 and now - newest > self.round_trip.timeout:
            # What was given up arrives after all: the path has become longer.
            self.round_trip.sample(now - newest, now)
        if not self.recovery.news:
            # A gap may be closed although nothing of it was in flight. Else L{turn} finds out.
            self._find_edge()
        return news > 0

    def reported_lost(self, records: Sequence[tuple[int, int]]) -> None:
        """Take in the records of a NACK. What was reported before is not looked at again."""
        reported = self._reported
        for start, stop in list(self._named(records)):
            for low, high in reported.gaps(max(start, reported.floor or 0), stop):
                self._lose_reported(low, high)
            reported.add(start, stop)
        if self.recovery.news and not self.recovery.in_flight:
            self._denied += 1
        self._order_lost()
        self._find_edge()

    def _lose_reported(self, start: int, stop: int) -> None:
        for sent, first, end in self._between(start, stop):
            found = sent.lose(first, end, self, LOST)
            if found:
                self._unanswered = 0
                self.recovery.persisting = False
                self.counters.lost += found
                self.counters.lost_reported += found
                if sent.size > self.long:
                    self.long_lost += found
                self.recovery.on_reported_lost(first, end)

    def turn(self, now: int, controller: Controller) -> None:
        """Find out what came of all that the peer said in this turn, and what time has brought."""
        recovery = self.recovery
        if not recovery.news and now < recovery.loss_at:
            return
        # Who acknowledges each datagram once leaves hundreds of them unacknowledged when one
        # of its ACKs is lost; what such a peer misses it names.
        recovery.patience = 0 if self.extended else self.timeout
        if recovery.thin_turn(now):
            self._prune(now)
            return
        sample = recovery.turn(now)
        if sample is None:
            return
        if recovery.lost:
            self._take_lost(now)
        controller.on_turn(sample)
        if self._denied > 1:
            # Who misses something has received something else; this is no path that delivers.
            controller.on_timeout(now)
        self._prune(now)

    def probe(self, now: int, controller: Controller) -> bool:
        """
        Nothing was heard for too long.

        @return: something waits to be sent again; else the owner asks for a sign of life.
        """
        self._unanswered += 1
        if self._unanswered >= PERSIST and self.outstanding:
            self.recovery.persisting = True
        if self.recovery.probe(now):
            controller.on_timeout(now)
            # A peer without room for more acknowledges nothing, and drops what comes.
            if self.recovery.declare_lost():
                self._take_lost(now)
                self._find_edge()
                return True
        if self.lost:
            return True
        first = next((sent for sent in self._table if sent.live), None)
        last = next((sent for sent in reversed(self._table) if sent.live), None)
        found = last is not None and last.probe(True, self)
        if first is not None:
            found |= first.probe(False, self)
        self._order_lost()
        return found

    def _take_lost(self, now: int) -> None:
        """Frames of what was declared lost are to be sent again."""
        state = LOST if self.extended else MISSING
        due = now + self.timeout
        lost, self.recovery.lost = self.recovery.lost, []
        for first, end in lost:
            for sent, low, high in self._between(first, end):
                found = sent.lose(low, high, self, state)
                self.counters.lost += found
                sent.due = due
                if sent.size > self.long:
                    self.long_lost += found
        self._order_lost()

    def fill(self, now: int) -> None:
        """
        Fill the gaps that the peer may have far behind, each time that the peer was heard
        since the last.
        """
        self.fill_due = NEVER
        table = self._table
        for index in range(self._edge_at, len(table)):
            sent = table[index]
            if not self._is_far(sent.first):
                break
            if not sent.missing:
                continue
            if sent.due <= now:
                self._fill(sent, now)
            self.fill_due = min(self.fill_due, sent.due)
        self._find_edge()
        if self.fill_due == NEVER and self._is_far(self.edge):
            self.fill_due = now + self.timeout

    def _is_far(self, number: int) -> bool:
        """So many numbers lie beyond this one that it must not stay a gap at the peer."""
        return self.recovery.next - number > self._settings.window // FILL_BEHIND

    def _fill(self, sent: Sent, now: int) -> None:
        sent.due = now + self.timeout
        if sent.fillings and self.recovery.largest < sent.filled:
            # Nothing of ours came through: the fillings may not have, either.
            self._ask(now)
        elif sent.fillings < FILLINGS:
            self.gaps += sent.gaps()
            sent.fillings += 1
            sent.filled = self.recovery.next
        else:
            sent.forget()

    def _ask(self, now: int) -> None:
        """Send something empty to be acknowledged, if that is not under way."""
        if now >= self._ask_again:
            self._ask_again = now + self.timeout
            self.gaps.append((self.recovery.next, b""))
            sent = SentPacket(self.recovery.next, (), (), now)
            self.enter(sent, now, HEADER_SIZE, HEADER_SIZE, False)

    def _named(self, records: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
        """
        The intervals of numbers that records name, as far as they are known here. Records are
        merged, so that nothing is looked at more than once, whatever the peer repeats.
        """
        table = self._table
        if not table:
            return ()
        number = self.recovery.next
        oldest = table[0].first
        if len(records) == 1:
            first, last = records[0]
            start = unwrap24(first, number)
            end = min(start + last - first + 1, number)
            start = max(start, oldest)
            return ((start, end),) if start < end else ()
        merged = Ranges()
        for first, last in records:
            start = unwrap24(first, number)
            merged.add(max(start, oldest), min(start + last - first + 1, number))
        return merged

    def _between(self, start: int, end: int) -> list[tuple[Sent, int, int]]:
        """What has numbers in this interval and is not all acknowledged, with the part of each."""
        table = self._table
        found: list[tuple[Sent, int, int]] = []
        at = max(bisect_right(table, start, key=_first_of) - 1, 0)
        while at < len(table) and table[at].first < end:
            sent = table[at]
            at += 1
            if sent.open:
                low, high = max(start, sent.first), min(end, sent.end)
                if low < high:
                    found.append((sent, low, high))
        return found

    def _prune(self, now: int) -> None:
        """Drop what is done with: at once from the front, elsewhere now and then."""
        table = self._table
        count = 0
        while count < len(table) and (not table[count].open or self._is_over(table[count], now)):
            count += 1
        del table[:count]
        self._edge_at = max(self._edge_at - count, 0)
        if len(table) > self._compact_at:
            kept = [sent for sent in table if not self._is_over(sent, now)]
            over = len(kept) - MOST_SENT
            while over > 0 and not kept[0].live:
                del kept[0]
                over -= 1
            self._table = kept
            self._edge_at = 0
            self._compact_at = max(128, 2 * len(kept))
        self._find_edge()

    @staticmethod
    def _is_over(sent: Sent, now: int) -> bool:
        """Nothing more is to come of it."""
        if sent.live or sent.missing:
            return False
        return sent.finished or sent.sent + REMEMBERED <= now

    def _find_edge(self) -> None:
        """
        Go on to the first datagram that is in flight or missing. None before it becomes
        so again, so that each is looked at once.
        """
        table, at = self._table, self._edge_at
        while at < len(table) and not (table[at].open and (table[at].live or table[at].missing)):
            at += 1
        self._edge_at = at
        self._edge = table[at].first if at < len(table) else self.recovery.next

    # what became of frames and messages; called by what was sent

    def settle(self, reliable: int, count: int) -> None:
        """Frames with these indices are acknowledged for the first time."""
        self._unanswered = 0
        self.recovery.persisting = False
        self.outstanding -= count
        if reliable == self.base and not self._settled.starts:
            self.base += count
            return
        self._settled.add(reliable, reliable + count)
        if reliable <= self.base:
            self.base = self._settled.pop_through(self.base)

    def frame_acknowledged(self, frame: SentFrame) -> None:
        """A datagram with this frame has arrived, perhaps not the first one."""
        frame.done = True
        self.settle(frame.reliable, 1)
        message = frame.message
        if message is None:
            return
        message.unacknowledged -= 1
        if not message.unacknowledged:
            if message.fragments > 1:
                self.open_splits -= 1
            self.tell(message, True)

    def frame_lost(self, frame: SentFrame) -> None:
        """A datagram with this frame is lost, or may be."""
        if not (frame.done or frame.waiting):
            frame.waiting = True
            lost = self.lost
            if frame.alone:
                # The peer may take in nothing of the application's before it has this.
                lost.appendleft(frame)
            elif lost and frame.reliable < lost[-1].reliable:
                self._earlier.append(frame)
            else:
                lost.append(frame)

    def _order_lost(self) -> None:
        """
        What is lost once more goes before later frames: they wait for it at the peer. All of a
        turn at once, for a peer can have thousands lost by ten bytes, again and again.
        """
        if self._earlier:
            self.lost = deque(sorted([*self.lost, *self._earlier], key=_order))
            self._earlier.clear()

    def tell(self, message: OutgoingMessage, arrived: bool) -> None:
        """Note the fate of a message, if somebody wants to know."""
        if message.receipt is not None:
            self.receipts.append((message.receipt, arrived))
