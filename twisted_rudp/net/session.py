"""
A session in its hub: one engine, the addresses and limits the hub keeps for it, and
whoever owns it.

Everything that calls an engine on behalf of the network goes through here, inside
one of three fences: L{Session.receive} (from the socket), L{Session.visit} (from the
timer and at the end of each turn) and L{Session.call} (from the next turn). What
escapes an engine ends its session and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Any, Protocol

from twisted_rudp.core.engine import (
    AMPLIFICATION,
    SECOND,
    Address,
    Buffer,
    Engine,
    Event,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.net.schedule import Timed
from twisted_rudp.stats import SessionStats

if TYPE_CHECKING:
    from twisted_rudp.net.hub import Hub

TURN_BUDGET = 8 * 65536
"""Bytes that one session may send in one turn: eight runs. The rest is for the next."""

REFUSAL_MEMORY = 10 * SECOND
"""
How long a peer that was refused, or broke its engine, is answered from the tombstone
only. Without it the factory would be asked again for each retransmission (PORT-6).
"""


class SessionState(IntEnum):
    """Where a session is in its life."""

    OPENING = auto()
    """The peer has not been given to anybody yet."""

    LIVE = auto()
    """It has an owner that knows the peer is there."""

    ENDED = auto()
    """The owner knows the end; a tombstone answers what still comes."""

    CRASHED = auto()
    """As C{ENDED}, but the engine is never called again."""

    GONE = auto()
    """Out of the hub's table."""


# Names of this module: looking a member up in its enumeration costs more than the
# comparison it is for, several times for each run.
_LIVE = SessionState.LIVE
_CRASHED = SessionState.CRASHED
_GONE = SessionState.GONE
_READABLE = Event.READABLE


class Owner(Protocol):
    """
    Who is told what happens in a session: whoever waits for its peer, then the
    transport that was made for it.
    """

    def sessionConnected(self, session: Session, early: bool) -> None:
        """The peer is there. Sets C{session.owner} to the transport, or refuses."""

    def sessionReadable(self, stream: int | None) -> None:
        """There is something to take."""

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        """One of the events of streams and receipts."""

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

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        """The session is over. Called once and last."""


class Session(Timed):
    """
    One engine in a hub.

    @ivar address: where the peer is now, raw.
    @ivar keys: under which the hub has it.
    @ivar dirty: it is in the hub's list for the end of this turn.
    @ivar credit: bytes that may still be sent to C{address} before it is proved;
        None: without bound.
    @ivar limit: a moment set by the hub: the end of an opening session, or the
        earliest end of a tombstone.
    """

    __slots__ = (
        "__weakref__",
        "_dispatching",
        "address",
        "credit",
        "dirty",
        "engine",
        "hub",
        "keys",
        "limit",
        "number",
        "owner",
        "state",
    )

    def __init__(
        self, hub: Hub, engine: Engine, address: Address, owner: Owner, number: int
    ) -> None:
        super().__init__()
        self.hub = hub
        self.engine = engine
        self.address = address
        self.owner: Owner | None = owner
        self.number = number
        self.state = SessionState.OPENING
        self.keys: tuple[Key, ...] = ()
        self.dirty = False
        self.credit: int | None = None
        self.limit: int | None = None
        self._dispatching = False

    @property
    def alive(self) -> bool:
        """Whether everything of the engine may be called."""
        return self.state <= _LIVE

    # from the owner

    def touch(self) -> None:
        """There is something to flush at the end of this turn (TR-8)."""
        if not self.dirty:
            self.hub.turns.touch(self)

    def later(self, function: Callable[[], None]) -> None:
        """Call C{function} in a later turn if the session is still alive then."""
        self.hub.turns.later(self, function)

    def refuse(self) -> None:
        """The owner does not want this peer: end it, and remember that for a while."""
        self.limit = self.hub.now() + REFUSAL_MEMORY
        self.engine.abort(self.hub.now())
        self.touch()

    # from the hub, each inside a fence

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Digest a run, then deliver what came of it."""
        if self.state is _CRASHED:
            return
        engine = self.engine
        try:
            if self.credit is None:
                engine.receive(run, size, address, now)
            else:
                self._earn(len(run) + self.hub.overheadOf(run, size), address)
                engine.receive(run, size, address, now)
                if engine.validated:
                    self._validated()
            self._dispatch()
        except Exception:
            self._crashed()
        if not self.dirty:
            self.hub.turns.touch(self)

    def pathError(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """Tell the engine what the network said, then deliver what came of it."""
        if self.alive:
            self._fenced(self.engine.path_error, kind, size, address, now)
            self._fenced(self._dispatch)
            self.touch()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function of the owner's that was kept for this turn."""
        if self.alive:
            self._fenced(function)

    def visit(self, now: int) -> None:
        """
        Let the engine do what is due, send what may be sent, deliver what came of
        it, and find out when to come again.
        """
        if self.state is not _CRASHED:
            try:
                if self.deadline is None or self.deadline <= now:
                    self._tick(now)
                self.flush(now)
                self._dispatch()
                self._settle(now)
            except Exception:
                self._crashed()
        if self.state is _CRASHED:
            self._settle(now)

    def flush(self, now: int) -> None:
        """Send within the budget of one turn, refilling from the owner's producer."""
        hub, engine = self.hub, self.engine
        start = hub.emitted
        budget = TURN_BUDGET
        turns = hub.turns
        while not turns.full:
            owner = self.owner if self.state <= _LIVE else None
            share = budget if owner is None else owner.sessionShare(budget)
            emitted = hub.emitted
            if self.credit is None:
                more = engine.flush(now, hub.emit, share)
            else:
                allowed = min(share, self.credit)
                more = engine.flush(now, self._emitOnCredit, allowed) and allowed == share
            whole = share == budget
            budget = start + TURN_BUDGET - hub.emitted
            if budget <= 0 or (more and whole):
                turns.again(self)
                return
            if owner is None or self.state > _LIVE:
                break
            if not owner.sessionFlushed() and (not more or hub.emitted == emitted):
                break
        if turns.full:
            turns.block(self)

    def end(self, reason: Reason, detail: str | None) -> None:
        """It is over: change the state first, then tell the owner (ORD-5)."""
        if self.alive:
            opening = self.state is SessionState.OPENING
            self.state = SessionState.ENDED
            self._fenced(self.flush, self.hub.now())
            self._tell(opening, reason, detail)

    def expel(self, reason: Reason, detail: str | None) -> None:
        """End without waiting for anything: the peer is told once if the wire can."""
        if self.alive:
            self._fenced(self.engine.abort, self.hub.now())
            self.end(reason, detail)

    def snapshot(self) -> SessionStats:
        """What there is to be read from outside."""
        if self.state is SessionState.CRASHED:
            return SessionStats(self.address, self.state.name, {}, {})
        return SessionStats(
            self.address, self.state.name, dict(self.engine.facts()), dict(self.engine.counters())
        )

    # inside

    def _tell(self, opening: bool, reason: Reason, detail: str | None) -> None:
        """Tell the owner of the end; on a socket of its own only after that is closed."""
        owner, self.owner = self.owner, None
        released = self.hub.sessionEnded(self, opening)
        if owner is None:
            return
        if released is None:
            owner.sessionEnded(reason, detail)
        else:
            released.addCallback(lambda _: owner.sessionEnded(reason, detail))

    def _tick(self, now: int) -> None:
        """The deadline that the schedule knows of is over, or there is none."""
        due = self.engine.deadline()
        if due is not None and due <= now:
            self.engine.tick(now)

    def _settle(self, now: int) -> None:
        """At the end of a visit: come again, or leave the hub."""
        hub = self.hub
        if hub.closed or self.state is _GONE:
            return
        limit = self.limit
        if limit is not None and limit <= now:
            limit = self.limit = None
            if self.state is SessionState.OPENING:
                hub.lapsed(self)
                return
        deadline = None
        if self.state <= _LIVE or (
            self.state is SessionState.ENDED and not self.engine.closed
        ):
            deadline = self.engine.deadline()
        elif limit is None:
            hub.drop(self)
            return
        if deadline is None or (limit is not None and limit < deadline):
            deadline = limit
        hub.schedule.set(self, deadline, now)

    def _fenced(self, function: Callable[..., object], *arguments: object) -> None:
        """The fence: what escapes ends this session and no other."""
        try:
            function(*arguments)
        except Exception:
            self._crashed()

    def _dispatch(self) -> None:
        """
        Deliver the engine's events, oldest first, until there are none. The engine
        is never half-updated here, so what is called may call anything; a nested
        entry is left to the loop that is running (ORD-3).
        """
        if self._dispatching:
            self.touch()
            return
        if self.state > _LIVE or not (events := self.engine.events()):
            return
        self._dispatching = True
        try:
            while events and self.state <= _LIVE:
                for event in events:
                    if event[0] == _READABLE:
                        if self.owner is not None:
                            self.owner.sessionReadable(event[1])
                    else:
                        self._deliver(event)
                events = self.engine.events()
        finally:
            self._dispatching = False

    def _deliver(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        owner = self.owner
        if owner is None:
            return
        if kind == Event.CONNECTED:
            self.state = SessionState.LIVE
            self.limit = None
            self.hub.answered(self)
            owner.sessionConnected(self, event[1])
        elif kind == Event.ENDED:
            self.end(event[1], event[2])
        elif kind == Event.PATH:
            self.address = event[1]
        elif kind == Event.KEYS:
            self.hub.reindex(self)
        else:
            owner.sessionEvent(event)

    def _crashed(self) -> None:
        """The engine, or this library around it, has failed. Log it, end the session."""
        self.hub.sessionFailed(self)
        alive, opening = self.alive, self.state is SessionState.OPENING
        self.limit = self.hub.now() + REFUSAL_MEMORY
        if self.state is not SessionState.GONE:
            self.state = SessionState.CRASHED
            self.touch()
        if alive:
            self._tell(opening, Reason.INTERNAL, None)

    # before the address is proved

    def _earn(self, received: int, address: Address) -> None:
        if address == self.address and self.credit is not None:
            self.credit += AMPLIFICATION * received

    def _validated(self) -> None:
        self.credit = None
        self.hub.answered(self)

    def _emitOnCredit(self, run: Buffer, size: int, address: Address) -> bool:
        """
        As the hub's emit, for an address that may be forged: nothing beyond the
        credit and nothing to anywhere else.
        """
        cost = len(run) + self.hub.overheadOf(run, size)
        if self.credit is not None and (address != self.address or cost > self.credit):
            self.hub.count("creditExceeded")
            return True
        if self.credit is not None:
            self.credit -= cost
        return self.hub.emit(run, size, address)
