"""
One RakNet session as an L{Engine<twisted_rudp.core.engine.Engine>}: what its owner calls,
and what becomes of the protocol's own messages. The work is done by its parts, each of
which owns its fields::

    Dialler    the first requests, outside of a session
    Handshake  the messages inside of the session that begin it
    Receiver   what arrives, in order, and its acknowledgements
    Sender     what leaves, and what was sent
    Liveness   pings, and whether the peer is there
    Close      an end in order; ClosedSession answers what comes after it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import (
    MILLISECOND,
    READABLE_BYTES,
    READABLE_MESSAGES,
    SECOND,
    STREAM,
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
from twisted_rudp.core.limits import TokenBuckets, is_loopback
from twisted_rudp.core.serial import MASK24
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.raknet import timers as t
from twisted_rudp.raknet import wire
from twisted_rudp.raknet.close import Close, ClosedSession, last_message
from twisted_rudp.raknet.handshake import (
    MOST_UNCONFIRMED,
    Dialler,
    Handshake,
    Stage,
    Step,
    WrongPassword,
)
from twisted_rudp.raknet.offline import Reply2, Request2, Reset, pack, parse
from twisted_rudp.raknet.receiver import Delivered, LimitExceeded, ReceiveCounters, Receiver
from twisted_rudp.raknet.sender import Sender
from twisted_rudp.raknet.sent import SendCounters, SentPackets
from twisted_rudp.raknet.settings import Settings
from twisted_rudp.raknet.wire import (
    ABORTED_MESSAGE,
    ACK_BIT,
    HEADER_SIZE,
    NACK_BIT,
    VALID,
    Malformed,
    MessageId,
    Reliability,
    check_message,
    is_users,
    parse_records,
)

MOST_PINGS: Final = 8
"""Pings whose pongs are still waited for."""

MOST_URGENT: Final = 16
"""Answers to the protocol's own messages that may wait; what is asked beyond is ignored."""

ASK_AGAIN: Final = 500 * MILLISECOND
"""So often a dialler asks for a sign of life while the listener has not accepted it."""

PING_SHARE: Final = 4
"""At least so many pings fit into the idle time-out."""

ANXIOUS_SHARE: Final = 3
"""A peer that was silent for this share of the idle time-out is pinged more often."""

ANXIOUS_PINGS: Final = 16
"""So many more in what is left of it, at most."""

RAISE_INTERVAL: Final = 60 * SECOND
"""After so long longer datagrams are tried than those that have passed so far."""

_TRIAL: Final = 1 << 62
"""Set in the time of the pings that are as long as those."""

RESET_BEHIND: Final = 512
"""A reset names one of so many datagrams that were sent last."""

_MASK64: Final = (1 << 64) - 1

# Names of this module: looking a member up in its enumeration costs more than the
# comparison it is for.
_HANDSHAKE: Final = State.HANDSHAKE
_ESTABLISHED: Final = State.ESTABLISHED
_PLAIN: Final = Delivery.RELIABLE_ORDERED

_RECORDS: Final = ACK_BIT | NACK_BIT
"""Neither is in the first byte of a datagram with frames."""

_NOTHING: Final[Sequence[tuple[Any, ...]]] = ()


@dataclass(slots=True)
class EngineCounters:
    """
    What a session counts beside its two halves.

    @ivar datagrams_excess: above the rate that is read.
    @ivar acknowledgements_out: ACK and NACK datagrams sent.
    @ivar acknowledgements_in: those received.
    """

    datagrams_excess: int = 0
    acknowledgements_out: int = 0
    acknowledgements_in: int = 0
    system_ignored: int = 0
    pings_out: int = 0
    path_errors_ignored: int = 0


class Liveness:
    """
    Pings, and whether the peer is still there (raknet.md 11.1 and 11.2).

    @ivar heard: when anything of the peer's came last.
    @ivar latest: what the last pong said of the round trip; None before the first.
    """

    __slots__ = (
        "_asked",
        "_interval",
        "_progress",
        "_progress_at",
        "_settings",
        "_timers",
        "_waiting",
        "heard",
        "latest",
    )

    def __init__(self, settings: Settings, timers: Timers, now: int) -> None:
        self._settings = settings
        self._timers = timers
        self._interval = min(settings.ping_interval, settings.timeout // PING_SHARE)
        self.heard = now
        # When the first ping was sent since then.
        self._asked = now
        self._progress, self._progress_at = (-1, -1), now
        self.latest: int | None = None
        self._waiting: dict[int, int] = {}

    def start(self, now: int) -> None:
        """The session is established: ping, at once for the first time."""
        self._timers.set(t.PING, now)

    def stop(self) -> None:
        """The peer has left; nothing is to be expected of it."""
        self._timers.stop(t.PING)
        self._timers.stop(t.IDLE)

    def watch(self, round_trip: int, now: int) -> bool:
        """
        See whether the peer counts as gone, and when to look again.

        @return: it does.
        """
        since = self.heard
        if self._timers.due[t.PING] != NEVER:
            # It was not asked if this process was stopped.
            asked = self._asked if self._asked > since else now
            since = max(since, asked - self._interval)
        until = since + self._settings.timeout + self._settings.timeout_rtts * round_trip
        self._timers.set(t.IDLE, until)
        return now >= until

    def is_stuck(self, sent: SentPackets, now: int) -> bool:
        """
        Whether nothing that was sent was acknowledged for the time-out, though the peer is
        heard and the same frame was missing all the time. A peer that has no room for more
        acknowledges pings all the same.
        """
        progress = (sent.base, sent.recovery.delivered)
        # This process was stopped and has not asked.
        stopped = self._asked <= self.heard and now >= self.heard + self._settings.timeout
        if progress != self._progress or not sent.outstanding or stopped:
            self._progress, self._progress_at = progress if sent.outstanding else (-1, -1), now
            return False
        return now >= self._progress_at + self._settings.timeout

    def pinged(self, time: int, round_trip: int, now: int) -> None:
        """
        A ping with this time on it is being sent. One after the other until the peer says
        something: each alone may be lost (RFC 9293 3.8.4 has keep-alives like this).
        """
        self._waiting[time] = now
        if self._asked <= self.heard:
            self._asked = now
        if len(self._waiting) > MOST_PINGS:
            del self._waiting[next(iter(self._waiting))]
        interval = self._interval
        timeout = self._settings.timeout
        if now >= self.heard + timeout // ANXIOUS_SHARE:
            interval = min(interval, max(timeout // (2 * ANXIOUS_PINGS), round_trip))
        self._timers.set(t.PING, now + interval)

    def answered(self, time: int, now: int) -> bool:
        """
        A pong echoes this time.

        @return: we had sent it, and it was not answered yet.
        """
        sent = self._waiting.pop(time, None)
        if sent is None:
            return False
        self.latest = now - sent
        return True


class RakNetEngine:
    """
    A RakNet session.

    @ivar pending: see L{Engine.pending<twisted_rudp.core.engine.Engine.pending>}.
    @ivar receiver: its receiving half, to be looked at.
    @ivar sender: its sending half, to be looked at.
    """

    __slots__ = (
        "_address",
        "_bad_since",
        "_buckets",
        "_close",
        "_closed",
        "_counters",
        "_dialler",
        "_end_told",
        "_epoch",
        "_guard",
        "_guid",
        "_handshake",
        "_life",
        "_liveness",
        "_now",
        "_peer_finished",
        "_peer_guid",
        "_raise_at",
        "_readable",
        "_reply2_due",
        "_settings",
        "_timers",
        "_trial",
        "_unread",
        "_unsent_at_end",
        "pending",
        "receiver",
        "reply2",
        "sender",
    )

    def __init__(
        self,
        address: Address,
        settings: Settings,
        *,
        now: int,
        guid: int,
        epoch: int,
        request: Request2 | None = None,
        validated: bool = False,
        own_socket: bool = False,
    ) -> None:
        """
        @param guid: our own, 64 bits.
        @param epoch: what our clock on the wire starts from, in milliseconds;
            random, so that an echo of it proves something.
        @param request: the second request that a listener answers, with the agreed
            MTU in it; None for a dialler.
        @param validated: the request has brought a cookie.
        @param own_socket: the socket serves this session alone and closes with it.
        """
        self._address = address
        self._settings = settings
        self._now = now
        self._guid = guid
        self._epoch = epoch
        self._trial = self._raise_at = -1
        self.pending: list[tuple[Any, ...]] = []
        self._counters = EngineCounters()
        self._timers = Timers(t.COUNT)
        self.receiver = Receiver(settings, self._timers)
        self.sender = Sender(settings, self._timers)
        self._liveness = Liveness(settings, self._timers, now)
        role = Role.CLIENT if request is None else Role.SERVER
        self._life = Lifecycle(role, self.pending, own_socket)
        self._close = Close(self._life, settings, self.sender, self._timers)
        self._closed: ClosedSession | None = None
        # The peer has said its last, but the session is established until what it had said
        # before was read.
        self._peer_finished = False
        self._end_told = False
        # Frames have come, and the application may not have taken all that was in them.
        self._unread = False
        self._unsent_at_end = 0
        rate = settings.online_rate
        self._buckets = TokenBuckets(rate, rate, 1) if rate else None
        self._guard = 0 if is_loopback(address) else settings.nack_delay
        self._readable = READABLE_BYTES if settings.stream else READABLE_MESSAGES
        self._bad_since = now
        self._dialler: Dialler | None = None
        self._peer_guid: int | None = None
        self.reply2 = b""
        if request is None:
            self._dialler = Dialler(settings, guid, address, now)
            self._timers.set(t.HANDSHAKE, now)
            self._handshake = Handshake(settings, address, guid, True)
        else:
            self._handshake = Handshake(settings, address, request.guid, validated)
            self._agree(request.mtu, request.guid, now)
            self.reply2 = pack(Reply2(guid, address, request.mtu), settings.magic)
        self._reply2_due = bool(self.reply2)

    # what the hub asks

    @property
    def capabilities(self) -> Capability:
        """Bytes or messages; no receive window, no half close."""
        kind = Capability.BYTES if self._settings.stream else Capability.MESSAGES
        return kind | Capability.ORDERLY_CLOSE | Capability.NEEDS_IDLE_TIMEOUT

    @property
    def validated(self) -> bool:
        """By the cookie, or by an echo of our clock."""
        return self._handshake.validated

    @property
    def closed(self) -> bool:
        """TIME-WAIT is over too."""
        return self._life.state is State.CLOSED

    @property
    def over(self) -> bool:
        """The application has been, or will be, told of the end."""
        return self._life.over

    @property
    def unverified(self) -> bool:
        """A listener that has not seen a connection request."""
        return self._life.state is _HANDSHAKE and self._handshake.step is Step.WAITING

    @property
    def idle_since(self) -> int:
        """When anything was heard of the peer last."""
        return self._liveness.heard

    @property
    def round_trip(self) -> int:
        """By acknowledgements, or by pings where nothing was sent."""
        return self.sender.sent.round_trip.smoothed or self._liveness.latest or 0

    def keys(self) -> Sequence[Key]:
        """The address; of a listener also the peer's GUID, which may have one session."""
        if self._life.role is Role.CLIENT:
            return (self._address,)
        return (self._address, ("guid", self._peer_guid))

    def make_room(self) -> None:
        """The peer wants a new session, so this one means nothing to it any more."""
        self.sender.release()
        self._tell_receipts()
        self.receiver.buffer.clear()
        self._closed = None
        self._timers.stop_all()
        self._life.vanish("the peer has connected anew")

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Process a run."""
        self._now = now
        if not run:
            return
        if not run[0] & VALID:
            self._receive_offline(run, size, now)
        elif self._closed is not None:
            self._closed.receive(run, size, now)
        elif self._dialler is None and self._life.state is not State.CLOSED:
            self._receive_session(run, size, now)

    def _receive_offline(self, run: Buffer, size: int, now: int) -> None:
        """What belongs to no session: answers to a dialler, and that the peer has forgotten us."""
        view = memoryview(run)
        for start in range(0, len(view), size):
            message = parse(view[start : start + size], self._settings.magic)
            if message is None or self._life.over:
                return
            if self._dialler is not None:
                self._dialler.receive(message, now)
                self._dialled(self._dialler, now)
            elif isinstance(message, Reset):
                behind = (self.sender.sent.number - 1 - message.number) & MASK24
                if behind < RESET_BEHIND:
                    self._end(Reason.FORGOTTEN, now)

    def _receive_session(self, run: Buffer, size: int, now: int) -> None:
        """Tell bulk data, other datagrams with frames, and acknowledgements from each other."""
        if self._buckets is not None:
            count = -(-len(run) // size)
            if not self._buckets.take(None, now, count):
                self._counters.datagrams_excess += count
                return
        buffer = self.receiver.buffer
        before = -1
        full = False
        at, total = 0, len(run)
        view = run
        while True:
            if view[0] & _RECORDS:
                self._receive_records(memoryview(view)[:size], now)
                length = size
            else:
                if before < 0:
                    before = buffer.stream.size + buffer.messages.size
                    full = buffer.left > 0 and buffer.full
                    self._unread = True
                length = 0 if full else self._receive_bulk(view, size, now)
                if not length:
                    self._receive_frames(memoryview(view)[:size], now, full)
                    length = size
            at += length
            if at >= total or self._closed is not None:
                break
            view = memoryview(view)[length:]
        grown = before >= 0 and buffer.stream.size + buffer.messages.size > before
        if grown and self._life.state is _ESTABLISHED:
            self.pending.append(self._readable)

    def _receive_bulk(self, run: Buffer, size: int, now: int) -> int:
        """
        Take in the leading datagrams if that goes at once.

        @return: how many bytes.
        """
        state = self._life.state
        if state is _HANDSHAKE or self._peer_finished:
            return 0
        receiver = self.receiver
        length, taken = receiver.take(run, size, now)
        if not length:
            length = receiver.hold(run, size, now, self._nack_guard())
        elif state is _ESTABLISHED:
            buffer = receiver.buffer
            if isinstance(taken, bytes):
                buffer.stream.put(taken)
            else:
                buffer.messages.put_plain(taken)
        if length:
            self._liveness.heard = now
        return length

    def _receive_records(self, datagram: memoryview, now: int) -> None:
        self._counters.acknowledgements_in += 1
        records = parse_records(datagram)
        sent = self.sender.sent
        if datagram[0] & ACK_BIT:
            if sent.acknowledged(records, now):
                self._liveness.heard = now
        else:
            sent.reported_lost(records)
        if sent.receipts:
            self._tell_receipts()

    def _receive_frames(self, datagram: memoryview, now: int, full: bool) -> None:
        receiver = self.receiver
        early = self._life.state is _HANDSHAKE and receiver.buffer.early_full
        try:
            for delivered in receiver.datagram(datagram, now, self._nack_guard(), full, early):
                self._deliver(delivered, now)
                if self._closed is not None:
                    return
        except LimitExceeded as problem:
            self._end(Reason.LIMIT, now, str(problem), message=ABORTED_MESSAGE)
            return
        if len(datagram) >= HEADER_SIZE:
            self._liveness.heard = now
        if receiver.bad:
            self._judge_bad(now)

    def _nack_guard(self) -> int:
        """How long a gap may be mere reordering (raknet.md 8.1)."""
        return self._guard and max(self._guard, self.sender.sent.round_trip.smoothed >> 3)

    def _judge_bad(self, now: int) -> None:
        """A few unreadable datagrams happen; many in a short time are no RakNet."""
        settings, receiver = self._settings, self.receiver
        if now - self._bad_since > settings.bad_span:
            self._bad_since = now
            receiver.bad = 1
        if receiver.bad >= settings.bad_limit and not self._life.over:
            self._end(Reason.PROTOCOL, now, message=ABORTED_MESSAGE)

    def _deliver(self, delivered: Delivered, now: int) -> None:
        """One message, in order."""
        payload = delivered.payload
        if is_users(payload[0]):
            state = self._life.state
            if state is _HANDSHAKE:
                self._handshake.spoke()
                self.receiver.buffer.keep(delivered)
                self._conclude(now)
            elif state is _ESTABLISHED and not self._peer_finished:
                self.receiver.buffer.put(delivered)
            return
        try:
            self._system(payload, now)
        except Malformed:
            self.receiver.bad += 1
            self.receiver.counters.frames_malformed += 1

    def _system(self, payload: Buffer, now: int) -> None:
        """
        A message of the protocol's own (raknet.md 4).

        @raise Malformed: it cannot be read.
        """
        kind = payload[0]
        is_listener = self._life.role is Role.SERVER
        if kind == MessageId.CONNECTED_PING:
            self._pong(wire.parse_ping(payload), now)
        elif kind == MessageId.CONNECTED_PONG:
            time = wire.parse_pong(payload)
            if time == self._trial and self.sender.reduced:
                self._trial = -1
                self.sender.grow()
            elif self._liveness.answered(time, now):
                self._handshake.prove()
                self._conclude(now)
        elif kind == MessageId.DISCONNECTION:
            self._peer_left(bytes(payload), now)
        elif kind == MessageId.CONNECTION_REQUEST and is_listener:
            self._requested(wire.parse_connection_request(payload), now)
        elif kind == MessageId.NEW_INCOMING and is_listener:
            self._handshake.came(wire.parse_new_incoming(payload))
            self._met(payload)
            if self._life.state is _HANDSHAKE and not self._handshake.validated:
                self._ping(now)
            self._conclude(now)
        elif kind == MessageId.REQUEST_ACCEPTED and not is_listener:
            self._accepted(payload, now)
        elif kind == MessageId.INVALID_PASSWORD and self._life.state is _HANDSHAKE:
            detail = "the peer wants another password"
            self._end(Reason.AUTHENTICATION, now, detail, acknowledge=True)
        else:
            self._counters.system_ignored += 1

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        A dialler whose peer's port is closed learns it from here; one whose probe is
        too long goes on with the next size. Later errors are left to the timeout:
        they may be transient and, as ICMP, forged.
        """
        self._now = now
        if self._life.over:
            return
        if self._dialler is not None:
            if kind is PathError.TOO_BIG:
                self._dialler.too_big(size, now)
                self._timers.set(t.HANDSHAKE, self._dialler.due)
            elif kind is PathError.REFUSED:
                self._end(Reason.REFUSED, now)
            elif kind is PathError.UNREACHABLE:
                self._end(Reason.UNREACHABLE, now)
            else:
                # A filter on this machine may be about to change: the requests go on.
                self._counters.path_errors_ignored += 1
        elif kind is not PathError.TOO_BIG:
            self._counters.path_errors_ignored += 1
        elif size:
            self.sender.shrink(size)

    # time

    def tick(self, now: int) -> None:
        """
        End what has lasted too long: TIME-WAIT, the peer's silence, the close, a handshake
        that nobody confirms. What is merely to be sent at its time, the next flush sends.
        """
        self._now = now
        timers = self._timers
        if self._life.over:
            self._life.tick(now)
        elif self._dialler is not None or self._peer_finished:
            return
        elif now >= timers.due[t.IDLE]:
            if self._liveness.is_stuck(self.sender.sent, now):
                self._end(Reason.DEAD_LINK, now, message=ABORTED_MESSAGE)
            elif self._liveness.watch(self.sender.sent.round_trip.smoothed, now):
                self._end(Reason.IDLE, now, message=ABORTED_MESSAGE)
        elif now >= timers.due[t.CLOSE]:
            if self._close.delivered:
                self._end(Reason.DONE, now, acknowledge=True)
            else:
                self._end(Reason.CLOSE_TIMEOUT, now, message=ABORTED_MESSAGE)
        elif now >= timers.due[t.PROBE] and self._is_unconfirmed:
            self._end(Reason.HANDSHAKE_TIMEOUT, now)

    @property
    def _is_unconfirmed(self) -> bool:
        """The long answer was sent often enough to an address that may be forged."""
        return (
            self._life.state is _HANDSHAKE
            and not self._handshake.validated
            and self._life.role is Role.SERVER
            and self.sender.sent.counters.retransmitted >= MOST_UNCONFIRMED
        )

    def deadline(self) -> int | None:
        """The earliest of acknowledgements, retransmissions, pings, close and idle."""
        over = self._closed is not None
        due = self._life.deadline() if over else self._timers.earliest()
        return None if due == NEVER else due

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """Queue bytes. What follows the peer's end goes nowhere."""
        if self._life.state is not _ESTABLISHED:
            self._check_open()
        elif not self._peer_finished:
            self.sender.write(data)

    def copy_next(self, size: int) -> None:
        """See L{Copying<twisted_rudp.core.engine.Copying>}."""
        self.sender.copy_next(size)

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        Queue a message, whose first byte is the application's id: 0x80 and above
        (raknet.md 15), or 0x1b.

        @param channel: 0 to 31. Other implementations than the C++ one know only 0
            (raknet.md 16).
        @param priority: 0 to 3.
        """
        is_open = self._life.state is _ESTABLISHED and not self._peer_finished
        if (
            delivery is _PLAIN
            and not (channel or receipt)
            and is_open
            and self.sender.queue.put_plain(data, priority)
        ):
            return None
        self._check_open()
        check_message(data, delivery, channel, priority)
        number = self.sender.send(data, int(delivery), channel, priority, receipt)
        if not is_open:
            self.sender.release()
            self._tell_receipts()
        return number

    def unsent(self, stream: int = STREAM) -> int:
        """Bytes that wait for the window. Until the end is told there is no room for more."""
        return max(self.sender.unsent, self._unsent_at_end)

    # wire -> application

    def unread(self, stream: int = STREAM) -> int:
        """Bytes that can be taken."""
        return self.receiver.buffer.size

    def take(self, stream: int, limit: int) -> bytes:
        """The next bytes in order."""
        buffered = self.receiver.buffer.stream
        # Each delivery ends with nothing.
        data = buffered.take(limit) if buffered.size else b""
        if self.receiver.datagrams.withholding or self._peer_finished:
            self._took()
        return data

    def take_messages(self) -> Iterator[Message]:
        """Messages in the order of their delivery."""
        try:
            yield from self.receiver.buffer.messages.take()
        finally:
            if self.receiver.datagrams.withholding or self._peer_finished:
                self._took()

    def _took(self) -> None:
        """There may be room again, or nothing left before the peer's end."""
        receiver = self.receiver
        receiver.buffer.offered()
        if receiver.buffer.half_empty:
            receiver.datagrams.release(self._now)
        if self._peer_finished and not receiver.buffer.size:
            self._tell_peer_finished()

    # engine -> wire

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """Send replies, NACKs and ACKs, a ping, and what the window admits."""
        self._now = now
        writer = RunWriter(emit, self._address)
        lifecycle = self._life
        if lifecycle.state is not _ESTABLISHED and not lifecycle.over:
            if self._dialler is not None:
                self._flush_dialler(self._dialler, now, writer)
                return False
            if self._reply2_due:
                self._reply2_due = False
                writer.add(self.reply2)
            if self._close.advance(now):
                self._end(Reason.DONE, now, acknowledge=True)
        if lifecycle.state is not _ESTABLISHED and lifecycle.over:
            self._flush_closed(now, writer)
            return False
        if self._unread:
            self._unread = self.receiver.buffer.offered()
        timers = self._timers
        validated = self._handshake.validated
        if self.receiver.datagrams.waiting or now >= timers.due[t.NACK]:
            self._acknowledge(now, writer, budget)
        if now >= timers.due[t.PING] and self._is_asking:
            # The listener may have used up what it may send to an address that is not
            # validated, and have acknowledged all that we said (RFC 9002 6.2.2.1). The C++
            # one takes nothing before the request that it has not acknowledged yet.
            sender = self.sender
            if not sender.sent.outstanding:
                sender.path_trial(wire.pack_ping(self._time(now)))
            timers.set(t.PING, now + ASK_AGAIN)
        elif now >= timers.due[t.PING]:
            self._ping(now)
            if self.sender.reduced:
                self._try_longer(now, writer)
            else:
                self._raise_at = -1
        is_suspected = self.sender.sent.long_lost > 0 or timers.due[t.PATH] != NEVER
        if is_suspected and self.sender.try_path(now):
            self.sender.path_trial(wire.pack_ping(self._time(now)))
            if now - self.sender.stuck_since >= self._settings.timeout:
                self._end(Reason.DEAD_LINK, now, message=ABORTED_MESSAGE)
                self._flush_closed(now, writer)
                return False
        more = self.sender.flush(now, writer, budget, not validated)
        if writer.held:
            writer.finish()
        if self.sender.sent.receipts:
            self._tell_receipts()
        return more

    def _acknowledge(self, now: int, writer: RunWriter, budget: int) -> None:
        """What is no frame: NACKs, ACKs."""
        limit = self.sender.datagram
        if not self._handshake.validated:
            limit = min(limit, budget - writer.cost)
        if limit < HEADER_SIZE + HEADER_SIZE:
            return
        for datagram in self.receiver.datagrams.due(now, limit):
            writer.add(datagram)
            self._counters.acknowledgements_out += 1

    def events(self) -> Sequence[tuple[Any, ...]]:
        """What changed."""
        if not self.pending:
            return _NOTHING
        events = self.pending.copy()
        self.pending.clear()
        return events

    def _tell_receipts(self) -> None:
        """Tell what became of the messages somebody asked about."""
        receipts = self.sender.sent.receipts
        self.pending += [(Event.RECEIPT, *fate) for fate in receipts]
        receipts.clear()

    # pings

    def _time(self, now: int) -> int:
        """Our clock as the wire shows it, in milliseconds."""
        return (self._epoch + now // MILLISECOND) & _MASK64

    @property
    def _is_asking(self) -> bool:
        """We dial, and the listener has not accepted yet."""
        return self._life.state is _HANDSHAKE and self._life.role is Role.CLIENT

    @property
    def _ping_reliability(self) -> int:
        """
        Of pings and pongs. A close waits for all that is reliable; where they come faster than
        acknowledgements some of them were always outstanding.
        """
        if self._settings.reliable_pings and self._life.state is _ESTABLISHED:
            return int(Reliability.RELIABLE_ORDERED)
        return int(Reliability.UNRELIABLE)

    def _ping(self, now: int) -> None:
        """Ask the peer for a sign of life."""
        time = self._time(now)
        self.sender.system(wire.pack_ping(time), self._ping_reliability)
        self._liveness.pinged(time, self.sender.sent.round_trip.smoothed, now)
        self._counters.pings_out += 1

    def _try_longer(self, now: int, writer: RunWriter) -> None:
        """See now and then, beside a ping, whether the path takes longer datagrams than it did."""
        if self._raise_at < 0:
            self._raise_at = now + RAISE_INTERVAL
        elif now >= self._raise_at:
            self._raise_at = now + RAISE_INTERVAL
            # No ordinary ping has this time.
            self._trial = self._time(now) | _TRIAL
            self.sender.try_longer(wire.pack_ping(self._trial), now, writer)

    def _pong(self, time: int, now: int) -> None:
        """
        Answer the peer's ping.

        @param time: the peer's, as it came.
        """
        if self.sender.urgent >= MOST_URGENT or self._peer_finished:
            self._counters.system_ignored += 1
            return
        self.sender.system(wire.pack_pong(time, self._time(now)), self._ping_reliability)

    # the handshake

    def _flush_dialler(self, dialler: Dialler, now: int, writer: RunWriter) -> None:
        for datagram in dialler.datagrams(now):
            writer.add(datagram)
        writer.finish()
        self._timers.set(t.HANDSHAKE, dialler.due)

    def _dialled(self, dialler: Dialler, now: int) -> None:
        """See how the first requests went on."""
        self._timers.set(t.HANDSHAKE, dialler.due)
        if dialler.stage is Stage.REFUSED:
            self._end(dialler.refusal[0], now, dialler.refusal[1])
        elif dialler.stage is Stage.AGREED:
            self._dialler = None
            self._timers.stop(t.HANDSHAKE)
            self._agree(dialler.mtu, dialler.guid, now)
            self.sender.system(self._handshake.ask(self._time(now)))
            self._timers.set(t.PING, now + ASK_AGAIN)

    def _agree(self, mtu: int, peer_guid: int | None, now: int) -> None:
        """Both ends know of each other."""
        self._peer_guid = peer_guid
        self.sender.begin(mtu)
        self._liveness.heard = now
        self._liveness.watch(0, now)

    def _requested(self, request: wire.ConnectionRequest, now: int) -> None:
        """The listener is asked for the session."""
        try:
            answer = self._handshake.asked(request, self._time(now))
        except WrongPassword:
            message = wire.pack_invalid_password(self._guid)
            self._end(Reason.AUTHENTICATION, now, message=message)
            return
        if answer is not None:
            self._handshake.answered_by(self.sender.system(answer))

    def _accepted(self, payload: Buffer, now: int) -> None:
        """The dialler is answered."""
        message = wire.parse_request_accepted(payload)
        answer = self._handshake.accepted(message, self._time(now))
        if answer is not None:
            self._met(payload)
            self.sender.system(answer)
            self._conclude(now)

    def _met(self, payload: Buffer) -> None:
        """See what kind of peer this is."""
        if self._settings.extended and wire.is_extended(payload):
            self.sender.sent.extended = True

    def _conclude(self, now: int) -> None:
        """The handshake may be done."""
        if self._life.state is not _HANDSHAKE or not self._handshake.done:
            return
        self._life.enter(_ESTABLISHED)
        self.pending.append((Event.CONNECTED, False))
        self._liveness.start(now)
        self.receiver.buffer.put_kept()

    # life

    def open_stream(self) -> int:
        """
        @raise ValueError: always; there is stream 0 alone.
        """
        raise ValueError("RakNet has one stream, number 0; it is open from the start")

    def close_stream(self, stream: int) -> None:
        """The wire has no end of stream; what was written goes on its way."""

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{abort}.
        """
        raise ValueError("RakNet cannot reset its only stream; abort the session")

    def discard_stream(self, stream: int) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{close}.
        """
        raise ValueError("RakNet cannot discard its only stream; close the session")

    def close(self, now: int) -> None:
        """Deliver the rest, then say so (raknet.md 11.3). What arrives is thrown away."""
        self._now = now
        if self._life.state is _HANDSHAKE:
            self.abort(now)
        elif self._life.state is _ESTABLISHED:
            self.receiver.buffer.clear()
            if self._peer_finished:
                self._end(Reason.DONE, now, acknowledge=True)
            else:
                self._close.begin(now)

    def abort(self, now: int) -> None:
        """Drop everything and say so, three times."""
        if self._dialler is not None and not self._life.over:
            self._end(Reason.ABORTED, now)
        elif not self._life.over:
            self._end(Reason.ABORTED, now, message=ABORTED_MESSAGE)

    def _peer_left(self, payload: bytes, now: int) -> None:
        """The notification has come: the end of what the peer says, and of what it hears."""
        state = self._life.state
        if payload == ABORTED_MESSAGE:
            self._end(Reason.RESET, now)
        elif state is _HANDSHAKE:
            self._end(Reason.REFUSED, now, acknowledge=True)
        elif state is _ESTABLISHED:
            self._peer_finished = True
            self.receiver.datagrams.hurry(now)
            self.sender.release()
            self._liveness.stop()
            if not self.receiver.buffer.size:
                self._tell_peer_finished()
        else:
            self._end(Reason.DONE, now, acknowledge=True)

    def _tell_peer_finished(self) -> None:
        """All that the peer said before it left was read."""
        if not self._end_told and self._life.state is _ESTABLISHED:
            self._end_told = True
            self.pending.append((Event.STREAM_ENDED, STREAM))

    def _end(
        self,
        reason: Reason,
        now: int,
        detail: str | None = None,
        message: bytes = b"",
        acknowledge: bool = False,
    ) -> None:
        """
        End the session now.

        @param message: an unreliable one that tells the peer.
        @param acknowledge: what the peer says from now on is acknowledged.
        """
        datagrams = self.receiver.datagrams
        packets: list[bytes] = []
        if message:
            packets = [last_message(self.sender.sent.number, message)]
        elif acknowledge:
            packets = datagrams.acknowledgements(self.sender.datagram)
        self._closed = ClosedSession(
            datagrams if acknowledge else None,
            packets,
            now,
            self.sender.sent.round_trip.timeout,
            self._life.own_socket,
        )
        self._unsent_at_end = self.sender.unsent
        self.sender.release()
        self._timers.stop_all()
        self._tell_receipts()
        self.receiver.buffer.clear()
        self._dialler = None
        self._life.end(reason, detail, self._closed.time_wait)

    def _flush_closed(self, now: int, writer: RunWriter) -> None:
        """Send what answers the peer after the end."""
        if self._closed is not None:
            for datagram in self._closed.take_answers(now, self.sender.datagram):
                writer.add(datagram)
            writer.finish()
            self._life.last_packet_sent()

    def _check_open(self) -> None:
        """
        @raise RuntimeError: the owner has closed this, or it is not there yet. That
            it has just ended by itself the owner cannot know.
        """
        state = self._life.state
        if state is not _ESTABLISHED and not self._life.over:
            raise RuntimeError(f"the session is not open: {state.value}")

    # state

    def counters(self) -> Mapping[str, int]:
        """This session's counters."""
        return {
            **_by_name(self.sender.sent.counters),
            **_by_name(self.receiver.counters),
            **_by_name(self._counters),
        }

    def facts(self) -> Mapping[str, Any]:
        """
        Peer, agreed size, round trip, windows. C{latency} is half of what the last
        ping took; C{round_trip} is that of acknowledgements, which peers keep back a while.
        """
        sent = self.sender.sent
        trip, latest = sent.round_trip, self._liveness.latest
        return {
            "transport": "raknet",
            "cipher": None,
            "protocol": self._settings.protocol,
            "state": self._life.state.name,
            "guid": self._guid,
            "peer_guid": self._peer_guid,
            "mtu": self.sender.mtu,
            "peer": "EXTENDED" if sent.extended else "BASELINE",
            "validated": self._handshake.validated,
            "latency": None if latest is None else latest / SECOND / 2,
            "round_trip": trip.smoothed / SECOND,
            "round_trip_variation": trip.variation / SECOND,
            "retransmission_timeout": trip.timeout / SECOND,
            "congestion_window": self.sender.controller.window,
            "bytes_in_flight": sent.recovery.in_flight,
            "bytes_unsent": self.sender.unsent,
            "bytes_unread": self.receiver.buffer.size,
            "bytes_waiting": self.receiver.held,
        }


def _by_name(counters: SendCounters | ReceiveCounters | EngineCounters) -> dict[str, int]:
    """As C{dataclasses.asdict}, which makes a copy of each number."""
    return {name: getattr(counters, name) for name in type(counters).__dataclass_fields__}
