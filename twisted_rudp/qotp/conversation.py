"""
What is said on a connection once there is a key: streams, acknowledgements and words,
in the dialect that the other side understands (C{qotp.md} sections 5 and 11).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted_rudp.core.engine import MILLISECOND, Address, Emit, Event
from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.core.received import Received
from twisted_rudp.qotp.acks import Acks
from twisted_rudp.qotp.budget import ReceiveWindow
from twisted_rudp.qotp.flights import Flights, Word
from twisted_rudp.qotp.incoming import Incoming
from twisted_rudp.qotp.life import Role, Settings
from twisted_rudp.qotp.mark import (
    CONTROL,
    Abort,
    Peer,
    Reset,
    read_range,
    read_ranges,
    read_word,
    say_reset,
)
from twisted_rudp.qotp.outlet import Outlet, Sealer
from twisted_rudp.qotp.path import COST, Path
from twisted_rudp.qotp.payload import Ack, Segment, header
from twisted_rudp.qotp.sender import Sender
from twisted_rudp.qotp.streams import Stream, StreamTable

MAX_REFUSALS = 64
"""Resets of streams beyond the limit that wait for their acknowledgement."""

OWN_TIMEOUT = 50 * MILLISECOND
"""Least wait for an acknowledgement; the release's is 100 ms."""


class Conversation:
    """
    Both directions of all streams of one connection.

    @ivar peer: what the other side is.
    @ivar streams: those that are open.
    @ivar sender: what is to be sent and what is in flight.
    @ivar acks: what is to be acknowledged.
    @ivar incoming: what has come.
    @ivar window: what may be kept of it.
    @ivar path: a change of the other side's address.
    @ivar numbers: packet numbers that were received.
    @ivar reset_heard: the other side has given the connection up.
    """

    def __init__(
        self,
        settings: Settings,
        role: Role,
        sealer: Sealer,
        events: list[tuple[Any, ...]],
        counters: Counter[str],
    ) -> None:
        """
        @param events: for the application.
        @param counters: of what was dropped.
        """
        self._settings = settings
        self._role = role
        self._sealer = sealer
        self._events = events
        self._counters = counters
        self.peer = Peer.UNKNOWN
        self.streams = StreamTable(2 if role is Role.INITIATOR else 1)
        self.numbers = Received()
        self.acks = Acks(self.numbers)
        self.sender = Sender(
            self.streams, settings.mtu, OWN_TIMEOUT, self.ping, settings.congestion
        )
        self.window = ReceiveWindow(settings.budget)
        self.incoming = Incoming(self.streams, self.window, events, counters)
        self.path = Path(settings.entropy, CONTROL)
        self.reset_heard = False

    def meet(self, peer: Peer) -> None:
        """What the other side is has become known."""
        self.peer = self.acks.peer = peer
        if peer is Peer.RELEASE:
            self.sender.flights.expect_segments()
            self.path = Path(self._settings.entropy, 0)
        if self._role is Role.INITIATOR:
            # Rule R3: until it sees Data the release sends nothing more.
            self.acks.marking = peer is Peer.OWN
            self.sender.words.append(self.ping(repeat=True))

    def release(self) -> None:
        """It is over: nothing more is kept or sent."""
        self.window.release()
        self.streams.open = {0: Stream(0)}
        self.sender.ready.clear()
        self.sender.words.clear()
        self.sender.flights = Flights()

    # application

    def close_stream(self, stream: int) -> None:
        """CLOSE behind the data."""
        found = self.streams.open.get(stream)
        if found is not None and not found.finishing:
            found.finishing = True
            self.sender.ready[found] = None

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        Our own peer is told. The release has no word for it: it sees an end, and
        what it still sends is acknowledged and thrown away.
        """
        found = self.streams.open.get(stream)
        if found is None:
            if self.peer is Peer.OWN and not self.streams.finished(stream):
                self._say(say_reset(stream, code))
            return
        if self.peer is Peer.RELEASE:
            found.queue = ByteQueue()
            self.close_stream(stream)
            self.incoming.drop(found)
        else:
            self._say(say_reset(stream, code))
            self._abandon(found)

    # the other side

    def hear_segment(self, segment: Segment) -> bool:
        """
        @return: whether it counts as received.
        """
        if self.peer is Peer.OWN:
            if segment.stream == CONTROL:
                self._hear_words(bytes(segment.data))
                return True
            self.acks.wanted = True
            return self.incoming.segment(segment) or self._refuse_streams()
        taken = self.incoming.segment(segment)
        if taken:
            complete = self.streams.completed(segment.stream)
            self.acks.heard(segment.stream, segment.offset, len(segment.data), complete)
        return taken

    def _refuse_streams(self) -> bool:
        """
        Our own peer is told which of its streams are too many, unless it has been told
        of many and said nothing to that; then the segment is not acknowledged either.
        """
        refused = self.incoming.refused
        told = bool(refused)
        for stream in refused:
            if len(self.sender.words) + self.sender.flights.words < MAX_REFUSALS:
                self._say(say_reset(stream, 0))
            else:
                told = False
        refused.clear()
        return told

    def _hear_words(self, body: bytes) -> None:
        if not body:
            self.acks.wanted = True
            return
        word = read_word(body)
        if isinstance(word, Reset):
            self.acks.wanted = True
            stream = self.streams.open.get(word.stream)
            if stream is not None:
                self._abandon(stream)
                self._events.append((Event.STREAM_RESET, word.stream, word.code))
        elif isinstance(word, Abort):
            self.reset_heard = True

    def hear_ack(self, ack: Ack, segment: Segment | None, number: int, now: int) -> None:
        """
        Take in an acknowledgement and the window beside it.

        @param segment: of the same datagram; it may tell of more ranges.
        @param number: of that datagram.
        """
        sender = self.sender
        sender.note_window(number, ack.window)
        if self.peer is Peer.OWN:
            newest = read_range(ack, self._sealer.next)
            if newest is None:
                return
            self.acks.marking = False
            more: Sequence[tuple[int, int]] = ()
            if segment is not None and segment.stream == CONTROL:
                more = read_ranges(bytes(segment.data), newest[0])
            sender.acknowledged(newest, more, now)
            if self.path.candidate is not None:
                for low, high in (newest, *more):
                    self.path.range_answered(low, high)
        else:
            sender.segment_acknowledged(ack.stream, ack.offset, ack.length, now)
            self.path.segment_answered(ack.stream, ack.offset)

    # out

    def flush(self, now: int, outlet: Outlet, emit: Emit) -> None:
        """
        Send acknowledgements and data, together where they fit into one datagram.

        @param emit: for the challenge of another address.
        """
        acks, sender, window = self.acks, self.sender, self.window
        free = acks.window = window.free
        if not acks.announce and free > window.told:
            acks.announce = window.reopened(free)
        if acks.pending:
            window.told = free
            if sender.waiting:
                acks.flush(outlet)
        sender.flush(now, outlet, acks)
        if acks.pending:
            acks.flush(outlet)
        if self.path.candidate is not None:
            self._challenge_path(self.path.candidate, now, emit)

    def tell_settled(self) -> None:
        """Tell the application which streams have been acknowledged altogether."""
        settled = self.sender.flights.settled
        for stream in settled:
            if stream.fin_acknowledged:
                self._tell_flushed(stream)
        settled.clear()

    def ping(self, repeat: bool = False) -> Word:
        """Rule R8: towards the release with an offset that cannot be mistaken."""
        if self.peer is Peer.OWN:
            return Word(CONTROL, 0, repeat=repeat)
        offset = int.from_bytes(self._settings.entropy(6), "little") | 1 << 47
        return Word(0, offset, repeat=repeat)

    def _tell_flushed(self, stream: Stream) -> None:
        if stream.drained and not stream.flush_told:
            stream.flush_told = True
            if stream.number in self.streams.open:
                self._events.append((Event.STREAM_FLUSHED, stream.number))
        if stream.over:
            self.streams.drop(stream)

    def _abandon(self, stream: Stream) -> None:
        """A stream is given up in both directions."""
        stream.stop_sending()
        stream.fin_acknowledged = stream.end_told = True
        stream.unsettled = 0
        self.sender.ready.pop(stream, None)
        self.sender.flights.forget(stream)
        self.incoming.drop(stream)
        self.streams.drop(stream)

    def _say(self, body: bytes) -> None:
        self.sender.words.append(Word(CONTROL, 0, body, repeat=True))

    def _challenge_path(self, candidate: Address, now: int, emit: Emit) -> None:
        word = self.path.challenge(now)
        if word is not None:
            outlet = Outlet(self._sealer, emit, candidate, COST, True)
            self.path.sent(outlet.send([header(word.stream, word.offset)]))
