"""
One QOTP connection as an L{Engine<twisted_rudp.core.engine.Engine>}.

The dialler's connection begins with an L{InitiatorHandshake}; the listener's is made by the
demultiplexer when the dialler's first Data proves that it has our answer (W5). From there
on both are alike: streams, acknowledgements and control frames, in the dialect that the
other side understands (qotp.md sections 5, 11 and 17).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from twisted_rudp.core.engine import (
    MILLISECOND,
    READABLE_MESSAGES,
    SECOND,
    Address,
    Buffer,
    Capability,
    Emit,
    Event,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.core.lifecycle import Lifecycle, Role, State
from twisted_rudp.core.queues import ByteQueue, OutOfBandQueue
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.qotp import timers as t
from twisted_rudp.qotp.authentication import (
    DIALLERS_WORDS,
    KEY,
    LABEL,
    LISTENERS_WORDS,
    PASSWORD,
    InitiatorAuthentication,
    Refusal,
    ResponderAuthentication,
    refusal_of,
)
from twisted_rudp.qotp.close import Close
from twisted_rudp.qotp.extensions import (
    CHALLENGE,
    CONTROL,
    Abort,
    Accepted,
    Extensions,
    FrameType,
    NewId,
    Peer,
    Proof,
    Reset,
    decode_frame,
    decode_range,
    encode_accepted,
    encode_new_id,
    encode_proof,
    encode_reset,
    peer_of,
    wanted_by,
)
from twisted_rudp.qotp.handshake import InitiatorHandshake
from twisted_rudp.qotp.keys import KeyPair, Secrets
from twisted_rudp.qotp.path import COST, Path
from twisted_rudp.qotp.protection import (
    CIPHER,
    Cipher,
    Opened,
    PacketProtection,
    PacketWriter,
    Unsealer,
)
from twisted_rudp.qotp.receiver import PendingAcks, Receiver, ReceiveWindow, coalesce
from twisted_rudp.qotp.sender import Sender
from twisted_rudp.qotp.settings import Settings
from twisted_rudp.qotp.streams import Stream, StreamTable
from twisted_rudp.qotp.wire import (
    ID_END,
    ID_OFFSET,
    PLAIN,
    WIDE,
    Ack,
    ControlFrame,
    Segment,
    header,
)

MAX_REFUSALS: Final = 64
"""Resets of streams beyond the limit that wait for their acknowledgement."""

MAX_REFUSED: Final = 6
AGAIN: Final = 20 * MILLISECOND
"""A first message that was too long for the path is sent again so often, so much later."""

HOLE_TIME: Final = 250 * MILLISECOND
"""So long nothing has come in order: more than the timeout of a release that is near."""

_PLAIN: Final = PLAIN | WIDE
"""The first byte of a payload of nothing but data, with a wide offset or a narrow one."""

_NOTHING: Final[Sequence[tuple[Any, ...]]] = ()


class QOTPEngine:
    """
    A connection.

    @ivar pending: see L{Engine.pending<twisted_rudp.core.engine.Engine.pending>}.
    """

    def __init__(
        self,
        name: bytes,
        address: Address,
        settings: Settings,
        role: Role,
        now: int,
        *,
        own_socket: bool = False,
        numbers_used: int = 0,
        own_id: NewId | None = None,
    ) -> None:
        """
        Use L{dial} or the demultiplexer.

        @param name: the connection id.
        @param own_socket: the socket serves this connection alone and closes with it.
        @param numbers_used: by what was sent before there was this object.
        @param own_id: what an extended peer is to send; None: no other than C{name}.
        """
        self._name = name
        self._own_id = own_id
        self._peer_id: NewId | None = None
        self._address = address
        self._settings = settings
        self._policy = settings.policy
        self._role = role
        self.pending: list[tuple[Any, ...]] = []
        self._counters: Counter[str] = Counter()
        self._timers = Timers(t.COUNT)
        self._life = Lifecycle(role, self.pending, own_socket)
        self._extensions = Extensions()
        self._protection = PacketProtection(
            name, role, settings.mtu, self._counters, settings.key_log, numbers_used
        )
        self._streams = StreamTable(2 if role is Role.CLIENT else 1)
        self._sender = Sender(
            settings, self._protection.sealer, self._extensions, self._timers
        )
        self._window = ReceiveWindow(settings.budget)
        self._receiver = Receiver(self._streams, self._window, self.pending, self._counters)
        self._acks = PendingAcks(self._protection.received, self._extensions)
        self._close = Close(
            self._life, self._streams, self._sender, self._receiver, self._acks,
            self._extensions, self._timers,
        )  # fmt: skip
        self._path = Path(settings.entropy, CONTROL)
        self._handshake: InitiatorHandshake | None = None
        self._authentication: InitiatorAuthentication | ResponderAuthentication | None = None
        self._identity: KeyPair | None = None
        self._refusal: Refusal | None = None
        self._patient = False
        self._reset_heard = False
        self._heard_aside = OutOfBandQueue()
        self._out_of_band = self._sender.datagrams
        self._segments = self._segments_before = 0
        self._refused = 0
        self._stalled_at = (-1, now)
        self._datagrams_in = self._bytes_in = 0
        self._heard = now
        # When the peer was asked first since it was heard.
        self._asked = now
        self._keep_alive_interval = min(settings.keep_alive, settings.idle_timeout // 3)

    @classmethod
    def dial(
        cls,
        handshake: InitiatorHandshake,
        address: Address,
        settings: Settings,
        now: int,
        *,
        own_socket: bool = False,
        patient: bool = False,
        own_id: NewId | None = None,
    ) -> QOTPEngine:
        """
        The initiator's side of a new connection.

        @param own_id: what an extended peer is to send, on a socket that also listens.
        @param patient: that nobody listens there is no reason to give up: he may do
            so soon.
        """
        engine = cls(
            handshake.name, address, settings, Role.CLIENT, now, own_socket=own_socket,
            own_id=own_id,
        )  # fmt: skip
        engine._handshake = handshake
        engine._identity = handshake.identity
        engine._patient = patient
        engine._timers.set(t.HANDSHAKE, handshake.due)
        handshake.start(engine._protection.sealer)
        return engine

    @classmethod
    def accept(
        cls,
        name: bytes,
        address: Address,
        settings: Settings,
        cipher: Cipher,
        secrets: Secrets,
        now: int,
        *,
        numbers_used: int = 0,
        early: Cipher | None = None,
        own_id: NewId | None = None,
        authentication: ResponderAuthentication | None = None,
    ) -> QOTPEngine:
        """
        The responder's side, when the demultiplexer has seen the first authentic Data; or at
        once, for a dialler of the release that has data in its InitCryptoSnd.

        @param early: for K0; everything until the dialler's first Data may be a
            replay then.
        @param authentication: the dialler is to say who it is first.
        """
        engine = cls(
            name, address, settings, Role.SERVER, now, numbers_used=numbers_used, own_id=own_id
        )
        engine._protection.agree(cipher, secrets, early)
        engine._authentication = authentication
        if early is not None or authentication is not None:
            engine._window.confine()
        if early is not None:
            engine._meet(Peer.BASELINE, now)
        return engine

    # what the hub asks

    @property
    def capabilities(self) -> Capability:
        """Streams with a window; half close not with the release (rule R4)."""
        kind = Capability.BYTES | Capability.STREAMS | Capability.RECEIVE_WINDOW
        kind |= Capability.ORDERLY_CLOSE | Capability.NEEDS_IDLE_TIMEOUT
        if self._extensions.peer is not Peer.BASELINE:
            kind |= Capability.HALF_CLOSE
        return kind

    @property
    def validated(self) -> bool:
        """The peer has shown that it receives at its address."""
        return self._protection.validated

    @property
    def closed(self) -> bool:
        """TIME-WAIT is over too."""
        return self._life.state is State.CLOSED

    @property
    def round_trip(self) -> int:
        """The smoothed round trip."""
        return self._sender.round_trip.smoothed

    def keys(self) -> Sequence[Key]:
        """The connection ids, wherever the peer is."""
        ids = (self._own_id, self._peer_id)
        return (self._name, *(each.id for each in ids if each is not None))

    @property
    def streams(self) -> Sequence[int]:
        """The numbers of the streams that are open."""
        return tuple(self._streams.open)

    def export(self, label: bytes, context: bytes = b"", length: int = 32) -> bytes:
        """
        A secret that both ends of this connection can derive and nobody else, for
        an application to bind its own authentication to (12.1).

        @param label: what it is for.
        @raise RuntimeError: no key has been agreed yet.
        """
        return self._protection.export(label, context, length)

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Process a run."""
        view = memoryview(run)
        self._bytes_in += len(view)
        self._datagrams_in += -(-len(view) // size)
        if self._peer_id is not None and view[ID_OFFSET:ID_END] == self._peer_id.id:
            # What carries the id that we send comes from a peer that has lost us.
            if self._peer_id.resets(bytes(view[:size])) and not self._life.over:
                self._close.peer_gone(Reason.FORGOTTEN, now)
            return
        while self._handshake is not None and view and not self._life.over:
            self._receive_answer(self._handshake, bytes(view[:size]), now)
            view = view[size:]
        unsealer = self._protection.unsealer
        if unsealer is not None and view:
            opened = unsealer.open_run(view, size)
            if opened is not None:
                self._receive_run(unsealer, opened, address, size, now)
            else:
                for start in range(0, len(view), size):
                    found = unsealer.open_any(bytes(view[start : start + size]))
                    if found is not None:
                        self._receive_packet(found, address, size, now)
        self._receiver.tell_readable()
        self._advance(now)

    def _receive_run(
        self,
        unsealer: Unsealer,
        opened: Sequence[tuple[int, bytes] | None],
        address: Address,
        size: int,
        now: int,
    ) -> None:
        """A run of Data, decrypted: what is plain bulk at once, the rest one by one."""
        at = 0
        while at < len(opened):
            count = 0
            one = opened[at]
            if one is not None and one[1][0] | WIDE == _PLAIN and address == self._address:
                count = self._receive_bulk(opened, at, one[0], now)
            if not count:
                count = 1
                found = unsealer.check(one)
                if found is not None:
                    self._receive_packet(found, address, size, now)
            at += count

    def _receive_bulk(
        self, opened: Sequence[tuple[int, bytes] | None], at: int, first: int, now: int
    ) -> int:
        """
        @param at: of the first payload that is not dealt with; C{first} is its number.
        @return: how many from there on are now.
        """
        protection = self._protection
        received = protection.received
        if (
            self._life.state is not State.ESTABLISHED
            or self._extensions.peer is not Peer.EXTENDED
            or not protection.validated
            or first < (received.end or 0)
        ):
            return 0
        found = coalesce(opened, at)
        if found is None:
            return 0
        count, segment = found
        if self._receive_segment(segment):
            received.add(first, first + count)
        elif count > 1:
            # There may be room for some of them.
            return 0
        self._heard = now
        return count

    def _receive_packet(self, opened: Opened, address: Address, size: int, now: int) -> None:
        """An authentic payload that is new."""
        number, payload, data, newest = opened
        self._heard = now
        if number < 0:
            if payload.segment is not None and not self._life.over:
                self._receive_segment(payload.segment)
            return
        protection = self._protection
        if self._life.time_wait is not None:
            protection.received.add(number, number + 1)
            self._close.input(payload, now)
            return
        if not protection.validated:
            protection.validate()
            if self._authentication is None:
                self._window.open()
            if self._extensions.peer is Peer.BASELINE:
                self._window.expect_bursts()
        if self._extensions.peer is Peer.UNKNOWN:
            self._meet(peer_of(payload.ack), now)
            if self._life.over:
                return
        if payload.ack is not None:
            self._receive_ack(payload.ack, payload.segment, number)
        if payload.segment is None or self._receive_segment(payload.segment):
            protection.received.add(number, number + 1)
        if address != self._address and newest and data and self._settings.roaming:
            self._path.seen(address, size, now)

    def _receive_ack(self, ack: Ack, segment: Segment | None, number: int) -> None:
        """
        Take in an acknowledgement and the window beside it.

        @param segment: of the same datagram; it may tell of more ranges.
        @param number: of that datagram.
        """
        sender = self._sender
        sender.note_window(number, ack.window)
        if self._path.candidate is not None and not ack.length:
            self._path.answered(ack.stream, ack.offset)
        if self._extensions.peer is Peer.EXTENDED:
            newest = decode_range(ack, self._protection.sealer.next)
            if newest is None:
                return
            self._extensions.offering = False
            more = b""
            if segment is not None and segment.stream == CONTROL:
                more = bytes(segment.data)
            sender.packets.acknowledge_ranges(newest, more)
        else:
            sender.packets.acknowledge_segment(ack.stream, ack.offset, ack.length)

    def _receive_segment(self, segment: Segment) -> bool:
        """
        @return: whether it counts as received.
        """
        if self._extensions.peer is Peer.EXTENDED:
            if segment.stream == CONTROL:
                self._receive_frame(bytes(segment.data), segment.offset)
                return True
            self._acks.wanted = True
            if self._authentication is not None and (segment.data or segment.close):
                # Whoever they are from, they are not acknowledged, and come again.
                self._counters["before_authentication"] += 1
                return False
            taken = self._receiver.segment(segment)
            return self._refuse_streams() if self._receiver.refused else taken
        number, offset, length = segment.stream, segment.offset, len(segment.data)
        again = length > 0 and self._streams.highest(number) > offset
        taken = self._receiver.segment(segment)
        if taken:
            self._acks.heard(number, offset, length, self._streams.completed(number), again)
        self._segments += 1
        if self._receiver.waiting:
            self._receiver.waiting = False
            if not self._timers.running(t.HOLE):
                self._segments_before = self._segments
                self._timers.set(t.HOLE, self._heard + HOLE_TIME)
        return taken

    def _receive_frame(self, body: bytes, offset: int) -> None:
        if not body:
            self._acks.wanted = True
            if offset >= CHALLENGE:
                self._acks.echo(offset)
            return
        if body[0] == FrameType.FILL:
            self._acks.wanted = True
            return
        if body[0] == FrameType.DATAGRAM:
            self._acks.wanted = True
            if self._life.state is State.ESTABLISHED and self._authentication is None:
                self._heard_aside.put(body[1:])
                self.pending.append(READABLE_MESSAGES)
            return
        frame = decode_frame(body)
        if isinstance(frame, Reset):
            self._acks.wanted = True
            stream = self._streams.open.get(frame.stream)
            if stream is None or self._authentication is not None:
                return
            if stream.incoming.complete and not stream.end_told:
                # Behind the end of its half: what it wrote before is still to be read.
                stream.stopped = True
                self._stop_sending(stream)
            else:
                self._abandon(stream)
                self.pending.append((Event.STREAM_RESET, frame.stream, frame.code))
        elif isinstance(frame, NewId):
            self._acks.wanted = True
            if self._peer_id is None:
                self._peer_id = frame
                self._protection.use_id(frame.id)
                self.pending.append((Event.KEYS,))
        elif isinstance(frame, Proof):
            self._acks.wanted = True
            self._receive_proof(frame)
        elif isinstance(frame, Accepted):
            self._acks.wanted = True
            self._receive_accepted(frame)
        elif isinstance(frame, Abort):
            self._reset_heard = True
            if self._authentication is not None and self._role is Role.CLIENT:
                self._refusal = refusal_of(frame.code)

    def _refuse_streams(self) -> bool:
        """
        An extended peer is told which of its streams are too many or not read, unless it has
        been told of many and said nothing to that; then the segment is not acknowledged either.
        """
        refused = self._receiver.refused
        told = bool(refused)
        for stream in refused:
            if len(self._sender.frames) + self._sender.packets.frames < MAX_REFUSALS:
                self._send_reset(stream, 0)
                self._streams.refused(stream)
            else:
                told = False
        refused.clear()
        return told

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        A dialler whose peer's port is closed learns it from here. Later such errors
        are left to retransmission and the idle timeout (W13).
        """
        if self._life.state is State.HANDSHAKE and self._role is Role.CLIENT:
            if kind is PathError.TOO_BIG and self._handshake is None:
                self._sender.shrink(size)
            elif kind is PathError.TOO_BIG:
                self._too_long(size, now)
            elif kind is PathError.FORBIDDEN:
                # A filter on this machine may be about to change.
                self._counters["path_errors_ignored"] += 1
            elif not self._patient:
                refused = kind is PathError.REFUSED
                self._close.end(Reason.REFUSED if refused else Reason.UNREACHABLE, now)
        elif kind is PathError.TOO_BIG:
            self._sender.shrink(size)
        else:
            self._counters["path_errors_ignored"] += 1

    def _too_long(self, size: int, now: int) -> None:
        """
        The first message has to be as long as the MTU. The system has learnt from the same
        error what the path takes, and cuts it into fragments when it is sent again.
        """
        self._refused += 1
        if self._refused >= MAX_REFUSED:
            text = f"the path does not take datagrams of {size or self._settings.mtu} bytes"
            self._close.end(Reason.UNREACHABLE, now, text)
        elif self._handshake is not None:
            self._handshake.due = min(self._handshake.due, now + self._refused * AGAIN)
            self._timers.set(t.HANDSHAKE, self._handshake.due)

    def _advance(self, now: int) -> None:
        """Tell what was acknowledged; go on with a change of address and with a close."""
        if self._life.time_wait is not None:
            return
        if self._sender.packets.settled:
            self._tell_settled()
        if self._path.candidate is not None:
            address = self._path.take_proved()
            if address is not None:
                if address[0] != self._address[0]:
                    # A NAT that only changes the port has not changed the path (RFC 9000 9.4).
                    self._sender.new_path()
                self._address = address
                self.pending.append((Event.PATH, address))
        if self._reset_heard and self._refusal is not None and self._identity is not None:
            text = DIALLERS_WORDS[self._refusal]
            if self._refusal is Refusal.NOT_ALLOWED:
                text += f" {self._identity.public.hex()}"
            self._close.end(Reason.AUTHENTICATION, now, text)
        elif self._reset_heard:
            self._close.peer_gone(Reason.RESET, now)
        elif self._receiver.contradicted:
            self._close.end(Reason.PROTOCOL, now, "a stream of the peer has two ends", tell=True)
        elif self._close.peer_is_gone or self._life.state is not State.ESTABLISHED:
            self._close.advance(now)

    def _tell_settled(self) -> None:
        """Tell the application which streams have been acknowledged altogether."""
        settled = self._sender.packets.settled
        for stream in settled:
            if stream.fin_acknowledged:
                self._tell_flushed(stream)
        settled.clear()

    def _tell_flushed(self, stream: Stream) -> None:
        if stream.drained and not stream.flush_told:
            # Also of a stream that is over: its end may have come in the same datagram.
            stream.flush_told = True
            self.pending.append((Event.STREAM_FLUSHED, stream.number))
        if stream.over:
            self._streams.drop(stream)

    # time

    def tick(self, now: int) -> None:
        """Do what is due."""
        if self._life.time_wait is not None:
            self._life.tick(now)
            return
        for timer in self._timers.expired(now):
            if timer == t.IDLE:
                self._idle(now)
            elif timer == t.KEEP_ALIVE:
                self._keep_alive(now)
            elif timer == t.RAISE:
                self._sender.raise_mtu(now)
            elif timer == t.HOLE:
                self._fill_hole(now)
            elif timer == t.LOSS or timer == t.PROBE:
                self._sender.tick(now)
        if self._protection.sealer.exhausted:
            text = "the packet numbers of this connection are used up"
            self._close.end(Reason.LIMIT, now, text)
        self._advance(now)

    def deadline(self) -> int | None:
        """The earliest of the timers."""
        over = self._life.time_wait is not None
        due = self._life.deadline() if over else self._timers.earliest()
        return None if due == NEVER else due

    def _idle(self, now: int) -> None:
        """The idle timer, which is moved on only when it expires."""
        idle = self._settings.idle_timeout
        # It was not asked if this process was stopped.
        stopped = self._asked <= self._heard and now >= self._heard + idle
        asked = self._asked if self._asked > self._heard else now
        until = max(self._heard, asked - self._keep_alive_interval) + idle
        if now >= until:
            self._close.peer_gone(Reason.IDLE, now)
            return
        done = self._sender.packets.acknowledged_bytes
        if not self._sender.stalled or done != self._stalled_at[0] or stopped:
            self._stalled_at = (done if self._sender.stalled else -1, now)
        elif now - self._stalled_at[1] >= idle:
            # Small datagrams get through and what was written does not.
            self._close.end(Reason.DEAD_LINK, now, "nothing of what was written gets through")
            return
        self._timers.set(t.IDLE, until)

    def _keep_alive(self, now: int) -> None:
        """
        Ask a silent peer for a sign of life. The PING is repeated until something is
        acknowledged, and so is anything else that is in flight.
        """
        due = self._heard + self._keep_alive_interval
        if now >= due:
            if self._asked <= self._heard:
                self._asked = now
            if not self._sender.packets.recovery.in_flight:
                self._sender.frames.append(self._sender.ping(repeat=True))
            due = now + self._keep_alive_interval
        self._timers.set(t.KEEP_ALIVE, due)

    def _fill_hole(self, now: int) -> None:
        """
        A peer of the release sends and repeats nothing while our window, in its view, is full.
        See whether anything has come since something was missing.
        """
        holes = self._receiver.has_holes()
        if self._segments != self._segments_before or not holes:
            self._window.moved(holes)
            if not holes:
                return
        else:
            self._window.stuck()
            self._acks.announce = True
        self._segments_before = self._segments
        self._timers.set(t.HOLE, now + HOLE_TIME)

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """
        Queue bytes.

        @raise ValueError: our half of the stream has been ended.
        """
        found = self._streams.open.get(stream)
        if found is None or found.stopped:
            return
        if found.finishing:
            raise ValueError(f"stream {stream} has been ended")
        found.queue.append(data)
        self._sender.ready[found] = None

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        Queue a message beside the streams: once, unordered, perhaps lost (qotp.md 17).

        @raise ValueError: another delivery; QOTP carries bytes. Or the peer is one of the
            release, which has no such messages, or it is too long.
        """
        if delivery is not Delivery.OUT_OF_BAND or channel or priority or receipt:
            raise ValueError("QOTP carries streams of bytes, no messages but OUT_OF_BAND")
        longest = self._sender.longest_datagram
        if not longest:
            raise ValueError("OUT_OF_BAND: this peer has no messages")
        if len(data) > longest:
            raise ValueError(f"an out-of-band message of {len(data)} bytes: at most {longest} fit")
        self._out_of_band.put(data)
        return None

    def unsent(self, stream: int = 0) -> int:
        """Bytes not yet numbered."""
        found = self._streams.open.get(stream)
        return 0 if found is None else found.queue.size

    # wire -> application

    def unread(self, stream: int = 0) -> int:
        """Bytes that can be taken."""
        found = self._streams.open.get(stream)
        return 0 if found is None else found.incoming.unread

    def take(self, stream: int, limit: int) -> bytes:
        """The next bytes in order."""
        found = self._streams.open.get(stream)
        if found is None or not found.incoming.unread:
            return b""
        data = self._receiver.take(found, limit)
        if self._close.peer_is_gone:
            # To be looked at when the application knows of the end of this stream.
            self._timers.set(t.CLOSE, self._heard)
        return data

    def take_messages(self) -> Iterator[Message]:
        """Those that came beside the streams."""
        while self._heard_aside.count:
            yield Message(self._heard_aside.take(), Delivery.OUT_OF_BAND)

    # engine -> wire

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """Send what can be sent now."""
        protection, sender = self._protection, self._sender
        if self._handshake is None and self._life.time_wait is None:
            sender.turn(now)
            if self._quiet() and not sender.copies_due(now):
                sender.arm()
                return False
        writer = PacketWriter(
            protection.sealer, emit, self._address, budget, not protection.validated
        )
        if self._life.time_wait is not None:
            self._close.flush(now, writer)
            writer.finish()
            return False
        if self._handshake is not None:
            window = self._window.free
            self._handshake.send(now, protection.sealer, emit, self._address, budget, window)
            self._timers.set(t.HANDSHAKE, self._handshake.due)
            return False
        self._flush_data(now, writer)
        writer.finish()
        sender.arm()
        if self._path.candidate is not None:
            self._challenge_path(self._path.candidate, now, emit)
        return writer.short and not writer.blocked

    def _quiet(self) -> bool:
        """There is nothing to send."""
        acks, window = self._acks, self._window
        free = acks.window = window.free
        if not acks.announce and free > window.told:
            acks.announce = window.reopened(free)
        if (
            acks.wanted
            or acks.announce
            or self._sender.pending
            or self._path.candidate is not None
        ):
            return self._close.peer_is_gone
        return True

    def _flush_data(self, now: int, writer: PacketWriter) -> None:
        """Send acknowledgements and data, together where they fit into one datagram."""
        acks, sender = self._acks, self._sender
        if acks.wanted or acks.announce:
            self._window.told = acks.window
            if sender.waiting:
                acks.flush(writer)
        sender.flush(now, writer, acks)
        if acks.wanted or acks.announce:
            acks.flush(writer)

    def _challenge_path(self, candidate: Address, now: int, emit: Emit) -> None:
        frame = self._path.challenge(now)
        if frame is not None:
            writer = PacketWriter(self._protection.sealer, emit, candidate, COST, True)
            writer.send([header(frame.stream, frame.offset)])
            writer.finish()
        self._timers.set(t.PATH, self._path.deadline or NEVER)

    def events(self) -> Sequence[tuple[Any, ...]]:
        """What changed."""
        if not self.pending:
            return _NOTHING
        events = tuple(self.pending)
        self.pending.clear()
        return events

    # the handshake

    def _receive_answer(self, handshake: InitiatorHandshake, datagram: bytes, now: int) -> None:
        answer = handshake.answer(datagram[0], datagram)
        if answer is None:
            self._counters["not_authentic"] += 1
            return
        self._handshake = None
        self._protection.agree(answer.cipher, answer.secrets)
        self._protection.echoed = answer.echoed
        self._protection.received.add(answer.number, answer.number + 1)
        payload = answer.payload
        wanted = wanted_by(payload.segment)
        extended = wanted is not None
        self._meet(Peer.EXTENDED if extended else Peer.BASELINE, now, wanted or 0)
        if self._life.over:
            return
        if payload.ack is not None:
            self._sender.note_window(answer.number, payload.ack.window)
        if payload.segment is not None and not extended:
            self._receive_segment(payload.segment)

    def _meet(self, peer: Peer, now: int, wanted: int = 0) -> None:
        """
        The other side is there, and what it understands is known.

        @param wanted: what the listener asks us to prove.
        """
        self._heard = now
        self._extensions.peer = peer
        if peer is Peer.BASELINE:
            self._sender.meet_baseline()
            self._path = Path(self._settings.entropy, 0)
            if self._protection.validated:
                self._window.expect_bursts()
        if peer is Peer.EXTENDED and self._own_id is not None:
            frame = ControlFrame(CONTROL, 0, encode_new_id(self._own_id), True)
            self._sender.frames.append(frame)
        if self._role is Role.CLIENT:
            # Rule R3: until it sees Data the release sends nothing more.
            self._extensions.offering = peer is Peer.EXTENDED
            self._sender.frames.append(self._sender.ping(repeat=True))
        self._timers.stop(t.HANDSHAKE)
        self._timers.set(t.IDLE, now + self._settings.idle_timeout)
        self._timers.set(t.KEEP_ALIVE, now + self._keep_alive_interval)
        if self._role is Role.CLIENT:
            self._prove(peer, wanted, now)
        elif self._authentication is not None and peer is Peer.BASELINE:
            if self._policy.required:
                text = "it speaks the release's protocol, in which clients cannot prove anything"
                self._close.end(Reason.AUTHENTICATION, now, text)
            else:
                self._authenticated()
        if self._authentication is None and not self._life.over:
            self._connected()

    def _connected(self) -> None:
        self._life.enter(State.ESTABLISHED)
        self.pending.append((Event.CONNECTED, self._protection.early))

    # authentication (qotp.md 17.1)

    def _prove(self, peer: Peer, wanted: int, now: int) -> None:
        """The dialler's part, if the listener asks for something or we do."""
        protection, password = self._protection, self._policy.password
        if password is not None and not wanted & PASSWORD:
            # The listener has no connection yet: nobody is there to be told.
            text = "the server does not ask for a password"
            self._close.end(Reason.AUTHENTICATION, now, text)
        elif wanted and peer is Peer.EXTENDED and self._identity is not None:
            secret = protection.export(LABEL, b"", 32)
            self._authentication = InitiatorAuthentication(password, secret)
            # Keys of low order, which no exchange is possible with, are no answers.
            ephemeral = protection.responder_ephemeral
            proof = self._authentication.proof(wanted, self._identity, ephemeral)
            self._sender.frames.append(ControlFrame(CONTROL, 0, encode_proof(proof), True))

    def _receive_proof(self, proof: Proof) -> None:
        """The listener's part. A second proof is not looked at."""
        authentication, protection = self._authentication, self._protection
        if not isinstance(authentication, ResponderAuthentication) or self._life.over:
            return
        secret = protection.export(LABEL, b"", 32)
        refusal = authentication.judge(proof, protection.initiator_identity, secret)
        if refusal is None:
            protection.echoed = bool(proof.given & KEY)
            frame = encode_accepted(authentication.answer(secret))
            self._sender.frames.append(ControlFrame(CONTROL, 0, frame, True))
            self._authenticated()
            self._connected()
            return
        text = LISTENERS_WORDS[refusal]
        if refusal is Refusal.NOT_ALLOWED:
            text += f": {protection.initiator_identity.hex()}"
        self._close.end(Reason.AUTHENTICATION, self._heard, text, tell=True, code=refusal)

    def _receive_accepted(self, answer: Accepted) -> None:
        authentication = self._authentication
        if not isinstance(authentication, InitiatorAuthentication) or self._life.over:
            return
        if authentication.accepts(answer):
            self._authentication = None
            self._connected()
            return
        text = "the server does not know the password"
        self._close.end(Reason.AUTHENTICATION, self._heard, text, tell=True)

    def _authenticated(self) -> None:
        """Of the listener: the dialler may have all that others have."""
        authentication, self._authentication = self._authentication, None
        if isinstance(authentication, ResponderAuthentication):
            authentication.passed()
        if self._protection.validated:
            self._window.open()

    # life

    def open_stream(self) -> int:
        """
        One more stream.

        @raise ValueError: there are too many.
        """
        return self._streams.make().number

    def close_stream(self, stream: int) -> None:
        """CLOSE behind the data."""
        found = self._streams.open.get(stream)
        if found is not None:
            self._sender.finish(found)

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        An extended peer is told. The release has no word for it: it sees an end, and
        what it still sends is acknowledged and thrown away.
        """
        found = self._streams.open.get(stream)
        if found is None:
            if self._extensions.peer is Peer.EXTENDED and not self._streams.finished(stream):
                self._send_reset(stream, code)
        elif self._extensions.peer is Peer.BASELINE:
            found.queue = ByteQueue()
            self._sender.finish(found)
            self._receiver.drop(found)
        else:
            self._send_reset(stream, code)
            self._abandon(found)

    def discard_stream(self, stream: int) -> None:
        """An extended peer that writes on is told; what the release sends is thrown away."""
        found = self._streams.open.get(stream)
        if found is None:
            return
        if self._extensions.peer is Peer.BASELINE:
            self._receiver.drop(found)
        else:
            self._abandon(found, unwanted=True)

    def close(self, now: int) -> None:
        """Deliver the rest, exchange CLOSE, discard what comes."""
        if self._life.state is State.HANDSHAKE:
            self.abort(now)
        elif self._life.state is State.ESTABLISHED:
            self._close.begin(now)
            self._advance(now)

    def abort(self, now: int) -> None:
        """Drop everything; an extended peer is told."""
        if not self._life.over:
            self._close.end(Reason.ABORTED, now, tell=True)

    def _abandon(self, stream: Stream, unwanted: bool = False) -> None:
        """
        A stream is given up in both directions.

        @param unwanted: the peer, which has not been told, is when it writes on.
        """
        self._stop_sending(stream)
        stream.end_told = True
        self._receiver.drop(stream)
        self._streams.drop(stream, unwanted)

    def _stop_sending(self, stream: Stream) -> None:
        """Our half of a stream is given up."""
        stream.stop_sending()
        self._sender.ready.pop(stream, None)
        self._sender.packets.forget(stream)

    def _send_reset(self, stream: int, code: int) -> None:
        self._sender.frames.append(ControlFrame(CONTROL, 0, encode_reset(stream, code), True))

    # state

    def counters(self) -> Mapping[str, int]:
        """What was sent and received, dropped, lost and sent again."""
        sealer, packets = self._protection.sealer, self._sender.packets
        return {
            **self._counters,
            "datagrams_out": sealer.next,
            "bytes_out": sealer.bytes_out,
            "datagrams_in": self._datagrams_in,
            "bytes_in": self._bytes_in,
            "retransmitted": self._sender.retransmitted,
            "lost": packets.lost,
            "lost_spurious": packets.recovery.spurious,
            "oob_dropped": self._out_of_band.dropped + self._heard_aside.dropped,
        }

    def facts(self) -> Mapping[str, Any]:
        """Cipher, connection id, peer, its key and whether that is proved, round trip, windows."""
        sender, streams = self._sender, self._streams.open.values()
        unread = sum(stream.incoming.unread for stream in streams)
        return {
            "transport": "qotp",
            "cipher": CIPHER,
            **self._protection.facts(),
            "state": self._life.state.name,
            "peer": self._extensions.peer.name,
            "round_trip": sender.round_trip.smoothed / SECOND,
            "round_trip_variation": sender.round_trip.variation / SECOND,
            "retransmission_timeout": sender.round_trip.timeout / SECOND,
            "peer_window": sender.peer_window,
            "receive_window": self._window.capacity,
            "congestion_window": sender.control.window,
            "bytes_in_flight": sender.packets.recovery.in_flight,
            "bytes_unsent": sum(stream.queue.size for stream in streams),
            "bytes_unread": unread,
            "bytes_waiting": self._window.held - unread,
            "mtu": sender.mtu,
            "validated": self._protection.validated,
            "streams": len(self._streams.open),
            "oob_max": sender.longest_datagram,
        }
