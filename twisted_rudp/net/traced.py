"""
A session that notes in a trace what it sends and receives, how it is doing, and its end. Only
while sessions are traced are there any: everybody else's are as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_rudp.core.engine import Address, Buffer, Engine, Reason
from twisted_rudp.net.session import Host, Owner, Session
from twisted_rudp.tracing.qlog import SessionTrace, Tracer

_log = Logger()


class Traces:
    """
    The traces of this process.

    @ivar tracer: None: no session is traced.
    """

    def __init__(self) -> None:
        self.tracer: Tracer | None = None


traces: Final = Traces()


def failed(problem: OSError) -> None:
    """Say that traces cannot be written any more."""
    _log.error("traces: {reason}; no more are written", reason=problem)


class TracedSession(Session):
    """A session with a trace."""

    __slots__ = ("_ending", "_known", "_trace")

    def __init__(
        self,
        host: Host,
        engine: Engine,
        address: Address,
        owner: Owner,
        number: int,
        trace: SessionTrace,
    ) -> None:
        super().__init__(host, engine, address, owner, number)
        self._trace: SessionTrace | None = trace
        self._known = False
        self._ending: tuple[Reason, str | None] | None = None

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Note it, and have the engine take it in."""
        if self._notes:
            self._note(lambda trace: trace.received(now, run, size))
        super().receive(run, size, address, now)
        if self._notes:
            self._note(lambda trace: self._measure(trace, now))

    def visit(self, now: int) -> None:
        """As all sessions."""
        super().visit(now)
        if self._notes:
            self._note(lambda trace: self._measure(trace, now))

    def flush(self, now: int) -> None:
        """Send, and note what was sent; the last time, note the end too."""
        if self._notes:
            self._flushNoting(now)
        else:
            super().flush(now)
        if self._ending is not None:
            self._finish(*self._ending)

    def _flushNoting(self, now: int) -> None:
        output = self._output
        # All sessions of the socket are ending, and what they say is kept, or nothing is.
        kept = output.recorded
        sent: list[tuple[bytes, int, Address, bytes]] = []
        output.recorded = sent
        try:
            super().flush(now)
        finally:
            output.recorded = kept
            if kept is not None:
                for each in sent:
                    kept.append(each)
        if sent:
            self._note(lambda trace: self._sent(trace, now, sent))

    def end(self, reason: Reason, detail: str | None) -> None:
        """
        Note the end, after the last that is sent and before its owner is told: that may be
        what the end of the program, and of all traces, waits for.
        """
        if self.alive:
            self._ending = reason, detail
        super().end(reason, detail)

    # notes

    @property
    def _notes(self) -> bool:
        """Whether anything but the end is noted: the trace is neither full nor over."""
        return self._trace is not None and not self._trace.full

    def _note(self, function: Callable[[SessionTrace], None]) -> None:
        """Write to the trace. Whatever goes wrong there, the session goes on without it."""
        trace = self._trace
        if trace is None:
            return
        try:
            function(trace)
        except Exception:
            _log.failure("session {session}: its trace failed", session=self.number)
            self._trace = None
            trace.close()

    def _sent(
        self, trace: SessionTrace, now: int, sent: list[tuple[bytes, int, Address, bytes]]
    ) -> None:
        number: int | None = None
        if trace.opaque:
            number = self.engine.counters().get("datagrams_out")
        if number is not None:
            # The engine numbers its datagrams as they leave, which nobody else can read.
            number -= sum(-(-len(run) // size) for run, size, *_ in sent)
        for run, size, *_ in sent:
            trace.sent(now, run, size, number)
            if number is not None:
                number += -(-len(run) // size)

    def _measure(self, trace: SessionTrace, now: int) -> None:
        """Note how it is doing."""
        if not self.alive:
            return
        engine = self.engine
        if not self._known and self.established is not None:
            self._known = True
            trace.parameters(now, engine.facts())
        if trace.due(now):
            lost = engine.counters().get("lost") if trace.opaque else None
            trace.metrics(now, engine.facts(), engine.unsent(), lost)

    def _finish(self, reason: Reason, detail: str | None) -> None:
        clock = self._schedule.clock
        now = clock.now()
        self._note(lambda trace: trace.end(now, reason, detail))
        self._trace = None

    def _failed(self) -> None:
        super()._failed()
        self._finish(Reason.INTERNAL, None)


def traced(
    tracer: Tracer,
    reactor: IReactorTime,
    host: Host,
    engine: Engine,
    address: Address,
    owner: Owner,
    number: int,
    dialled: bool,
    own: Address,
) -> Session:
    """
    A session with a trace, or without one if there are too many.

    @param dialled: from this side.
    @param own: the socket's address.
    """
    transport = str(engine.facts().get("transport", "other"))
    clock = host.schedule.clock
    now = clock.now()
    trace = tracer.begin(transport, dialled, now, reactor.seconds(), own, address)
    if trace is None:
        return Session(host, engine, address, owner, number)
    return TracedSession(host, engine, address, owner, number, trace)
