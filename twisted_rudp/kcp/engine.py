"""
One KCP session as an L{Engine<twisted_rudp.core.engine.Engine>}: the ARQ, and
around it what KCP's wire does not have: a first word, proof of address, an
orderly end, and a watch on the peer (C{kcp_close.md}).

The proof of address takes a cookie both ways in the C{ts} field of WASK and
WINS, which no implementation reads::

    dialler                          listener
    WASK ts 0            ->                       no state kept
                         <-  WINS ts cookie
    WASK ts cookie       ->                       session, proved
                         <-  WINS ts 0

A peer without the mark never returns a cookie; it is proved by an ACK that
echoes the number and the time of a segment of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import (
    MILLISECOND,
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
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.arq import ARQ, Peer
from twisted_rudp.kcp.closing import Closing, Outcome, leaving_span
from twisted_rudp.kcp.hello import Hello
from twisted_rudp.kcp.intake import News
from twisted_rudp.kcp.liveness import DEFAULT_IDLE, NEVER, Liveness
from twisted_rudp.kcp.profiles import Settings
from twisted_rudp.kcp.tombstone import Farewell, Grave, Tombstone, linger, reset
from twisted_rudp.kcp.wire import ACK, END, HEADER_SIZE, MARK, PUSH, WASK, pack_header

STREAM = 0
"""KCP has one stream."""

_NOTHING: Sequence[tuple[Any, ...]] = ()


class Role(Enum):
    """
    Which side spoke first.
    """

    DIALLER = "dialled"
    LISTENER = "was dialled"


class Life(Enum):
    """
    The states of a session.
    """

    OPENING = "not yet shown to the application"
    LIVE = "carrying data"
    CLOSING = "close asked; the rest is being delivered"
    LEAVING = "close asked; an unmarked peer is being kept quiet with window 0"
    FAREWELL = "over; the peer is told before the socket closes"
    ENDED = "over for the application; a tombstone answers"
    FORGOTTEN = "over"


_NEXT: dict[Life, frozenset[Life]] = {
    Life.OPENING: frozenset({Life.LIVE, Life.FAREWELL, Life.ENDED}),
    Life.LIVE: frozenset({Life.CLOSING, Life.FAREWELL, Life.ENDED}),
    Life.CLOSING: frozenset({Life.LEAVING, Life.FAREWELL, Life.ENDED}),
    Life.LEAVING: frozenset({Life.ENDED}),
    Life.FAREWELL: frozenset({Life.ENDED}),
    Life.ENDED: frozenset({Life.FORGOTTEN}),
    Life.FORGOTTEN: frozenset(),
}

_OVER = frozenset({Life.FAREWELL, Life.ENDED, Life.FORGOTTEN})

EmitOwn: TypeAlias = Callable[[Buffer, int], bool]
"""As C{Emit}, to the session's own address."""

# Names of this module: each is needed several times for each run.
_LIVE, _CLOSING = Life.LIVE, Life.CLOSING
_HEARD, _READABLE, _COVERED = News.HEARD, News.READABLE, News.COVERED
_CONTROL, _PLAIN = News.CONTROL, News.PLAIN


class KCPEngine:
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

    # Of so many attributes a dictionary would be several times as large.
    __slots__ = (
        "_address",
        "_arq",
        "_closing",
        "_confirmed",
        "_conv",
        "_cookies",
        "_detail",
        "_end_heard",
        "_end_told",
        "_ending",
        "_epoch",
        "_events",
        "_flush_at",
        "_half_closing",
        "_hello",
        "_leave_at",
        "_life",
        "_liveness",
        "_overhead",
        "_own_socket",
        "_readable",
        "_refused_by_path",
        "_role",
        "_settings",
        "_slow",
        "_tombstone",
        "_una_moved",
        "proved",
    )

    def __init__(
        self,
        conv: int,
        address: Address,
        settings: Settings,
        *,
        now: int,
        epoch: int,
        role: Role,
        cookies: Cookies | None = None,
        own_socket: bool = False,
        wait_for_peer: bool = True,
        idle_timeout: int = DEFAULT_IDLE,
        overhead: int = 0,
    ) -> None:
        self._conv = conv
        self._address = address
        self._settings = settings
        self._epoch = epoch
        self._role = role
        self._cookies = cookies
        self._own_socket = own_socket
        self._overhead = overhead
        self._arq = ARQ(conv, settings, overhead=overhead)
        self._life = Life.OPENING
        self._liveness = Liveness(now, idle_timeout)
        self._hello = Hello()
        self._closing: Closing | None = None
        self._tombstone: Tombstone | None = None
        self._events: list[tuple[Any, ...]] = []
        self._readable = (Event.READABLE, STREAM if settings.stream else None)
        self._flush_at = NEVER
        self._una_moved = now
        self._leave_at = NEVER
        self._ending: tuple[Reason, str | None] | None = None
        self._detail: str | None = None
        self._half_closing = False
        self._end_heard = self._end_told = False
        self._confirmed = role is Role.LISTENER
        self._slow = True
        self._refused_by_path = 0
        self.proved = role is Role.DIALLER
        if role is Role.DIALLER:
            self._hello.want(now)
            if not wait_for_peer:
                self._connected()
        elif cookies is not None:
            self._arq.control_ts_out = cookies.make(address, conv, now)

    # what it is

    @property
    def capabilities(self) -> Capability:
        """
        Bytes or messages with a window; an end of stream with marked peers only.
        """
        kind = Capability.BYTES if self._settings.stream else Capability.MESSAGES
        kind |= Capability.RECEIVE_WINDOW | Capability.NEEDS_IDLE_TIMEOUT
        if self._arq.peer is not Peer.UNMARKED:
            kind |= Capability.ORDERLY_CLOSE | Capability.HALF_CLOSE
        return kind

    @property
    def forgotten(self) -> bool:
        """
        The tombstone is over too.
        """
        return self._life is Life.FORGOTTEN

    @property
    def in_flight(self) -> int:
        """
        Bytes sent and not acknowledged.
        """
        return self._arq.in_flight

    @property
    def heard(self) -> bool:
        """
        Something valid has come from the peer.
        """
        return self._arq.heard

    @property
    def key(self) -> tuple[Address, int]:
        """
        Address and conversation: the rule of the second seed.
        """
        return self._address, self._conv

    def keys(self) -> Sequence[Key]:
        """
        The only one.
        """
        return (self.key,)

    def prove(self) -> None:
        """
        The gate has seen the cookie come back.
        """
        self.proved = True
        self._arq.control_ts_out = 0

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
        """
        Draw the conclusions from what a run has brought.
        """
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
        """
        See what time has brought.
        """
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
        """
        The earliest of retransmission, first word, close and idle.
        """
        due = self._flush_at
        if self._life is not _LIVE:
            if self._life is Life.FORGOTTEN:
                return None
            if self._tombstone is not None:
                return self._tombstone.deadline()
            due = min(due, self._leave_at)
            if self._closing is not None:
                due = min(due, self._closing.until)
        if self._watches:
            silence = self._liveness.deadline
            if silence < due:
                due = silence
        hello = self._hello.due
        if hello is not None and hello < due:
            due = hello
        return None if due >= NEVER else due

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """
        Queue bytes.
        """
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
        """
        Bytes not yet numbered.
        """
        return self._arq.outbox.size

    # wire -> application

    def unread(self, stream: int = STREAM) -> int:
        """
        Bytes that can be taken.
        """
        return self._arq.unread

    def take(self, stream: int, limit: int) -> bytes:
        """
        The next bytes in order.
        """
        data = self._arq.take(limit)
        if self._end_heard and self._arq.end_received:
            self._tell_end()
        return data

    def take_message(self) -> Message | None:
        """
        The next whole message.
        """
        data = self._arq.take_message()
        if self._end_heard and self._arq.end_received:
            self._tell_end()
        return None if data is None else Message(data)

    # out

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """
        Send what can be sent now.
        """
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
        more = arq.flush(clock, emit_own, budget, strict=not self.proved)
        wait = arq.wait
        self._flush_at = NEVER if wait is None else now + wait * MILLISECOND
        if self._slow or arq.notable:
            self._advance(now)
        return more

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
        @raise ValueError: always; KCP has stream 0 alone.
        """
        raise ValueError("KCP has one stream, number 0; it is open from the start")

    def close_stream(self, stream: int) -> None:
        """
        Half close: FIN behind the data, towards a marked peer.
        """
        self._half_closing = self._slow = True
        self._arq.finish()

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{abort}.
        """
        raise ValueError("KCP cannot reset its only stream; abort the session")

    def close(self, now: int) -> None:
        """
        Deliver the rest, exchange FINs, discard what comes.
        """
        if self._life is Life.OPENING:
            self.abort(now)
        elif self._life is Life.LIVE:
            self._enter(Life.CLOSING)
            self._arq.finish()
            self._discard()
            self._closing = Closing(self._arq, now)
            self._advance(now)

    def abort(self, now: int) -> None:
        """
        Drop everything; a marked peer is told by a reset.
        """
        if self._life not in _OVER:
            self._end(Reason.ABORTED, now, tell=True)

    # state

    def counters(self) -> Mapping[str, int]:
        """
        The ARQ's counters.
        """
        return {**self._arq.counters.as_dict(), "path_errors_ignored": self._refused_by_path}

    def facts(self) -> Mapping[str, Any]:
        """
        Conversation, peer, round trip, windows.
        """
        return {
            "transport": "kcp",
            "conversation": self._conv,
            "state": self._life.name,
            "peer": self._arq.peer.name,
            "proved": self.proved,
            **self._arq.facts(),
        }

    # inside

    def _enter(self, life: Life) -> None:
        if life not in _NEXT[self._life]:
            raise AssertionError(f"no way from {self._life.name} to {life.name}")
        self._life = life

    @property
    def _watches(self) -> bool:
        """
        The peer's silence means something.
        """
        return self._life is _LIVE or self._life is _CLOSING

    def _connected(self) -> None:
        self._enter(Life.LIVE)
        self._events.append((Event.CONNECTED, False))
        if self._arq.readable:
            self._events.append(self._readable)

    def _discard(self) -> None:
        if self._settings.stream:
            while self._arq.take(1 << 20):
                pass
        else:
            while self._arq.take_message() is not None:
                pass

    def _tell_end(self) -> None:
        if not self._end_told and self._life is Life.LIVE:
            self._end_told = True
            self._events.append((Event.STREAM_ENDED, STREAM))

    def _greet(self, now: int, emit: Emit, budget: int) -> int:
        """
        A WASK outside the ARQ: until anything was heard its numbers are 0, so
        that it opens a session wherever it arrives.
        """
        cost = HEADER_SIZE + self._overhead
        if budget < cost:
            self._hello.sent(now)
            return 0
        arq = self._arq
        opening = self._role is Role.DIALLER and not arq.heard
        sn, una = (0, 0) if opening else (arq.snd_nxt, arq.rcv_nxt)
        word = pack_header(
            self._conv, WASK, MARK, arq.wnd, arq.control_ts_out, sn, una, 0
        )
        emit(word, HEADER_SIZE, self._address)
        arq.counters.out_segs += 1
        self._hello.sent(now)
        return cost

    def _control(self, now: int) -> None:
        """
        A WASK, WINS or reset came: cookies, and the signs of a peer that forgot
        this session.
        """
        arq = self._arq
        settled = now - self._una_moved >= arq.round_trip.timeout * MILLISECOND
        behind = settled and 0 < (arq.snd_una - arq.control_una) & MASK32 < 1 << 31
        # Only an answer tells: what comes unasked may be somebody's recording.
        behind = behind and self._liveness.asked
        if self._liveness.answered(self._heed(arq.control_ts, now) or behind):
            self._end(Reason.FORGOTTEN, now, tell=True)

    def _heed(self, cookie: int, now: int) -> bool:
        """
        Take in a cookie, 0 being none.

        @return: the listener has once known us as proved and does not now.
        """
        arq = self._arq
        if self._role is Role.LISTENER:
            if (
                not self.proved
                and self._cookies is not None
                and self._cookies.check(cookie, self._address, self._conv, now)
            ):
                self.prove()
        elif cookie == 0:
            self._confirmed = True
        elif cookie != arq.control_ts_out and arq.peer is Peer.MARKED:
            if self._confirmed:
                return True
            arq.control_ts_out = cookie
            self._hello.again(now)
            self._slow = True
        return False

    def _advance(self, now: int) -> None:
        """
        Whatever is not plain data on a live session.
        """
        if self._life in _OVER:
            return
        arq = self._arq
        if arq.proved:
            self.proved = True
        if arq.reset_heard:
            self._end(Reason.RESET, now)
            return
        if arq.dead:
            self._end(Reason.DEAD_LINK, now)
            return
        if self._life is Life.OPENING:
            self._open(now)
        self._end_heard = arq.end_in_order
        if arq.end_received:
            self._tell_end()
        if self._hello.due is not None and self._greeted():
            self._hello.enough()
        if self._half_closing:
            self._half_close(now)
        if self._life is Life.CLOSING:
            self._close_on(now)
        elif self._life is Life.LEAVING:
            self._leave_on(now)
        self._slow = (
            self._life is not Life.LIVE
            or self._half_closing
            or not self.proved
            or self._hello.due is not None
        )

    def _greeted(self) -> bool:
        arq = self._arq
        if arq.peer is Peer.UNKNOWN:
            return False
        if arq.peer is Peer.UNMARKED or self._role is Role.LISTENER:
            return self._role is Role.DIALLER or self._life is not Life.OPENING
        return self._confirmed or arq.rcv_nxt != 0 or arq.snd_una != 0

    def _open(self, now: int) -> None:
        arq = self._arq
        if self._role is Role.DIALLER:
            if arq.heard:
                self._connected()
        elif arq.peer is Peer.UNMARKED:
            if arq.unread or arq.rcv_nxt:
                self._connected()
        elif arq.peer is Peer.MARKED and self.proved:
            self._connected()
        else:
            # A listener shows nobody to a factory who has not answered: a
            # forged or replayed opening ends here.
            self._hello.want(now)

    def _half_close(self, now: int) -> None:
        arq = self._arq
        if arq.peer is Peer.UNKNOWN:
            self._hello.want(now)
        elif arq.fin_acknowledged or (arq.peer is Peer.UNMARKED and arq.drained):
            self._half_closing = False
            self._events.append((Event.STREAM_FLUSHED, STREAM))

    def _close_on(self, now: int) -> None:
        assert self._closing is not None
        arq = self._arq
        outcome = self._closing.judge(arq, now)
        if outcome is Outcome.ASK:
            self._hello.want(now)
        elif outcome is Outcome.LEAVE:
            self._enter(Life.LEAVING)
            arq.shut_window()
            self._leave_on(now)
        elif outcome is Outcome.TIMEOUT:
            clean = arq.end_in_order and arq.only_fin_unacknowledged
            self._end(Reason.DONE if clean else Reason.CLOSE_TIMEOUT, now, tell=True)
        elif outcome is not Outcome.WAIT:
            self._end_in_order(outcome, now)

    def _leave_on(self, now: int) -> None:
        span = leaving_span(self._arq.round_trip.timeout)
        assert self._closing is not None
        self._leave_at = min(self._liveness.heard + span, self._closing.until)
        if now >= self._leave_at:
            self._end(Reason.DONE, now)

    def _end_in_order(self, outcome: Outcome, now: int) -> None:
        arq = self._arq
        if outcome is Outcome.QUIET:
            self._end(Reason.DONE, now)
            return
        grave = Grave.ACKNOWLEDGING
        una = arq.rcv_nxt
        last = pack_header(
            self._conv, ACK, MARK, arq.wnd, arq.end_ts, (una - 1) & MASK32, una, 0
        )
        farewell = Farewell(last, times=3 if self._own_socket else 1)
        span = linger(arq.round_trip.timeout)
        if outcome is Outcome.UNSEEN:
            assert self._closing is not None
            fin = pack_header(
                self._conv, PUSH, END, arq.wnd, 0, (arq.snd_nxt - 1) & MASK32, una, 0
            )
            gap = arq.round_trip.timeout * MILLISECOND
            span = max(self._closing.until - now, span)
            farewell = Farewell(fin, span // gap, gap, until_acknowledged=True)
            if self._own_socket:
                self._bury(grave, Reason.DONE, now, span, None)
                return
        self._bury(grave, Reason.DONE, now, span, farewell)

    def _end(
        self, reason: Reason, now: int, tell: bool = False, detail: str | None = None
    ) -> None:
        """
        End, and tell a marked peer by a reset if asked to.

        @param detail: a text for people instead of the reason's own.
        """
        self._detail = detail
        arq = self._arq
        span = linger(arq.round_trip.timeout)
        if tell and arq.peer is Peer.MARKED:
            word = reset(self._conv, arq.snd_nxt, arq.rcv_nxt)
            self._bury(Grave.RESETTING, reason, now, span, Farewell(word))
        else:
            self._bury(Grave.QUIET, reason, now, span, None)

    def _bury(
        self, grave: Grave, reason: Reason, now: int, span: int, farewell: Farewell | None
    ) -> None:
        arq = self._arq
        self._tombstone = Tombstone(
            grave, self._conv, arq.snd_nxt, arq.rcv_nxt, now, span, farewell
        )
        arq.release()
        self._hello.enough()
        self._ending = (reason, self._detail)
        if self._own_socket and farewell is not None:
            self._enter(Life.FAREWELL)
        else:
            self._tell_ended()

    def _tell_ended(self) -> None:
        assert self._ending is not None
        self._enter(Life.ENDED)
        self._events.append((Event.ENDED, *self._ending))
        if self._own_socket:
            self._enter(Life.FORGOTTEN)

    def _flush_tombstone(self, tombstone: Tombstone, now: int, emit: Emit) -> None:
        for answer in tombstone.take_answers(now):
            emit(answer, HEADER_SIZE, self._address)
        if self._life is Life.FAREWELL and tombstone.told:
            self._tell_ended()
