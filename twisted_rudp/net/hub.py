"""
One socket, many sessions.

A L{Hub} is the receiver of a datagram port. In each read turn it has the demultiplexer undo
what the socket shares, finds the session of each run, and has it digested and
delivered; at the end of the turn every session that was touched is flushed once. A
write outside a read turn is flushed in the next turn, once for the whole hub.

It knows no wire: what a key is, who may come in and what is answered is the
L{Demultiplexer}'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp import stats
from twisted_rudp.core.engine import (
    SECOND,
    Address,
    Buffer,
    Demultiplexer,
    Engine,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.net.schedule import MonotonicClock, Schedule, Timed
from twisted_rudp.net.session import Owner, Session
from twisted_rudp.net.shutdown import ShutdownGuard
from twisted_rudp.net.table import DEFAULTS, Limits, Roster
from twisted_rudp.net.turns import Turns
from twisted_rudp.net.udp.options import changed
from twisted_rudp.net.udp.port import DatagramPort
from twisted_rudp.net.unknownpeers import COMPLAINT_INTERVAL, UnknownPeers

LINGER_TIMEOUT = 5.0
"""Seconds for which closing sessions may hold the reactor's shutdown (CLOSE-6)."""


class _DemuxTimer(Timed):
    """The demultiplexer's half-open table in the schedule."""

    __slots__ = ()


class Hub:
    """
    The sessions of one socket.

    @ivar emitted: bytes given to the port for sessions so far, before sealing.
    @ivar turns: when what is flushed.
    @ivar accepting: unknown peers may come in.
    @ivar closed: the socket is closed or about to be; nothing is scheduled any more.
    @ivar guard: holds the reactor's shutdown for what is closing.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        demux: Demultiplexer,
        acceptor: Owner | None = None,
        limits: Limits = DEFAULTS,
        *,
        lost: Callable[[Failure], None] | None = None,
        clock: MonotonicClock | None = None,
    ) -> None:
        """
        @param acceptor: the first owner of sessions that unknown peers open. None: there
            are no such sessions, the socket belongs to the one that is dialled and
            is closed with it.
        @param lost: called after all sessions have ended because the port was lost.
        @param clock: by which the engines were made that will be dialled.
        """
        self._reactor = reactor
        self._demux = demux
        self._sealing = demux.overhead > 0
        self._acceptor = acceptor
        self._lost = lost
        self._port: DatagramPort | None = None
        self._clock = clock or MonotonicClock(reactor)
        self.schedule = Schedule(reactor, self._clock, self._expired)
        self.guard = ShutdownGuard(reactor, LINGER_TIMEOUT)
        self.accepting = acceptor is not None
        self.turns = Turns(reactor, self._clock)
        self.emitted = 0
        self._limits = limits
        self._roster = Roster(limits, self._dropped, self.count)
        self._unknownPeers = UnknownPeers(self, demux)
        self._demuxTimer = _DemuxTimer()
        self.closed = False
        self._closing: Deferred[None] = Deferred()
        self._diagnosis = self._failureLogged = 0
        self._opened = 0
        self._counts: Counter[str] = Counter()

    def attach(self, port: DatagramPort) -> None:
        """Take the port whose receiver this is."""
        self._port = port
        stats.ports.add(self)

    # the port's receiver

    def runReceived(self, run: Buffer, size: int, address: Address) -> None:
        """A run has come from the socket."""
        if self.closed:
            return
        self.turns.running = True
        now = self._clock.now()
        try:
            pieces = self._demux.open(run, size, address)
        except Exception:
            self._unknownPeers.demuxFailed(now)
            return
        sessions = self._roster.byKey
        for key, piece, pieceSize in pieces:
            session = sessions.get(key)
            if session is None:
                self._unknownPeers.judge(key, piece, pieceSize, address, now)
            else:
                session.receive(piece, pieceSize, address, now)

    def turnEnded(self) -> None:
        """The socket has been read: flush what was touched, once."""
        if self.closed:
            return
        now = self._clock.now()
        self.turns.flush(now)
        self._askDemux(now)

    def portWritable(self) -> None:
        """The port takes runs again."""
        if not self.closed:
            self.turns.writable()

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """The network refused a datagram to C{address}."""
        if self.closed:
            return
        now = self.turns.begin()
        for session in self._roster.at(address):
            session.pathError(kind, size, address, now)

    def portLost(self, failure: Failure) -> None:
        """
        The socket is gone, at the reactor's shutdown or unasked (PORT-5): every
        session ends, nothing is sent.
        """
        if self.closed:
            return
        self.closed = True
        self._closing.callback(None)
        ending = self._roster.alive()
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
        """Let an unknown peer in, on credit until it has proved its address."""
        if self._acceptor is None:
            raise RuntimeError("this socket does not accept sessions")
        session = self._enter(engine, address, self._acceptor)
        session.credit = 0
        session.limit = now + int(self._limits.handshakeTimeout * SECOND)
        self._roster.admission.enter(session)
        self.count("admitted")
        return session

    def refusal(self, address: Address) -> str | None:
        """Why no unknown peer from C{address} can be let in now, or None."""
        if not self.accepting:
            return "notAccepting"
        return self._roster.refusal(address)

    @property
    def room(self) -> bool:
        """Whether one more session would be let in, its host aside."""
        return self.accepting and self._roster.room

    def find(self, key: Key) -> Session | None:
        """The session under C{key}, its tombstone included."""
        return self._roster.byKey.get(key)

    def living(self) -> list[Session]:
        """The sessions that are not over."""
        return self._roster.alive()

    def answered(self, session: Session) -> None:
        """
        The session's peer is real: it has proved its address, or its engine has
        seen enough to show it to the application.
        """
        self._roster.admission.leave(session)

    def reindex(self, session: Session) -> None:
        """The session's keys have changed."""
        self._roster.reindex(session)

    def sessionEnded(self, session: Session, opening: bool) -> Deferred[None] | None:
        """
        A session is over.

        @return: when its owner may be told: None for at once, else after the socket
            that it had for itself is closed.
        """
        self.count("neverConnected" if opening else "ended")
        if not self.closed and self._acceptor is not None:
            self._roster.bury(session)
            return None
        self._roster.ended(session)
        return self.close() if not self.closed else None

    def sessionFailed(self, session: Session) -> None:
        """
        From inside of an exception's handler: what came made a session fail. Who has
        found out how can repeat it, so not every time is in the log (LOG-2).
        """
        self.count("sessionsFailed")
        now = self._clock.now()
        if now >= self._failureLogged:
            self._failureLogged = now + COMPLAINT_INTERVAL
            self._log.failure(
                "session {session} with {peer} failed",
                session=session.number,
                peer=session.address,
            )

    def lapsed(self, session: Session) -> None:
        """A session has not got as far as the factory in time."""
        self.count("lapsed")
        session.expel(Reason.HANDSHAKE_TIMEOUT, None)
        self._roster.drop(session)

    def drop(self, session: Session) -> None:
        """Forget a session for good."""
        self._roster.drop(session)

    def _dropped(self, session: Session) -> None:
        self.turns.forget(session)
        self.schedule.discard(session)
        self._demux.ended(session.engine, self._clock.now())

    def _enter(self, engine: Engine, address: Address, owner: Owner) -> Session:
        self._opened += 1
        session = Session(self, engine, address, owner, self._opened)
        self._roster.enter(session)
        return session

    # time

    def _expired(self, due: list[Timed], now: int) -> None:
        """From the schedule: the time of these has come."""
        self.turns.begin()
        for timed in due:
            if timed is self._demuxTimer:
                self._askDemux(now, due=True)
            elif isinstance(timed, Session):
                self.turns.touch(timed)
        self.turns.flush(now)

    def _askDemux(self, now: int, due: bool = False) -> None:
        """
        Let the demultiplexer tick if that is C{due}; ask when it wants to next, and at most
        once a minute what does not fit between the two ends.
        """
        if self.closed:
            return
        demux = self._demux
        try:
            if due:
                for datagram, address in demux.tick(now):
                    self.sendWhole(datagram, address)
            deadline = demux.deadline()
            text = demux.diagnosis() if now >= self._diagnosis else None
        except Exception:
            self._unknownPeers.demuxFailed(now)
            return
        if deadline != self._demuxTimer.deadline:
            self.schedule.set(self._demuxTimer, deadline, now)
        if now >= self._diagnosis:
            self._diagnosis = now + (SECOND if text is None else COMPLAINT_INTERVAL)
        if text is not None:
            self._log.warn(
                "{host.host} port {host.port}: {diagnosis}", diagnosis=text, host=self.getHost()
            )

    # out

    def emit(self, run: Buffer, size: int, address: Address) -> bool:
        """Seal a run of an engine and give it to the port."""
        self.emitted += len(run)
        if self._sealing:
            run, size = self._demux.seal(run, size)
        if self._port is None or self._port.send(run, size, address):
            return True
        self.turns.full = True
        return False

    def sendWhole(self, datagram: bytes, address: Address) -> None:
        """
        Send one datagram of the demultiplexer's own, as it is. Dropped while the port is full:
        nobody waits for it.
        """
        if self.turns.full or not datagram or self._port is None:
            self.count("demuxDatagramsDropped")
        elif not self._port.send(datagram, len(datagram), address):
            self.turns.full = True

    def overheadOf(self, run: Buffer, size: int) -> int:
        """Bytes that sealing adds to a run, or that opening took off it."""
        overhead = self._demux.overhead
        return overhead * -(-len(run) // size) if overhead else 0

    # life

    def now(self) -> int:
        """The present time of this socket."""
        return self._clock.now()

    def getHost(self) -> IPv4Address | IPv6Address | None:
        """The port's address, also after closing; None before there was a port."""
        return None if self._port is None else self._port.getHost()

    def configure(self, changes: Mapping[str, Any], session: bool = False) -> Callable[[], None]:
        """
        Prepare to change the socket.

        @param changes: see L{SOCKET_SETTINGS
            <twisted_rudp.net.udp.options.SOCKET_SETTINGS>}.
        @param session: one of its sessions asks for that.
        @return: does it.
        @raise ValueError: not possible, or the socket does not belong to the session
            that asks.
        """
        port = self._port
        if port is None or (session and self._acceptor is not None):
            raise ValueError(
                f"{min(changes)} belongs to the socket, which all sessions of a listener share:"
                " its configure changes that"
            )
        options = changed(port.options, changes)
        return lambda: port.reconfigure(options)

    def close(self) -> Deferred[None]:
        """
        Close the socket and drop every session without a word.

        @return: a C{Deferred} of its own for each caller, fired when the socket is
            closed.
        """
        if not self.closed:
            self.closed = True
            port = self._port
            self._release()
            closed = succeed(None) if port is None else port.stopListening()
            closed.addBoth(lambda _: self._closed())
        waiting: Deferred[None] = Deferred()
        self._closing.addCallback(waiting.callback)
        return waiting

    def _closed(self) -> None:
        if not self._closing.called:
            self._closing.callback(None)

    def _release(self) -> None:
        """Let go of timers and sessions. Those still alive are the caller's to end."""
        self.accepting = False
        stats.ports.discard(self)
        self._roster.clear()
        self.turns.stop()
        self.schedule.stop()

    # seen from outside

    def count(self, name: str) -> None:
        """Count something under a name of the program's choice, never of an unknown peer's."""
        self._counts[name] += 1

    def snapshot(self) -> stats.PortStats:
        """See L{twisted_rudp.stats}."""
        counters = dict(self._counts)
        facts: dict[str, Any] = {}
        if self._port is not None:
            counters.update(_named("port.", self._port.counters.asDict()))
            facts = self._port.facts()._asdict()
        counters.update(_named("demux.", self._demux.counters()))
        counters.update(self._roster.counters())
        sessions = tuple(session.snapshot() for session in self._roster.alive())
        return stats.PortStats(self.getHost(), counters, sessions, facts)


def _named(prefix: str, counters: Mapping[str, int]) -> dict[str, int]:
    return {prefix + name: value for name, value in counters.items()}
