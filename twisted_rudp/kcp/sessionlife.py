"""
How a KCP session lives: its first word, proof of address, its end, and what is
answered after that (C{kcp-close.md}).

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

from typing import Any

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import (
    MILLISECOND,
    Address,
    Emit,
    Event,
    Reason,
)
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.arq import ARQ, Peer
from twisted_rudp.kcp.closing import Closing, Outcome, leaving_span
from twisted_rudp.kcp.hello import Hello
from twisted_rudp.kcp.life import NEXT, OVER, Life, Role
from twisted_rudp.kcp.liveness import DEFAULT_IDLE, NEVER, Liveness
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.tombstone import Farewell, Grave, Tombstone, linger, reset
from twisted_rudp.kcp.wire import ACK, END, HEADER_SIZE, MARK, PUSH, WASK, pack_header

STREAM = 0
"""KCP has one stream."""

# Names of this module: they are needed in each turn.
_LIVE, _CLOSING = Life.LIVE, Life.CLOSING


class SessionLife:
    """A session as far as time and the peer move it from state to state."""

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
        "validated",
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
        self.validated = role is Role.DIALLER
        if role is Role.DIALLER:
            self._hello.want(now)
            if not wait_for_peer:
                self._connected()
        elif cookies is not None:
            self._arq.control_ts_out = cookies.make(address, conv, now)

    def prove(self) -> None:
        """The demultiplexer has seen the cookie come back."""
        self.validated = True
        self._arq.control_ts_out = 0

    def _enter(self, life: Life) -> None:
        if life not in NEXT[self._life]:
            raise AssertionError(f"no way from {self._life.name} to {life.name}")
        self._life = life

    @property
    def _watches(self) -> bool:
        """The peer's silence means something."""
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
        """A WASK, WINS or reset came: cookies, and the signs of a peer that forgot this session."""
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
                not self.validated
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
        """Whatever is not plain data on a live session."""
        if self._life in OVER:
            return
        arq = self._arq
        if arq.validated:
            self.validated = True
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
            or not self.validated
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
        elif arq.peer is Peer.MARKED and self.validated:
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
