"""
One socket, many sessions.

A L{Hub} is the receiver of a datagram port. In each read turn it has the demultiplexer undo
what the socket shares, finds the session of each run, and has it taken in and
delivered; at the end of the turn every session that was touched is flushed once. A
write outside a read turn is flushed in the next turn, once for the whole hub.

It knows no wire: what a key is, who may come in and what is answered is the
L{Demultiplexer}'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp import stats
from twisted_rudp.core.engine import (
    MILLISECOND,
    SECOND,
    Address,
    Buffer,
    Demultiplexer,
    Engine,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.core.timers import NEVER
from twisted_rudp.net.addresses import isOwn
from twisted_rudp.net.flood import Flood
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.net.schedule import CallTask, MonotonicClock, Schedule
from twisted_rudp.net.session import Output, Owner, Session
from twisted_rudp.net.shares import SHARE, Shares
from twisted_rudp.net.shutdown import ShutdownGuard
from twisted_rudp.net.table import DEFAULTS, Limits, SessionTable
from twisted_rudp.net.traced import traced, traces
from twisted_rudp.net.udp.options import changed
from twisted_rudp.net.udp.port import DatagramPort, PortCounters
from twisted_rudp.net.udp.whentoread import LONGEST_WAIT, ROUND_TRIPS, SHORTEST_WAIT

LINGER_TIMEOUT: Final = 5.0
"""Seconds for which closing sessions may hold the reactor's shutdown (CLOSE-6)."""

SHUTDOWN_TIMEOUT: Final = 2.0
"""Seconds that open sessions have for an orderly end when the reactor stops."""

LAST_PACKET_TIMES: Final[tuple[float, ...]] = (0.05, 0.1, 0.15)
"""Seconds between the repetitions of the last packets before a socket closes: one in ten may be
lost."""

FINAL_INTERVAL: Final = 0.05
"""Seconds between the repetitions of the final datagram of a session, when the reactor stops."""

FINAL_REPETITIONS: Final = 3
"""So often it is repeated: one in ten may be lost."""

SHORTEST_MEMORY: Final = SECOND
"""For so long a session counts as active after its last turn."""

NEAR_MEMORY: Final = 10 * MILLISECOND
"""For so long it is not measured again that a peer is near."""

DIAGNOSIS_INTERVAL: Final = 60 * SECOND
"""What does not fit between the two ends is logged no more often than this."""


class Finals:
    """
    The final datagrams of sessions that end while the reactor stops: nobody will be there to
    repeat them when the peer asks again.

    @ivar ended: how often the final datagram of a session was repeated, by address.
    """

    __slots__ = ("_latest", "ended")

    def __init__(self) -> None:
        self._latest: dict[Address, tuple[bytes, int, Address, bytes]] = {}
        self.ended: dict[Address, int] = {}

    def append(self, emitted: tuple[bytes, int, Address, bytes], /) -> None:
        """See L{Record<twisted_rudp.net.session.Record>}; keeps the last of each address."""
        run, size, address, source = emitted
        final = run[(len(run) - 1) // size * size :]
        self._latest[address] = (final, len(final), address, source)

    def due(self) -> list[tuple[bytes, int, Address, bytes]]:
        """What is to be sent once more."""
        found = [self._latest[each] for each in self.ended if each in self._latest]
        self.ended = {
            address: times + 1
            for address, times in self.ended.items()
            if times + 1 < FINAL_REPETITIONS
        }
        return found


class Hub:
    """
    The sessions of one socket.

    @ivar schedule: when what is visited.
    @ivar output: the way out.
    @ivar table: who is found where.
    @ivar closed: the socket is closed or about to be; nothing is scheduled any more.
    @ivar guard: holds the reactor's shutdown for what is closing.
    """

    _log: ClassVar[Logger] = Logger()

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
        self._demux = demux
        self._acceptor = acceptor
        self._lost = lost
        self._clock = clock or MonotonicClock(reactor)
        self.schedule = Schedule(reactor, self._clock)
        self.output = Output(demux, self.count)
        self.guard = ShutdownGuard(reactor, LINGER_TIMEOUT, self._shutDown)
        self._reactor = reactor
        self._lastPackets: list[tuple[bytes, int, Address, bytes]] = []
        self._lastPacketsCall: IDelayedCall | None = None
        self._expelled: list[Deferred[None]] = []
        self._shutdownCall: IDelayedCall | None = None
        self._finals: Finals | None = None
        self._finalsCall: IDelayedCall | None = None
        self.closed = False
        self._flood = Flood()
        self._unknownSince = 0
        self._drops = 0
        self._thins = False
        self._divided = False
        self._isLone = False
        self.table = SessionTable(
            demux,
            self.output,
            limits,
            self.count,
            self._makeAccepted,
            self._dropped,
            self._demuxFailed,
            acceptor is not None,
            self._flood,
            self._clock.now,
        )
        self._demuxTask = CallTask(self._visitDemux)
        self._shares = Shares(self.schedule, self._clock, self.output, self.count)
        self._rateLog = RateLimitedLog(reactor, self._log)
        self._closing: Deferred[None] = Deferred()
        self._diagnosis = 0
        self._shortest = 0
        self._shortestUntil = -1
        self._nearUntil = -1
        self._portCounters = PortCounters()
        self._unfinished = 0
        self._opened = 0
        self._counts: Counter[str] = Counter()
        self._registration: stats.Registration | None = None

    def attach(self, port: DatagramPort) -> None:
        """Take the port whose receiver this is."""
        self.output.port = port
        self._portCounters = port.counters
        self._unfinished = port.counters.unfinished
        port.sendFrom = self.output.sendFrom
        self.schedule.beforeWake = port.readPending
        self._registration = stats.ports.add(self)

    # the port's receiver

    def runReceived(self, run: Buffer, size: int, address: Address) -> None:
        """A run has come from the socket."""
        if self.closed:
            return
        # Each run comes at its own time: round trips that are measured with the time of
        # an earlier one would be too short.
        now = self._clock.now()
        schedule = self.schedule
        # As its C{begin} does.
        isFirst = not schedule.running
        schedule.running = True
        self._isLone = isFirst and len(run) <= size
        shares = self._shares
        if not isFirst:
            measured = now > shares.alertAt
        elif shares.watching:
            measured = shares.turnBegan(now)
        else:
            # All that C{turnBegan} would do here; the call would cost every turn.
            measured = False
            shares.alertAt = now + SHARE
        if self._unknownSince:
            # With what it took to read this run.
            self._flood.spent(now - self._unknownSince)
            self._unknownSince = 0
        table = self.table
        if table.waiting and table.hadShare(address):
            # To open it, with a cipher perhaps, would be for nothing.
            self._unknownSince = now
            table.dropUnknown(len(run), size, address)
            return
        try:
            pieces = self._demux.open(run, size, address)
        except Exception:
            self._demuxFailed()
            return
        if not pieces:
            self._unknownSince = now
            self._flood.note(address[0], -(-len(run) // size))
            return
        sessions = table.byKey
        for key, piece, pieceSize in pieces:
            session = sessions.get(key)
            if session is None or (session.allowance is not None and session.suspect):
                self._unknownSince = now
                table.keep(key, piece, pieceSize, address)
            elif measured:
                shares.receive(session, piece, pieceSize, address)
            else:
                session.receive(piece, pieceSize, address, now)

    def calledAt(self, local: bytes) -> None:
        """The runs that follow were sent to another address of ours."""
        self.output.calledAt = local

    def turnEnded(self) -> None:
        """The socket has been read: flush what was touched, once."""
        if self.closed:
            return
        # The time of the last run: nothing but its delivery lies between.
        now = self._clock.last
        self._unknownSince = 0
        unfinished = self._portCounters.unfinished
        if unfinished != self._unfinished or self.schedule.behind:
            self.schedule.hasRead(unfinished == self._unfinished, now)
            self._unfinished = unfinished
        if not self._isLone:
            self._shares.turnEnded()
        if now >= self._diagnosis or self._flood.came:
            self.schedule.touch(self._demuxTask)
        self.schedule.end(now)
        visited = self.schedule.visited
        if self.table.waiting and not self.closed:
            self.table.judgeKept(now)
            # A turn of their own for unknown peers, after that of the sessions.
            self.schedule.touch(self._demuxTask)
            self.schedule.end(self._clock.now())
            if not self.closed:
                self.schedule.visited = visited + self.schedule.visited

    def patience(self) -> int:
        """
        See L{Receiver.patience<twisted_rudp.net.udp.port.Receiver.patience>}: a small
        part of the shortest round trip of the sessions that were active lately.
        """
        visited = self.schedule.visited
        now = self._clock.last
        if now < self._nearUntil and visited and visited[0] is not self._demuxTask:
            # What most turns of an exchange with a near peer are.
            return 0
        sessions = 0
        shortest = -1
        for task in visited:
            if task is not self._demuxTask:
                sessions += 1
                roundTrip = task.roundTrip
                if roundTrip >= 0 and (shortest < 0 or roundTrip < shortest):
                    shortest = roundTrip
        if shortest >= 0 and (shortest <= self._shortest or now > self._shortestUntil):
            self._shortest = shortest
            self._shortestUntil = now + SHORTEST_MEMORY
        if now > self._shortestUntil:
            # Nobody is known whom it would slow; a session at its beginning is not.
            return 0 if sessions else LONGEST_WAIT
        patience = self._shortest // ROUND_TRIPS
        if patience >= SHORTEST_WAIT:
            return patience
        self._nearUntil = now + NEAR_MEMORY
        return 0 if sessions else -1

    def portWritable(self) -> None:
        """The port takes runs again."""
        if not self.closed:
            self.output.full = False
            self.schedule.writable()

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """The network refused a datagram to C{address}."""
        if self.closed:
            return
        now = self.schedule.begin()
        for session in self.table.at(address):
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
        # Twisted's own words for a lost connection say nothing beyond that.
        said = not isinstance(failure.value, ConnectionLost)
        detail = failure.getErrorMessage() if said else None
        ending = self.table.alive()
        self._release()
        for session in ending:
            session.end(Reason.SOCKET_LOST, detail)
        if self._lost is not None:
            self._lost(failure)

    # sessions

    def dial(self, engine: Engine, address: Address, owner: Owner) -> Session:
        """
        Enter the session this socket was opened for. Its first datagram leaves in
        the next turn.
        """
        session = self._make(engine, address, owner, True)
        self.table.enter(session)
        self.schedule.touch(session)
        self.schedule.touch(self._demuxTask)
        return session

    def expel(self, reason: Reason, detail: str) -> Deferred[None]:
        """
        End all sessions without waiting for anything. Their peers are told, several times:
        there will be nobody to answer them.

        @return: when that is done.
        """
        packets: list[tuple[bytes, int, Address, bytes]] = []
        self.output.recorded = packets
        for session in self.table.alive():
            session.expel(reason, detail)
        self.output.recorded = None
        self._lastPackets = packets
        done: Deferred[None] = Deferred()
        self._expelled.append(done)
        self._repeatLastPackets(0)
        return done

    def _repeatLastPackets(self, times: int) -> None:
        """Send the last packets again, after a while."""
        self._lastPacketsCall = None
        if times and not self.closed:
            for run, size, address, source in self._lastPackets:
                self.output.setSendFrom(source)
                self.output.emit(run, size, address)
        if self._lastPackets and times < len(LAST_PACKET_TIMES) and not self.closed:
            self._lastPacketsCall = self._reactor.callLater(
                LAST_PACKET_TIMES[times], self._repeatLastPackets, times + 1
            )
            return
        self._lastPacketsSent()

    def _lastPacketsSent(self) -> None:
        self._lastPackets = []
        waiting, self._expelled = self._expelled, []
        for each in waiting:
            each.callback(None)

    def _shutDown(self) -> None:
        """The reactor stops: close every session, and give up those that take long."""
        if self.closed:
            return
        self.stopAccepting()
        if self._acceptor is not None and self.table.alive():
            self._finals = Finals()
            self.output.recorded = self._finals
            self.guard.hold(self)
            self._finalsCall = self._reactor.callLater(FINAL_INTERVAL, self._repeatFinals)
        for session in self.table.alive():
            session.shutDown()
        if self.table.alive() and not self.closed:
            self._shutdownCall = self._reactor.callLater(SHUTDOWN_TIMEOUT, self._giveUp)

    def _repeatFinals(self) -> None:
        """Repeat the final datagrams of sessions that have ended, until there are no more."""
        self._finalsCall = None
        finals = self._finals
        if self.closed or finals is None:
            return
        for run, size, address, source in finals.due():
            self.output.setSendFrom(source)
            self.output.emit(run, size, address)
        if finals.ended or self.table.alive():
            self._finalsCall = self._reactor.callLater(FINAL_INTERVAL, self._repeatFinals)
            return
        self._finals = self.output.recorded = None
        call, self._shutdownCall = self._shutdownCall, None
        if call is not None:
            call.cancel()
        self.guard.release(self)

    def _giveUp(self) -> None:
        self._shutdownCall = None
        self._finals = None
        self.guard.hold(self)
        done = self.expel(Reason.SOCKET_LOST, "the reactor stops")
        done.addCallback(lambda _: self.guard.release(self))

    def stopAccepting(self) -> None:
        """Unknown peers do not come in any more."""
        self.table.accepting = False

    @property
    def empty(self) -> bool:
        """No session is left, also none that is over and still answered."""
        return not self.table.byKey

    def find(self, key: Key) -> Session | None:
        """The session under C{key}, also one that has ended and is still answered."""
        return self.table.byKey.get(key)

    def addresses(self) -> Sequence[Address]:
        """See L{SessionTable.addresses<twisted_rudp.net.table.SessionTable>}."""
        return self.table.addresses()

    def living(self) -> list[Session]:
        """The sessions that are not over."""
        return self.table.alive()

    def _makeAccepted(self, engine: Engine, address: Address) -> Session:
        if self._acceptor is None:
            raise RuntimeError("this socket does not accept sessions")
        return self._make(engine, address, self._acceptor)

    def _make(
        self, engine: Engine, address: Address, owner: Owner, dialled: bool = False
    ) -> Session:
        self._opened += 1
        tracer = traces.tracer
        if tracer is None:
            session = Session(self, engine, address, owner, self._opened)
        else:
            host = self.getHost()
            own = ("0.0.0.0", 0) if host is None else (host.host, host.port)
            session = traced(
                tracer, self._reactor, self, engine, address, owner, self._opened, dialled, own
            )
        self.guard.hold(session)
        return session

    # what sessions tell, see Host

    def sessionAnswered(self, session: Session) -> None:
        """See L{Host.sessionAnswered<twisted_rudp.net.session.Host.sessionAnswered>}."""
        self.table.answered(session)

    def sessionMoved(self, session: Session, address: Address) -> None:
        """See L{Host.sessionMoved<twisted_rudp.net.session.Host.sessionMoved>}."""
        self.table.move(session, address)

    def sessionKeys(self, session: Session) -> None:
        """See L{Host.sessionKeys<twisted_rudp.net.session.Host.sessionKeys>}."""
        self.table.reindex(session)

    def sessionEnded(self, session: Session, handshake: bool) -> Deferred[None] | None:
        """See L{Host.sessionEnded<twisted_rudp.net.session.Host.sessionEnded>}."""
        self.count("neverConnected" if handshake else "ended")
        self.guard.release(session)
        if self._finals is not None:
            self._finals.ended[session.address] = 0
        timeWait = not self.closed and self._acceptor is not None
        self.table.ended(session, timeWait)
        return None if timeWait or self.closed else self.close()

    def sessionFailed(self, session: Session) -> None:
        """
        See L{Host.sessionFailed<twisted_rudp.net.session.Host.sessionFailed>}. Who has
        found out how to make a session fail can repeat it, so not every time is in the
        log (LOG-2).
        """
        self.count("sessionsFailed")
        self._rateLog.failure(
            "session",
            "session {session} with {peer} failed",
            session=session.number,
            peer=session.address,
        )

    def sessionLapsed(self, session: Session) -> None:
        """See L{Host.sessionLapsed<twisted_rudp.net.session.Host.sessionLapsed>}."""
        self.count("lapsed")
        session.expel(Reason.HANDSHAKE_TIMEOUT, None)
        self.table.drop(session)

    def sessionUnauthenticated(self, session: Session, detail: str | None) -> None:
        """
        See L{Host.sessionUnauthenticated
        <twisted_rudp.net.session.Host.sessionUnauthenticated>}. Of a dialler, its caller hears.
        """
        if self._acceptor is not None and session.owner is self._acceptor:
            self.count("notAuthenticated")
            self._rateLog.note(
                "authentication",
                "{peer[0]} port {peer[1]} was refused: {detail}",
                peer=session.address,
                detail=detail,
            )

    def sessionClosed(self, session: Session) -> None:
        """See L{Host.sessionClosed<twisted_rudp.net.session.Host.sessionClosed>}."""
        self.table.drop(session)

    def _dropped(self, session: Session) -> None:
        self.schedule.discard(session)
        self._shares.discard(session)
        self._demux.ended(session.engine, self._clock.now())
        self.schedule.touch(self._demuxTask)

    # the demultiplexer's timers

    def _visitDemux(self, now: int) -> None:
        """
        Let the demultiplexer tick if that is due; ask when it wants to next, and now and
        then what does not fit between the two ends.
        """
        if self.closed:
            return
        demux, task = self._demux, self._demuxTask
        text = None
        try:
            if task.deadline is not None and task.deadline <= now:
                for datagram, address in demux.tick(now):
                    self.output.emitWhole(datagram, address)
            deadline = demux.deadline()
            if now >= self._diagnosis:
                text = demux.diagnosis()
                self._diagnosis = now + (SECOND if text is None else DIAGNOSIS_INTERVAL)
                self._lookAtQueue()
        except Exception:
            self._demuxFailed()
            return
        self._reviewFlood(now)
        flood = self._flood.deadline()
        if flood is not None and (deadline is None or flood < deadline):
            deadline = flood
        self.schedule.set(task, deadline, now)
        if text is not None:
            self._log.warn(
                "{host.host} port {host.port}: {diagnosis}", diagnosis=text, host=self.getHost()
            )

    def _reviewFlood(self, now: int) -> None:
        """Have the kernel drop most of what unknown peers send while they flood the socket."""
        port, flood = self.output.port, self._flood
        if port is None or self.closed or self._divided:
            return
        drops = port.kernelDrops() if flood.came else self._drops
        if not flood.review(now, drops > self._drops, self.table.addresses):
            return
        self._drops = drops
        done = port.thin(flood.thinning)
        if done and flood.thinning is not None and not self._thins:
            self.count("floods")
            self._rateLog.note(
                "flood",
                "{host.host} port {host.port}: unknown peers send more than can be looked at;"
                " the kernel drops most of it",
                host=self.getHost(),
            )
        self._thins = done and flood.thinning is not None

    def _lookAtQueue(self) -> None:
        """Say when the kernel had no room for what arrived."""
        port = self.output.port
        if port is None or self.closed or self._thins:
            return
        drops, before = port.kernelDrops(), self._drops
        self._drops = drops
        if drops > before:
            self._rateLog.note(
                "overflow",
                "{host.host} port {host.port}: the receive queue of {bytes} bytes was full,"
                " {datagrams} datagrams lost",
                bytes=port.facts().receiveBuffer,
                datagrams=drops - before,
                host=self.getHost(),
            )

    def _demuxFailed(self) -> None:
        """The demultiplexer, which must not raise, has done so: count it, log it now and then."""
        self.count("demuxFailed")
        self._rateLog.failure("demux", "what an unknown peer sent made the demultiplexer fail")

    # the socket

    def now(self) -> int:
        """The present time of this socket."""
        return self._clock.now()

    def getHost(self) -> IPv4Address | IPv6Address | None:
        """The port's address, also after closing; None before there was a port."""
        port = self.output.port
        return None if port is None else port.getHost()

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
        port = self.output.port
        if port is None or (session and self._acceptor is not None):
            raise ValueError(
                f"{min(changes)} belongs to the socket, which all sessions of a listener share:"
                " its configure changes that"
            )
        options = changed(port.options, changes)
        return lambda: port.reconfigure(options)

    def close(self) -> Deferred[None]:
        """
        Close the socket and drop every session; no peer is told.

        @return: a C{Deferred} of its own for each caller, fired when the socket is
            closed.
        """
        if not self.closed:
            self.closed = True
            port = self.output.port
            self._release()
            closed = succeed(None) if port is None else port.stopListening()
            closed.addBoth(lambda _: self._closed())
        return self.whenClosed()

    def divide(self) -> None:
        """
        A successor has all unknown peers. What does not fit here may fit it, and a filter of
        ours would take its sessions for unknown peers; it has one that knows ours.
        """
        self._divided = True
        self._diagnosis = NEVER
        self._letThrough()

    def _letThrough(self) -> None:
        self._thins = False
        if self.output.port is not None:
            self.output.port.thin(None)

    def undivide(self) -> None:
        """Undo L{divide}; unknown peers come in again."""
        self._divided = False
        self._letThrough()
        self._diagnosis = 0
        self.table.accepting = True

    def ownsAll(self, run: Buffer, size: int, address: Address) -> bool:
        """Whether a run is of one session of this hub, as most are."""
        try:
            pieces = self._demux.open(run, size, address)
        except Exception:
            self._demuxFailed()
            return False
        if len(pieces) != 1:
            return False
        key, piece, pieceSize = pieces[0]
        whole = -(-len(piece) // pieceSize) == -(-len(run) // size)
        return whole and key in self.table.byKey

    def owns(self, datagram: Buffer, address: Address) -> bool:
        """Whether a datagram is of a session of this hub, or goes on with what began here."""
        table = self.table
        try:
            for key, piece, _ in self._demux.open(datagram, len(datagram), address):
                if key is not None and key in table.byKey:
                    return True
                if self._demux.continues(bytes(piece), address, self.now(), table):
                    return True
        except Exception:
            self._demuxFailed()
        return False

    def leave(self) -> None:
        """Drop every session, tell no peer, and leave the socket to a successor."""
        if not self.closed:
            self.closed = True
            self._release()
            self._closed()

    def whenClosed(self) -> Deferred[None]:
        """
        @return: a C{Deferred} of its own for each caller, fired when the socket is
            closed.
        """
        waiting: Deferred[None] = Deferred()
        self._closing.addCallback(waiting.callback)
        return waiting

    def isClosingTowards(
        self, reactor: IReactorTime, host: IPv4Address | IPv6Address
    ) -> bool:
        """Whether this socket belongs to one session, with a port at C{host}, that is closing."""
        return (
            self._acceptor is None
            and self._reactor is reactor
            and any(
                session.address[1] == host.port
                and isOwn(session.address[0], host.host, reactor)
                and session.owner is not None
                and session.owner.disconnecting
                for session in self.table.alive()
            )
        )

    def _closed(self) -> None:
        if not self._closing.called:
            self._closing.callback(None)

    def _release(self) -> None:
        """Let go of timers and sessions. Those still alive are the caller's to end."""
        stats.ports.discard(self._registration)
        for call in (self._lastPacketsCall, self._shutdownCall, self._finalsCall):
            if call is not None and call.active():
                call.cancel()
        self._finals = self.output.recorded = None
        self.guard.release(self)
        self.table.clear()
        self._shares.clear()
        self.schedule.stop()
        self._lastPacketsSent()

    # seen from outside

    def count(self, name: str, times: int = 1) -> None:
        """Count something under a name of the program's choice, never of an unknown peer's."""
        self._counts[name] += times

    # for an operator

    def kick(self, number: int) -> bool:
        """
        End a session.

        @return: whether there was one with this number.
        """
        session = self._numbered(number)
        if session is None:
            return False
        session.expel(Reason.ABORTED, "ended by the operator")
        return True

    def ban(self, host: str, seconds: float) -> int:
        """
        End all sessions with an IP address, and admit none from it for a time.

        @return: how many sessions were ended.
        """
        self.table.ban(host, self._clock.now() + int(seconds * SECOND))
        banned = [session for session in self.table.alive() if session.address[0] == host]
        for session in banned:
            session.expel(Reason.ABORTED, "banned by the operator")
        return len(banned)

    def configureSession(self, number: int, changes: Mapping[str, Any]) -> bool:
        """
        Change settings of a session, as its transport's C{configure} does.

        @return: whether there is one with this number that has settings.
        @raise ValueError: a change is not possible.
        """
        session = self._numbered(number)
        configure = None if session is None else getattr(session.owner, "configure", None)
        if configure is None:
            return False
        configure(**changes)
        return True

    def configureSessions(self, changes: Mapping[str, Any]) -> int:
        """
        Change settings of all sessions; those that cannot stay as they are.

        @return: how many were changed.
        """
        done = 0
        for session in self.table.alive():
            with suppress(ValueError):
                done += self.configureSession(session.number, changes)
        return done

    def _numbered(self, number: int) -> Session | None:
        return next((each for each in self.table.alive() if each.number == number), None)

    def snapshot(self) -> stats.PortStats:
        """See L{twisted_rudp.stats}."""
        counters = dict(self._counts)
        facts: dict[str, Any] = {}
        port = self.output.port
        if port is not None:
            counters.update(_named("port.", port.counters.asDict()))
            counters["port.kernelDrops"] = port.kernelDrops()
            facts = port.facts()._asdict()
        counters.update(_named("demux.", self._demux.counters()))
        counters.update(self.table.counters())
        sessions = tuple(session.snapshot() for session in self.table.alive())
        return stats.PortStats(self.getHost(), counters, sessions, facts)


def closingTowards(
    reactor: IReactorTime, host: IPv4Address | IPv6Address
) -> list[Deferred[None]]:
    """
    The connections of this process, with sockets of their own, that were dialled to a port
    of this process and are being closed: each end still hears the other.

    @return: for each a C{Deferred} that fires when its socket is closed.
    """
    return [
        hub.whenClosed()
        for hub in stats.ports.sources()
        if isinstance(hub, Hub) and hub.isClosingTowards(reactor, host)
    ]


def _named(prefix: str, counters: Mapping[str, int]) -> dict[str, int]:
    return {prefix + name: value for name, value in counters.items()}
