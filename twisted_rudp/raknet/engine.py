"""
One RakNet session as an L{Engine<twisted_rudp.core.engine.Engine>}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from twisted_rudp.core.buckets import TokenBuckets, is_loopback
from twisted_rudp.core.engine import (
    MILLISECOND,
    SECOND,
    Address,
    Buffer,
    Capability,
    Delivery,
    Emit,
    Event,
    Key,
    Message,
    PathError,
    Reason,
)
from twisted_rudp.raknet import system
from twisted_rudp.raknet.arrivals import NEVER
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.dialling import Dialling, Stage
from twisted_rudp.raknet.handshake import Handshake, Step, WrongPassword
from twisted_rudp.raknet.inbox import MessageInbox, StreamInbox
from twisted_rudp.raknet.liveness import Liveness
from twisted_rudp.raknet.offline import Reply2, Request2, pack, parse
from twisted_rudp.raknet.outbox import PRIORITIES
from twisted_rudp.raknet.packing import Packer
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.receiver import PIECE, Delivered, LimitExceeded, Receiver
from twisted_rudp.raknet.records import parse_records
from twisted_rudp.raknet.sender import Sender
from twisted_rudp.raknet.tombstone import Tombstone
from twisted_rudp.raknet.wire import (
    ACK_BIT,
    CHANNELS,
    HEADER_SIZE,
    NACK_BIT,
    VALID,
    Malformed,
    Reliability,
    pack_frame_header,
    pack_header,
)

STREAM = 0
"""The one stream of a session that carries bytes."""

IDLE_LONG_ENOUGH = 3 * SECOND
"""A session silent for so long gives way to its peer's next attempt (raknet.md 2.2)."""

FAREWELLS = 3
"""How often the last acknowledgement leaves a socket that is closed behind it."""

MOST_URGENT = 64
"""Answers to the protocol's own messages that may wait; what is asked beyond is
ignored."""

MOST_RESENDS_UNCONFIRMED = 3
"""How often the longest answer is repeated for a peer that has not confirmed it."""

TIMESTAMPED = 0x1B
"""First byte of user messages with a time in front of their id (raknet.md 4)."""

_NOTHING: Sequence[tuple[Any, ...]] = ()
_MASK64 = (1 << 64) - 1


class Role(Enum):
    """
    Which side asked for the session.
    """

    DIALLER = "dialled"
    LISTENER = "was dialled"


class Life(Enum):
    """
    The states of a session.
    """

    OFFLINE = "the dialler's first requests"
    OPENING = "the handshake inside of the session"
    LIVE = "carrying data"
    CLOSING = "close asked; the rest is being delivered"
    NOTIFYING = "all is delivered; the last word waits for its acknowledgement"
    FAREWELL = "over; the peer is told before the socket closes"
    ENDED = "over for the application; a tombstone answers"
    FORGOTTEN = "over"


_NEXT: dict[Life, frozenset[Life]] = {
    Life.OFFLINE: frozenset({Life.OPENING, Life.ENDED}),
    Life.OPENING: frozenset({Life.LIVE, Life.FAREWELL, Life.ENDED}),
    Life.LIVE: frozenset({Life.CLOSING, Life.FAREWELL, Life.ENDED}),
    Life.CLOSING: frozenset({Life.NOTIFYING, Life.FAREWELL, Life.ENDED}),
    Life.NOTIFYING: frozenset({Life.FAREWELL, Life.ENDED}),
    Life.FAREWELL: frozenset({Life.ENDED}),
    Life.ENDED: frozenset({Life.FORGOTTEN}),
    Life.FORGOTTEN: frozenset(),
}

_OVER = frozenset({Life.FAREWELL, Life.ENDED, Life.FORGOTTEN})
_CARRYING = frozenset({Life.LIVE, Life.CLOSING, Life.NOTIFYING})


class RakNetEngine:
    """
    A RakNet session.

    @ivar reply2: the listener's answer to the second request.
    """

    def __init__(
        self,
        address: Address,
        settings: Settings,
        *,
        now: int,
        guid: int,
        epoch: int,
        request: Request2 | None = None,
        proved: bool = False,
        own_socket: bool = False,
        first: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """
        @param guid: our own, 64 bits.
        @param epoch: what our clock on the wire starts from, in milliseconds;
            random, so that an echo of it proves something.
        @param request: the second request that a listener answers, with the agreed
            MTU in it; None for a dialler.
        @param proved: the request has brought a cookie.
        @param own_socket: the socket serves this session alone and closes with it.
        @param first: first datagram number, reliable and order index, of both sides.
        """
        self._address = address
        self._settings = settings
        self._guid = guid
        self._epoch = epoch
        self._own_socket = own_socket
        self._role = Role.DIALLER if request is None else Role.LISTENER
        self._counters = Counters()
        self._receiver = Receiver(settings, self._counters, first)
        self._arrivals = self._receiver.arrivals
        self._sender = Sender(settings, self._counters, first)
        self._flying = self._sender.flying
        self._liveness = Liveness(settings, now)
        self._bytes = StreamInbox()
        self._messages = MessageInbox()
        self._early: deque[Delivered] = deque()
        self._events: list[tuple[Any, ...]] = []
        self._buckets = (
            TokenBuckets(settings.online_rate, settings.online_rate, 1)
            if settings.online_rate
            else None
        )
        self._guard = 0 if is_loopback(address) else settings.nack_delay
        self._bad_since = now
        self._left = False
        self._end_told = False
        self._until = NEVER
        self._delivered = 0
        self._now = now
        self._ending: tuple[Reason, str | None] | None = None
        self._tombstone: Tombstone | None = None
        self.reply2 = b""
        self._dialling: Dialling | None = None
        if request is None:
            self._life = Life.OFFLINE
            self._peer_guid: int | None = None
            self._mtu = settings.mtu_min
            self._dialling = Dialling(settings, guid, address, now)
            self._handshake = Handshake(settings, address, guid, True)
        else:
            self._life = Life.OPENING
            self._peer_guid = request.guid
            self._mtu = request.mtu
            self.reply2 = pack(Reply2(guid, address, request.mtu), settings.magic)
            self._handshake = Handshake(settings, address, request.guid, proved)
            self._sender.agree(request.mtu)
        self._reply2_due = bool(self.reply2)

    # what it is

    @property
    def capabilities(self) -> Capability:
        """
        Bytes or messages; no receive window, no half close.
        """
        kind = Capability.BYTES if self._settings.stream else Capability.MESSAGES
        return kind | Capability.ORDERLY_CLOSE | Capability.NEEDS_IDLE_TIMEOUT

    @property
    def proved(self) -> bool:
        """
        By the cookie, or by an echo of our clock.
        """
        return self._handshake.proved

    @property
    def forgotten(self) -> bool:
        """
        The tombstone is over too.
        """
        return self._life is Life.FORGOTTEN

    @property
    def over(self) -> bool:
        """
        The application has been, or will be, told of the end.
        """
        return self._life in _OVER

    @property
    def unverified(self) -> bool:
        """
        A listener that has not seen a connection request.
        """
        return self._life is Life.OPENING and self._handshake.step is Step.WAITING

    @property
    def idle_since(self) -> int:
        """
        When anything was heard of the peer last.
        """
        return self._liveness.heard

    @property
    def in_flight(self) -> int:
        """
        Bytes of frames sent and not acknowledged.
        """
        return self._flying.bytes

    def keys(self) -> Sequence[Key]:
        """
        The address; of a listener also the peer's GUID, which may have one session.
        """
        if self._role is Role.DIALLER:
            return (self._address,)
        return (self._address, ("guid", self._peer_guid))

    def make_room(self) -> None:
        """
        The peer wants a new session, so this one means nothing to it any more.
        """
        if self._life not in _OVER:
            self._sender.release()
            self._enter(Life.ENDED)
            self._events.append((Event.ENDED, Reason.FORGOTTEN, "the peer has connected anew"))
        if self._life is Life.ENDED:
            self._enter(Life.FORGOTTEN)

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """
        Digest a run.
        """
        self._now = now
        if not run:
            return
        if run[0] & VALID:
            self._online(run, size, now)
        elif self._dialling is not None and self._life is Life.OFFLINE:
            view = memoryview(run)
            for start in range(0, len(view), size):
                message = parse(view[start : start + size], self._settings.magic)
                if message is not None and self._life is Life.OFFLINE:
                    self._dialling.receive(message, now)
                    self._dialled(self._dialling, now)

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        A dialler whose peer's port is closed learns it from here; one whose probe is
        too long goes on with the next size. Later errors are left to the timeout:
        they may be transient and, as ICMP, forged.
        """
        if kind is PathError.TOO_BIG:
            if self._dialling is not None and self._life is Life.OFFLINE:
                self._dialling.too_big(size, now)
            elif size:
                self._sender.shrink(size)
        elif self._life is Life.OFFLINE:
            refused = kind is PathError.REFUSED
            self._end(Reason.REFUSED if refused else Reason.UNREACHABLE, now)
        else:
            self._counters.path_errors_ignored += 1

    def tick(self, now: int) -> None:
        """
        See what time has brought.
        """
        self._now = now
        if self._tombstone is not None:
            if self._life is Life.ENDED and now >= self._tombstone.until:
                self._enter(Life.FORGOTTEN)
            return
        if self._life is Life.OFFLINE or self._left:
            return
        if now >= self._silent_until():
            self._end(Reason.IDLE, now, words=system.ABORTED)
        elif now >= self._until:
            self._give_up_closing(now)
        elif self._unconfirmed and now >= self._flying.alarm:
            self._end(Reason.HANDSHAKE_TIMEOUT, now)

    def deadline(self) -> int | None:
        """
        The earliest of acknowledgements, repeats, pings, close and idle.
        """
        if self._tombstone is not None:
            return None if self._life is Life.FORGOTTEN else self._tombstone.until
        if self._dialling is not None and self._life is Life.OFFLINE:
            return self._dialling.due
        arrivals = self._arrivals
        due = min(
            arrivals.ack_due,
            arrivals.nack_due,
            self._flying.alarm,
            self._liveness.ping_due,
            self._until,
            NEVER if self._left else self._silent_until(),
        )
        return None if due >= NEVER else due

    @property
    def _unconfirmed(self) -> bool:
        """
        The listener's long answer was repeated often enough.
        """
        return (
            self._life is Life.OPENING
            and self._role is Role.LISTENER
            and self._counters.frames_resent >= MOST_RESENDS_UNCONFIRMED
        )

    def _silent_until(self) -> int:
        return self._liveness.silent_until(self._flying.round_trip.smoothed)

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """
        Queue bytes. What follows the peer's last word goes nowhere.
        """
        self._check_open()
        if self._life is Life.LIVE and not self._left:
            self._sender.write(data)

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
        self._check_open()
        if delivery is Delivery.OUT_OF_BAND:
            raise ValueError("delivery: a session of RakNet has no OUT_OF_BAND")
        if not data:
            raise ValueError("data: RakNet has no empty messages")
        if data[0] < system.FIRST_USER_ID and data[0] != TIMESTAMPED:
            raise ValueError(f"data: first byte {data[0]:#04x} is the protocol's, not yours")
        if not 0 <= channel < CHANNELS:
            raise ValueError(f"channel={channel!r} is not in 0 to {CHANNELS - 1}")
        if priority not in PRIORITIES:
            raise ValueError(f"priority={priority!r} is not in 0 to {PRIORITIES[-1]}")
        number = self._sender.send(data, int(delivery), channel, priority, receipt)
        if self._left or self._life is not Life.LIVE:
            self._sender.release()
        return number

    def unsent(self, stream: int = STREAM) -> int:
        """
        Bytes that wait for the window.
        """
        return self._sender.unsent

    # wire -> application

    def unread(self, stream: int = STREAM) -> int:
        """
        Bytes that can be taken.
        """
        return self._bytes.size + self._messages.size

    def take(self, stream: int, limit: int) -> bytes:
        """
        The next bytes in order.
        """
        data = self._bytes.take(limit)
        self._took()
        return data

    def take_message(self) -> Message | None:
        """
        The next message.
        """
        message = self._messages.take()
        self._took()
        return message

    def _took(self) -> None:
        """
        There may be room again, or nothing left before the peer's end.
        """
        unread = self._bytes.size + self._messages.size
        if self._arrivals.withholding and unread <= self._settings.receive_buffer // 2:
            self._arrivals.release(self._now)
        if self._left and not unread:
            self._tell_end()

    # out

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """
        Send what can be sent now.
        """
        self._now = now
        packer = Packer(lambda run, size: emit(run, size, self._address))
        if self._tombstone is not None:
            self._flush_tombstone(self._tombstone, packer)
            return False
        if self._dialling is not None and self._life is Life.OFFLINE:
            for datagram in self._dialling.datagrams(now):
                packer.add(datagram)
            packer.finish()
            return False
        if self._life is not Life.LIVE:
            self._advance(now)
            if self._tombstone is not None:
                self._flush_tombstone(self._tombstone, packer)
                return False
        self._flush_answers(now, packer, budget)
        if now >= self._liveness.ping_due:
            self._ping(now)
        more = self._sender.flush(now, packer, budget, not self.proved)
        packer.finish()
        if self._flying.receipts:
            self._tell_receipts()
        return more

    def _flush_answers(self, now: int, packer: Packer, budget: int) -> None:
        """
        What is no frame: our reply to the second request, NACKs, ACKs.
        """
        if self._reply2_due:
            self._reply2_due = False
            packer.add(self.reply2)
        limit = self._sender.datagram
        if not self.proved:
            limit = min(limit, budget - packer.cost)
        if limit < HEADER_SIZE + HEADER_SIZE:
            return
        arrivals = self._arrivals
        datagrams: list[bytes] = []
        if now >= arrivals.nack_due:
            datagrams = arrivals.complaints(now, limit)
        if arrivals.is_ack_due(now, limit):
            datagrams += arrivals.acknowledgements(limit)
        for datagram in datagrams:
            packer.add(datagram)
            self._counters.acknowledgements_sent += 1

    def events(self) -> Sequence[tuple[Any, ...]]:
        """
        What changed.
        """
        if not self._events:
            return _NOTHING
        events, self._events = self._events, []
        return events

    # life

    def open_stream(self) -> int:
        """
        @raise ValueError: always; there is stream 0 alone.
        """
        raise ValueError("RakNet has one stream, number 0; it is open from the start")

    def close_stream(self, stream: int) -> None:
        """
        The wire has no end of stream; what was written goes on its way.
        """

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{abort}.
        """
        raise ValueError("RakNet cannot reset its only stream; abort the session")

    def close(self, now: int) -> None:
        """
        Deliver the rest, then say so (raknet.md 11.3). What arrives is thrown away.
        """
        self._now = now
        if self._life in (Life.OFFLINE, Life.OPENING):
            self.abort(now)
        elif self._life is Life.LIVE:
            self._discard()
            if self._left:
                self._end(Reason.DONE, now, acknowledge=True)
                return
            self._enter(Life.CLOSING)
            self._until = now + self._settings.stall
            self._advance(now)

    def abort(self, now: int) -> None:
        """
        Drop everything and say so once.
        """
        if self._life is Life.OFFLINE:
            self._end(Reason.ABORTED, now)
        elif self._life not in _OVER:
            self._end(Reason.ABORTED, now, words=system.ABORTED)

    # state

    def counters(self) -> Mapping[str, int]:
        """
        This session's counters.
        """
        return self._counters.as_dict()

    def facts(self) -> Mapping[str, Any]:
        """
        Peer, agreed size, round trip, windows. C{latency} is half of what the last
        ping took; C{rtt} is that of acknowledgements, which peers keep back a while.
        """
        mean = self._flying.round_trip.smoothed
        latest = self._liveness.latest
        return {
            "transport": "raknet",
            "protocol": self._settings.protocol,
            "state": self._life.name,
            "guid": self._guid,
            "peer_guid": self._peer_guid,
            "mtu": self._mtu,
            "proved": self.proved,
            "rtt": None if mean is None else mean / SECOND,
            "latency": None if latest is None else latest / SECOND / 2,
            "rto": self._flying.round_trip.timeout / SECOND,
            "window": self._flying.controller.window,
            "in_flight": self._flying.bytes,
            "waiting": self._receiver.held,
        }

    # life, inside

    def _check_open(self) -> None:
        """
        @raise RuntimeError: the owner has closed this, or it is not there yet. That
            it has just ended by itself the owner cannot know.
        """
        if self._life not in _OVER and self._life is not Life.LIVE:
            raise RuntimeError(f"the session is not open: {self._life.value}")

    def _enter(self, life: Life) -> None:
        if life not in _NEXT[self._life]:
            raise AssertionError(f"no way from {self._life.name} to {life.name}")
        self._life = life

    def _dialled(self, dialling: Dialling, now: int) -> None:
        """
        See how the first requests went on.
        """
        if dialling.stage is Stage.REFUSED:
            self._end(dialling.refusal[0], now, dialling.refusal[1])
        elif dialling.stage is Stage.AGREED:
            self._enter(Life.OPENING)
            self._peer_guid = dialling.guid
            self._mtu = dialling.mtu
            self._sender.agree(dialling.mtu)
            self._liveness.heard = now
            self._sender.system(self._handshake.ask(self._time(now)))

    def _opened(self, now: int) -> None:
        """
        The handshake may be done.
        """
        if self._life is not Life.OPENING or self._handshake.step is not Step.DONE:
            return
        self._enter(Life.LIVE)
        self._events.append((Event.CONNECTED, False))
        self._liveness.start(now)
        early, self._early = self._early, deque()
        for delivered in early:
            self._user(delivered, now)

    def _advance(self, now: int) -> None:
        """
        Closing goes on with what was acknowledged.
        """
        if self._life is Life.CLOSING:
            if self._sender.drained:
                self._enter(Life.NOTIFYING)
                self._sender.system(system.NOTIFICATION)
                self._until = now + self._settings.linger
            elif self._flying.delivered != self._delivered:
                self._delivered = self._flying.delivered
                self._until = now + self._settings.stall
        elif self._life is Life.NOTIFYING and self._sender.drained:
            self._end(Reason.DONE, now, acknowledge=True)

    def _give_up_closing(self, now: int) -> None:
        """
        If only the last word is missing its acknowledgement, everything was
        delivered all the same: some never acknowledge it (raknet.md 11.3).
        """
        if self._life is Life.NOTIFYING:
            self._end(Reason.DONE, now, acknowledge=True)
        else:
            self._end(Reason.CLOSE_TIMEOUT, now, words=system.ABORTED)

    def _peer_left(self, payload: Buffer, now: int) -> None:
        """
        The notification has come: the end of what the peer says, and of what it
        hears.
        """
        if payload == system.ABORTED:
            self._end(Reason.RESET, now)
        elif self._life is Life.OPENING:
            self._end(Reason.REFUSED, now, acknowledge=True)
        elif self._life is Life.LIVE:
            self._left = True
            self._arrivals.hurry(now)
            self._sender.release()
            self._liveness.stop()
            if not self.unread():
                self._tell_end()
        else:
            self._end(Reason.DONE, now, acknowledge=True)

    def _tell_end(self) -> None:
        if not self._end_told and self._life is Life.LIVE:
            self._end_told = True
            self._events.append((Event.STREAM_ENDED, STREAM))

    def _end(
        self,
        reason: Reason,
        now: int,
        detail: str | None = None,
        words: bytes = b"",
        acknowledge: bool = False,
    ) -> None:
        """
        @param words: an unreliable message that tells the peer.
        @param acknowledge: what the peer says from now on is acknowledged.
        """
        datagrams: list[bytes] = []
        if words:
            head = pack_header(self._flying.number)
            frame = pack_frame_header(Reliability.UNRELIABLE, len(words))
            datagrams = [head + frame + words]
            self._flying.number += 1
        elif acknowledge:
            last = self._arrivals.acknowledgements(self._sender.datagram)
            datagrams = last * (FAREWELLS if self._own_socket else 1)
        arrivals = self._arrivals if acknowledge else None
        span = max(2 * self._flying.round_trip.timeout, SECOND)
        self._tombstone = Tombstone(arrivals, datagrams, now + span)
        self._sender.release()
        self._tell_receipts()
        self._discard()
        self._early.clear()
        self._ending = (reason, detail)
        if self._own_socket and datagrams:
            self._enter(Life.FAREWELL)
        else:
            self._tell_ended()

    def _tell_ended(self) -> None:
        assert self._ending is not None
        self._enter(Life.ENDED)
        self._events.append((Event.ENDED, *self._ending))
        if self._own_socket:
            self._enter(Life.FORGOTTEN)

    def _flush_tombstone(self, tombstone: Tombstone, packer: Packer) -> None:
        for datagram in tombstone.take(self._sender.datagram):
            packer.add(datagram)
        packer.finish()
        if self._life is Life.FAREWELL:
            self._tell_ended()

    def _tell_receipts(self) -> None:
        flying = self._flying
        self._events += [(Event.RECEIPT, *fate) for fate in flying.receipts]
        flying.receipts.clear()

    def _discard(self) -> None:
        self._bytes.clear()
        self._messages.clear()

    # what comes, inside

    def _time(self, now: int) -> int:
        return (self._epoch + now // MILLISECOND) & _MASK64

    def _online(self, run: Buffer, size: int, now: int) -> None:
        """
        Tell datagrams with frames from acknowledgements.
        """
        if self._tombstone is not None:
            self._tombstone.receive(run, size, now)
            return
        if self._life is Life.OFFLINE:
            return
        count = -(-len(run) // size)
        if self._buckets is not None and not self._buckets.take(None, now, count):
            self._counters.datagrams_excess += count
            return
        view = memoryview(run)
        firsts = bytes(view[::size])
        start = 0
        while start < count and self._tombstone is None:
            end = start + 1
            if firsts[start] & (ACK_BIT | NACK_BIT):
                self._records(view[start * size : end * size], now)
            else:
                while end < count and not firsts[end] & (ACK_BIT | NACK_BIT):
                    end += 1
                self._frames(view[start * size : end * size], size, now)
            start = end

    def _records(self, datagram: memoryview, now: int) -> None:
        self._counters.acknowledgements_received += 1
        records = parse_records(datagram)
        if datagram[0] & ACK_BIT:
            if self._flying.acknowledge(records, now):
                self._liveness.heard = now
        else:
            self._flying.complain(records, now)
        if self._flying.receipts:
            self._tell_receipts()

    def _frames(self, run: memoryview, size: int, now: int) -> None:
        before = self.unread()
        life = self._life
        streaming = self._settings.stream and life in _CARRYING and not self._left
        full = before >= self._settings.receive_buffer
        try:
            for delivered in self._receiver.receive(
                run, size, now, self._nack_guard(), streaming, full
            ):
                self._handle(delivered, now)
                if self._tombstone is not None:
                    return
        except LimitExceeded as problem:
            self._end(Reason.LIMIT, now, str(problem), words=system.ABORTED)
            return
        if len(run) >= HEADER_SIZE:
            self._liveness.heard = now
        if self._receiver.bad:
            self._judge_bad(now)
        if self._life is Life.LIVE and self.unread() > before:
            stream = STREAM if self._settings.stream else None
            self._events.append((Event.READABLE, stream))

    def _nack_guard(self) -> int:
        """
        How long a gap may be mere reordering (raknet.md 8.1).
        """
        mean = self._flying.round_trip.smoothed
        return self._guard and max(self._guard, (mean or 0) >> 3)

    def _judge_bad(self, now: int) -> None:
        """
        A few unreadable datagrams happen; many in a short time are no RakNet.
        """
        if now - self._bad_since > self._settings.bad_span:
            self._bad_since = now
            self._receiver.bad = 1
        if self._receiver.bad >= self._settings.bad_limit and self._tombstone is None:
            self._end(Reason.PROTOCOL, now, words=system.ABORTED)

    def _handle(self, delivered: Delivered, now: int) -> None:
        """
        One message or piece of the stream, in order.
        """
        payload, reliability, _ = delivered
        if reliability == PIECE:
            if self._life is Life.LIVE:
                self._bytes.put(payload)  # type: ignore[arg-type]
        elif payload[0] >= system.FIRST_USER_ID or payload[0] == TIMESTAMPED:
            self._user(delivered, now)
        else:
            try:
                self._system(payload, now)
            except Malformed:
                self._receiver.bad += 1
                self._counters.frames_malformed += 1

    def _user(self, delivered: Delivered, now: int) -> None:
        payload, reliability, channel = delivered
        if self._life is Life.OPENING:
            self._handshake.spoke()
            if len(self._early) < self._settings.early:
                self._early.append(delivered._replace(payload=bytes(payload)))
            else:
                self._counters.messages_early_dropped += 1
            self._opened(now)
        elif self._life is not Life.LIVE or self._left:
            return
        elif not self._settings.stream:
            self._messages.put(Message(bytes(payload), Delivery(reliability), channel))
        elif payload[0] == self._settings.user_id:
            self._bytes.put(bytes(payload[1:]))
        else:
            self._counters.messages_foreign += 1

    def _system(self, payload: Buffer, now: int) -> None:
        """
        A message of the protocol's own (raknet.md 4).

        @raise Malformed: it cannot be read.
        """
        kind = payload[0]
        is_listener = self._role is Role.LISTENER
        if kind == system.Id.PING:
            self._pong(system.parse_ping(payload), now)
        elif kind == system.Id.PONG:
            if self._liveness.answered(system.parse_pong(payload), now):
                self._handshake.prove()
                self._opened(now)
        elif kind == system.Id.DISCONNECTION:
            self._peer_left(bytes(payload), now)
        elif kind == system.Id.REQUEST and is_listener:
            self._requested(system.parse_request(payload), now)
        elif kind == system.Id.INCOMING and is_listener:
            self._handshake.came(system.parse_incoming(payload))
            if self._life is Life.OPENING and not self.proved:
                self._ping(now)
            self._opened(now)
        elif kind == system.Id.ACCEPTED and not is_listener:
            answer = self._handshake.accepted(system.parse_accepted(payload), self._time(now))
            if answer is not None:
                self._sender.system(answer)
                self._opened(now)
        elif kind == system.Id.INVALID_PASSWORD and self._life is Life.OPENING:
            self._end(Reason.AUTHENTICATION, now, "the peer wants another password", b"", True)
        else:
            self._counters.system_ignored += 1

    def _requested(self, request: system.Request, now: int) -> None:
        try:
            answer = self._handshake.asked(request, self._time(now))
        except WrongPassword:
            words = system.pack_invalid_password(self._guid)
            self._end(Reason.AUTHENTICATION, now, words=words)
            return
        if answer is not None:
            self._handshake.answered_by(self._sender.system(answer))

    def _ping(self, now: int) -> None:
        time = self._time(now)
        reliability = Reliability.UNRELIABLE
        if self._settings.reliable_pings:
            reliability = Reliability.RELIABLE_ORDERED
        elif self._liveness.wants_answer(now):
            reliability = Reliability.RELIABLE
        self._sender.system(system.pack_ping(time), reliability)
        self._liveness.pinged(time, now)
        self._counters.pings_sent += 1

    def _pong(self, time: int, now: int) -> None:
        if self._sender.urgent >= MOST_URGENT or self._left:
            self._counters.system_ignored += 1
            return
        ordered = self._settings.reliable_pings
        reliability = Reliability.RELIABLE_ORDERED if ordered else Reliability.UNRELIABLE
        self._sender.system(system.pack_pong(time, self._time(now)), reliability)
