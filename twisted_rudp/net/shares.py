"""
Shares of a turn: a session whose datagrams are expensive does not keep the other sessions of
its socket waiting, whether its peer is hostile or its application slow.

As long as turns are short, nothing is measured. Once one has taken longer than L{SHARE}, what
each session costs is measured for a while. What a session receives beyond its share waits in
order until the others have been served; the socket is read meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted_rudp.core.engine import MILLISECOND, SECOND, Address, Buffer
from twisted_rudp.net.schedule import CallTask, MonotonicClock, Schedule
from twisted_rudp.net.session import Output, Session, SessionState

SHARE: Final = 3 * MILLISECOND
"""Time that a session may take in a turn for what it receives."""

ALONE: Final = 4
"""So many times as much, after a second in which no other session has received anything."""

WATCHED: Final = SECOND
"""For so long sessions are measured after a turn that was too long."""

GUESS: Final = SHARE // 2
"""What a datagram of a session costs that has not been measured."""

PIECE: Final = 16
"""Datagrams that a session receives until the next look at the clock: what they cost may
be more than what those before have cost. A session that is alone may do more."""

SESSION_ROOM: Final = 4 << 20
"""Bytes that may wait of a session, as much as in the receive queue of the socket."""

PORT_ROOM: Final = 16 << 20
"""The same for all sessions of a socket."""

RUN_COST: Final = 256
"""Bytes that a run takes beside its content."""


class WaitingRun:
    """
    A run that waits.

    @ivar start: how much of it was received already.
    @ivar local: see L{Output.calledAt}.
    """

    __slots__ = ("address", "local", "run", "size", "start")

    def __init__(self, run: Buffer, start: int, size: int, address: Address, local: bytes) -> None:
        self.run = run
        self.start = start
        self.size = size
        self.address = address
        self.local = local


class Account:
    """
    What a session has cost.

    @ivar turn: in which it was measured last.
    @ivar spent: nanoseconds in that turn.
    @ivar each: nanoseconds for a datagram.
    @ivar held: bytes that wait, with L{RUN_COST}.
    """

    __slots__ = ("each", "held", "session", "spent", "turn", "waiting")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.turn = -1
        self.spent = 0
        self.each = GUESS
        self.held = 0
        self.waiting: deque[WaitingRun] = deque()


class Shares:
    """
    The shares of the sessions of one socket.

    @ivar alertAt: what comes after this moment in the same turn is the business of L{receive}.
    @ivar watching: sessions are measured, or something is known from when they were: when a turn
        begins, L{turnBegan} is to be asked. Otherwise only C{alertAt} is to be set, L{SHARE} later.
    """

    __slots__ = (
        "_accounts",
        "_clock",
        "_count",
        "_held",
        "_last",
        "_othersUntil",
        "_output",
        "_queue",
        "_queued",
        "_schedule",
        "_task",
        "_until",
        "alertAt",
        "watching",
    )

    def __init__(
        self,
        schedule: Schedule,
        clock: MonotonicClock,
        output: Output,
        count: Callable[[str, int], None],
    ) -> None:
        """
        @param count: counts something under a name, so many times.
        """
        self._schedule = schedule
        self._clock = clock
        self._output = output
        self._count = count
        self.alertAt = -1
        self.watching = False
        self._until = -1
        self._accounts: dict[Session, Account] = {}
        self._queue: deque[Account] = deque()
        self._held = 0
        self._queued = False
        self._othersUntil = -1
        self._last: Account | None = None
        self._task = CallTask(self._serve)

    def turnBegan(self, now: int) -> bool:
        """
        The first run of a turn has come.

        @return: L{receive} is to have it.
        """
        if now < self._until or self._queue:
            self.alertAt = -1
            return True
        if self._last is not None:
            self._last = None
            self._accounts.clear()
        self.watching = False
        self.alertAt = now + SHARE
        return False

    def turnEnded(self) -> None:
        """All is received that a turn has brought, which was more than one datagram."""
        if self.alertAt >= 0:
            now = self._clock.now()
            if now > self.alertAt:
                self._until = now + WATCHED
                self.watching = True

    def receive(self, session: Session, run: Buffer, size: int, address: Address) -> None:
        """Have a session receive a run, now or later."""
        self.watching = True
        account = self._accounts.get(session)
        if account is None:
            account = self._accounts[session] = Account(session)
        if account is not self._last:
            if self._last is not None:
                self._othersUntil = self._clock.last + WATCHED
            self._last = account
        if account.turn != self._schedule.turn:
            account.turn = self._schedule.turn
            account.spent = 0
        start = 0
        if not account.waiting:
            share = ALONE * SHARE if self._alone() else SHARE
            while start < len(run) and account.spent < share:
                start = self._part(account, run, start, size, address, share - account.spent)
        if start < len(run):
            self._keep(account, run, start, size, address)

    def discard(self, session: Session) -> None:
        """A session is forgotten."""
        account = self._accounts.pop(session, None)
        if account is not None and account is self._last:
            self._last = None
        if account is not None and account.waiting:
            account.waiting.clear()
            self._held -= account.held
            # The one that is being served is not there.
            if account in self._queue:
                self._queue.remove(account)

    def clear(self) -> None:
        """All sessions are forgotten."""
        for account in self._accounts.values():
            account.waiting.clear()
        self._accounts.clear()
        self._queue.clear()
        self._held = 0

    def _alone(self) -> bool:
        """No other session has received anything recently."""
        return self._clock.last > self._othersUntil

    def _part(
        self, account: Account, run: Buffer, start: int, size: int, address: Address, time: int
    ) -> int:
        """
        Have a session receive as much of a run as probably takes so much time, at least one
        datagram.

        @return: where the rest begins.
        """
        datagrams = max(time // account.each, 1)
        if datagrams > PIECE and not self._alone():
            datagrams = PIECE
        end = min(start + datagrams * size, len(run))
        piece = run if end - start == len(run) else run[start:end]
        before = self._clock.now()
        account.session.receive(piece, size, address, before)
        took = self._clock.now() - before
        account.spent += took
        # A few that cost little do not make up for those that cost much.
        each = account.each
        account.each = max(max(took // -(-len(piece) // size), each - each // 8), 1)
        return end

    def _keep(self, account: Account, run: Buffer, start: int, size: int, address: Address) -> None:
        cost = len(run) - start + RUN_COST
        if account.held + cost > SESSION_ROOM or self._held + cost > PORT_ROOM:
            self._count("sharesDropped", -(-(len(run) - start) // size))
            return
        if not account.waiting:
            self._queue.append(account)
        self._count("sharesExceeded", 1)
        # What is not bytes is only valid during the call.
        if not isinstance(run, bytes):
            run, start = bytes(run[start:]), 0
        account.waiting.append(WaitingRun(run, start, size, address, self._output.calledAt))
        account.held += cost
        self._held += cost
        if not self._queued:
            self._queued = True
            self._schedule.requeue(self._task)

    def _serve(self, now: int) -> None:
        """A turn of their own for sessions that have exceeded their share, one run of each."""
        self._queued = False
        queue, output = self._queue, self._output
        called = output.calledAt
        time = self._clock.now()
        end = time + (ALONE * SHARE if self._alone() else SHARE)
        while queue and time < end:
            account = queue.popleft()
            waiting = account.waiting[0]
            before = waiting.start
            if account.session.state is SessionState.CLOSED:
                waiting.start = len(waiting.run)
            else:
                output.calledAt = waiting.local
                waiting.start = self._part(
                    account, waiting.run, before, waiting.size, waiting.address, end - time
                )
            freed = waiting.start - before
            # The session may have been forgotten meanwhile, with all that was waiting.
            if account.waiting:
                if waiting.start >= len(waiting.run):
                    account.waiting.popleft()
                    freed += RUN_COST
                account.held -= freed
                self._held -= freed
                if account.waiting:
                    queue.append(account)
            time = self._clock.now()
        output.calledAt = called
        if queue and not self._queued:
            self._queued = True
            self._schedule.requeue(self._task)
