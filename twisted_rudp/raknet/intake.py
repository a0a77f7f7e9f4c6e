"""What becomes of the datagrams of a session."""

from __future__ import annotations

from twisted_rudp.core.engine import Address, Buffer, Event, Reason
from twisted_rudp.core.limits import TokenBuckets, is_loopback
from twisted_rudp.raknet import system
from twisted_rudp.raknet.closing import STREAM, Closing
from twisted_rudp.raknet.life import Life, Role
from twisted_rudp.raknet.messages import is_users
from twisted_rudp.raknet.opening import Opening
from twisted_rudp.raknet.pings import Pings
from twisted_rudp.raknet.receiver import Delivered, LimitExceeded
from twisted_rudp.raknet.records import parse_records
from twisted_rudp.raknet.state import State
from twisted_rudp.raknet.wire import ACK_BIT, HEADER_SIZE, NACK_BIT, Malformed

_LIVE = Life.LIVE

_RECORDS = ACK_BIT | NACK_BIT
"""Neither is in the first byte of a datagram with frames."""


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
        """Tell bulk data, other datagrams with frames, and acknowledgements from each other."""
        state, closing = self._state, self._closing
        if self._buckets is not None:
            count = -(-len(run) // size)
            if not self._buckets.take(None, now, count):
                state.counters.datagrams_excess += count
                return
        before = state.inbox.size
        full = before >= state.settings.receive_buffer
        at, total = 0, len(run)
        view = run
        while True:
            if view[0] & _RECORDS:
                self._records(memoryview(view)[:size], now)
                length = size
            else:
                length = 0 if full else self._bulk(view, size, now)
                if not length:
                    self._frames(memoryview(view)[:size], now, full)
                    length = size
            at += length
            if at >= total or closing.tombstone is not None:
                break
            view = memoryview(view)[length:]
        if state.life is _LIVE and state.inbox.size > before:
            state.events.append(self._readable)

    def _bulk(self, run: Buffer, size: int, now: int) -> int:
        """
        Take in the leading datagrams if that goes at once.

        @return: how many bytes.
        """
        state = self._state
        if not state.carrying or state.left:
            return 0
        length, taken = state.receiver.take(run, size, now)
        if length:
            state.liveness.heard = now
            if state.life is _LIVE:
                state.inbox.put_bulk(taken)
        return length

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

    def _frames(self, datagram: memoryview, now: int, full: bool) -> None:
        closing, state = self._closing, self._state
        receiver = state.receiver
        early = state.life is Life.OPENING and state.inbox.early_full
        try:
            for delivered in receiver.datagram(datagram, now, self._nack_guard(), full, early):
                self._handle(delivered, now)
                if closing.tombstone is not None:
                    return
        except LimitExceeded as problem:
            closing.end(Reason.LIMIT, now, str(problem), words=system.ABORTED)
            return
        if len(datagram) >= HEADER_SIZE:
            self._state.liveness.heard = now
        if receiver.bad:
            self._judge_bad(now)

    def _nack_guard(self) -> int:
        """How long a gap may be mere reordering (raknet.md 8.1)."""
        mean = self._state.flying.round_trip.smoothed
        return self._guard and max(self._guard, (mean or 0) >> 3)

    def _judge_bad(self, now: int) -> None:
        """A few unreadable datagrams happen; many in a short time are no RakNet."""
        settings, receiver = self._state.settings, self._state.receiver
        if now - self._bad_since > settings.bad_span:
            self._bad_since = now
            receiver.bad = 1
        if receiver.bad >= settings.bad_limit and self._closing.tombstone is None:
            self._closing.end(Reason.PROTOCOL, now, words=system.ABORTED)

    def _handle(self, delivered: Delivered, now: int) -> None:
        """One message, in order."""
        state = self._state
        payload = delivered.payload
        if is_users(payload[0]):
            if state.life is Life.OPENING:
                self._opening.spoke(delivered, now)
            elif state.life is _LIVE and not state.left:
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
