"""
Two ends of KCP on a scripted link, without hub, reactor or sockets.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import (
    MILLISECOND,
    Address,
    Admit,
    Buffer,
    Engine,
    Event,
    Key,
    Reply,
)
from twisted_rudp.kcp.engine import KCPEngine, Role
from twisted_rudp.kcp.gate import KCPGate
from twisted_rudp.kcp.profiles import PROFILES, Settings

CLIENT: Address = ("192.0.2.1", 1111)
SERVER: Address = ("192.0.2.2", 2222)
CONV = 0x01020304

Fate = Callable[[int, bytes], Sequence[int]]
"""Number of the datagram in its direction and its bytes -> delays in ms."""


def steady(delay: int = 10) -> Fate:
    """
    A link that loses nothing.
    """
    return lambda number, datagram: (delay,)


def losing(*numbers: int, delay: int = 10) -> Fate:
    """
    A link that loses the datagrams with these numbers.
    """
    return lambda number, datagram: () if number in numbers else (delay,)


class End:
    """
    One end: a gate with at most some sessions, and what its application saw.
    """

    def __init__(self, pair: Pair, name: str, address: Address, gate: KCPGate) -> None:
        self.pair = pair
        self.name = name
        self.address = address
        self.gate = gate
        self.engines: dict[Key, KCPEngine] = {}
        self.room = True
        self.admitted = 0
        self.received = bytearray()
        self.happened: list[tuple[Any, ...]] = []
        self.reading = True
        self.sent: list[bytes] = []

    @property
    def engine(self) -> KCPEngine:
        """
        The only session.
        """
        (engine,) = self.engines.values()
        return engine

    def get(self, key: Key) -> Engine | None:
        """
        L{SessionTable<twisted_rudp.core.engine.SessionTable>}.
        """
        return self.engines.get(key)

    def kinds(self) -> list[Event]:
        """
        The events without READABLE.
        """
        return [event[0] for event in self.happened if event[0] is not Event.READABLE]

    def arrive(self, datagram: bytes, source: Address) -> None:
        """
        A datagram off the link.
        """
        now = self.pair.now
        for key, run, size in self.gate.open(datagram, len(datagram), source):
            engine = self.engines.get(key)
            if engine is None:
                verdict = self.gate.stranger(run, source, now, self)
                if isinstance(verdict, Reply):
                    for reply in verdict.datagrams:
                        self.pair.carry(self, reply, source)
                if not isinstance(verdict, Admit):
                    continue
                assert isinstance(verdict.engine, KCPEngine)
                engine = self.engines[key] = verdict.engine
                self.admitted += 1
            engine.receive(run, size, source, now)
            self.turn(engine)

    def turn(self, engine: KCPEngine) -> None:
        """
        Read, flush, and note what happened.
        """
        while True:
            if self.reading:
                while data := engine.take(0, 65536):
                    self.received += data
            more = engine.flush(self.pair.now, self._emit, 1 << 20)
            events = engine.events()
            self.happened += events
            if not (more or events):
                break
        if engine.forgotten:
            self.engines = {k: e for k, e in self.engines.items() if e is not engine}

    def _emit(self, run: Buffer, size: int, address: Address) -> bool:
        run, size = self.gate.seal(run, size)
        whole = bytes(run)
        for start in range(0, len(whole), size):
            self.pair.carry(self, whole[start : start + size], address)
        return True


class Pair:
    """
    A client and a server with a link and a clock.
    """

    def __init__(
        self,
        there: Fate | None = None,
        back: Fate | None = None,
        settings: Settings | None = None,
        own_socket: bool = False,
    ) -> None:
        self.now = 5_000 * MILLISECOND
        self.settings = settings or PROFILES["default"]
        self._queue: list[tuple[int, int, End, bytes, Address]] = []
        self._order = 0
        self.cookies = Cookies(b"secret of a test" * 2)
        self.server = End(self, "server", SERVER, self.new_gate())
        self.client = End(self, "client", CLIENT, KCPGate())
        self.fates = {"client": there or steady(), "server": back or steady()}
        self.own_socket = own_socket

    def new_gate(self) -> KCPGate:
        """
        A listening gate, as a server makes it at its start.
        """
        return KCPGate(self._accept, self.cookies, self.settings.rcvwnd)

    def _accept(self, conv: int, address: Address, now: int) -> KCPEngine:
        return KCPEngine(
            conv,
            address,
            self.settings,
            now=now,
            epoch=77,
            role=Role.LISTENER,
            cookies=self.cookies,
        )

    def dial(self, **options: Any) -> KCPEngine:
        """
        Make the client's engine and let it speak.
        """
        engine = KCPEngine(
            CONV,
            SERVER,
            self.settings,
            now=self.now,
            epoch=0xFFFFFF00,
            role=Role.DIALLER,
            own_socket=self.own_socket,
            **options,
        )
        self.client.engines[(SERVER, CONV)] = engine
        self.client.turn(engine)
        return engine

    def connect(self) -> None:
        """
        Dial, and run until both sides know of each other.
        """
        self.dial()
        self.run(100)

    def carry(self, source: End, datagram: bytes, to: Address) -> None:
        """
        Put a datagram on the link.
        """
        number = len(source.sent)
        source.sent.append(datagram)
        target = self.server if source is self.client else self.client
        for delay in self.fates[source.name](number, datagram):
            self._order += 1
            due = self.now + delay * MILLISECOND
            heapq.heappush(self._queue, (due, self._order, target, datagram, source.address))

    def run(self, milliseconds: int) -> None:
        """
        Let time pass, event by event.
        """
        end = self.now + milliseconds * MILLISECOND
        while True:
            due = [(self._queue[0][0], None)] if self._queue else []
            engines = [(s, e) for s in (self.client, self.server) for e in s.engines.values()]
            wakes = [e.deadline() for _, e in engines]
            times = [w for w in wakes if w is not None] + [d for d, _ in due]
            # A deadline may lie in the past; ticks come every 10 ms at most.
            following = min(times, default=end + 1)
            if following > end:
                break
            if self._queue and self._queue[0][0] <= following:
                when, _, target, datagram, source = heapq.heappop(self._queue)
                self.now = max(self.now, when)
                target.arrive(datagram, source)
                continue
            self.now = max(self.now + MILLISECOND, following)
            for side, engine in engines:
                deadline = engine.deadline()
                if deadline is not None and deadline <= self.now:
                    engine.tick(self.now)
                    side.turn(engine)
        self.now = max(self.now, end)
