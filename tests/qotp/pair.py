"""
Two ends of QOTP on a scripted link, without hub, reactor or sockets.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from twisted_rudp.core.engine import (
    MILLISECOND,
    Address,
    Admit,
    Buffer,
    Drop,
    Engine,
    Event,
    Key,
    Reply,
)
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.gate import QOTPGate
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.qotp.life import Settings
from twisted_rudp.qotp.opening import Opening

CLIENT: Address = ("192.0.2.1", 1111)
SERVER: Address = ("192.0.2.2", 2222)

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


def chancy(loss: float, seed: int, delay: int = 10) -> Fate:
    """
    A link that loses, repeats and reorders.
    """
    chance = random.Random(seed)

    def fate(number: int, datagram: bytes) -> Sequence[int]:
        if chance.random() < loss:
            return ()
        first = delay + (chance.randint(0, 20) if chance.random() < loss else 0)
        return (first, first + 3) if chance.random() < loss else (first,)

    return fate


class End:
    """
    One end: a gate with some sessions, and what its application saw.
    """

    def __init__(self, pair: Pair, name: str, address: Address, gate: QOTPGate) -> None:
        self.pair = pair
        self.name = name
        self.address = address
        self.gate = gate
        self.engines: dict[Key, QOTPEngine] = {}
        self.room = True
        self.received: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.happened: list[tuple[Any, ...]] = []
        self.reading = True
        self.sent: list[bytes] = []
        self.drops: list[str] = []

    @property
    def engine(self) -> QOTPEngine:
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
                if isinstance(verdict, Drop):
                    self.drops.append(verdict.reason)
                if isinstance(verdict, Reply):
                    for reply in verdict.datagrams:
                        self.pair.carry(self, reply, source)
                if not isinstance(verdict, Admit):
                    continue
                assert isinstance(verdict.engine, QOTPEngine)
                engine = self.engines[key] = verdict.engine
            engine.receive(run, size, source, now)
            self.turn(engine)

    def turn(self, engine: QOTPEngine) -> None:
        """
        Read, flush, and note what happened.
        """
        while True:
            if self.reading:
                for stream in list(engine._talk.streams.open):
                    while data := engine.take(stream, 65536):
                        self.received[stream] += data
            more = engine.flush(self.pair.now, self._emit, 1 << 20)
            events = engine.events()
            self.happened += events
            if not (more or events):
                break
        if engine.forgotten:
            self.engines = {k: e for k, e in self.engines.items() if e is not engine}

    def gate_turn(self) -> None:
        """
        The gate's own time.
        """
        deadline = self.gate.deadline()
        if deadline is not None and deadline <= self.pair.now:
            for datagram, address in self.gate.tick(self.pair.now):
                self.pair.carry(self, datagram, address)

    def _emit(self, run: Buffer, size: int, address: Address) -> bool:
        whole = bytes(run)
        for start in range(0, len(whole), size):
            self.pair.carry(self, whole[start : start + size], address)
        return True


class Pair:
    """
    A client and a server with a link and a clock.

    @ivar client_seen: the client's address as the server sees it.
    """

    def __init__(
        self,
        there: Fate | None = None,
        back: Fate | None = None,
        own_socket: bool = False,
        **settings: Any,
    ) -> None:
        self.now = 5_000 * MILLISECOND
        self.random = random.Random(7)
        self._queue: list[tuple[int, int, End, bytes, Address]] = []
        self._order = 0
        self.settings = Settings(self.random.randbytes, **settings)
        self.identity = KeyPair.from_text("the server")
        self.server = End(self, "server", SERVER, QOTPGate(self.settings, self.identity))
        self.client = End(self, "client", CLIENT, QOTPGate(self.settings))
        self.fates = {"client": there or steady(), "server": back or steady()}
        self.own_socket = own_socket
        self.client_seen = CLIENT

    def dial(self, known: bool = True, **options: Any) -> QOTPEngine:
        """
        Make the client's engine and let it speak.

        @param known: with the server's key.
        """
        opening = Opening(
            KeyPair(self.random.randbytes(32)),
            KeyPair.from_text("the client"),
            self.identity.public if known else None,
            self.random.randbytes,
            self.settings.mtu,
            self.now,
        )
        engine = QOTPEngine.dial(
            opening, SERVER, self.settings, self.now, own_socket=self.own_socket, **options
        )
        self.client.engines[opening.name] = engine
        self.client.turn(engine)
        return engine

    def connect(self, known: bool = True) -> None:
        """
        Dial, and run until both sides know of each other.
        """
        self.dial(known)
        self.run(200)

    def carry(self, source: End, datagram: bytes, to: Address) -> None:
        """
        Put a datagram on the link.
        """
        number = len(source.sent)
        source.sent.append(datagram)
        target = self.server if source is self.client else self.client
        if target is self.client and to != self.client_seen:
            return
        origin = self.client_seen if source is self.client else SERVER
        for delay in self.fates[source.name](number, datagram):
            self._order += 1
            due = self.now + delay * MILLISECOND
            heapq.heappush(self._queue, (due, self._order, target, datagram, origin))

    def run(self, milliseconds: int) -> None:
        """
        Let time pass, event by event.
        """
        end = self.now + milliseconds * MILLISECOND
        while True:
            engines = [(s, e) for s in (self.client, self.server) for e in s.engines.values()]
            wakes = [e.deadline() for _, e in engines]
            gates = [side for side in (self.client, self.server) if isinstance(side, End)]
            wakes += [side.gate.deadline() for side in gates]
            times = [w for w in wakes if w is not None] + [q[0] for q in self._queue[:1]]
            following = min(times, default=end + 1)
            if max(following, self.now) > end:
                break
            if self._queue and self._queue[0][0] <= max(following, self.now):
                when, _, target, datagram, source = heapq.heappop(self._queue)
                self.now = max(self.now, when)
                target.arrive(datagram, source)
                continue
            self.now = max(self.now + MILLISECOND, following)
            for side in gates:
                side.gate_turn()
            for side, engine in engines:
                deadline = engine.deadline()
                if deadline is not None and deadline <= self.now:
                    engine.tick(self.now)
                    side.turn(engine)
        self.now = max(self.now, end)
