"""
One KCP session as an L{Engine<twisted_rudp.core.engine.Engine>}: the ARQ, and
around it what KCP's wire does not have (L{SessionLife}).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from twisted_rudp.core.engine import (
    MILLISECOND,
    Address,
    Buffer,
    Capability,
    Emit,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.arq import Peer
from twisted_rudp.kcp.closing import Closing
from twisted_rudp.kcp.intake import News
from twisted_rudp.kcp.life import OVER, Life, Role
from twisted_rudp.kcp.liveness import NEVER
from twisted_rudp.kcp.sessionlife import STREAM, SessionLife
from twisted_rudp.messages import Delivery, Message

_NOTHING: Sequence[tuple[Any, ...]] = ()

EmitOwn: TypeAlias = Callable[[Buffer, int], bool]
"""As C{Emit}, to the session's own address."""

# Names of this module: each is needed several times for each run.
_LIVE = Life.LIVE
_HEARD, _READABLE, _COVERED = News.HEARD, News.READABLE, News.COVERED
_CONTROL, _PLAIN = News.CONTROL, News.PLAIN


class KCPEngine(SessionLife):
    """
    A KCP session.

    @param conv: the conversation id, 32 bits.
    @param settings: the ARQ's, C{overhead} and MTU included.
    @param now: the clock at creation.
    @param epoch: where the session's millisecond clock starts, 32 random bits.
    @param cookies: the socket's; needed by a listener.
    @param own_socket: the socket serves this session alone and closes with it.
    @param wait_for_peer: a dialler is connected when the peer is heard, not at
        once.
    @param idle_timeout: nanoseconds; 0: none.
    """

    __slots__ = ()

    # what it is

    @property
    def capabilities(self) -> Capability:
        """Bytes or messages with a window; an end of stream with marked peers only."""
        kind = Capability.BYTES if self._settings.stream else Capability.MESSAGES
        kind |= Capability.RECEIVE_WINDOW | Capability.NEEDS_IDLE_TIMEOUT
        if self._arq.peer is not Peer.UNMARKED:
            kind |= Capability.ORDERLY_CLOSE | Capability.HALF_CLOSE
        return kind

    @property
    def closed(self) -> bool:
        """The tombstone is over too."""
        return self._life is Life.FORGOTTEN

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        return self._arq.in_flight

    @property
    def heard(self) -> bool:
        """Something valid has come from the peer."""
        return self._arq.heard

    @property
    def key(self) -> tuple[Address, int]:
        """Address and conversation: the rule of the second seed."""
        return self._address, self._conv

    def keys(self) -> Sequence[Key]:
        """The only one."""
        return (self.key,)

    # wire -> engine

    def receive(
        self, run: Buffer, size: int, address: Address, now: int, regular: bool = True
    ) -> None:
        """
        Digest a run.

        @param regular: False for what FEC rebuilt.
        """
        if self._tombstone is not None:
            self._tombstone.receive(run, size, now)
            return
        clock = (self._epoch + now // MILLISECOND) & MASK32
        self._heed_news(self._arq.input(run, size, clock, regular), now)

    def _heed_news(self, news: int, now: int) -> None:
        """Draw the conclusions from what a run has brought."""
        if news & _HEARD:
            self._liveness.heard = now
        if news & _COVERED:
            self._una_moved = now
        if news & _READABLE:
            if self._life is _LIVE:
                self._events.append(self._readable)
            elif self._closing is not None:
                self._discard()
        if news & _CONTROL:
            self._control(now)
        if self._slow or (not news & _PLAIN and self._arq.notable):
            self._advance(now)

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        A dialler whose peer's port is closed learns it from here. Later such
        errors are left to retransmission and the idle timeout: they may be
        transient and, as ICMP, forged.
        """
        if kind is PathError.TOO_BIG:
            self._arq.shrink(size - self._overhead)
        elif self._life is Life.OPENING and self._role is Role.DIALLER:
            refused = kind is PathError.REFUSED
            self._end(Reason.REFUSED if refused else Reason.UNREACHABLE, now)
        else:
            self._refused_by_path += 1

    def tick(self, now: int) -> None:
        """See what time has brought."""
        if self._tombstone is not None:
            if self._life is Life.ENDED and self._tombstone.forgotten(now):
                self._enter(Life.FORGOTTEN)
            return
        if self._watches:
            if self._liveness.gone(now):
                self._end(Reason.IDLE, now)
                return
            if self._liveness.probe_due(now):
                self._arq.ask()
        if self._slow:
            self._advance(now)

    def deadline(self) -> int | None:
        """The earliest of retransmission, first word, close and idle."""
        due = self._flush_at
        if self._life is not _LIVE:
            if self._life is Life.FORGOTTEN:
                return None
            if self._tombstone is not None:
                return self._tombstone.deadline()
            due = min(due, self._leave_at)
            if self._closing is not None:
                due = min(due, self._closing.until)
        if self._life is _LIVE or self._watches:
            silence = self._liveness.deadline
            if silence < due:
                due = silence
        hello = self._hello.due
        if hello is not None and hello < due:
            due = hello
        return None if due >= NEVER else due

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """Queue bytes."""
        self._arq.write(data)

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        Queue a message. KCP carries them reliably and in order, on one channel,
        and tells of no single message what became of it.
        """
        if delivery is not Delivery.RELIABLE_ORDERED:
            raise ValueError(f"delivery: KCP carries RELIABLE_ORDERED, not {delivery.name}")
        if channel or priority or receipt:
            raise ValueError("channel, priority, receipt: KCP has none of them")
        self._arq.send(data)
        return None

    def unsent(self, stream: int = STREAM) -> int:
        """Bytes not yet numbered."""
        return self._arq.outbox.size

    # wire -> application

    def unread(self, stream: int = STREAM) -> int:
        """Bytes that can be taken."""
        return self._arq.unread

    def take(self, stream: int, limit: int) -> bytes:
        """The next bytes in order."""
        data = self._arq.take(limit)
        if self._end_heard and self._arq.end_received:
            self._tell_end()
        return data

    def take_messages(self) -> Iterator[Message]:
        """Whole messages."""
        while True:
            data = self._arq.take_message()
            if self._end_heard and self._arq.end_received:
                self._tell_end()
            if data is None:
                return
            yield Message(data)

    # out

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """Send what can be sent now."""
        address = self._address
        return self._flush(now, emit, lambda run, size: emit(run, size, address), budget)

    def _flush(self, now: int, emit: Emit, emit_own: EmitOwn, budget: int) -> bool:
        """
        As L{flush}.

        @param emit_own: does the same as C{emit} with fewer calls.
        """
        if self._tombstone is not None:
            self._flush_tombstone(self._tombstone, now, emit)
            return False
        hello = self._hello
        if hello.due is not None and now >= hello.due:
            budget -= self._greet(now, emit, budget)
        arq = self._arq
        clock = (self._epoch + now // MILLISECOND) & MASK32
        more = arq.flush(clock, emit_own, budget, strict=not self.validated)
        wait = arq.wait
        self._flush_at = NEVER if wait is None else now + wait * MILLISECOND
        if self._slow or arq.notable:
            self._advance(now)
        return more

    def events(self) -> Sequence[tuple[Any, ...]]:
        """What changed."""
        if not self._events:
            return _NOTHING
        events, self._events = self._events, []
        return events

    # life

    def open_stream(self) -> int:
        """
        @raise ValueError: always; KCP has stream 0 alone.
        """
        raise ValueError("KCP has one stream, number 0; it is open from the start")

    def close_stream(self, stream: int) -> None:
        """Half close: FIN behind the data, towards a marked peer."""
        self._half_closing = self._slow = True
        self._arq.finish()

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{abort}.
        """
        raise ValueError("KCP cannot reset its only stream; abort the session")

    def close(self, now: int) -> None:
        """Deliver the rest, exchange FINs, discard what comes."""
        if self._life is Life.OPENING:
            self.abort(now)
        elif self._life is Life.LIVE:
            self._enter(Life.CLOSING)
            self._arq.finish()
            self._discard()
            self._closing = Closing(self._arq, now)
            self._advance(now)

    def abort(self, now: int) -> None:
        """Drop everything; a marked peer is told by a reset."""
        if self._life not in OVER:
            self._end(Reason.ABORTED, now, tell=True)

    # state

    def counters(self) -> Mapping[str, int]:
        """The ARQ's counters."""
        return {**self._arq.counters.as_dict(), "path_errors_ignored": self._refused_by_path}

    def facts(self) -> Mapping[str, Any]:
        """Conversation, peer, round trip, windows."""
        return {
            "transport": "kcp",
            "conversation": self._conv,
            "state": self._life.name,
            "peer": self._arq.peer.name,
            "validated": self.validated,
            **self._arq.facts(),
        }
