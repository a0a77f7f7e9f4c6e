"""
One socket, many sessions.

A L{Hub} is the receiver of a datagram port. In each read turn it has the gate undo
what the socket shares, finds the session of each run, and has it digested and
delivered; at the end of the turn every session that was touched is flushed once. A
write outside a read turn is flushed in the next turn, once for the whole hub.

It knows no wire: what a key is, who may come in and what is answered is the
L{Gate}'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp import stats
from twisted_rudp.core.engine import (
    SECOND,
    Address,
    Buffer,
    Engine,
    Gate,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.net.ports.contract import DatagramPort
from twisted_rudp.net.session import Owner, Session, SessionState
from twisted_rudp.net.shutdown import ShutdownGuard
from twisted_rudp.net.strangers import COMPLAINT_INTERVAL, Admission, Limits, Strangers
from twisted_rudp.net.timers import MonotonicClock, Schedule, Timed

MAX_TOMBSTONES = 4096
"""Sessions that are over and still answered; the oldest goes first."""

LINGER_TIMEOUT = 5.0
"""Seconds for which closing sessions may hold the reactor's shutdown (CLOSE-6)."""


class _GateTimer(Timed):
    """
    The gate's half-open table in the schedule.
    """

    __slots__ = ()


class Hub:
    """
    The sessions of one socket.

    @ivar full: the port has said that it takes no more until C{portWritable}.
    @ivar emitted: bytes given to the port for sessions so far, before sealing.
    @ivar turn: how many flushes there were; tells one turn from the next.
    @ivar accepting: strangers may come in.
    @ivar guard: holds the reactor's shutdown for what is closing.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        gate: Gate,
        acceptor: Owner | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        lost: Callable[[Failure], None] | None = None,
        clock: MonotonicClock | None = None,
    ) -> None:
        """
        @param acceptor: the first owner of sessions that strangers open. None: there
            are no such sessions, the socket belongs to the one that is dialled and
            is closed with it.
        @param lost: called after all sessions have ended because the port was lost.
        @param clock: by which the engines were made that will be dialled.
        """
        self._reactor = reactor
        self._gate = gate
        self._acceptor = acceptor
        self._lost = lost
        self._port: DatagramPort | None = None
        self._clock = clock or MonotonicClock(reactor)
        self.schedule = Schedule(reactor, self._clock, self._expired)
        self.guard = ShutdownGuard(reactor, LINGER_TIMEOUT)
        self.accepting = acceptor is not None
        self.full = False
        self.emitted = 0
        self.turn = 0
        self._sessions: dict[Key, Session] = {}
        self._alive: dict[Session, None] = {}
        self._tombstones: dict[Session, None] = {}
        self._admission = Admission(limits)
        self._strangers = Strangers(self, gate)
        self._gateTimer = _GateTimer()
        self._inTurn = False
        self._dirty: list[Session] = []
        self._blocked: dict[Session, None] = {}
        self._next: list[Session] = []
        self._later: list[tuple[Session, Callable[[], None]]] = []
        self._nextTurn: IDelayedCall | None = None
        self._closing: Deferred[None] | None = None
        self._diagnosis = 0
        self._opened = 0
        self._counts: Counter[str] = Counter()

    def attach(self, port: DatagramPort) -> None:
        """
        Take the port whose receiver this is.
        """
        self._port = port
        stats.ports.add(self)

    # the port's receiver

    def runReceived(self, run: Buffer, size: int, address: Address) -> None:
        """
        A run has come from the socket.
        """
        if self._closing is not None:
            return
        self._inTurn = True
        now = self._clock.now()
        try:
            pieces = self._gate.open(run, size, address)
        except Exception:
            self._strangers.gateFailed(now)
            return
        sessions = self._sessions
        for key, piece, pieceSize in pieces:
            session = sessions.get(key)
            if session is None:
                self._strangers.judge(key, piece, pieceSize, address, now)
            else:
                session.receive(piece, pieceSize, address, now)

    def turnEnded(self) -> None:
        """
        The socket has been read: flush what was touched, once.
        """
        if self._closing is not None:
            return
        now = self._clock.now()
        self._flush(now)
        deadline = self._gate.deadline()
        if deadline != self._gateTimer.deadline:
            self.schedule.set(self._gateTimer, deadline, now)
        if now >= self._diagnosis:
            self._diagnose(now)

    def portWritable(self) -> None:
        """
        The port takes runs again.
        """
        self.full = False
        blocked, self._blocked = self._blocked, {}
        for session in blocked:
            if not session.dirty:
                self.touched(session)
        self._flush(self._clock.now())

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """
        The network refused a datagram to C{address}.
        """
        if self._closing is not None:
            return
        self._inTurn = True
        now = self._clock.now()
        for session in [each for each in self._alive if each.address == address]:
            session.pathError(kind, size, address, now)

    def portLost(self, failure: Failure) -> None:
        """
        The socket is gone, at the reactor's shutdown or unasked (PORT-5): every
        session ends, nothing is sent.
        """
        if self._closing is not None:
            return
        self._closing = succeed(None)
        ending = list(self._alive)
        self._release()
        for session in ending:
            session.end(Reason.SOCKET_LOST, failure.getErrorMessage())
        if self._lost is not None:
            self._lost(failure)

    # sessions

    def dial(self, engine: Engine, address: Address, owner: Owner) -> Session:
        """
        Enter the session this socket was opened for. Its first datagram leaves in
        the next turn.
        """
        session = self._enter(engine, address, owner)
        session.touch()
        return session

    def admit(self, engine: Engine, address: Address, now: int) -> Session:
        """
        Let a stranger in, on credit until it has proved its address.
        """
        if self._acceptor is None:
            raise RuntimeError("this socket does not accept sessions")
        session = self._enter(engine, address, self._acceptor)
        session.credit = 0
        session.limit = now + int(self._admission.limits.handshakeTimeout * SECOND)
        self._admission.enter(session)
        self.count("admitted")
        return session

    def refusal(self, address: Address) -> str | None:
        """
        Why no stranger from C{address} can be let in now, or None.
        """
        if not self.accepting:
            return "notAccepting"
        return self._admission.refusal(address, len(self._alive))

    @property
    def room(self) -> bool:
        """
        Whether one more session would be let in, its host aside.
        """
        limits = self._admission.limits
        return (
            self.accepting
            and len(self._alive) < limits.maxSessions
            and len(self._admission) < limits.backlog
        )

    def find(self, key: Key) -> Session | None:
        return self._sessions.get(key)

    def living(self) -> list[Session]:
        """
        The sessions that are not over.
        """
        return list(self._alive)

    def proved(self, session: Session) -> None:
        """
        The session's peer receives at its address.
        """
        self._admission.leave(session)

    def reindex(self, session: Session) -> None:
        """
        The session's keys have changed. A key that another session holds stays
        there: the newcomer is counted and does not get it.
        """
        for key in session.keys:
            if self._sessions.get(key) is session:
                del self._sessions[key]
        session.keys = tuple(session.engine.keys())
        for key in session.keys:
            if self._sessions.setdefault(key, session) is not session:
                self.count("keyTaken")

    def sessionEnded(self, session: Session, opening: bool) -> Deferred[None] | None:
        """
        A session is over.

        @return: when its owner may be told: None for at once, else after the socket
            that it had for itself is closed.
        """
        self._alive.pop(session, None)
        self._admission.leave(session)
        self.count("lapsedOrRefused" if opening else "ended")
        if self._closing is not None:
            return None
        if self._acceptor is None:
            return self.close()
        self._tombstones[session] = None
        if len(self._tombstones) > MAX_TOMBSTONES:
            self.drop(next(iter(self._tombstones)))
        return None

    def lapsed(self, session: Session) -> None:
        """
        A session has not got as far as the factory in time.
        """
        self.count("lapsed")
        session.expel(Reason.HANDSHAKE_TIMEOUT, None)
        self.drop(session)

    def drop(self, session: Session) -> None:
        """
        Forget a session for good.
        """
        if session.state is SessionState.GONE:
            return
        session.state = SessionState.GONE
        self._tombstones.pop(session, None)
        self._blocked.pop(session, None)
        for key in session.keys:
            if self._sessions.get(key) is session:
                del self._sessions[key]
        self.schedule.discard(session)
        self._gate.ended(session.engine, self._clock.now())

    def _enter(self, engine: Engine, address: Address, owner: Owner) -> Session:
        self._opened += 1
        session = Session(self, engine, address, owner, self._opened)
        self._alive[session] = None
        self.reindex(session)
        return session

    # turns

    def touched(self, session: Session) -> None:
        """
        Flush this session at the end of the turn.
        """
        if self._closing is not None:
            return
        session.dirty = True
        self._dirty.append(session)
        if not self._inTurn:
            self._scheduleTurn()

    def nextTurn(self, session: Session) -> None:
        """
        Visit this session again in the next turn, after those that wait already.
        """
        self._next.append(session)
        if not self._inTurn:
            self._scheduleTurn()

    def later(self, session: Session, function: Callable[[], None]) -> None:
        """
        Call C{function} in a later turn, never in this one (ORD-2).
        """
        if self._closing is None:
            self._later.append((session, function))
            self._scheduleTurn()

    def blocked(self, session: Session) -> None:
        """
        Flush this session when the port is writable.
        """
        self._blocked[session] = None

    def _scheduleTurn(self) -> None:
        if self._nextTurn is None and self._closing is None:
            self._nextTurn = self._reactor.callLater(0, self._startTurn)

    def _startTurn(self) -> None:
        """
        A turn of our own: what was kept for later, then all that is dirty.
        """
        self._nextTurn = None
        self._inTurn = True
        later, self._later = self._later, []
        for session, function in later:
            session.call(function)
        waiting, self._next = self._next, []
        for session in waiting:
            if not session.dirty:
                self.touched(session)
        self._flush(self._clock.now())

    def _flush(self, now: int) -> None:
        """
        End a turn: visit every dirty session once. What becomes dirty meanwhile, and
        what its budget stopped, is for the next turn.
        """
        self._inTurn = True
        self.turn += 1
        queue, self._dirty = self._dirty, []
        for session in queue:
            session.dirty = False
            if session.state is not SessionState.GONE:
                session.visit(now)
        self._inTurn = False
        if self._dirty or self._next:
            self._scheduleTurn()

    def _expired(self, due: list[Timed], now: int) -> None:
        """
        From the schedule: the time of these has come.
        """
        for timed in due:
            if timed is self._gateTimer:
                self._tickGate(now)
            elif isinstance(timed, Session) and not timed.dirty:
                timed.dirty = True
                self._dirty.append(timed)
        self._flush(now)

    def _tickGate(self, now: int) -> None:
        try:
            for datagram, address in self._gate.tick(now):
                self.sendWhole(datagram, address)
            self.schedule.set(self._gateTimer, self._gate.deadline(), now)
        except Exception:
            self._strangers.gateFailed(now)

    # out

    def emit(self, run: Buffer, size: int, address: Address) -> bool:
        """
        Seal a run of an engine and give it to the port.
        """
        self.emitted += len(run)
        run, size = self._gate.seal(run, size)
        if self._port is None or self._port.send(run, size, address):
            return True
        self.full = True
        return False

    def sendWhole(self, datagram: bytes, address: Address) -> None:
        """
        Send one datagram of the gate's own, as it is. Dropped while the port is full:
        nobody waits for it.
        """
        if self.full or not datagram or self._port is None:
            self.count("gateDatagramsDropped")
        elif not self._port.send(datagram, len(datagram), address):
            self.full = True

    def overheadOf(self, run: Buffer, size: int) -> int:
        """
        Bytes that sealing adds to a run, or that opening took off it.
        """
        overhead = self._gate.overhead
        return overhead * -(-len(run) // size) if overhead else 0

    # life

    def now(self) -> int:
        return self._clock.now()

    @property
    def closed(self) -> bool:
        """
        The socket is closed or about to be; nothing is scheduled any more.
        """
        return self._closing is not None

    def getHost(self) -> IPv4Address | IPv6Address | None:
        """
        The port's address, also after closing; None before there was a port.
        """
        return None if self._port is None else self._port.getHost()

    def close(self) -> Deferred[None]:
        """
        Close the socket and drop every session without a word.

        @return: a L{Deferred} of its own for each caller, fired when the socket is
            closed.
        """
        if self._closing is None:
            self._closing = Deferred()
            port = self._port
            self._release()
            closed = succeed(None) if port is None else port.stopListening()
            closed.addBoth(lambda _: self._closed())
        waiting: Deferred[None] = Deferred()

        def closed_(_: Any) -> None:
            waiting.callback(None)

        self._closing.addCallback(closed_)
        return waiting

    def _closed(self) -> None:
        if self._closing is not None and not self._closing.called:
            self._closing.callback(None)

    def _release(self) -> None:
        """
        Let go of timers and sessions. Those still alive are the caller's to end.
        """
        self.accepting = False
        stats.ports.discard(self)
        if self._nextTurn is not None and self._nextTurn.active():
            self._nextTurn.cancel()
        self._nextTurn = None
        for session in self._tombstones:
            session.state = SessionState.GONE
        self._sessions.clear()
        self._tombstones.clear()
        self._alive.clear()
        self._blocked.clear()
        self._dirty.clear()
        self._next.clear()
        self._later.clear()
        self.schedule.stop()

    # seen from outside

    def count(self, name: str) -> None:
        self._counts[name] += 1

    def snapshot(self) -> stats.PortStats:
        """
        See L{twisted_rudp.stats}.
        """
        counters = dict(self._counts)
        if self._port is not None:
            counters.update(_named("port.", self._port.counters.asDict()))
        counters.update(_named("gate.", self._gate.counters()))
        counters.update(
            alive=len(self._alive),
            unproved=len(self._admission),
            tombstones=len(self._tombstones),
        )
        sessions = tuple(session.snapshot() for session in self._alive)
        return stats.PortStats(self.getHost(), counters, sessions)

    def _diagnose(self, now: int) -> None:
        """
        At most once a minute, name what does not fit between the two ends.
        """
        text = self._gate.diagnosis()
        self._diagnosis = now + (SECOND if text is None else COMPLAINT_INTERVAL)
        if text is not None:
            self._log.warn("{host}: {diagnosis}", diagnosis=text, host=self.getHost())


def _named(prefix: str, counters: Mapping[str, int]) -> dict[str, int]:
    return {prefix + name: value for name, value in counters.items()}
