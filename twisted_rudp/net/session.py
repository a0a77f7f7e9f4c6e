"""
A session of a socket: one engine, the addresses and limits that are kept for it, and
whoever owns it.

Everything that calls an engine on behalf of the network goes through here, inside
one of three guards: L{Session.receive} (from the socket), L{Session.visit} (from the
timer and at the end of each turn) and L{Session.call} (anything else). What escapes an
engine ends its session and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, auto
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from twisted_rudp.core.engine import (
    AMPLIFICATION,
    SECOND,
    Address,
    Buffer,
    Demultiplexer,
    Engine,
    Event,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.net.schedule import Schedule, Task
from twisted_rudp.net.shutdown import ShutdownGuard
from twisted_rudp.net.udp.port import DatagramPort
from twisted_rudp.stats import SessionStats

TURN_BUDGET: Final = 8 * 65536
"""Bytes that one session may send in one turn: eight runs. The rest is for the next."""

REFUSAL_MEMORY: Final = 10 * SECOND
"""
How long a peer that was refused, or broke its engine, is answered by the ended session
only. Without it the factory would be asked again for each retransmission (PORT-6).
"""


HANDSHAKE_DATAGRAMS: Final = 32
"""So many datagrams of a session that an unknown peer has opened may be its handshake, and the
first data that kcp-go repeats until it is answered. What is more is served after other sessions."""

BELIEVED_REFUSALS: Final = 2
"""So often the network has to say that nobody listens before a session that is closing ends."""


class SessionState(IntEnum):
    """Where a session is in its life, in the words of RFC 9293 where it has them."""

    HANDSHAKE = auto()
    """No application has been given the peer yet."""

    ESTABLISHED = auto()
    """It has an owner that knows the peer is there."""

    TIME_WAIT = auto()
    """The owner knows the end; what still comes is answered."""

    FAILED = auto()
    """As C{TIME_WAIT}, but the engine is never called again."""

    CLOSED = auto()
    """Out of the table."""


# Names of this module: looking a member up in its enumeration costs more than the
# comparison it is for, several times for each run.
_HANDSHAKE: Final = SessionState.HANDSHAKE
_ESTABLISHED: Final = SessionState.ESTABLISHED
_FAILED: Final = SessionState.FAILED
_CLOSED: Final = SessionState.CLOSED
_READABLE: Final = Event.READABLE


class Record(Protocol):
    """Where what is emitted is noted."""

    def append(self, emitted: tuple[bytes, int, Address, bytes], /) -> None:
        """A run, its size, where it goes, and C{sendFrom}."""


class Output:
    """
    The way out of a socket: what engines emit is sealed and counted.

    @ivar emitted: bytes given by engines so far, before sealing.
    @ivar full: the port has said that it takes no more until it is writable.
    @ivar recorded: if there is one: what is emitted is noted there.
    @ivar port: the socket, once there is one.
    @ivar calledAt: see L{Receiver<twisted_rudp.net.udp.port.Receiver>}, of the
        run that is being taken in.
    @ivar sendFrom: see L{DatagramPort}.
    """

    __slots__ = (
        "_counts",
        "_demux",
        "_overhead",
        "calledAt",
        "emitted",
        "full",
        "port",
        "recorded",
        "sendFrom",
    )

    def __init__(self, demux: Demultiplexer, count: Callable[[str], None]) -> None:
        """
        @param count: counts something under a name.
        """
        self._demux = demux
        self._overhead = demux.overhead
        self._counts = count
        self.emitted = 0
        self.full = False
        self.recorded: Record | None = None
        self.port: DatagramPort | None = None
        self.calledAt = b""
        self.sendFrom = b""

    def setSendFrom(self, source: bytes) -> None:
        """Send from another address of ours from now on."""
        self.sendFrom = source
        if self.port is not None:
            self.port.sendFrom = source

    def emit(self, run: Buffer, size: int, address: Address) -> bool:
        """Seal a run of an engine and give it to the port."""
        self.emitted += len(run)
        if self.recorded is not None:
            self.recorded.append((bytes(run), size, address, self.sendFrom))
        if self._overhead:
            run, size = self._demux.seal(run, size)
        port = self.port
        if port is None or port.send(run, size, address):
            return True
        self.full = True
        return False

    def emitWhole(self, datagram: bytes, address: Address, source: bytes = b"") -> None:
        """
        Send one datagram of the demultiplexer's own, as it is. Dropped while the port is
        full: nobody waits for it.

        @param source: the address of ours to send it from.
        """
        if self.sendFrom is not source:
            self.setSendFrom(source)
        if self.full or not datagram or self.port is None:
            self._counts("demuxDatagramsDropped")
        elif not self.port.send(datagram, len(datagram), address):
            self.full = True

    def overheadOf(self, run: Buffer, size: int) -> int:
        """Bytes that sealing adds to a run, or that opening took off it."""
        return self._overhead * -(-len(run) // size) if self._overhead else 0


class Owner(Protocol):
    """
    Who is told what happens in a session: whoever waits for its peer, then the
    transport that was made for it.
    """

    @property
    def disconnecting(self) -> bool:
        """The end was asked for and has not come yet."""

    def sessionConnected(self, session: Session, early: bool) -> None:
        """The peer is there. Sets C{session.owner} to the transport, or refuses."""

    def sessionReadable(self, stream: int | None) -> None:
        """There is something to take."""

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        """One of the events of streams and receipts."""

    def sessionShutdown(self, session: Session) -> None:
        """The reactor stops: close the session now."""

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        """The session is over. Called once and last."""


class Feeder(Protocol):
    """Who writes more as soon as what was written has left: a transport with a producer."""

    def sessionShare(self, budget: int) -> int:
        """
        How much of C{budget} to send before L{sessionFlushed} is asked for more. Less
        than all leaves a rest behind that a producer is about to add to, so that no
        refill begins with a run cut short.
        """

    def sessionFlushed(self) -> bool:
        """
        The engine has sent what it could within this turn's budget.

        @return: there is more for it now, flush again.
        """


class Host(Protocol):
    """What a session and its transport need of the socket they are on."""

    schedule: Schedule
    output: Output
    guard: ShutdownGuard
    closed: bool

    def count(self, name: str) -> None:
        """Count something."""

    def sessionAnswered(self, session: Session) -> None:
        """
        The session's peer is real: its address is validated, or its engine has seen
        enough to show it to the application.
        """

    def sessionMoved(self, session: Session, address: Address) -> None:
        """The peer is at another address."""

    def sessionKeys(self, session: Session) -> None:
        """The session's keys have changed."""

    def sessionEnded(self, session: Session, handshake: bool) -> Deferred[None] | None:
        """
        A session is over.

        @return: when its owner may be told: None for at once, else after the socket
            that it had for itself is closed.
        """

    def sessionFailed(self, session: Session) -> None:
        """From inside of an exception's handler: its engine, or code of ours, has raised."""

    def sessionLapsed(self, session: Session) -> None:
        """A session has not got as far as the factory in time."""

    def sessionUnauthenticated(self, session: Session, detail: str | None) -> None:
        """A peer was refused that could not say who it is, or is not wanted."""

    def sessionClosed(self, session: Session) -> None:
        """Nothing is left to be answered: forget it."""

    def configure(self, changes: Mapping[str, Any], session: bool = False) -> Callable[[], None]:
        """Prepare to change the socket; see L{Hub.configure<twisted_rudp.net.hub.Hub>}."""


class Session(Task):
    """
    One engine on a socket.

    @ivar address: where the peer is now, raw.
    @ivar handshakeTrip: nanoseconds that the peer took to answer at the beginning; -1 if
        that was not seen.
    @ivar local: the address of ours that it comes to, as the port has it; C{b""} if the
        socket has one address only.
    @ivar keys: under which the table has it.
    @ivar feeder: its owner while that has a producer or waits for empty buffers.
    @ivar allowance: bytes that may still be sent to C{address} before it is validated,
        the anti-amplification limit of RFC 9000 section 8; None: without bound.
    @ivar began: when it was made.
    @ivar established: when its handshake was complete.
    @ivar limit: a moment set by the host: the end of a handshake, or the earliest end
        of TIME_WAIT.
    """

    __slots__ = (
        "_born",
        "_dispatching",
        "_heard",
        "_output",
        "_refusals",
        "_schedule",
        "address",
        "allowance",
        "began",
        "engine",
        "established",
        "feeder",
        "handshakeTrip",
        "host",
        "keys",
        "limit",
        "local",
        "number",
        "owner",
        "state",
    )

    def __init__(
        self, host: Host, engine: Engine, address: Address, owner: Owner, number: int
    ) -> None:
        super().__init__()
        self.host = host
        self.engine = engine
        self.address = address
        self.local = b""
        self.owner: Owner | None = owner
        self.feeder: Feeder | None = None
        self.number = number
        self.state = SessionState.HANDSHAKE
        self.keys: tuple[Key, ...] = ()
        self.allowance: int | None = None
        self.limit: int | None = None
        self._schedule = host.schedule
        self.began = host.schedule.clock.now()
        self.established: int | None = None
        self._output = host.output
        self._dispatching = False
        self._heard = 0
        self._refusals = 0
        self._born = host.schedule.clock.last
        self.handshakeTrip = -1

    @property
    def alive(self) -> bool:
        """Whether everything of the engine may be called."""
        return self.state <= _ESTABLISHED

    @property
    def halfOpen(self) -> bool:
        """An unknown peer has opened it, and nobody knows yet whether there is one."""
        return self.allowance is not None and self.state is _HANDSHAKE

    @property
    def suspect(self) -> bool:
        """It is half-open, and its peer has sent more than a handshake takes."""
        return self._heard > HANDSHAKE_DATAGRAMS and self.halfOpen

    @property
    def roundTrip(self) -> int:
        """By the engine's measure; one that only receives has none but the handshake's."""
        if self.state > _ESTABLISHED:
            return -1
        return self.engine.round_trip or self.handshakeTrip

    # from the owner

    def refuse(self) -> None:
        """The owner does not want this peer: end it, and remember that for a while."""
        now = self._schedule.clock.now()
        self.limit = now + REFUSAL_MEMORY
        self.engine.abort(now)
        self._schedule.touch(self)

    def close(self) -> None:
        """The owner wants it to end in order."""
        self.engine.close(self._schedule.clock.now())
        self._schedule.touch(self)

    # each a guard

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Have the engine take a run in, then deliver what came of it."""
        if self.state is _FAILED:
            return
        engine = self.engine
        if self._output.calledAt is not self.local:
            self.local = self._output.calledAt
        try:
            if self.allowance is None:
                engine.receive(run, size, address, now)
            else:
                self._heard += 1 if len(run) <= size else -(-len(run) // size)
                if address == self.address:
                    received = len(run) + self._output.overheadOf(run, size)
                    self.allowance += AMPLIFICATION * received
                engine.receive(run, size, address, now)
                if engine.validated:
                    self.allowance = None
                    self._answered(now)
            if engine.pending and self.state <= _ESTABLISHED:
                self._dispatch()
        except Exception:
            self._failed()
        if not self.dirty:
            self._schedule.touch(self)

    def visit(self, now: int) -> None:
        """
        Let the engine do what is due, send what may be sent, deliver what came of
        it, and find out when to come again.
        """
        state = self.state
        if state is _CLOSED:
            return
        if state is not _FAILED:
            try:
                deadline = self.deadline
                if deadline is None or deadline <= now:
                    deadline = self.engine.deadline()
                    if deadline is not None and deadline <= now:
                        self.engine.tick(now)
                self.flush(now)
                if self.engine.pending and self.state <= _ESTABLISHED:
                    self._dispatch()
                self._settle(now)
            except Exception:
                self._failed()
        if self.state is _FAILED:
            self._settle(now)

    def call(self, function: Callable[[], None]) -> None:
        """Call a function, of the owner's or of the engine's, if the session is still alive."""
        if self.state <= _ESTABLISHED:
            try:
                function()
            except Exception:
                self._failed()

    # from the host

    def pathError(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        Tell the engine what the network said, then deliver what came of it. A filter of
        this machine's that refuses a first datagram may go: that is tried until the time
        is over, as TCP does.
        """
        if kind is PathError.FORBIDDEN and self.state is _HANDSHAKE:
            self.host.count("forbidden")
            return
        if kind is PathError.REFUSED and self.owner is not None and self.owner.disconnecting:
            # Nobody is left to be closed with. One message may be late, or forged.
            self._refusals += 1
            if self._refusals >= BELIEVED_REFUSALS:
                self.expel(Reason.RESET, "the peer's port is closed")
                return
        self.call(lambda: self.engine.path_error(kind, size, address, now))
        self.call(self._dispatch)
        self._schedule.touch(self)

    def flush(self, now: int) -> None:
        """Send within the budget of one turn, refilling from the owner's producer."""
        output = self._output
        if not output.full:
            if output.sendFrom is not self.local:
                output.setSendFrom(self.local)
            if self.feeder is not None:
                again = self._flushFed(self.feeder, now)
            elif self.allowance is None:
                again = self.engine.flush(now, output.emit, TURN_BUDGET)
            else:
                again = self._flushWithin(self.allowance, TURN_BUDGET, now)
            if again and not output.full:
                self._schedule.requeue(self)
        if output.full:
            self._schedule.block(self)

    def _flushFed(self, feeder: Feeder, now: int) -> bool:
        """As L{flush}, in steps after each of which the feeder may write more."""
        output, engine = self._output, self.engine
        start = output.emitted
        budget = TURN_BUDGET
        while not output.full:
            share = feeder.sessionShare(budget)
            emitted = output.emitted
            if self.allowance is None:
                more = engine.flush(now, output.emit, share)
            else:
                more = self._flushWithin(self.allowance, share, now)
            whole = share == budget
            budget = start + TURN_BUDGET - output.emitted
            if budget <= 0 or (more and whole):
                return True
            if self.state > _ESTABLISHED:
                break
            if feeder.sessionFlushed():
                # What was written leaves in the next step; that needs no turn of its own.
                self._schedule.served(self)
            elif not more or output.emitted == emitted:
                break
        return False

    def _flushWithin(self, allowance: int, share: int, now: int) -> bool:
        """Send to an address that may be forged: no more than C{allowance}, nothing elsewhere."""
        more = self.engine.flush(now, self._emitWithin, min(share, allowance))
        return more and allowance >= share

    def _emitWithin(self, run: Buffer, size: int, address: Address) -> bool:
        allowance = self.allowance
        if allowance is not None:
            cost = len(run) + self._output.overheadOf(run, size)
            if address != self.address or cost > allowance:
                self.host.count("allowanceExceeded")
                return True
            self.allowance = allowance - cost
        return self._output.emit(run, size, address)

    def end(self, reason: Reason, detail: str | None) -> None:
        """It is over: change the state first, then tell the owner (ORD-5)."""
        if self.alive:
            handshake = self.state is _HANDSHAKE
            self.state = SessionState.TIME_WAIT
            if handshake:
                # It was for the handshake: the peer may try again at once.
                self.limit = None
            self.feeder = None
            try:
                self.flush(self._schedule.clock.now())
            except Exception:
                self._failed()
            if reason is Reason.AUTHENTICATION:
                self.host.sessionUnauthenticated(self, detail)
            self._tell(handshake, reason, detail)

    def shutDown(self) -> None:
        """The reactor stops: the owner closes it."""
        owner = self.owner
        if owner is not None:
            self.call(lambda: owner.sessionShutdown(self))

    def expel(self, reason: Reason, detail: str | None) -> None:
        """End without waiting for anything: the peer is told once if the wire can."""
        if self.alive:
            self.call(lambda: self.engine.abort(self._schedule.clock.now()))
            self.end(reason, detail)

    def snapshot(self) -> SessionStats:
        """State, facts and counters of this session, for L{twisted_rudp.stats}."""
        failed = self.state is _FAILED
        established = self.established
        return SessionStats(
            self.address,
            self.state.name,
            {} if failed else dict(self.engine.facts()),
            {} if failed else dict(self.engine.counters()),
            self.number,
            (self._schedule.clock.now() - self.began) / SECOND,
            None if established is None else (established - self.began) / SECOND,
        )

    # inside

    def _tell(self, handshake: bool, reason: Reason, detail: str | None) -> None:
        """Tell the owner of the end; on a socket of its own only after that is closed."""
        owner, self.owner = self.owner, None
        released = self.host.sessionEnded(self, handshake)
        if owner is None:
            return
        if released is None:
            owner.sessionEnded(reason, detail)
        else:
            released.addCallback(lambda _: owner.sessionEnded(reason, detail))

    def _settle(self, now: int) -> None:
        """At the end of a visit: come again, or leave the table."""
        state = self.state
        limit = self.limit
        if limit is None and state <= _ESTABLISHED:
            # What nearly every visit is.
            deadline = self.engine.deadline()
            if deadline is not None and 0 <= self.bucket <= deadline and not self._schedule.moves:
                # It is looked at when its bucket comes.
                self.deadline = deadline
            elif deadline != self.deadline or (self.bucket < 0 and deadline is not None):
                self._schedule.set(self, deadline, now)
            return
        host = self.host
        if host.closed or state is _CLOSED:
            return
        if limit is not None and limit <= now:
            limit = self.limit = None
            if state is _HANDSHAKE:
                host.sessionLapsed(self)
                return
        deadline = None
        if state <= _ESTABLISHED or (
            state is SessionState.TIME_WAIT and not self.engine.closed
        ):
            deadline = self.engine.deadline()
        elif limit is None:
            host.sessionClosed(self)
            return
        if deadline is None or (limit is not None and limit < deadline):
            deadline = limit
        self._schedule.set(self, deadline, now)

    def _dispatch(self) -> None:
        """
        Deliver the engine's events, oldest first, until there are none. The engine
        is never half-updated here, so what is called may call anything; a nested
        entry is left to the loop that is running (ORD-3).
        """
        if self._dispatching:
            self._schedule.touch(self)
            return
        engine = self.engine
        events = engine.events()
        self._dispatching = True
        try:
            while events and self.state <= _ESTABLISHED:
                for event in events:
                    owner = self.owner
                    if owner is None:
                        break
                    if event[0] == _READABLE:
                        owner.sessionReadable(event[1])
                    else:
                        self._deliver(owner, event)
                if not engine.pending:
                    break
                events = engine.events()
        finally:
            self._dispatching = False

    def _deliver(self, owner: Owner, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == Event.CONNECTED:
            self.state = SessionState.ESTABLISHED
            self.limit = None
            self.established = self._schedule.clock.last
            self._answered(self.established)
            owner.sessionConnected(self, event[1])
        elif kind == Event.ENDED:
            self.end(event[1], event[2])
        elif kind == Event.PATH:
            self.host.sessionMoved(self, event[1])
        elif kind == Event.KEYS:
            self.host.sessionKeys(self)
        else:
            owner.sessionEvent(event)

    def _answered(self, now: int) -> None:
        if self.handshakeTrip < 0 and now > self._born:
            self.handshakeTrip = now - self._born
        self.host.sessionAnswered(self)

    def _failed(self) -> None:
        """The engine, or this library around it, has failed. Log it, end the session."""
        self.host.sessionFailed(self)
        alive, handshake = self.alive, self.state is _HANDSHAKE
        self.limit = self._schedule.clock.now() + REFUSAL_MEMORY
        self.feeder = None
        if self.state is not _CLOSED:
            self.state = _FAILED
            self._schedule.touch(self)
        if alive:
            self._tell(handshake, Reason.INTERNAL, None)
