"""What to send next, and when: windows, pacing, retransmission (qotp.md 5.1 to 5.3, 6 and 7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from twisted_rudp.core.batch import RUN_BYTES
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.pacing import (
    Delivered,
    DeliveryRate,
    PreciseRoundTrip,
    RateController,
    ReleasePacing,
)
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.qotp.extensions import CONTROL, Extensions, Peer
from twisted_rudp.qotp.protection import PacketWriter, Sealer
from twisted_rudp.qotp.receiver import PendingAcks
from twisted_rudp.qotp.sent import ControlFrame, SentBatch, SentPackets
from twisted_rudp.qotp.settings import Settings
from twisted_rudp.qotp.streams import LostSegment, Stream
from twisted_rudp.qotp.wire import NARROW, Segment, cut, encode, max_data

FIRST_WINDOW: Final = 16 << 20
"""What a peer is taken to have room for until it says so (section 6)."""

SLACK: Final = 2 * MILLISECOND
"""Pacing lets go of so much at a time, so that it still sends runs."""

LEAST_TIMEOUT: Final = 50 * MILLISECOND
"""Least wait for an acknowledgement; the release's is 100 ms."""

LONGEST_WAIT: Final = 5 * SECOND
SMALLER_MTUS: Final = (1280, 1232, 1024, 576)

PROBES: Final = 2
"""Datagrams sent again when nothing was acknowledged for too long."""

_HEAD_WIDE: Final = 11
_BLOCK: Final = 16
"""What an acknowledgement adds at most."""


class Timer(IntEnum):
    """The timers of a connection."""

    HANDSHAKE = 0
    """The first message is to be sent again."""

    IDLE = 1
    """Nothing was heard of the peer for too long."""

    KEEP_ALIVE = 2
    """It is to be asked whether it is still there."""

    LOSS = 3
    """What later datagrams have overtaken counts as lost."""

    RETRANSMISSION = 4
    """Nothing was acknowledged for too long."""

    PACING = 5
    """More may be sent."""

    PATH = 6
    """A new address is to be challenged again."""

    CLOSE = 7
    """A close is to be looked at again."""


class Sender:
    """
    The sending half of a connection.

    @ivar mtu: longest datagram.
    @ivar frames: PINGs, resets and other control frames to be sent.
    @ivar ready: streams with something that was never sent.
    @ivar packets: what is in batch.
    @ivar control: how fast to send.
    @ivar peer_window: bytes that may be in flight by the peer's word.
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
        self.ready: dict[Stream, None] = {}
        self.packets = SentPackets()
        self.round_trip = PreciseRoundTrip(LEAST_TIMEOUT)
        self.control: RateController = DeliveryRate(self.round_trip, settings.mtu)
        if settings.congestion == "release":
            self.control = ReleasePacing(self.round_trip)
        self.peer_window = FIRST_WINDOW
        self.retransmitted = 0
        self._sealer = sealer
        self._extensions = extensions
        self._entropy = settings.entropy
        self._timers = timers
        self._wake = NEVER
        self._window_number = -1
        self._again = NEVER
        self._last_sent = 0
        self._backoff = 0
        self._probes = 0
        self._ready_at = 0
        self._starved_at = NEVER

    # news

    def note_window(self, number: int, window: int) -> None:
        """The peer's window, from the datagram with this number; only the newest counts (W4)."""
        if number >= self._window_number:
            self._window_number = number
            self.peer_window = window

    def acknowledged(
        self, range: tuple[int, int], more: Iterable[tuple[int, int]], now: int
    ) -> None:
        """
        An extended peer has received these packet numbers.

        @param range: the first number, and its end.
        @param more: ranges below the first.
        """
        packets = self.packets
        before = packets.total
        newest = packets.acknowledge(*range)
        for low, end in more:
            batch = packets.acknowledge(low, end)
            newest = newest or batch
        if newest is not None:
            self._progress(newest, before, now, exact=True)

    def segment_acknowledged(self, stream: int, offset: int, length: int, now: int) -> None:
        """The release has received this segment."""
        before = self.packets.total
        batch = self.packets.acknowledge_segment(stream, offset, length)
        if batch is None:
            self.control.duplicate()
        else:
            self._progress(batch, before, now, exact=False)

    def _progress(self, batch: SentBatch, before: int, now: int, exact: bool) -> None:
        packets = self.packets
        self._backoff = 0
        elapsed = 0
        # Which transmission of a repeated segment the release means is not known.
        if (exact or batch.sendings == 1) and self.round_trip.sample(now - batch.sent_at, now):
            elapsed = now - batch.sent_at
        if packets.total > before:
            self.control.delivered(
                Delivered(
                    now, packets.total - before, elapsed, batch.before, batch.since,
                    packets.total, batch.limited, packets.in_flight,
                )
            )  # fmt: skip
            packets.since = now
        self._arm()

    @property
    def starved(self) -> bool:
        """Only the peer's window holds the rest back."""
        return self._starved_at != NEVER

    def shrink(self, size: int) -> None:
        """The path takes no datagrams of C{size} bytes (0: of the present MTU)."""
        size = min(size or self.mtu, self.mtu)
        self.mtu = next((mtu for mtu in SMALLER_MTUS if mtu < size), self.mtu)

    # time

    def tick(self, now: int) -> None:
        """Give up on what was not acknowledged in time."""
        if self.packets.overtaken:
            self._find_lost(now)
        else:
            self._again = NEVER
        if now >= self._timeout_at():
            self._time_out(now)
        self._arm()

    def _time_out(self, now: int) -> None:
        self._backoff += 1
        if self.packets.pending:
            frames, size = self.packets.give_up_oldest(PROBES)
            self.frames.extend(frames)
            self._probes = PROBES
            if size:
                self.control.lost(size)
            self._last_sent = now
        else:
            self._starved_at = now
            self.frames.append(self.ping())

    def _timeout_at(self) -> int:
        if self.packets.pending:
            since = self._last_sent
        elif self._starved_at == NEVER:
            return NEVER
        else:
            since = self._starved_at
        wait = self.round_trip.timeout << self._backoff
        return since + (wait if wait < LONGEST_WAIT else LONGEST_WAIT)

    def _find_lost(self, now: int) -> None:
        trip = self.round_trip
        patience = max(trip.smoothed * 9 // 8, 2 * MILLISECOND)
        frames, size, again = self.packets.find_lost(now, patience)
        self._again = NEVER if again is None else again
        self.frames.extend(frames)
        if size:
            self.control.lost(size)

    def _arm(self) -> None:
        """Set the timers to what is known now."""
        timers = self._timers
        timers.set(Timer.RETRANSMISSION, self._timeout_at())
        timers.set(Timer.LOSS, self._again)
        timers.set(Timer.PACING, self._wake)

    # out

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
        self.ready.clear()
        self.frames.clear()
        self.packets = SentPackets()

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
        if self.packets.overtaken:
            self._find_lost(now)
        else:
            self._again = NEVER
        self._wake = self._starved_at = NEVER
        self._send(now, writer, acks)
        self._probes = 0
        self._arm()

    def _send(self, now: int, writer: PacketWriter, acks: PendingAcks) -> None:
        while self.frames and writer.room(_HEAD_WIDE + len(self.frames[0].body)):
            self._send_frame(self.frames.popleft(), now, writer, acks)
        if not self.packets.losing or self._retransmit(now, writer, acks):
            self._send_new(now, writer, acks)

    def _send_frame(
        self, frame: ControlFrame, now: int, writer: PacketWriter, acks: PendingAcks
    ) -> None:
        offer = acks.take_block() if self._extensions.offering else None
        payload = encode(offer, Segment(frame.stream, frame.offset, frame.body))
        first = writer.send([payload])
        self._track(SentBatch(first, 1, now, frame=frame))

    def _retransmit(self, now: int, writer: PacketWriter, acks: PendingAcks) -> bool:
        """
        @return: whether there is nothing left that was lost.
        """
        offer = acks.take_block() if self._extensions.offering else None
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
                self.retransmitted += len(batch)
                for number, each in enumerate(batch, first):
                    stream.unsettled += len(each.data)
                    self._track(
                        SentBatch(
                            number,
                            1,
                            now,
                            stream=stream,
                            offset=each.offset,
                            size=len(each.data),
                            data=each.data,
                            fin=each.fin,
                            sendings=each.sendings + 1,
                        )
                    )
                self._pace(now, sum(map(len, payloads)))
            del self.packets.losing[stream]
        return True

    def _batch(self, stream: Stream, writer: PacketWriter) -> list[LostSegment]:
        """
        Lost segments of a stream that may be sent now, cut where they have become
        too long for the MTU (rule R5 allows cutting, not joining).
        """
        room = writer.room(self.mtu - self._sealer.overhead)
        free = self.control.window() - self.packets.in_flight
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
            if free < len(segment.data) and not self._probes:
                break
            self._probes = max(self._probes - 1, 0)
            free -= len(segment.data)
            batch.append(stream.lost.popleft())
        return batch

    def _send_new(self, now: int, writer: PacketWriter, acks: PendingAcks) -> None:
        """Take turns among the streams, a run each."""
        ready = self.ready
        while ready:
            stream = next(iter(ready))
            if stream.has_new and not self._send_from(stream, now, writer, acks):
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
            acks.pending and (extensions.peer is Peer.BASELINE or queue.size <= space - _BLOCK)
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
        first = writer.send(payloads)
        batch = SentBatch(first, len(payloads), now, stream, offset, space, data, fin)
        self._last_sent = now
        packets = self.packets
        packets.sent(batch)
        batch.limited = not queue.size and packets.in_flight < self.control.window() // 2
        self._pace(now, size)
        return True

    def _allowed(self, stream: Stream, space: int, now: int, writer: PacketWriter) -> int | None:
        """
        Bytes of a stream that may be sent at once, whole segments if not all; 0 for
        an end alone, None for nothing.
        """
        if self._ready_at > now + SLACK:
            self._wake = min(self._wake, self._ready_at - SLACK // 2)
            return None
        room = writer.room(space + _HEAD_WIDE)
        if not room:
            return None
        queued = stream.queue.size
        if not queued:
            return 0
        in_flight = self.packets.in_flight
        free = min(self.control.window(), self.peer_window) - in_flight
        wanted = min(queued, space)
        if free < wanted:
            if not in_flight and self.peer_window < wanted:
                self._starved_at = self._last_sent if self._last_sent else now
            return None
        if queued <= space:
            return queued
        pause = self.control.pause(self.mtu)
        paced = (now + SLACK - max(self._ready_at, now)) // pause + 1 if pause else RUN_BYTES
        segments = min(room, max(paced, 2), RUN_BYTES // self.mtu)
        segments = min(segments, max(free // space, 1))
        if stream.sent <= NARROW:
            segments = min(segments, max((NARROW - stream.sent) // space, 1))
        return min(queued, segments * space, free)

    def _space(self, offset: int) -> int:
        return max_data(self._sealer.kind, self.mtu, offset)

    def _track(self, batch: SentBatch) -> None:
        self._last_sent = batch.sent_at
        self.packets.sent(batch)

    def _pace(self, now: int, size: int) -> None:
        start = self._ready_at if self._ready_at > now else now
        self._ready_at = start + self.control.pause(size)
