"""
What becomes of the datagrams of a session.
"""

from __future__ import annotations

from twisted_rudp.core.buckets import TokenBuckets
from twisted_rudp.core.engine import Address, Buffer, Event, Reason
from twisted_rudp.core.networks import is_loopback
from twisted_rudp.raknet import system
from twisted_rudp.raknet.closing import STREAM, Closing
from twisted_rudp.raknet.life import CARRYING, Life, Role
from twisted_rudp.raknet.messages import is_users
from twisted_rudp.raknet.opening import Opening
from twisted_rudp.raknet.pings import Pings
from twisted_rudp.raknet.receiver import PIECE, Delivered, LimitExceeded
from twisted_rudp.raknet.records import parse_records
from twisted_rudp.raknet.state import State
from twisted_rudp.raknet.wire import ACK_BIT, HEADER_SIZE, NACK_BIT, Malformed


class Intake:
    """
    Digests runs of datagrams and hands each message in them to the part that it
    concerns. Nothing that is in them makes it raise.
    """

    __slots__ = (
        "_bad_since",
        "_buckets",
        "_closing",
        "_guard",
        "_opening",
        "_pings",
        "_readable",
        "_state",
    )

    def __init__(
        self,
        state: State,
        opening: Opening,
        pings: Pings,
        closing: Closing,
        address: Address,
        now: int,
    ) -> None:
        """
        @param address: the peer's.
        """
        self._state = state
        self._opening = opening
        self._pings = pings
        self._closing = closing
        settings = state.settings
        rate = settings.online_rate
        self._buckets = TokenBuckets(rate, rate, 1) if rate else None
        self._guard = 0 if is_loopback(address) else settings.nack_delay
        self._readable = (Event.READABLE, STREAM if settings.stream else None)
        self._bad_since = now

    def receive(self, run: Buffer, size: int, now: int) -> None:
        """
        Tell datagrams with frames from acknowledgements.
        """
        closing = self._closing
        count = -(-len(run) // size)
        if self._buckets is not None and not self._buckets.take(None, now, count):
            self._state.counters.datagrams_excess += count
            return
        view = memoryview(run)
        firsts = bytes(view[::size])
        start = 0
        while start < count and closing.tombstone is None:
            end = start + 1
            if firsts[start] & (ACK_BIT | NACK_BIT):
                self._records(view[start * size : end * size], now)
            else:
                while end < count and not firsts[end] & (ACK_BIT | NACK_BIT):
                    end += 1
                self._frames(view[start * size : end * size], size, now)
            start = end

    def _records(self, datagram: memoryview, now: int) -> None:
        state = self._state
        state.counters.acknowledgements_received += 1
        records = parse_records(datagram)
        if datagram[0] & ACK_BIT:
            if state.flying.acknowledge(records, now):
                state.liveness.heard = now
        else:
            state.flying.complain(records, now)
        if state.flying.receipts:
            state.tell_receipts()

    def _frames(self, run: memoryview, size: int, now: int) -> None:
        state, closing = self._state, self._closing
        settings, inbox, receiver = state.settings, state.inbox, state.receiver
        before = inbox.size
        streaming = settings.stream and state.life in CARRYING and not state.left
        full = before >= settings.receive_buffer
        try:
            for delivered in receiver.receive(
                run, size, now, self._nack_guard(), streaming, full
            ):
                self._handle(delivered, now)
                if closing.tombstone is not None:
                    return
        except LimitExceeded as problem:
            closing.end(Reason.LIMIT, now, str(problem), words=system.ABORTED)
            return
        if len(run) >= HEADER_SIZE:
            state.liveness.heard = now
        if receiver.bad:
            self._judge_bad(now)
        if state.life is Life.LIVE and inbox.size > before:
            state.events.append(self._readable)

    def _nack_guard(self) -> int:
        """
        How long a gap may be mere reordering (raknet.md 8.1).
        """
        mean = self._state.flying.round_trip.smoothed
        return self._guard and max(self._guard, (mean or 0) >> 3)

    def _judge_bad(self, now: int) -> None:
        """
        A few unreadable datagrams happen; many in a short time are no RakNet.
        """
        settings, receiver = self._state.settings, self._state.receiver
        if now - self._bad_since > settings.bad_span:
            self._bad_since = now
            receiver.bad = 1
        if receiver.bad >= settings.bad_limit and self._closing.tombstone is None:
            self._closing.end(Reason.PROTOCOL, now, words=system.ABORTED)

    def _handle(self, delivered: Delivered, now: int) -> None:
        """
        One message or piece of the stream, in order.
        """
        state = self._state
        payload, reliability, _ = delivered
        if reliability == PIECE:
            if state.life is Life.LIVE:
                state.inbox.stream.put(payload)  # type: ignore[arg-type]
        elif is_users(payload[0]):
            if state.life is Life.OPENING:
                self._opening.spoke(delivered, now)
            elif state.life is Life.LIVE and not state.left:
                state.inbox.put(delivered)
        else:
            try:
                self._system(payload, now)
            except Malformed:
                state.receiver.bad += 1
                state.counters.frames_malformed += 1

    def _system(self, payload: Buffer, now: int) -> None:
        """
        A message of the protocol's own (raknet.md 4).

        @raise Malformed: it cannot be read.
        """
        state, opening = self._state, self._opening
        kind = payload[0]
        is_listener = state.role is Role.LISTENER
        if kind == system.Id.PING:
            self._pings.pong(system.parse_ping(payload), now)
        elif kind == system.Id.PONG:
            if state.liveness.answered(system.parse_pong(payload), now):
                opening.answered(now)
        elif kind == system.Id.DISCONNECTION:
            self._closing.peer_left(bytes(payload), now)
        elif kind == system.Id.REQUEST and is_listener:
            opening.requested(system.parse_request(payload), now)
        elif kind == system.Id.INCOMING and is_listener:
            opening.came(system.parse_incoming(payload), now)
        elif kind == system.Id.ACCEPTED and not is_listener:
            opening.accepted(system.parse_accepted(payload), now)
        elif kind == system.Id.INVALID_PASSWORD and state.life is Life.OPENING:
            opening.refused(now)
        else:
            state.counters.system_ignored += 1
