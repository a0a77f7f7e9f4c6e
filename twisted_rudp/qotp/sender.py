"""What to send next, and when: windows, pacing, retransmission (qotp.md 5.1 to 5.3, 6 and 7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from twisted_rudp.core.batch import run_capacity
from twisted_rudp.core.congestion import Controller
from twisted_rudp.core.congestion.bbr import BBR
from twisted_rudp.core.congestion.controller import INITIAL_DATAGRAMS
from twisted_rudp.core.congestion.cubic import Cubic
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.pacer import LATE, Pacer
from twisted_rudp.core.queues import OutOfBandQueue
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.qotp import timers as t
from twisted_rudp.qotp.congestion import BaselineController, ReleaseController, WindowEvidence
from twisted_rudp.qotp.extensions import CONTROL, Extensions, Peer, encode_datagram, encode_fill
from twisted_rudp.qotp.path import RAISE_INTERVAL, STRIKES, PathMTU
from twisted_rudp.qotp.protection import PacketWriter, Sealer
from twisted_rudp.qotp.receiver import PendingAcks
from twisted_rudp.qotp.sent import SentPackets, SentRun
from twisted_rudp.qotp.settings import Settings
from twisted_rudp.qotp.streams import LostSegment, Stream
from twisted_rudp.qotp.wire import (
    NARROW,
    PLAIN,
    ControlFrame,
    Segment,
    cut,
    encode,
    head_narrow,
    max_data,
)

FIRST_WINDOW: Final = 16 << 20
"""What a peer is taken to have room for until it says so (section 6)."""

FIRST_TIMEOUT: Final = 200 * MILLISECOND
LEAST_TIMEOUT: Final = 50 * MILLISECOND
LONGEST_TIMEOUT: Final = 2 * SECOND

MOST_BACK_OFF: Final = 6
"""Doublings of the time between questions to a peer without room (RFC 9293 section 3.8.6.1)."""

LONGEST_WAIT: Final = SECOND
"""A peer that is silent is asked at least so often: whether an outage is over, and whether an
idle peer is still there on a link that loses much (RFC 9002 leaves the back-off open)."""

UNPACED: Final = 4
"""So many copies leave at a time although the pacer holds back what else there is. Beside a bulk
transfer, which uses all that the pacer allows, half of them would not be sent at all."""

PROBES: Final = 2
"""Packets sent again when nothing was acknowledged for too long."""

RELEASE_SILENCE: Final = 250 * MILLISECOND
RELEASE_TRIPS: Final = 4
"""
A peer of the release owes no acknowledgement after so long a silence, nor after so many of the
shortest round trips. It has one for each segment, and sends one in 10 ms, or beside data one in a
round trip. Thus those it owes make the round trip seem half a minute long, which says nothing of
how long to wait.
"""

OWING: Final = 25 * MILLISECOND
"""So late acknowledgements are owed, not under way."""

RESERVE: Final = 1 << 20

CLOSING_SILENCE: Final = 25 * MILLISECOND
"""So little of it once our end has arrived, or theirs is here. Then its application does nothing
more, and with both ends it falls mute, whatever it owes."""

RELEASE_PROBES: Final = 16
"""Packets sent again to such a peer then: they are lost, or what acknowledged them is."""

_HEAD: Final = 8
_HEAD_WIDE: Final = 11
_BLOCK: Final = 16
"""What an acknowledgement adds at most."""


class Sender:
    """
    The sending half of a connection.

    @ivar mtu: longest datagram.
    @ivar frames: PINGs, resets and other control frames to be sent.
    @ivar datagrams: messages beside the streams to be sent.
    @ivar ready: streams with something that was never sent.
    @ivar packets: what is in batch.
    @ivar control: how fast to send.
    @ivar peer_window: bytes that may be in flight by the peer's word.
    @ivar mute: the peer is one of the release that may have forgotten what it owes: its ends
        have come, or all of ours but an end is acknowledged.
    @ivar retransmitted: datagrams sent again.
    """

    def __init__(
        self,
        settings: Settings,
        sealer: Sealer,
        extensions: Extensions,
        timers: Timers,
    ) -> None:
        """
        @param extensions: what the other side understands.
        @param timers: of the connection.
        """
        self.mtu = settings.mtu
        self.frames: deque[ControlFrame] = deque()
        self.datagrams = OutOfBandQueue()
        self.ready: dict[Stream, None] = {}
        self.round_trip = RoundTrip(FIRST_TIMEOUT, LEAST_TIMEOUT, LONGEST_TIMEOUT)
        self.path_mtu = PathMTU(settings.mtu)
        self.packets = SentPackets(self.round_trip, sealer.next, self.path_mtu)
        self.control: Controller = _controller(settings.congestion, settings.mtu, self.round_trip)
        self._congestion = settings.congestion
        self._baseline: BaselineController | None = None
        self.peer_window = FIRST_WINDOW
        self.mute = False
        self.retransmitted = 0
        self._sealer = sealer
        self._extensions = extensions
        self._entropy = settings.entropy
        self._timers = timers
        self._pacer = Pacer(settings.mtu, INITIAL_DATAGRAMS * settings.mtu)
        self._credit = 0
        self._rate = 0.0
        self._window = 0
        self._draining = False
        self._ask_control()
        self._window_number = -1
        self._evidence: WindowEvidence | None = None
        self._told = self._late = False
        self._budget = settings.budget
        self._reserved = 0
        self._probes = 0
        self._probed_at = 0
        self._quiet_since = 0
        self._acknowledged = 0
        self._shortest_trip = NEVER
        self._idle_at = 0
        self._starved_at = self._starved_since = NEVER
        self._starved_pings = 0
        self._wake = NEVER

    # the peer and the path

    def meet_baseline(self) -> None:
        """The peer is one of the release."""
        self.packets.expect_segments()
        release = ReleaseController(self.round_trip, self.mtu)
        self.control = self._baseline = BaselineController(self.control, release)
        self._evidence = WindowEvidence(FIRST_WINDOW)
        self._ask_control()

    def new_path(self) -> None:
        """The peer is at another host: what was learnt of the way there counts no more."""
        self.round_trip.reset()
        self._shortest_trip = NEVER
        if self._baseline is None:
            self.control = _controller(self._congestion, self.mtu, self.round_trip)
            self._ask_control()

    def note_window(self, number: int, window: int) -> None:
        """The peer's window, from the datagram with this number; only the newest counts (W4)."""
        if number >= self._window_number:
            self._window_number = number
            self.peer_window = window
            self._told = True

    @property
    def window_blocked(self) -> bool:
        """Only the peer's window holds the rest back."""
        return self._starved_at != NEVER

    @property
    def stalled(self) -> bool:
        """Bytes were sent that are not acknowledged, and not for want of a window."""
        packets = self.packets
        return not self.window_blocked and bool(packets.stream_bytes or packets.losing)

    def shrink(self, size: int) -> None:
        """The path takes no datagrams of C{size} bytes (0: of the present MTU)."""
        self.path_mtu.shrink(size)
        self._use_mtu()

    def _use_mtu(self) -> None:
        self.mtu = self.path_mtu.mtu
        if self.path_mtu.reduced and not self._timers.running(t.RAISE):
            self._timers.set(t.RAISE, self._probed_at + RAISE_INTERVAL)

    def raise_mtu(self, now: int) -> None:
        """Try a longer datagram. The release has nothing that could be filled."""
        size = self.path_mtu.probe()
        if size and self._extensions.peer is Peer.EXTENDED:
            body = encode_fill(size - self._sealer.overhead - _HEAD_WIDE)
            self.frames.append(ControlFrame(CONTROL, 0, body))
            self._timers.set(t.RAISE, now + RAISE_INTERVAL)

    # time

    def tick(self, now: int) -> None:
        """Ask for an acknowledgement if there was none for too long."""
        if now < self._probe_at():
            return
        self._probed_at = now
        owes_nothing = self._baseline is not None and now >= self._quiet_since + self._patience()
        if self._baseline is not None:
            self._baseline.silent = True
            self._ask_control()
        if self._starved_at != NEVER:
            self._starved_at = now
            self._starved_pings = min(self._starved_pings + 1, MOST_BACK_OFF)
            self.frames.append(self.ping())
            self.packets.recovery.probes += 1
            return
        if self.packets.recovery.probe(now):
            self.control.on_timeout(now)
            self._ask_control()
        recovery = self.packets.recovery
        if self.mute:
            # Both ends make the release forget the stream, with all acknowledgements that it
            # owes. What comes later brings the stream back, an end ends it again before it is
            # acknowledged, and a PING behind that makes it speak.
            if recovery.probes & 1:
                self._repeat(self.packets.give_up_oldest(RELEASE_PROBES))
        elif recovery.delivered or recovery.probes == 1:
            most = RELEASE_PROBES if owes_nothing else PROBES
            self._repeat(self.packets.give_up_oldest(most))
        # Where nothing was ever acknowledged the path may be slow, and a ping tells.
        if self.path_mtu.suspect:
            # Long datagrams alone cannot tell an outage from a path that swallows them.
            self.frames.append(self.ping())
        if not self.frames and not self.packets.losing:
            # What was in flight needs no repetition, and would tell nothing.
            self.frames.append(self.ping())
        self._probes = PROBES

    def _probe_at(self) -> int:
        recovery = self.packets.recovery
        if self._starved_at != NEVER:
            since = self._starved_at
            # Each is answered, so that what silence adds to the timeout does not grow.
            wait = min(recovery.probe_timeout(), self._patience())
            due = since + (wait << self._starved_pings)
        else:
            due = recovery.probe_deadline()
            since = self._probed_at
            if self.mute or (self._baseline is not None and self.packets.stream_bytes):
                due = min(due, max(self._quiet_since, since) + self._patience())
        if (recovery.probes or self._starved_pings) and due > since + LONGEST_WAIT:
            due = since + LONGEST_WAIT
        return due

    def _patience(self) -> int:
        """See L{RELEASE_SILENCE}."""
        if self._baseline is None:
            return NEVER
        recovery = self.packets.recovery
        if self.mute:
            return self.closing_silence << min(recovery.probes // 2, MOST_BACK_OFF)
        return max(RELEASE_SILENCE, self._release_trips) << min(recovery.probes, MOST_BACK_OFF)

    @property
    def _release_trips(self) -> int:
        return RELEASE_TRIPS * min(self._shortest_trip, LONGEST_TIMEOUT)

    @property
    def closing_silence(self) -> int:
        """See L{CLOSING_SILENCE}."""
        return max(CLOSING_SILENCE, self._release_trips)

    def turn(self, now: int) -> None:
        """What the acknowledgements of this turn, or the time, mean."""
        packets = self.packets
        if self._baseline is not None and packets.acknowledged_bytes != self._acknowledged:
            self._acknowledged = packets.acknowledged_bytes
            self._quiet_since = now
            if self._baseline.silent:
                self._baseline.silent = False
                self._ask_control()
        if self._evidence is not None and self._told:
            self._told = False
            self._weigh(self._evidence, now)
        if self.path_mtu.strikes >= STRIKES:
            self._probed_at = now
            self.shrink(0)
        elif self.path_mtu.mtu != self.mtu:
            self._use_mtu()
        recovery = packets.recovery
        if (not recovery.news and now < recovery.loss_at) or recovery.thin_turn(now):
            return
        sample = recovery.turn(now)
        if sample is not None:
            if 0 < self.round_trip.least < self._shortest_trip:
                self._shortest_trip = self.round_trip.least
            if recovery.lost:
                self._repeat(packets.take_lost())
            self.control.on_turn(sample)
            self._ask_control()
            self._pacer.adapt(self.round_trip.least)

    def _weigh(self, evidence: WindowEvidence, now: int) -> None:
        """What the peer's window says, where its acknowledgements are late."""
        packets = self.packets
        if self._shortest_trip == NEVER:
            return
        trip = self._longest_trip
        # Where acknowledgements are prompt, they tell what is lost.
        self._late = self.round_trip.latest > self._release_trips + OWING
        end = self._sealer.next
        if evidence.on_window(self.peer_window, now, trip, end) and (
            self._late or evidence.missing
        ):
            packets.give_up(*evidence.repeat(end))
        if packets.stream_bytes < FIRST_WINDOW:
            self._return_reserved()

    def _return_reserved(self) -> None:
        self._budget.free += self._reserved
        self._reserved = 0

    @property
    def _longest_trip(self) -> int:
        """How long a datagram and what is said after it take, without queues."""
        return 2 * min(self._shortest_trip, LONGEST_TIMEOUT) + MILLISECOND

    def _given(self, size: int) -> int:
        """
        Bytes that the peer's window gives room for. Where acknowledgements are late that is what
        its window is evidence of, as far as it may be kept here.
        """
        evidence, packets = self._evidence, self.packets
        if evidence is None or not self._late:
            return self.peer_window - packets.stream_bytes
        kept = packets.stream_bytes + size - FIRST_WINDOW - self._reserved
        if kept > 0:
            # No more than it leaves to all others.
            fair = (self._budget.free - self._reserved) // 2
            self._reserved += self._budget.reserve(min(max(kept, RESERVE), fair))
        return min(evidence.room, FIRST_WINDOW + self._reserved - packets.stream_bytes)

    def _ask_control(self) -> None:
        """The controller's answers change only when it is told something."""
        control = self.control
        self._rate = control.pacing_rate
        self._window = control.window
        self._draining = control.draining

    def _repeat(self, frames: Sequence[ControlFrame]) -> None:
        """Send control frames again; a PING as another, for its answer must not be ambiguous."""
        for frame in frames:
            self.frames.append(frame if frame.body else self.ping(repeat=True))

    def arm(self) -> None:
        """Set the timers to what is known now."""
        due = self._timers.due
        if not self.ready:
            self._starved_at = NEVER
        due[t.PROBE] = self._probe_at()
        due[t.LOSS] = self.packets.recovery.loss_at
        due[t.PACE] = self._wake
        packets = self.packets
        due[t.COPY] = packets.copies.due

    # sending

    def ping(self, repeat: bool = False) -> ControlFrame:
        """
        Something the peer acknowledges and nothing else; towards the release with an
        offset that cannot be mistaken (rule R8).
        """
        if self._extensions.peer is Peer.EXTENDED:
            return ControlFrame(CONTROL, 0, repeat=repeat)
        offset = int.from_bytes(self._entropy(6), "little") | 1 << 47
        return ControlFrame(0, offset, repeat=repeat)

    def finish(self, stream: Stream) -> None:
        """End our half of a stream behind what was written to it."""
        if not stream.finishing:
            stream.finishing = True
            self.ready[stream] = None

    def release(self) -> None:
        """The connection is over: nothing is sent any more."""
        self._return_reserved()
        self.ready.clear()
        self.frames.clear()
        self.datagrams.clear()
        self.packets.release()

    @property
    def pending(self) -> bool:
        """There is something to send, perhaps later."""
        return bool(self.ready or self.frames or self.packets.losing or self.datagrams.count)

    def copies_due(self, now: int) -> bool:
        """Something is to be sent once more now."""
        packets = self.packets
        return now >= packets.copies.due

    @property
    def waiting(self) -> bool:
        """There is more than one datagram to send."""
        if self.packets.losing or self.frames or len(self.ready) > 1:
            return True
        for stream in self.ready:
            return stream.queue.size > self.mtu // 2
        return False

    def flush(self, now: int, writer: PacketWriter, acks: PendingAcks) -> None:
        """
        Send control frames, then what was lost, then what is new.

        @param acks: of which some may ride along.
        """
        # What a busy process was too late to send is not what the path did not carry. Where
        # the rate fills the window in a round trip, as in start-up, lateness costs nothing.
        late = self._wake != NEVER and now > self._wake + LATE
        late = late and self._rate * self.round_trip.least < self._window * SECOND
        self._starved_since = self._starved_at
        self._wake = self._starved_at = NEVER
        while self.frames and writer.room(_HEAD_WIDE + len(self.frames[0].body)):
            self._send_frame(self.frames.popleft(), now, writer, acks)
        if self.datagrams.count:
            self._send_datagrams(now, writer, acks)
        if self.copies_due(now):
            self._send_copies(now, writer, acks)
        if self.ready or self.packets.losing:
            self._quiet_since = now
            if late or now > self._idle_at:
                # More could have been sent before this turn than there was. In one turn a
                # producer adds to what a flush has taken.
                self.packets.recovery.on_app_limited()
            idle = self._send_lone(now, writer, acks)
            if not idle:
                self._send(now, writer, acks)
                idle = not self.ready and self._credit >= self.mtu
            self._idle_at = now if idle and self._has_room() else NEVER
        self._probes = 0

    def _has_room(self) -> bool:
        """The window does not hold a datagram back."""
        return self.packets.recovery.in_flight + self.mtu <= self._window

    def _send_lone(self, now: int, writer: PacketWriter, acks: PendingAcks) -> bool:
        """
        Send all there is if one datagram takes it and nothing is in flight: what a flow sends
        that waits for answers. The pacer does not hold it back.

        @return: False, and nothing was done, if it is something else.
        """
        packets, extensions, overhead = self.packets, self._extensions, self._sealer.overhead
        if (
            packets.recovery.in_flight
            or packets.losing
            or extensions.offering
            or len(self.ready) != 1
        ):
            return False
        stream = next(iter(self.ready))
        size, offset = stream.queue.size, stream.sent
        space = self.mtu - overhead - _HEAD
        riding = acks.wanted or acks.announce
        if (
            not 0 < size <= (space - _BLOCK if riding else space)
            or stream.finishing
            or offset + size > NARROW
            or size + overhead + _HEAD_WIDE > self._window
            or packets.stream_bytes + size > self.peer_window
            or not writer.room(space + _HEAD_WIDE)
        ):
            return False
        data = stream.queue.take(size)
        if riding:
            payload = encode(acks.take_block(), Segment(stream.number, offset, data))
        else:
            payload = head_narrow(PLAIN, stream.number, offset & 0xFFFF, offset >> 16) + data
        first = writer.send((payload,))
        stream.sent += size
        stream.unsettled += size
        del self.ready[stream]
        length = len(payload) + overhead
        run = SentRun(first, 1, stream, offset, space, data)
        packets.sent(run, length, length, now, self._draining)
        if self._evidence is not None:
            self._evidence.on_sent(size, first, now)
        self._plan_copies(run, now)
        self._starved_pings = 0
        self._pacer.credit -= length
        return True

    def _send(self, now: int, writer: PacketWriter, acks: PendingAcks) -> None:
        """Send data as fast as window and pacing allow."""
        rate = self._rate
        self._credit = self._pacer.allowed(now, rate)
        evidence = self._evidence
        if not self.packets.losing or self._retransmit(now, writer, acks):
            if evidence is None:
                self._send_new(now, writer, acks)
            else:
                evidence.on_repeated(now, self._longest_trip)
                if not evidence.missing:
                    self._send_new(now, writer, acks)
        if self._wake != NEVER:
            flying = self.packets.recovery.in_flight > 0
            self._wake = self._pacer.wake(now, rate, flying)

    def _send_frame(
        self, frame: ControlFrame, now: int, writer: PacketWriter, acks: PendingAcks
    ) -> None:
        offer = acks.take_block() if self._extensions.offering else None
        payload = encode(offer, Segment(frame.stream, frame.offset, frame.body))
        first = writer.send([payload])
        size = len(payload) + self._sealer.overhead
        self.packets.sent(SentRun(first, 1, frame=frame), size, size, now, False)

    def _send_datagrams(self, now: int, writer: PacketWriter, acks: PendingAcks) -> None:
        """
        Send messages beside the streams, as far as the window allows (RFC 9221 section 5.4).
        They are few and small beside what the path could carry, so they tell nothing of that.
        """
        queue = self.datagrams
        while queue.count and self._has_room() and writer.room(self.mtu - self._sealer.overhead):
            frame = ControlFrame(CONTROL, 0, encode_datagram(queue.take()))
            self._send_frame(frame, now, writer, acks)
            self._spend(_HEAD_WIDE + len(frame.body) + self._sealer.overhead)
        self.packets.recovery.on_app_limited()

    @property
    def longest_datagram(self) -> int:
        """Bytes of the longest message beside the streams; 0 where the peer has none."""
        if self._extensions.peer is not Peer.EXTENDED:
            return 0
        return self.mtu - self._sealer.overhead - _HEAD_WIDE - 1

    def _retransmit(self, now: int, writer: PacketWriter, acks: PendingAcks) -> bool:
        """
        @return: whether there is nothing left that was lost.
        """
        offer = acks.take_block() if self._extensions.offering else None
        draining = self._draining
        for stream in list(self.packets.losing):
            while stream.lost:
                batch = self._batch(stream, writer)
                if not batch:
                    return False
                payloads = [
                    encode(offer, Segment(stream.number, each.offset, each.data, each.fin))
                    for each in batch
                ]
                first = writer.send(payloads)
                if self._evidence is not None:
                    self._evidence.on_sent(0, first, now)
                self.retransmitted += len(batch)
                for number, each in enumerate(batch, first):
                    stream.unsettled += len(each.data)
                    run = SentRun(
                        number,
                        1,
                        stream,
                        each.offset,
                        len(each.data),
                        each.data,
                        each.fin,
                        sendings=each.sendings + 1,
                    )
                    size = len(payloads[number - first]) + self._sealer.overhead
                    self.packets.sent(run, size, size, now, draining)
            del self.packets.losing[stream]
        return True

    def _batch(self, stream: Stream, writer: PacketWriter) -> list[LostSegment]:
        """
        Lost segments of a stream that may be sent now, cut where they have become
        too long for the MTU (rule R5 allows cutting, not joining).
        """
        room = writer.room(self.mtu - self._sealer.overhead)
        free = self._window - self.packets.recovery.in_flight
        batch: list[LostSegment] = []
        while stream.lost and len(batch) < min(room, 32):
            segment = stream.lost[0]
            space = self._space(segment.offset)
            if len(segment.data) > space:
                view = memoryview(segment.data)
                rest = LostSegment(segment.offset + space, view[space:], segment.fin, 1)
                stream.lost[0] = rest
                segment = LostSegment(segment.offset, view[:space], False, segment.sendings)
                stream.lost.appendleft(segment)
            size = len(segment.data) + self._sealer.overhead + _HEAD_WIDE
            if not self._probes:
                if free < size:
                    break
                if self._credit <= 0:
                    self._wake = 0
                    break
            else:
                self._probes -= 1
            free -= size
            self._spend(size)
            batch.append(stream.lost.popleft())
        return batch

    def _send_new(self, now: int, writer: PacketWriter, acks: PendingAcks) -> None:
        """Take turns among the streams, a run each."""
        ready = self.ready
        while ready:
            stream = next(iter(ready))
            has_new = stream.queue.size > 0 or stream.has_new
            if has_new and not self._send_from(stream, now, writer, acks):
                return
            del ready[stream]
            if stream.queue.size:
                ready[stream] = None

    def _send_from(self, stream: Stream, now: int, writer: PacketWriter, acks: PendingAcks) -> bool:
        """
        Send at most a run of a stream.

        @return: whether something was sent.
        """
        queue = stream.queue
        offset = stream.sent
        space = self._space(offset)
        extensions = self._extensions
        riding = extensions.offering or (
            (acks.wanted or acks.announce)
            and (extensions.peer is Peer.BASELINE or queue.size <= space - _BLOCK)
        )
        if riding:
            space -= _BLOCK
        size = self._allowed(stream, space, now, writer)
        if size is None:
            return False
        data = queue.take(min(size, space) if riding else size)
        size = len(data)
        fin = stream.finishing and not queue.size
        stream.sent += size
        stream.unsettled += size
        stream.fin_sent = stream.fin_sent or fin
        if riding:
            segment = Segment(stream.number, offset, data, fin)
            payloads: Sequence[bytes] = (encode(acks.take_block(), segment),)
        else:
            payloads = cut(stream.number, offset, data, space, fin)
        overhead = self._sealer.overhead
        first = writer.send(payloads)
        run = SentRun(first, len(payloads), stream, offset, space, data, fin)
        each, last = len(payloads[0]) + overhead, len(payloads[-1]) + overhead
        self.packets.sent(run, each, last, now, self._draining)
        if self._evidence is not None:
            self._evidence.on_sent(size, first, now)
        self._plan_copies(run, now)
        self._starved_pings = 0
        self._spend((len(payloads) - 1) * each + last)
        return True

    def _plan_copies(self, run: SentRun, now: int) -> None:
        """
        Copy the beginnings of streams that were opened one after another, as a multiplexer does. A
        connection with one stream has none of this: what it begins with follows the handshake.
        """
        stream = run.stream
        if stream is not None and stream.number and self._extensions.peer is Peer.EXTENDED:
            self.packets.plan_copies(run, now)

    def _send_copies(self, now: int, writer: PacketWriter, acks: PendingAcks) -> None:
        """
        Send once more what was sent a while ago and has not arrived. What the window or, of
        many, the pacer does not let out now is not made up for.
        """
        packets, overhead = self.packets, self._sealer.overhead
        self._credit = self._pacer.allowed(now, self._rate)
        unpaced = UNPACED
        for run, index in packets.to_copy(now):
            stream = run.stream
            if self._credit < self.mtu:
                unpaced -= 1
            if (
                stream is None
                or unpaced < 0
                or not self._has_room()
                or not writer.room(self.mtu - overhead)
            ):
                break
            offer = acks.take_block() if self._extensions.offering else None
            offset, data, fin = run.segment(index)
            payload = encode(offer, Segment(stream.number, offset, data, fin))
            size = len(payload) + overhead
            if size > self.mtu:
                continue
            copy = SentRun(writer.send((payload,)), 1, original=run, copied=index)
            packets.sent(copy, size, size, now, self._draining)
            self._spend(size)
            self.retransmitted += 1

    def _allowed(self, stream: Stream, space: int, now: int, writer: PacketWriter) -> int | None:
        """
        Bytes of a stream that may be sent at once, whole segments if not all; 0 for
        an end alone, None for nothing.
        """
        room = writer.room(space + _HEAD_WIDE)
        if not room:
            return None
        queued = stream.queue.size
        if not queued:
            return 0
        packets = self.packets
        wanted = min(queued, space)
        given = self._given(wanted)
        if given < wanted:
            if not packets.stream_bytes:
                # Not from now on, or a probe is put off as long as there are acknowledgements.
                self._starved_at = now if self._starved_since == NEVER else self._starved_since
            return None
        datagram = self._sealer.overhead + _HEAD_WIDE + space
        free = self._window - packets.recovery.in_flight
        least = min(datagram, wanted + self._sealer.overhead + _HEAD_WIDE)
        if free < least:
            return None
        if self._credit < least:
            # A part of a datagram's credit is worth no system call of its own.
            self._wake = 0
            return None
        if queued <= space:
            return queued
        segments = min(room, run_capacity(datagram), free // datagram, self._credit // datagram)
        if stream.sent <= NARROW:
            segments = min(segments, (NARROW - stream.sent) // space)
        return min(queued, max(segments, 1) * space, given)

    def _space(self, offset: int) -> int:
        return max_data(self._sealer.kind, self.mtu, offset)

    def _spend(self, size: int) -> None:
        self._credit -= size
        self._pacer.credit -= size


def _controller(name: str, mtu: int, round_trip: RoundTrip) -> Controller:
    if name == "release":
        return ReleaseController(round_trip, mtu)
    if name == "cubic":
        return Cubic(mtu)
    return BBR(mtu)
