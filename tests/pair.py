"""
Two ends of a transport on a scripted link, without hub, reactor or sockets.

A transport derives from L{Pair}: it makes the demultiplexers and dials.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted_rudp.core.engine import (
    MILLISECOND,
    Address,
    Admit,
    Buffer,
    Demultiplexer,
    Drop,
    Engine,
    Event,
    Key,
    Reply,
    Route,
    Verdict,
)

CLIENT: Address = ("192.0.2.1", 1111)
SERVER: Address = ("192.0.2.2", 2222)

AnyEngine = TypeVar("AnyEngine", bound=Engine)
AnyDemultiplexer = TypeVar("AnyDemultiplexer", bound=Demultiplexer)

Fate = Callable[[int, bytes], Sequence[float]]
"""Number of the datagram in its direction and its bytes -> delays in ms."""


def steady(delay: float = 10) -> Fate:
    """A link that loses nothing."""
    return lambda number, datagram: (delay,)


def losing(*numbers: int, delay: float = 10) -> Fate:
    """A link that loses the datagrams with these numbers."""
    return lambda number, datagram: () if number in numbers else (delay,)


def chancy(loss: float, seed: int, delay: int = 10) -> Fate:
    """A link that loses, repeats and reorders."""
    chance = random.Random(seed)

    def fate(number: int, datagram: bytes) -> Sequence[int]:
        if chance.random() < loss:
            return ()
        first = delay + (chance.randint(0, 20) if chance.random() < loss else 0)
        return (first, first + 3) if chance.random() < loss else (first,)

    return fate


class End(Generic[AnyEngine, AnyDemultiplexer]):
    """
    One end: a demultiplexer with some sessions, and what its application saw.

    @ivar address: as the other end sees it; what is sent to another one is lost.
    @ivar room: whether the demultiplexer may let a validated peer in; C{backlog_room}: one
        that is not validated.
    @ivar reading: whether the application takes what has come.
    @ivar greeting: what the application writes as soon as it is connected.
    @ivar sent: every datagram, whatever became of it.
    @ivar verdicts: of the demultiplexer, about unknown peers.
    """

    def __init__(
        self,
        pair: Pair[AnyEngine, AnyDemultiplexer],
        name: str,
        address: Address,
        demux: AnyDemultiplexer,
    ) -> None:
        self.pair = pair
        self.name = name
        self.address = address
        self.demux = demux
        self.engines: dict[Key, AnyEngine] = {}
        self.room = self.backlog_room = True
        self.admitted = 0
        self.received = bytearray()
        self.happened: list[tuple[Any, ...]] = []
        self.reading = True
        self.greeting = b""
        self.sent: list[bytes] = []
        self.verdicts: list[Verdict] = []

    @property
    def engine(self) -> AnyEngine:
        """The only session."""
        (engine,) = set(self.engines.values())
        return engine

    @property
    def drops(self) -> list[str]:
        """Why unknown peers were dropped."""
        return [verdict.reason for verdict in self.verdicts if isinstance(verdict, Drop)]

    def get(self, key: Key) -> Engine | None:
        """L{SessionTable<twisted_rudp.core.engine.SessionTable>}."""
        return self.engines.get(key)

    def kinds(self) -> list[Event]:
        """The events without READABLE."""
        return [event[0] for event in self.happened if event[0] is not Event.READABLE]

    def add(self, engine: AnyEngine) -> None:
        """A session of this end, by all of its keys."""
        self.engines.update(dict.fromkeys(engine.keys(), engine))

    def arrive(self, run: bytes, source: Address, size: int | None = None) -> None:
        """A datagram off the link, or a run of datagrams of C{size}."""
        for key, piece, length in self.demux.open(run, size or len(run), source):
            engine = None if key is None else self.engines.get(key)
            if engine is None:
                engine = self._stranger(piece, source)
            if engine is not None:
                engine.receive(piece, length, source, self.pair.now)
                self.turn(engine)

    def _stranger(self, datagram: Buffer, source: Address) -> AnyEngine | None:
        """
        @return: whose the datagram is after all.
        """
        verdict = self.demux.unknown_peer(datagram, source, self.pair.now, self)
        self.verdicts.append(verdict)
        if isinstance(verdict, Reply):
            for reply in verdict.datagrams:
                self.pair.carry(self, reply, source)
        elif isinstance(verdict, Route):
            return self.engines[verdict.key]
        elif isinstance(verdict, Admit):
            engine = self.pair.ours(verdict.engine)
            self.add(engine)
            self.admitted += 1
            return engine
        return None

    def turn(self, engine: AnyEngine) -> None:
        """Read, flush, and note what happened."""
        while True:
            if self.reading:
                self.read(engine)
            more = engine.flush(self.pair.now, self._emit, 1 << 20)
            events = engine.events()
            self.happened += events
            if self.greeting and any(event[0] is Event.CONNECTED for event in events):
                engine.write(0, self.greeting)
            if not (more or events):
                break
        if engine.closed:
            self.engines = {k: e for k, e in self.engines.items() if e is not engine}

    def read(self, engine: AnyEngine) -> None:
        """What the application does with what has come."""
        while data := engine.take(0, 65536):
            self.received += data

    def _emit(self, run: Buffer, size: int, address: Address) -> bool:
        run, size = self.demux.seal(run, size)
        whole = bytes(run)
        for start in range(0, len(whole), size):
            self.pair.carry(self, whole[start : start + size], address)
        return True


class Pair(Generic[AnyEngine, AnyDemultiplexer]):
    """
    A client and a server with a link and a clock.

    @cvar kind: the class of the engines.
    @cvar longest_run: how many datagrams of one size that are due together arrive as
        one run.
    @cvar granularity: nanoseconds between two looks at the timers at least.
    @ivar now: the clock, in nanoseconds.
    @ivar fates: what the link does, by the name of the end that sends.
    """

    kind: type[AnyEngine]
    longest_run = 1
    granularity = MILLISECOND
    now = 5_000 * MILLISECOND

    def __init__(
        self,
        client: End[AnyEngine, AnyDemultiplexer],
        server: End[AnyEngine, AnyDemultiplexer],
        there: Fate | None,
        back: Fate | None,
    ) -> None:
        """
        @param there: fate of what the client sends; C{back}: of what it gets.
        """
        self.client = client
        self.server = server
        self.fates = {"client": there or steady(), "server": back or steady()}
        self._queue: list[tuple[int, int, End[AnyEngine, AnyDemultiplexer], bytes, Address]] = []
        self._order = 0

    def ours(self, engine: Engine) -> AnyEngine:
        """An engine that a demultiplexer has made."""
        assert isinstance(engine, self.kind)
        return engine

    def dial(self) -> AnyEngine:
        """Make the client's engine and let it speak."""
        raise NotImplementedError

    def connect(self) -> None:
        """Dial, and run until both sides know of each other."""
        self.dial()
        self.run(200)

    def begin(self, engine: AnyEngine) -> AnyEngine:
        """The client has a session; let it speak."""
        self.client.add(engine)
        self.client.turn(engine)
        return engine

    def carry(self, source: End[AnyEngine, AnyDemultiplexer], datagram: bytes, to: Address) -> None:
        """Put a datagram on the link."""
        number = len(source.sent)
        source.sent.append(datagram)
        target = self.server if source is self.client else self.client
        if to != target.address:
            return
        for delay in self.fates[source.name](number, datagram):
            self._order += 1
            due = self.now + int(delay * MILLISECOND)
            heapq.heappush(self._queue, (due, self._order, target, datagram, source.address))

    def run(self, milliseconds: int) -> None:
        """Let time pass, event by event."""
        end = self.now + milliseconds * MILLISECOND
        while (following := max(self._following(), self.now)) <= end:
            if self._queue and self._queue[0][0] <= following:
                self._deliver()
            else:
                self.now = max(self.now + self.granularity, following)
                self._tick()
        self.now = max(self.now, end)

    def _sessions(self) -> list[tuple[End[AnyEngine, AnyDemultiplexer], AnyEngine]]:
        return [
            (end, engine)
            for end in (self.client, self.server)
            for engine in dict.fromkeys(end.engines.values())
        ]

    def _following(self) -> float:
        """When something is due next; it may be in the past."""
        deadlines = [engine.deadline() for _, engine in self._sessions()]
        deadlines += [end.demux.deadline() for end in (self.client, self.server)]
        times = [due for due in deadlines if due is not None] + [due for due, *_ in self._queue[:1]]
        return min(times, default=float("inf"))

    def _tick(self) -> None:
        for end in (self.client, self.server):
            deadline = end.demux.deadline()
            if deadline is not None and deadline <= self.now:
                for datagram, address in end.demux.tick(self.now):
                    self.carry(end, datagram, address)
        for end, engine in self._sessions():
            deadline = engine.deadline()
            if deadline is not None and deadline <= self.now:
                engine.tick(self.now)
                end.turn(engine)

    def _deliver(self) -> None:
        due, _, target, datagram, source = heapq.heappop(self._queue)
        self.now = max(self.now, due)
        run = [datagram]
        while len(run) < self.longest_run and self._continues(run, target):
            run.append(heapq.heappop(self._queue)[3])
        target.arrive(b"".join(run), source, len(datagram))

    def _continues(self, run: list[bytes], target: End[AnyEngine, AnyDemultiplexer]) -> bool:
        """
        Whether the next datagram on the link can end this run: only a run's last may
        be shorter than its others.
        """
        if not self._queue:
            return False
        due, _, whose, datagram, _ = self._queue[0]
        return (
            due <= self.now
            and whose is target
            and len(run[-1]) == len(run[0])
            and len(datagram) <= len(run[0])
        )
