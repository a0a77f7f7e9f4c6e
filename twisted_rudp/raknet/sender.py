"""The sending half: what goes into datagrams, and when (raknet.md 9, 10 and 15)."""

from __future__ import annotations

from collections import deque

from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.raknet.bulk import FRAME_HEADER, STREAM_FRAME, Bulk
from twisted_rudp.raknet.channels import SendChannel
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.flights import Packet, Parcel
from twisted_rudp.raknet.inflight import InFlight
from twisted_rudp.raknet.outbox import Batch, Outbox, Outgoing
from twisted_rudp.raknet.packing import Packer
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.wire import (
    CONTINUED,
    DATA,
    HAS_ORDER,
    HEADER_SIZE,
    IP_UDP,
    IS_SEQUENCED,
    WHEN_SPLIT,
    ZERO,
    Reliability,
    Starts,
    pack_header,
)

BURST = 16
"""Datagrams that may always leave in one turn (raknet.md 10)."""

BURST_SHARE = 4
"""A window this many times larger than a turn's burst is spread over as many turns."""


class Draft:
    """A datagram in the making."""

    __slots__ = ("frames", "parcels", "receipts", "repeats", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.frames: list[bytes] = []
        self.parcels: list[Parcel] = []
        self.receipts: list[Outgoing] = []
        self.repeats = 0

    def add(self, frame: bytes) -> None:
        """Append a frame."""
        self.frames.append(frame)
        self.room -= len(frame)


class Sender:
    """
    @ivar flying: what is in flight.
    @ivar outbox: messages that the window has not admitted.
    @ivar datagram: bytes of a full datagram; until agreed, what fits every path.
    """

    def __init__(
        self, settings: Settings, counters: Counters, starts: Starts = ZERO
    ) -> None:
        self._settings = settings
        self._counters = counters
        self.flying = InFlight(settings, counters, starts[:2])
        self._starts = starts
        self._zero = SendChannel(starts.order, starts.sequence)
        self._channels = {0: self._zero}
        self._urgent: deque[Outgoing] = deque()
        self._stream = ByteQueue()
        self.outbox = Outbox(self._zero)
        self._bulk = Bulk(
            settings, counters, self.flying, self._stream, self.outbox, self._zero
        )
        self._receipt = 0
        self._ident = starts.split
        self.agree(settings.mtu_min)

    def agree(self, mtu: int) -> None:
        """Both ends know the MTU, as the wire counts it."""
        self.datagram = mtu - IP_UDP
        self.outbox.whole = self._whole = self._settings.whole(mtu)
        self._fragment = self._settings.fragment(mtu)
        self._bulk.agree(self.datagram, self._whole)
        self.flying.begin(self.datagram)

    def shrink(self, datagram: int) -> None:
        """
        The path does not take datagrams of so many bytes: what is numbered from now
        on is smaller.
        """
        smaller = [size for size in self._settings.probes if size - IP_UDP < datagram]
        mtu = smaller[0] if smaller else self._settings.mtu_min
        if mtu - IP_UDP < self.datagram:
            self.agree(mtu)

    # what is to be sent

    @property
    def unsent(self) -> int:
        """Bytes of the application's that wait for the window."""
        return self._stream.size + self.outbox.size

    @property
    def urgent(self) -> int:
        """Messages of the protocol's own that wait."""
        return len(self._urgent)

    @property
    def drained(self) -> bool:
        """Everything reliable was sent and acknowledged."""
        return not (
            self.flying.outstanding or self._urgent or self._stream.size or self.outbox.size
        )

    def write(self, data: bytes) -> None:
        """Queue bytes of the stream."""
        self._stream.append(data)

    def system(self, payload: bytes, reliability: int = Reliability.RELIABLE_ORDERED) -> Outgoing:
        """Queue a message of the protocol's own, before everything else, on channel 0."""
        message = self._outgoing(payload, reliability, 0)
        self._urgent.append(message)
        return message

    def send(
        self,
        payload: bytes,
        reliability: int,
        channel: int,
        priority: int,
        wants_receipt: bool,
    ) -> int | None:
        """
        Queue a message.

        @return: its receipt.
        @raise ValueError: it would have too many fragments.
        """
        is_whole = len(payload) <= self._whole
        fragments = 1 if is_whole else -(-len(payload) // self._fragment)
        if fragments > self._settings.split_count:
            most = self._settings.split_count * self._fragment
            raise ValueError(f"a message has at most {most} bytes here, not {len(payload)}")
        if not is_whole:
            reliability = WHEN_SPLIT[reliability]
        message = self._outgoing(payload, reliability, channel)
        if not is_whole:
            message.split(self._fragment)
        if wants_receipt:
            self._receipt += 1
            message.receipt = self._receipt
        self.outbox.put(message, priority)
        return message.receipt

    def _outgoing(self, payload: bytes, reliability: int, channel: int) -> Outgoing:
        self.outbox.interrupt()
        order = sequence = 0
        if IS_SEQUENCED[reliability]:
            order, sequence = self._channel(channel).sequenced()
        elif HAS_ORDER[reliability]:
            order = self._channel(channel).ordered()
        return Outgoing(payload, reliability, channel, order, sequence)

    def _channel(self, number: int) -> SendChannel:
        found = self._channels.get(number)
        if found is None:
            found = self._channels[number] = SendChannel(
                self._starts.order, self._starts.sequence
            )
        return found

    def release(self) -> None:
        """Drop everything, telling receipts."""
        self._stream.clear()
        self._urgent.clear()
        for message in self.outbox.release():
            self.flying.receipt(message, False)
        self.flying.release()

    # sending

    def flush(self, now: int, packer: Packer, budget: int, strict: bool) -> bool:
        """
        Send what may be sent now: repeats, then the protocol's own, then new data.

        @param strict: nothing may cross the budget.
        @return: something is left that only the budget or the burst prevented.
        """
        flying = self.flying
        flying.expire(now)
        self.outbox.stamp(now)
        if flying.gaps:
            self._fill_gaps(packer)
        if not (flying.lost or self._urgent or self.outbox.size or self._stream.size):
            flying.limited = False
            return False
        burst = max(BURST * self.datagram, flying.controller.window // BURST_SHARE)
        end = min(budget, packer.cost + burst)
        first = DATA
        while flying.lost or self._urgent or self.outbox.size or self._stream.size:
            if packer.blocked:
                return False
            left = end - packer.cost
            if left <= 0:
                return True
            is_bulk = not (flying.lost or self._urgent)
            if not (is_bulk and self._bulk.send(now, packer, left, strict)):
                limit = min(self.datagram, left) if strict else self.datagram
                draft = Draft(limit - HEADER_SIZE)
                self._fill(draft, now)
                if not draft.frames:
                    break
                packer.add(self._packet(draft, now, first))
            first = CONTINUED
        flying.limited = bool(flying.lost or self.outbox.size or self._stream.size)
        return False

    def _fill_gaps(self, packer: Packer) -> None:
        """Send datagrams again under numbers that the peer may be missing."""
        gaps, self.flying.gaps = self.flying.gaps, []
        self._counters.gaps_filled += len(gaps)
        for number, frames in gaps:
            packer.add(pack_header(number, DATA) + frames)

    def _fill(self, draft: Draft, now: int) -> None:
        """Put frames into a datagram until it is full or the windows are."""
        most = 1 << 16 if self._settings.packed else 1
        self._fill_lost(draft, most)
        while self._urgent and len(draft.frames) < most:
            if not self._add(draft, self._urgent[0]):
                return
            self._urgent.popleft()
        for priority in self.outbox.priorities():
            self._fill_from(draft, priority, most, now)
        if draft.frames and len(draft.frames) < most and self._stream.size:
            self._fill_stream(draft)

    def _fill_lost(self, draft: Draft, most: int) -> None:
        flying = self.flying
        lost = flying.lost
        while lost and len(draft.frames) < most and flying.may_repeat:
            parcel = lost[0]
            size = len(parcel.data)
            if parcel.done:
                lost.popleft()
                continue
            if size > draft.room and (draft.frames or size + HEADER_SIZE <= self.datagram):
                return
            if flying.room < size and flying.bytes:
                return
            lost.popleft()
            draft.add(parcel.data)
            draft.parcels.append(parcel)
            draft.repeats = max(draft.repeats, parcel.repeats)
            flying.resent(parcel)

    def _fill_stream(self, draft: Draft) -> None:
        """Put the rest of the stream beside other frames if all of it fits."""
        flying = self.flying
        size = self._stream.size + STREAM_FRAME
        if size > draft.room or size > flying.room or flying.frames_room <= 0:
            return
        frame = self._bulk.frame()
        draft.add(frame)
        draft.parcels.append(Parcel(frame, flying.reliable, None))
        flying.sent(1, size)

    def _fill_from(self, draft: Draft, priority: int, most: int, now: int) -> None:
        """Take from the queue of one priority."""
        outbox, flying = self.outbox, self.flying
        while len(draft.frames) < most:
            message = outbox.head(priority)
            if message is None:
                return
            if isinstance(message, Batch):
                size = FRAME_HEADER + message.size
                if (draft.frames and size > draft.room) or not self._may_send(size):
                    return
                message = outbox.single(message)
            if not message.is_reliable:
                if (message.queued or now) + self._settings.unreliable_age < now:
                    flying.receipt(outbox.drop(priority), False)
                    self._counters.messages_stale += 1
                    continue
            elif not self._may_cut(message):
                return
            before = message.left
            if not self._add(draft, message):
                return
            outbox.took(priority, before - message.left)

    def _may_cut(self, message: Outgoing) -> bool:
        """The windows admit the next frame of a reliable message."""
        if not self._may_send(message.next_size):
            return False
        starts = message.fragments > 1 and not message.cut
        return not starts or self.flying.open_splits < self._settings.send_splits

    def _may_send(self, size: int) -> bool:
        """The windows admit a frame of this size."""
        flying = self.flying
        return flying.frames_room > 0 and (flying.room >= size or not flying.bytes)

    def _add(self, draft: Draft, message: Outgoing) -> bool:
        """Put the next frame of a message into a datagram if it fits."""
        size = message.next_size
        if size > draft.room and (draft.frames or size + HEADER_SIZE <= self.datagram):
            # What is longer than a datagram dates from before the MTU shrank.
            return False
        flying = self.flying
        if message.fragments > 1 and not message.cut:
            message.ident = self._ident
            self._ident = self._ident + 1 & 0xFFFF
            flying.open_splits += 1
        frame = message.next_frame(flying.reliable)
        draft.add(frame)
        if message.is_reliable:
            draft.parcels.append(Parcel(frame, flying.reliable, message))
            flying.sent(1, len(frame))
        elif message.receipt is not None:
            draft.receipts.append(message)
        return True

    def _packet(self, draft: Draft, now: int, first: int) -> bytes:
        flying = self.flying
        number = flying.number
        flying.number += 1
        flight = Packet(number, draft.parcels, draft.receipts, now)
        flying.launch(flight, now, draft.repeats)
        self._counters.datagrams_sent += 1
        return pack_header(number, first) + b"".join(draft.frames)
