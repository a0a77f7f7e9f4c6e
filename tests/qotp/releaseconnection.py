"""
One connection of a peer of release v0.2.19, written from qotp.md alone: what it
sends when, and the faults it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.qotp.releasestream import CAPACITY, Entry, GivenUp, ReceiveBuffer, SendBuffer
from twisted_rudp.core.engine import MILLISECOND, SECOND, Address
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.qotp import wire
from twisted_rudp.qotp.congestion import ReleaseController
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.qotp.protection import INITIATOR, Cipher
from twisted_rudp.qotp.wire import Ack, Kind, Payload, Segment, encode, max_data

if TYPE_CHECKING:
    from tests.qotp.releasepeer import ReleasePeer

MTU = wire.MTU
PASS = 100 * MILLISECOND
"""Its loop comes round at least so often."""

TIMER = MILLISECOND
"""A read that waits for less returns after so long, if no datagram comes before (Go on Linux)."""

IDLE = 30 * SECOND

Application = Callable[["ReleaseConnection", int], None]


class ReleaseStream:
    """The object that is removed when both directions have ended; its buffers stay."""

    def __init__(self) -> None:
        self.receiving_over = False
        self.sending_over = False


class ReleaseConnection:
    """One connection. Its engine-like methods let L{tests.qotp.pair.Pair} drive it."""

    def __init__(self, peer: ReleasePeer, name: bytes, direction: int, address: Address) -> None:
        self.peer = peer
        self.name = name
        self.direction = direction
        self.address = address
        self.ephemeral = KeyPair(peer.entropy(32))
        self.theirs: tuple[bytes, bytes] | None = None
        self.cipher: Cipher | None = None
        self.opening: Cipher | None = None
        self.done = False
        self.spoke = False
        self.dead: str | None = None
        self.streams: dict[int, ReleaseStream] = {}
        self.sends: dict[int, SendBuffer] = {}
        self.receives: dict[int, ReceiveBuffer] = {}
        self.delivered: dict[int, bytearray] = {}
        self.named: list[int] = []
        self.forgotten: set[int] = set()
        self.acks: deque[tuple[int, int, int]] = deque()
        self.buffered = 0
        self.in_flight = 0
        self.peer_window = CAPACITY
        self.number = 0
        self.epoch = 0
        self.trip = RoundTrip(200 * MILLISECOND, 100 * MILLISECOND, 2 * SECOND)
        self.control = ReleaseController(self.trip, MTU)
        self.duplicates = 0
        self.heard_at: int | None = None
        self._next_send = 0
        self._served = -1
        self._next_pass = peer.pair.now
        self._looked = peer.pair.now

    # the application's side

    def stream(self, number: int) -> ReleaseStream:
        """Get or create."""
        if number not in self.streams:
            self.streams[number] = ReleaseStream()
            self.sends.setdefault(number, SendBuffer())
            self.receives.setdefault(number, ReceiveBuffer())
            self.named.append(number)
        return self.streams[number]

    def write(self, number: int, data: bytes) -> int:
        """
        @return: how many bytes were taken; 0 after the close.
        """
        self.stream(number)
        send = self.sends[number]
        queued = sum(len(s.queue) for s in self.sends.values()) + self.in_flight
        if send.close_at is not None:
            return 0
        taken = data[: max(CAPACITY - queued, 0)]
        send.queue += taken
        return len(taken)

    def read(self, number: int) -> bytes:
        """One segment; notes the end of the stream as the release does."""
        receive = self.receives[number]
        data = receive.read()
        self.buffered -= len(data)
        if receive.close_at is not None and receive.next >= receive.close_at:
            self.stream(number).receiving_over = True
        self.delivered.setdefault(number, bytearray()).extend(data)
        return data

    def close(self, number: int) -> None:
        """5.5."""
        self.stream(number)
        self.sends[number].close()

    # driven as an engine

    def deadline(self) -> int | None:
        """
        Its loop comes round when the pause ends that it met when it last looked, or that it made
        then, whether there is something to be sent or not, and every 100 ms (8).
        """
        if self.dead is not None:
            return None
        if self._next_send <= self._looked:
            return self._next_pass
        return min(self._next_pass, max(self._next_send, self._looked + TIMER))

    def tick(self, now: int) -> None:
        """A pass of the loop without a datagram."""
        if now >= self._next_pass:
            for number in list(self.streams):
                self.peer.application(self, number)

    def flush(self, now: int) -> None:
        """Streams in turn; the first that sends data ends the pass (8)."""
        if self.dead is not None:
            return
        self._looked = now
        self._next_pass = now + PASS
        if self.heard_at is not None and self.streams and now - self.heard_at > IDLE:
            self.dead = "idle"
            return
        order = list(self.streams)
        if self._served in order:
            at = order.index(self._served) + 1
            order = order[at:] + order[:at]
        for number in order:
            stream = self.streams[number]
            if stream.receiving_over and stream.sending_over:
                self.forgotten.add(number)
                del self.streams[number]
                continue
            if self._flush_stream(number, now):
                self._served = number
                break

    @property
    def _kind(self) -> Kind:
        if self.done:
            return Kind.DATA
        if self.direction == INITIATOR:
            return Kind.INIT_SND if self.opening is None else Kind.INIT_CRYPTO_SND
        return Kind.INIT_RCV if self.opening is None else Kind.INIT_CRYPTO_RCV

    def _flush_stream(self, number: int, now: int) -> bool:
        if now < self._next_send:
            return False
        kind = self._kind
        block = None
        if self.acks and kind not in (Kind.INIT_SND, Kind.INIT_CRYPTO_SND):
            block = Ack(*self.acks.popleft(), CAPACITY - self.buffered)
        entry = None
        if self.in_flight + MTU <= self.peer_window:
            entry = self._next_entry(self.sends[number], kind, block, now)
        if self.dead is not None or (entry is None and block is None):
            return False
        segment = None
        if entry is not None:
            segment = Segment(number, entry.offset, entry.data, entry.close)
        self._send(kind, block, segment, now)
        return entry is not None

    def _next_entry(
        self, send: SendBuffer, kind: Kind, block: Ack | None, now: int
    ) -> Entry | None:
        def space(offset: int) -> int:
            if kind is Kind.INIT_SND:
                return 0
            return max_data(kind, MTU, offset, None if block is None else block.offset)

        try:
            late = send.late(now, self.trip.timeout)
        except GivenUp:
            self.dead = "not acknowledged"
            return None
        if late is not None:
            self.control.lost()
            return send.again(late, space(late.offset), now)
        if not self.done and self.spoke:
            return None
        if kind is Kind.INIT_SND:
            entry: Entry | None = send.opening(now)
        else:
            entry = send.fresh(space(send.sent), now)
            if entry is None and kind is Kind.INIT_CRYPTO_SND:
                entry = send.opening(now)
        if entry is not None:
            self.spoke = True
            self.in_flight += len(entry.data)
        return entry

    def _send(self, kind: Kind, block: Ack | None, segment: Segment | None, now: int) -> None:
        public = self.peer.identity.public
        prefix = wire.prefix_of(kind, self.name, self.ephemeral.public, public)
        if kind is Kind.INIT_SND:
            datagram = wire.init_snd(self.ephemeral.public, public, MTU)
        else:
            plain = encode(block, segment)
            cipher = self.cipher
            if kind is Kind.INIT_CRYPTO_SND:
                plain, cipher = wire.with_fill(plain, MTU), self.opening
            assert cipher is not None
            datagram = cipher.seal(prefix, self.number, self.direction, plain)
        self.number += 1
        self._next_send = now + self.control.pause(len(datagram))
        self.peer.emit(datagram, self.address)

    # what arrives

    def digest(self, payload: Payload, now: int) -> None:
        """4.4, 5.2, 5.4, 5.5."""
        self.heard_at = now
        if payload.ack is not None:
            self._acknowledged(payload.ack, now)
        segment = payload.segment
        number = 0 if segment is None else segment.stream
        stream = self.stream(number)
        closing = segment is not None and segment.close
        # Before this payload's own CLOSE takes effect: an end that was asked for earlier, for
        # which its stream had no turn yet, counts as acknowledged and is never sent.
        if (payload.ack is not None or closing) and self.sends[number].acknowledged:
            stream.sending_over = True
        if segment is not None:
            self._segment(segment)
            if segment.close:
                self._closed(segment, stream)
        self.peer.application(self, number)

    def _acknowledged(self, ack: Ack, now: int) -> None:
        self.peer_window = ack.window
        send = self.sends.get(ack.stream)
        if send is None or not send.ever_sent:
            return
        entry = send.flying.pop((ack.offset, ack.length), None)
        if entry is None:
            self.duplicates += 1
            self.control.duplicate()
            return
        self.in_flight -= ack.length
        if self.trip.sample(now - entry.sent_at, now):
            self.control.acknowledged(ack.length, now)

    def _segment(self, segment: Segment) -> None:
        number, offset, data = segment.stream, segment.offset, bytes(segment.data)
        receive = self.receives[number]
        if data and not (receive.close_at is not None and offset >= receive.close_at):
            if self.buffered + len(data) > CAPACITY:
                return
            self.buffered += receive.insert(offset, data)
        self.acks.append((number, offset, len(data)))

    def _closed(self, segment: Segment, stream: ReleaseStream) -> None:
        receive = self.receives[segment.stream]
        end = segment.offset + len(segment.data)
        if receive.close_at is None:
            receive.close_at = end
        assert receive.close_at == end, "the end of a stream has moved (W17)"
        self.sends[segment.stream].close()
        if end == 0:
            stream.receiving_over = True
