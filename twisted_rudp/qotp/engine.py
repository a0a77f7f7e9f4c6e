"""
One QOTP connection as an L{Engine<twisted_rudp.core.engine.Engine>}.

The dialler's connection begins with an L{Opening}; the listener's is made by the demultiplexer
when the dialler's first Data proves that it has our answer (W5). From there on both
are alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from twisted_rudp.core.engine import (
    SECOND,
    Address,
    Buffer,
    Emit,
    Event,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.qotp.application import ApplicationSide
from twisted_rudp.qotp.channel import Channel
from twisted_rudp.qotp.conversation import Conversation
from twisted_rudp.qotp.crypto import INITIATOR, RESPONDER, Cipher
from twisted_rudp.qotp.ending import Ending
from twisted_rudp.qotp.life import Life, Lifetime, Role, Settings
from twisted_rudp.qotp.mark import (
    MARK,
    Peer,
    peer_of,
)
from twisted_rudp.qotp.opening import Opening, Secrets
from twisted_rudp.qotp.outlet import Outlet, Sealer
from twisted_rudp.qotp.sender import NEVER
from twisted_rudp.qotp.stretch import stretch_of
from twisted_rudp.qotp.unsealer import Opened, Unsealer

_NOTHING: Sequence[tuple[Any, ...]] = ()


class QOTPEngine(ApplicationSide):
    """A connection."""

    def __init__(
        self,
        name: bytes,
        address: Address,
        settings: Settings,
        role: Role,
        sealer: Sealer,
        now: int,
        *,
        own_socket: bool = False,
    ) -> None:
        """
        Use L{dial} or the demultiplexer.

        @param name: the connection id.
        @param own_socket: the socket serves this connection alone and closes with it.
        """
        self._name = name
        self._address = address
        self._settings = settings
        self._role = role
        self._sealer = sealer
        self._events: list[tuple[Any, ...]] = []
        self._life = Lifetime(self._events, own_socket)
        self._counters: Counter[str] = Counter()
        self._talk = Conversation(settings, role, sealer, self._events, self._counters)
        self._channel = Channel(
            name, role, settings, sealer, self._talk.numbers, self._counters
        )
        self._opening: Opening | None = None
        self._patient = False
        self._ending = Ending(self._life, self._talk)
        self._heard = self._asked = now

    @classmethod
    def dial(
        cls,
        opening: Opening,
        address: Address,
        settings: Settings,
        now: int,
        *,
        own_socket: bool = False,
        patient: bool = False,
    ) -> QOTPEngine:
        """
        The initiator's side of a new connection.

        @param patient: that nobody listens there is no reason to give up: he may do
            so soon.
        """
        sealer = Sealer(INITIATOR, settings.mtu)
        engine = cls(
            opening.name, address, settings, Role.INITIATOR, sealer, now, own_socket=own_socket
        )
        engine._opening = opening
        engine._patient = patient
        opening.start(sealer)
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
    ) -> QOTPEngine:
        """
        The responder's side, when the demultiplexer has seen the first authentic Data; or at
        once, for a dialler of the release that has data in its InitCryptoSnd.

        @param early: for K0; everything until the dialler's first Data may be a
            replay then.
        """
        sealer = Sealer(RESPONDER, settings.mtu, numbers_used)
        engine = cls(name, address, settings, Role.RESPONDER, sealer, now)
        engine._agree(cipher, secrets, early)
        if early is not None:
            engine._meet(Peer.RELEASE, now)
        return engine

    # what it is

    @property
    def closed(self) -> bool:
        """The tombstone is over too."""
        return self._life.state is Life.FORGOTTEN

    def keys(self) -> Sequence[Key]:
        """The connection id, wherever the peer is."""
        return (self._name,)

    @property
    def validated(self) -> bool:
        """The peer has shown that it receives at its address."""
        return self._channel.validated

    def export(self, label: bytes, context: bytes = b"", length: int = 32) -> bytes:
        """
        A secret that both ends of this connection can derive and nobody else, for
        an application to bind its own authentication to (12.1).

        @param label: what it is for.
        @raise RuntimeError: no key has been agreed yet.
        """
        return self._channel.export(label, context, length)

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Digest a run."""
        view = memoryview(run)
        while self._opening is not None and view and not self._life.over:
            self._hear_answer(self._opening, bytes(view[:size]), now)
            view = view[size:]
        unsealer = self._channel.unsealer
        if unsealer is not None and view:
            opened = unsealer.open_run(view, size)
            if opened is not None:
                self._digest_run(unsealer, opened, address, size, now)
            else:
                for start in range(0, len(view), size):
                    found = unsealer.open_any(bytes(view[start : start + size]))
                    if found is not None:
                        self._digest(found, address, size, now)
        self._talk.incoming.tell_readable()
        self._advance(now)

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        A dialler whose peer's port is closed learns it from here. Later such errors
        are left to retransmission and the idle timeout (W13).
        """
        if self._life.state is Life.OPENING and self._role is Role.INITIATOR:
            if kind is PathError.TOO_BIG:
                text = f"the path does not take datagrams of {size or self._settings.mtu} bytes"
                self._ending.end(Reason.UNREACHABLE, now, text)
            elif not self._patient:
                refused = kind is PathError.REFUSED
                self._ending.end(Reason.REFUSED if refused else Reason.UNREACHABLE, now)
        elif kind is PathError.TOO_BIG:
            self._talk.sender.shrink(size)
        else:
            self._counters["path_errors_ignored"] += 1

    def tick(self, now: int) -> None:
        """See what time has brought."""
        if self._life.tombstone is not None:
            self._life.tick(now)
            return
        if self._life.state is not Life.OPENING:
            idle = self._settings.idle_timeout
            if now >= self._heard + idle:
                self._ending.end(Reason.IDLE, now)
                return
            if now >= max(self._heard, self._asked) + idle // 3:
                self._asked = now
                self._talk.sender.words.append(self._talk.ping())
            self._talk.sender.tick(now)
        if self._sealer.exhausted:
            self._ending.end(Reason.LIMIT, now, "the packet numbers of this connection are used up")
        self._advance(now)

    def deadline(self) -> int | None:
        """The earliest of retransmission, first word, close and idle."""
        if self._life.tombstone is not None:
            return None if self._life.state is Life.FORGOTTEN else self._life.tombstone.deadline()
        if self._opening is not None:
            return self._opening.due
        heard, idle = self._heard, self._settings.idle_timeout
        asked = self._asked if self._asked > heard else heard
        due = self._talk.sender.deadline()
        if asked + idle // 3 < due:
            due = min(asked + idle // 3, heard + idle)
        if self._talk.path.candidate is not None:
            due = min(due, self._talk.path.deadline or NEVER)
        until = self._ending.until
        return due if until is None or due < until else until

    # out

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """Send what can be sent now."""
        outlet = Outlet(self._sealer, emit, self._address, budget, not self._channel.validated)
        if self._life.tombstone is not None:
            self._ending.flush(now, outlet)
            return False
        if self._opening is not None:
            window = self._talk.window.free
            self._opening.speak(now, self._sealer, emit, self._address, budget, window)
            return False
        self._talk.flush(now, outlet, emit)
        return outlet.short and not outlet.full

    def events(self) -> Sequence[tuple[Any, ...]]:
        """What changed."""
        if not self._events:
            return _NOTHING
        events = tuple(self._events)
        self._events.clear()
        return events

    # life

    def close(self, now: int) -> None:
        """Deliver the rest, exchange CLOSE, discard what comes."""
        if self._life.state is Life.OPENING:
            self.abort(now)
        elif self._life.state is Life.LIVE:
            self._ending.close(now)
            self._advance(now)

    def abort(self, now: int) -> None:
        """Drop everything; our own peer is told."""
        if not self._life.over:
            self._ending.end(Reason.ABORTED, now, tell=True)

    # state

    def counters(self) -> Mapping[str, int]:
        """What was dropped, and what was sent again."""
        return {
            **self._counters,
            "resent": self._talk.sender.resent,
            "datagrams_sent": self._sealer.next,
        }

    def facts(self) -> Mapping[str, Any]:
        """Connection id, peer, its key and whether that is proved, round trip, windows."""
        trip = self._talk.sender.round_trip
        return {
            "transport": "qotp",
            **self._channel.facts(),
            "state": self._life.state.name,
            "peer": self._talk.peer.name,
            "round_trip": trip.smoothed / SECOND,
            "peer_window": self._talk.sender.peer_window,
            "receive_window": self._talk.window.capacity,
            "congestion_window": self._talk.sender.control.window(),
            "mtu": self._talk.sender.mtu,
            "streams": len(self._talk.streams.open),
        }

    # the handshake

    def _hear_answer(self, opening: Opening, datagram: bytes, now: int) -> None:
        answer = opening.answer(datagram[0], datagram)
        if answer is None:
            self._counters["not_authentic"] += 1
            return
        self._opening = None
        self._agree(answer.cipher, answer.secrets)
        self._channel.echoed = answer.echoed
        self._talk.numbers.add(answer.number, answer.number)
        own = answer.payload.segment == MARK
        self._meet(Peer.OWN if own else Peer.RELEASE, now)
        if answer.payload.ack is not None:
            self._talk.sender.note_window(answer.number, answer.payload.ack.window)
        if answer.payload.segment is not None and not own:
            self._talk.hear_segment(answer.payload.segment)

    def _agree(self, cipher: Cipher, secrets: Secrets, early: Cipher | None = None) -> None:
        self._channel.agree(cipher, secrets, early)
        self._talk.sender.mtu = self._channel.mtu

    def _meet(self, peer: Peer, now: int) -> None:
        """The other side is there, and what it is is known."""
        self._heard = now
        self._talk.meet(peer)
        self._life.enter(Life.LIVE)
        self._events.append((Event.CONNECTED, self._channel.early))

    # digesting

    def _digest_run(
        self,
        unsealer: Unsealer,
        opened: Sequence[tuple[int, bytes] | None],
        address: Address,
        size: int,
        now: int,
    ) -> None:
        """A run of Data, decrypted: what is plain bulk at once, the rest one by one."""
        at = 0
        if len(opened) > 1 and address == self._address:
            at = self._digest_stretch(opened, now)
        for one in opened[at:] if at else opened:
            found = unsealer.check(one)
            if found is not None:
                self._digest(found, address, size, now)

    def _digest_stretch(self, opened: Sequence[tuple[int, bytes] | None], now: int) -> int:
        """
        @return: how many of the first payloads are dealt with.
        """
        if self._life.over or self._talk.peer is not Peer.OWN:
            return 0
        first = self._talk.numbers.highest + 1
        stretch = stretch_of(opened, first)
        if stretch is None or not self._talk.hear_segment(stretch[1]):
            return 0
        count = stretch[0]
        self._heard = now
        self._talk.numbers.add(first, first + count - 1)
        return count

    def _digest(self, opened: Opened, address: Address, size: int, now: int) -> None:
        """An authentic payload that is new."""
        number, payload, data, newest = opened
        self._heard = now
        if number < 0:
            if payload.segment is not None and not self._life.over:
                self._talk.hear_segment(payload.segment)
            return
        if self._life.tombstone is not None:
            self._ending.digest(number, payload, now)
            return
        if not self._channel.validated:
            self._channel.prove()
            self._talk.sender.mtu = self._channel.mtu
        if self._life.state is Life.OPENING:
            self._meet(peer_of(payload.ack), now)
        if payload.ack is not None:
            self._talk.hear_ack(payload.ack, payload.segment, number, now)
        if payload.segment is None or self._talk.hear_segment(payload.segment):
            self._talk.numbers.add(number, number)
        if address != self._address and newest and data and self._settings.roaming:
            self._talk.path.seen(address, size, now)

    # what follows from it

    def _advance(self, now: int) -> None:
        """Tell what was acknowledged; go on with a change of address and with a close."""
        if self._life.tombstone is not None:
            return
        talk = self._talk
        if talk.sender.flights.settled:
            talk.tell_settled()
        if talk.path.candidate is not None:
            address = talk.path.take_proved()
            if address is not None:
                self._address = address
                self._events.append((Event.PATH, address))
        self._ending.judge(now)
