"""The sending half: what goes into datagrams, and when (raknet.md 9, 10 and 15)."""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted_rudp.core.batch import RunWriter, run_capacity
from twisted_rudp.core.congestion import Controller, FixedWindow
from twisted_rudp.core.pacer import NEAR, Pacer
from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.core.recovery import COPIED_BEFORE, COPY_SHARE
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.kernels import frame_messages, frame_stream
from twisted_rudp.raknet import timers as t
from twisted_rudp.raknet.queue import MessageBatch, OutgoingMessage, SendChannel, SendQueue
from twisted_rudp.raknet.sent import Build, SentBatch, SentFrame, SentPacket, SentPackets
from twisted_rudp.raknet.settings import Settings
from twisted_rudp.raknet.wire import (
    CONTINUED,
    DATA,
    FRAME_HEADER,
    HAS_ORDER,
    HEADER_BYTES,
    HEADER_SIZE,
    IP_UDP,
    IS_SEQUENCED,
    MAX_PAYLOAD,
    PRIORITIES,
    STREAM_FRAME,
    STREAM_LEAD,
    WHEN_SPLIT,
    MessageId,
    Reliability,
    pack_frame_header,
    pack_header,
    parse_frames,
)

BURST: Final = 16
"""Datagrams that may always leave in one turn (raknet.md 10)."""

BURST_SHARE: Final = 4
"""A window this many times larger than a turn's burst is spread over as many turns."""

MOST_IN_FLIGHT: Final = 6 << 20
"""Bytes in flight, whatever the controller says: start-up on 100 Mbit/s and 200 ms takes
5.8 million. It bounds what a session keeps whose path delivers nothing any more."""

PROBES: Final = 2
"""Datagrams that leave when nothing was heard for too long, whatever the window says."""

LEAST_WAIT: Final = 1_000_000
"""Nanoseconds: a shorter timer costs more than it brings."""

PAUSE: Final = 2_000_000
"""Nanoseconds without anything to be sent that mean that the application is the limit; a
producer is asked for more as soon as all has left."""

MOST_LONG_LOST: Final = 6
"""So many long datagrams lost, and none acknowledged, raise the suspicion that the path
swallows them."""

PATH_TRIALS: Final = 3
"""Long datagrams that are lost before the MTU shrinks."""

SHORT_HEARD: Final = 2
"""Acknowledgements of short datagrams in the meantime that make it a matter of their sizes."""

NOTHING: Final = bytes((MessageId.DETECT_LOST_CONNECTIONS,))
"""A message that means nothing: its acknowledgement is all there is to it (raknet.md 11.1)."""

_UNRELIABLE_HEADER: Final = HEADER_BYTES[0]

ORDERED: Final = int(Reliability.RELIABLE_ORDERED)


class Draft:
    """
    A datagram in the making.

    @ivar alone: its reliable frames are the protocol's own (L{SentFrame}).
    """

    __slots__ = ("alone", "frames", "messages", "room", "sent_frames")

    def __init__(self, room: int) -> None:
        self.room = room
        self.alone = False
        self.frames: list[bytes] = []
        self.sent_frames: list[SentFrame] = []
        self.messages: list[OutgoingMessage] = []

    def add(self, frame: bytes) -> None:
        """Append a frame."""
        self.frames.append(frame)
        self.room -= len(frame)


class Bulk:
    """
    Sends runs of the stream, or of messages that are equally long: what is alike is put into
    datagrams, entered as in flight and given to the port a run at a time. Its frames are
    reliable and ordered on channel 0; the slow path of the peer, or ours, understands the same
    datagrams one by one.

    @ivar mss: bytes of the stream in each datagram.
    @ivar run: bytes of a whole run of the stream.
    """

    __slots__ = (
        "_copied",
        "_datagram",
        "_queue",
        "_sent",
        "_settings",
        "_stream",
        "_zero",
        "mss",
        "run",
    )

    def __init__(
        self,
        settings: Settings,
        sent: SentPackets,
        stream: ByteQueue,
        queue: SendQueue,
        zero: SendChannel,
    ) -> None:
        """
        @param zero: channel 0.
        """
        self._settings = settings
        self._sent = sent
        self._stream = stream
        self._queue = queue
        self._zero = zero
        self._copied: list[tuple[int, int]] = []

    def agree(self, datagram: int, whole: int) -> None:
        """
        @param datagram: bytes of a full one.
        @param whole: longest payload of a frame.
        """
        self._datagram = datagram
        self.mss = min(whole, MAX_PAYLOAD) - 1
        size = STREAM_LEAD + self.mss
        self.run = run_capacity(size) * size

    def send_pieces(
        self, count: int, now: int, writer: RunWriter, draining: bool, limited: bool = False
    ) -> int:
        """
        Send so many pieces of the stream, or what there is.

        @param draining: the controller's.
        @param limited: the application, not the window, has held the flow back.
        @return: bytes sent.
        """
        sent, mss = self._sent, self.mss
        data = self._stream.take(count * mss)
        count = -(-len(data) // mss)
        # As C{ordered} does.
        zero = self._zero
        order = zero.order
        zero.order, zero.sequence = order + count, 0
        number, reliable = sent.recovery.next, sent.reliable
        user_id = self._settings.user_id
        run = frame_stream(number, reliable, order, user_id, mss, data)

        def build(index: int) -> bytes:
            piece = memoryview(data)[index * mss : (index + 1) * mss]
            return frame_stream(
                number + index, reliable + index, order + index, user_id, mss, piece
            )

        size = STREAM_LEAD + mss
        length = self._enter(run, size, count, 1, build, now, writer, draining, limited)
        if self._copied:
            self._plan_copies(number, len(data), now)
        return length

    def send(self, now: int, writer: RunWriter, room: int, strict: bool, draining: bool) -> int:
        """
        Send a run of what is next if that comes in runs.

        @param room: bytes that may leave; with C{strict} no more, else at least a datagram.
        @param draining: the controller's.
        @return: bytes sent.
        """
        if not self._queue.size:
            if not self._stream.size:
                return 0
            return self._send_stream(now, writer, room, strict, draining)
        following = self._queue.next_batch()
        if following is None:
            return 0
        batch, alone = following
        return self._send_messages(batch, alone, now, writer, room, strict, draining)

    def copy_next(self, size: int) -> None:
        """So many bytes of what is queued next are sent again soon after they left, twice."""
        self._copied.append((self._stream.size, self._stream.size + size))

    def _plan_copies(self, number: int, length: int, now: int) -> None:
        """
        So many bytes have left in datagrams from this number on, and among them there may be
        something that is to be copied.
        """
        sent, mss, left = self._sent, self.mss, []
        smoothed = sent.round_trip.smoothed
        for start, end in self._copied:
            if start < length and smoothed >= NEAR:
                first = number + max(start, 0) // mss
                past = number - (-min(end, length) // mss)
                if past - sent.edge <= COPIED_BEFORE:
                    first = min(first, sent.edge)
                sent.copies.plan(now, smoothed // COPY_SHARE, first, past)
            if end > length:
                left.append((start - length, end - length))
        self._copied = left

    def frame(self, now: int) -> bytes:
        """All that is left of the stream, as one frame for the next datagram."""
        data = self._stream.take(self._stream.size)
        if self._copied:
            self._plan_copies(self._sent.number, len(data), now)
        order = self._zero.ordered()
        reliable, user_id = self._sent.reliable, self._settings.user_id
        return frame_stream(0, reliable, order, user_id, self.mss, data)[HEADER_SIZE:]

    def _count(self, size: int, per: int, room: int, strict: bool) -> int:
        """How many datagrams of this size, with so many frames, may leave now."""
        count = room // size
        if count < 1 and not strict:
            count = 1
        frames, capacity = self._sent.frames_room // per, run_capacity(size)
        if count > frames:
            count = frames
        return count if count < capacity else capacity

    def _send_stream(
        self, now: int, writer: RunWriter, room: int, strict: bool, draining: bool
    ) -> int:
        count = self._count(STREAM_LEAD + self.mss, 1, room, strict)
        if count <= 0:
            return 0
        return self.send_pieces(count, now, writer, draining)

    def _send_messages(
        self,
        batch: MessageBatch,
        alone: bool,
        now: int,
        writer: RunWriter,
        room: int,
        strict: bool,
        draining: bool,
    ) -> int:
        """
        @param alone: nothing waits that could fill up the last datagram.
        """
        frame = FRAME_HEADER + batch.size
        per = max((self._datagram - HEADER_SIZE) // frame, 1) if self._settings.packed else 1
        waiting = len(batch.messages)
        if waiting < per:
            if not alone:
                return 0
            per = waiting
        elif not alone:
            waiting -= waiting % per
        size = HEADER_SIZE + per * frame
        count = min(self._count(size, per, room, strict) * per, waiting)
        if count <= 0:
            return 0
        sent, order = self._sent, batch.order
        number, reliable = sent.number, sent.reliable
        messages = self._queue.cut(batch, count)
        run = frame_messages(number, reliable, order, per, messages)

        def build(index: int) -> bytes:
            at = index * per
            return frame_messages(
                number + index, reliable + at, order + at, per, messages[at : at + per]
            )

        return self._enter(run, size, count, per, build, now, writer, draining)

    def _enter(
        self,
        run: bytes,
        size: int,
        frames: int,
        per: int,
        build: Build,
        now: int,
        writer: RunWriter,
        draining: bool,
        limited: bool = False,
    ) -> int:
        sent, length = self._sent, len(run)
        number = sent.recovery.next
        batch = SentBatch(number, (sent.reliable, frames, per), length, size, build, now)
        last = length - (batch.end - number - 1) * size
        sent.enter(batch, now, size, last, draining, frames, limited)
        if length <= size:
            writer.add(run)
        else:
            writer.add_run(run, size)
        return length


class Sender:
    """
    @ivar sent: what was sent.
    @ivar queue: messages that the window has not admitted.
    @ivar mtu: as the wire counts it.
    @ivar datagram: bytes of a full datagram; until agreed, what fits every path.
    @ivar controller: says how much may be in flight, and how fast it leaves.
    @ivar stuck_since: when it was clear that not even the smallest full datagrams pass.
    @ivar ident: of the next split message. It may be set before the first.
    """

    __slots__ = (
        "_agreed",
        "_bulk",
        "_channels",
        "_drained_at",
        "_fragment",
        "_pacer",
        "_probes",
        "_receipt",
        "_settings",
        "_stream",
        "_timers",
        "_trials",
        "_urgent",
        "_whole",
        "_zero",
        "controller",
        "datagram",
        "ident",
        "mtu",
        "queue",
        "sent",
        "stuck_since",
    )

    def __init__(self, settings: Settings, timers: Timers) -> None:
        self._settings = settings
        self._timers = timers
        self.sent = SentPackets(settings)
        self._zero = SendChannel()
        self._channels = {0: self._zero}
        self._urgent: deque[OutgoingMessage] = deque()
        self._stream = ByteQueue()
        self.queue = SendQueue(self._zero)
        self._bulk = Bulk(settings, self.sent, self._stream, self.queue, self._zero)
        self._receipt = 0
        self._probes = 0
        self._drained_at = 0
        self.ident = 0
        self.controller: Controller = FixedWindow()
        self.begin(settings.mtu_min)

    def begin(self, mtu: int) -> None:
        """Both ends know the MTU, as the wire counts it."""
        self._agreed = mtu
        self._resize(mtu)
        self.controller = self._settings.controller(self.datagram)
        self._pacer = Pacer(self.datagram, BURST * self.datagram)

    def _resize(self, mtu: int) -> None:
        self.mtu = mtu
        self.datagram = mtu - IP_UDP
        smaller = self._smaller(self.datagram) - IP_UDP
        self.sent.long = smaller if smaller < self.datagram else self.datagram // 2
        self.stuck_since = NEVER
        self.sent.long_lost = self.sent.short_heard = 0
        self._trials = 0
        self._timers.stop(t.PATH)
        self.queue.whole = self._whole = self._settings.whole(mtu)
        self._fragment = self._settings.fragment(mtu)
        self._bulk.agree(self.datagram, self._whole)

    def shrink(self, datagram: int) -> bool:
        """
        The path does not take datagrams of so many bytes: what is numbered from now
        on is smaller.

        @return: there is a smaller size.
        """
        mtu = self._smaller(datagram)
        if mtu - IP_UDP >= self.datagram:
            return False
        self._resize(mtu)
        return True

    def _smaller(self, datagram: int) -> int:
        """The next size below datagrams of so many bytes, as the wire counts it."""
        smaller = [size for size in self._settings.probes if size - IP_UDP < datagram]
        return smaller[0] if smaller else self._settings.mtu_min

    def try_path(self, now: int) -> bool:
        """
        See whether the path swallows long datagrams: several were lost while short ones pass
        (RFC 8899 4.4). Since a peer without room for more acknowledges none of them either,
        a long datagram that asks for nothing has to be lost several times too.

        @return: one of those is to be sent now (L{path_trial}).
        """
        sent, timers = self.sent, self._timers
        if sent.long_lost < MOST_LONG_LOST:
            if not sent.long_lost:
                self.stuck_since = NEVER
            self._trials = 0
            timers.stop(t.PATH)
            return False
        if self._trials and now < timers.due[t.PATH]:
            return False
        if self._trials >= PATH_TRIALS:
            self._trials = 0
            timers.stop(t.PATH)
            if sent.short_heard < SHORT_HEARD:
                # Hardly anything passes: that is not about sizes.
                sent.long_lost = 0
            elif not self.shrink(self.datagram) and self.stuck_since == NEVER:
                self.stuck_since = now
            return False
        if not self._trials:
            sent.short_heard = 0
        self._trials += 1
        timers.set(t.PATH, now + max(sent.timeout, 2 * sent.round_trip.smoothed))
        return True

    @property
    def reduced(self) -> bool:
        """The path has taken no datagrams of the agreed size."""
        return self.mtu < self._agreed

    def longer(self) -> int:
        """The next size above the present one, as the wire counts it."""
        sizes = [size for size in self._settings.probes if self.mtu < size < self._agreed]
        return min(sizes, default=self._agreed)

    def try_longer(self, ping: bytes, now: int, writer: RunWriter) -> None:
        """Send a ping as long as datagrams may become (RFC 8899 5.2)."""
        size = self.longer() - IP_UDP
        head = HEADER_SIZE + _UNRELIABLE_HEADER
        payload = ping + bytes(size - head - len(ping))
        draft = Draft(size - HEADER_SIZE)
        draft.add(pack_frame_header(int(Reliability.UNRELIABLE), len(payload)) + payload)
        writer.finish()
        writer.add(self._packet(draft, now, CONTINUED, self.controller.draining))

    def grow(self) -> None:
        """Longer datagrams pass by now."""
        self._resize(self.longer())

    def path_trial(self, ping: bytes) -> None:
        """Send a ping as long as the datagrams are, and another one."""
        padding = bytes(self.datagram - HEADER_SIZE - _UNRELIABLE_HEADER - len(ping))
        for payload in (ping + padding, ping):
            self.system(payload, int(Reliability.UNRELIABLE))

    # what is to be sent

    @property
    def unsent(self) -> int:
        """Bytes of the application's that wait for the window."""
        return self._stream.size + self.queue.size

    @property
    def urgent(self) -> int:
        """Messages of the protocol's own that wait."""
        return len(self._urgent)

    @property
    def drained(self) -> bool:
        """Everything reliable was sent and acknowledged."""
        return not (self.sent.outstanding or self._urgent or self._stream.size or self.queue.size)

    def write(self, data: bytes) -> None:
        """Queue bytes of the stream."""
        self._stream.append(data)

    def copy_next(self, size: int) -> None:
        """So many bytes of what is written next are sent again soon after they left, twice."""
        self._bulk.copy_next(size)

    def system(self, payload: bytes, reliability: int = ORDERED) -> OutgoingMessage:
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
            reliability = int(WHEN_SPLIT[reliability])
        message = self._outgoing(payload, reliability, channel)
        if not is_whole:
            message.split(self._fragment)
        if wants_receipt:
            self._receipt += 1
            message.receipt = self._receipt
        self.queue.put(message, priority)
        return message.receipt

    def _outgoing(self, payload: bytes, reliability: int, channel: int) -> OutgoingMessage:
        self.queue.interrupt()
        order = sequence = 0
        if IS_SEQUENCED[reliability]:
            order, sequence = self.channel(channel).sequenced()
        elif HAS_ORDER[reliability]:
            order = self.channel(channel).ordered()
        return OutgoingMessage(payload, reliability, channel, order, sequence)

    def channel(self, number: int) -> SendChannel:
        """The indices of what is sent on one channel."""
        found = self._channels.get(number)
        if found is None:
            found = self._channels[number] = SendChannel()
        return found

    def release(self) -> None:
        """Drop everything, telling receipts."""
        self._stream.clear()
        self._urgent.clear()
        for message in self.queue.release():
            self.sent.tell(message, False)
        self.sent.release()
        self._probes = 0
        for timer in (t.LOSS, t.PROBE, t.FILL, t.PACE, t.COPY):
            self._timers.stop(timer)

    # sending

    def flush(self, now: int, writer: RunWriter, budget: int, strict: bool) -> bool:
        """
        Send what may be sent now: retransmissions, then the protocol's own, then new data.

        @param strict: nothing may cross the budget.
        @return: something is left that only the budget or the burst prevented.
        """
        sent, controller, due = self.sent, self.controller, self._timers.due
        recovery = sent.recovery
        if recovery.news or now >= recovery.loss_at:
            sent.turn(now, controller)
        # News of this turn may have put it off.
        if now >= due[t.PROBE] and now >= recovery.probe_deadline():
            self._probes = PROBES if sent.probe(now, controller) else 0
        if now >= sent.fill_due:
            sent.fill(now)
        if now >= sent.copies.due:
            sent.copy(now)
        due[t.PACE] = NEVER
        if sent.gaps:
            self._fill_gaps(writer)
        more = False
        if sent.lost or self._urgent or self.queue.size:
            self.queue.stamp(now)
            more = self._send(now, writer, budget, strict)
        elif self._stream.size:
            if (
                self._stream.size <= self._bulk.mss
                and not strict
                and budget >= self.datagram
                and recovery.in_flight < min(controller.window, MOST_IN_FLIGHT)
                and sent.frames_room > 0
            ):
                # What a flow sends that waits for answers: the pacer does not hold it back.
                limited = not recovery.in_flight or self._has_paused(now)
                self._pacer.credit -= self._bulk.send_pieces(
                    1, now, writer, controller.draining, limited
                )
                self._drained_at = now
            else:
                more = self._send(now, writer, budget, strict)
        due[t.LOSS] = recovery.loss_at
        due[t.PROBE] = recovery.probe_deadline()
        due[t.FILL] = sent.fill_due
        due[t.COPY] = sent.copies.due
        return more

    def _has_something(self) -> bool:
        return bool(self.sent.lost or self._urgent or self.queue.size or self._stream.size)

    def _has_paused(self, now: int) -> bool:
        """There was nothing to be sent for so long that the application is the limit."""
        return self._drained_at != NEVER and now - self._drained_at > PAUSE

    def _send(self, now: int, writer: RunWriter, budget: int, strict: bool) -> bool:
        """As L{flush}, what waits, as far as window, pacing and burst admit it."""
        sent, controller, pacer = self.sent, self.controller, self._pacer
        recovery, run = sent.recovery, self._bulk.run
        if self._has_paused(now):
            recovery.on_app_limited()
        self._drained_at = NEVER
        window, rate = min(controller.window, MOST_IN_FLIGHT), controller.pacing_rate
        draining = controller.draining
        pacer.adapt(sent.round_trip.least)
        paced = pacer.allowed(now, rate)
        start = writer.cost
        burst = self._burst(window)
        end = min(start + burst, budget)
        # What is less than half of a run waits: for the next turn, and on a near path for the
        # next acknowledgement, which is sure to come while so much is in flight.
        near = 0 < sent.round_trip.least < NEAR and window > 4 * run
        bulky = not strict and burst >= run and self.unsent > run
        first = DATA
        more = False
        while not writer.blocked and self._has_something():
            left = end - writer.cost
            if left <= 0:
                more = True
                break
            room = window - recovery.in_flight
            if bulky and not (sent.lost or self._urgent):
                if 2 * left < run and end > start + left:
                    more = True
                    break
                if near and 0 < 2 * room < run:
                    break
            credit = paced - (writer.cost - start)
            if room > credit:
                room = credit
            if first == CONTINUED and room < self.datagram and (
                room == credit or (bulky and not sent.lost)
            ):
                # A part of a datagram's credit is worth no system call of its own, and a queue
                # on the way may have no place for what exceeds it.
                room = 0
            if not (room > 0 or self._probes or self._urgent):
                self._wait(now, rate, window > recovery.in_flight)
                break
            if not self._send_next(now, writer, room, left, strict, first, draining):
                break
            first = CONTINUED
        if rate > 0.0:
            pacer.credit -= writer.cost - start
        if not self._has_something():
            self._drained_at = now
        return more

    def _burst(self, window: int) -> int:
        """Bytes that may leave at once: a share of the window, in whole runs if it has one."""
        burst, run = window // BURST_SHARE, self._bulk.run
        if burst < BURST * self.datagram:
            return BURST * self.datagram
        return burst if burst <= run else burst + -burst % run

    def _send_next(
        self,
        now: int,
        writer: RunWriter,
        room: int,
        left: int,
        strict: bool,
        first: int,
        draining: bool,
    ) -> bool:
        """
        Send a run of bulk data if that is next, else a datagram of whatever is.

        @param room: bytes that window and pacing admit; 0: only what does not ask them.
        @param left: bytes that may leave; without C{strict} a datagram may exceed them.
        @param first: the first byte of a datagram.
        @return: False if the peer's window of numbers, or the budget, is the limit.
        """
        is_open = room > 0 or self._probes > 0
        if strict or room > left:
            room = left
        if (
            room > 0
            and not (self.sent.lost or self._urgent)
            and self._bulk.send(now, writer, room, strict, draining)
        ):
            return True
        limit = min(self.datagram, left) if strict else self.datagram
        draft = Draft(limit - HEADER_SIZE)
        self._fill(draft, now, is_open)
        if not draft.frames:
            return False
        writer.add(self._packet(draft, now, first, draining))
        if self._probes:
            self._probes -= 1
        return True

    def _wait(self, now: int, rate: float, window_open: bool) -> None:
        """Pacing, or the window, is the limit."""
        if window_open:
            # An acknowledgement is likely to come first, and its turn sends.
            flying = self.sent.recovery.in_flight > 0
            self._timers.set(t.PACE, max(self._pacer.wake(now, rate, flying), now + LEAST_WAIT))

    def _fill_gaps(self, writer: RunWriter) -> None:
        """Send datagrams again under numbers that the peer may be missing."""
        gaps, self.sent.gaps = self.sent.gaps, []
        self.sent.counters.gaps_filled += len(gaps)
        for number, frames in gaps:
            writer.add(pack_header(number, DATA) + frames)

    def _fill(self, draft: Draft, now: int, is_open: bool) -> None:
        """Put frames into a datagram until it is full or the windows are."""
        most = 1 << 16 if self._settings.packed else 1
        recovery = self.sent.recovery
        if is_open and (self._probes or not recovery.persisting):
            self._fill_lost(draft, most)
        while self._urgent and len(draft.frames) < most:
            message = self._urgent[0]
            if message.is_reliable and len(draft.sent_frames) > 0 and not draft.alone:
                return
            if not self._add(draft, message, message.is_reliable):
                return
            self._urgent.popleft()
        if draft.alone or not is_open:
            return
        for priority in self.queue.priorities():
            self._fill_from(draft, priority, most, now)
        if draft.frames and len(draft.frames) < most and self._stream.size:
            self._fill_stream(draft, now)

    def _fill_lost(self, draft: Draft, most: int) -> None:
        sent = self.sent
        lost = sent.lost
        while lost and len(draft.frames) < most and sent.may_retransmit:
            frame = lost[0]
            if frame.done:
                lost.popleft()
                frame.waiting = False
                continue
            if len(frame.data) + HEADER_SIZE > self.datagram and self._cut_again(frame):
                continue
            if not self._fits(draft, len(frame.data)) or (
                len(draft.sent_frames) > 0 and frame.alone is not draft.alone
            ):
                return
            lost.popleft()
            draft.add(frame.data)
            draft.sent_frames.append(frame)
            draft.alone = frame.alone
            sent.retransmitting(frame)

    def _cut_again(self, frame: SentFrame) -> bool:
        """
        The first lost frame dates from before the MTU shrank: have it go in pieces.

        The first piece keeps the frame's reliable index. If the frame has arrived after all
        that piece is a repetition to the peer, and the others never make a message.

        @return: something has changed.
        """
        sent = self.sent
        [found], _ = parse_frames(bytes(HEADER_SIZE) + frame.data)
        if found.split is not None:
            return frame.message is not None and self._split_again(frame.message)
        # As small as any path wants them: pieces cannot be cut again.
        fragment = self._settings.fragment(self._settings.mtu_min)
        if len(found.payload) <= fragment:
            return False
        sent.lost.popleft()
        message = frame.message
        piece = OutgoingMessage(
            bytes(found.payload),
            found.reliability,
            found.channel,
            found.order or 0,
            found.sequence or 0,
        )
        piece.split(fragment)
        piece.ident = self._next_ident()
        frames: list[SentFrame] = []
        for number in range(piece.fragments):
            index = frame.reliable
            if number:
                index = sent.reliable
                sent.framed(1)
            again = SentFrame(piece.next_frame(index), index, message)
            again.waiting = True
            frames.append(again)
        frame.done = True
        sent.lost.extendleft(reversed(frames))
        if message is not None:
            message.unacknowledged = len(frames)
        return True

    def _split_again(self, message: OutgoingMessage) -> bool:
        """
        Fragments of a message are too long for the path now: all of it goes again, in
        smaller ones. Their reliable indices are used for something that means nothing, for
        the peer may have some of them.
        """
        sent = self.sent
        for frame in sent.lost:
            if frame.message is message and len(frame.data) + HEADER_SIZE > self.datagram:
                head = pack_frame_header(int(Reliability.RELIABLE), len(NOTHING), frame.reliable)
                frame.data = head + NOTHING
                frame.message = None
        if message.unacknowledged > message.fragments:
            # It goes again already: an earlier fragment was lost before this one.
            return True
        self.queue.remove(message)
        again = OutgoingMessage(
            message.payload,
            message.reliability,
            message.channel,
            message.order,
            message.sequence,
            message.receipt,
        )
        again.split(self._fragment)
        message.receipt = None
        # Fragments of it that are still acknowledged end nothing.
        message.unacknowledged = 1 << 30
        sent.open_splits -= 1
        self.queue.put_first(again, PRIORITIES - 1)
        return True

    def _next_ident(self) -> int:
        ident = self.ident
        self.ident = ident + 1 & 0xFFFF
        return ident

    def _fits(self, draft: Draft, size: int) -> bool:
        """
        There is room in a datagram. What is longer than a datagram dates from before the
        MTU shrank, and goes alone.
        """
        return size <= draft.room or (
            not draft.frames and size + HEADER_SIZE > self.datagram and draft.room > 0
        )

    def _fill_stream(self, draft: Draft, now: int) -> None:
        """Put the rest of the stream beside other frames if all of it fits."""
        sent = self.sent
        size = self._stream.size + STREAM_FRAME
        if size > draft.room or sent.frames_room <= 0:
            return
        frame = self._bulk.frame(now)
        draft.add(frame)
        draft.sent_frames.append(SentFrame(frame, sent.reliable, None))
        sent.framed(1)

    def _fill_from(self, draft: Draft, priority: int, most: int, now: int) -> None:
        """Take from the queue of one priority."""
        queue, sent = self.queue, self.sent
        while len(draft.frames) < most:
            message = queue.head(priority)
            if message is None:
                return
            if isinstance(message, MessageBatch):
                size = FRAME_HEADER + message.size
                if (draft.frames and size > draft.room) or sent.frames_room <= 0:
                    return
                message = queue.single(message)
            if not message.is_reliable:
                if (message.queued or now) + self._settings.unreliable_age < now:
                    sent.tell(queue.drop(priority), False)
                    sent.counters.messages_stale += 1
                    continue
            elif not self._may_cut(message):
                return
            before = message.left
            if not self._add(draft, message):
                return
            queue.took(priority, before - message.left)

    def _may_cut(self, message: OutgoingMessage) -> bool:
        """The windows of numbers admit the next frame of a reliable message."""
        sent = self.sent
        if sent.frames_room <= 0:
            return False
        starts = message.fragments > 1 and not message.cut
        return not starts or sent.open_splits < self._settings.send_splits

    def _add(self, draft: Draft, message: OutgoingMessage, alone: bool = False) -> bool:
        """
        Put the next frame of a message into a datagram if it fits.

        @param alone: see L{SentFrame}.
        """
        if not self._fits(draft, message.next_size):
            return False
        sent = self.sent
        if message.fragments > 1 and not message.cut:
            message.ident = self._next_ident()
            sent.open_splits += 1
        frame = message.next_frame(sent.reliable)
        draft.add(frame)
        if message.is_reliable:
            draft.sent_frames.append(SentFrame(frame, sent.reliable, message, alone))
            draft.alone = alone
            sent.framed(1)
        elif message.receipt is not None:
            draft.messages.append(message)
        return True

    def _packet(self, draft: Draft, now: int, first: int, draining: bool) -> bytes:
        sent = self.sent
        number = sent.number
        datagram = pack_header(number, first) + b"".join(draft.frames)
        packet = SentPacket(number, draft.sent_frames, draft.messages, now, len(datagram))
        sent.enter(packet, now, len(datagram), len(datagram), draining)
        return datagram
