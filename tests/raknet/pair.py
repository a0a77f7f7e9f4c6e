"""
Two ends of RakNet on a scripted link, without hub, reactor or sockets.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
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
    Message,
    Reply,
    Route,
)
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.gate import RakNetGate
from twisted_rudp.raknet.offline import Request2
from twisted_rudp.raknet.profiles import DEFAULT, Settings

CLIENT: Address = ("192.0.2.1", 1111)
SERVER: Address = ("192.0.2.2", 2222)
CLIENT_GUID = 0x1111222233334444
SERVER_GUID = 0x5555666677778888

MESSAGES = replace(DEFAULT, stream=False)

Fate = Callable[[int, bytes], Sequence[float]]
"""Number of the datagram in its direction and its bytes -> delays in ms."""


def steady(delay: float = 10) -> Fate:
    """
    A link that loses nothing.
    """
    return lambda number, datagram: (delay,)


def losing(*numbers: int, delay: float = 10) -> Fate:
    """
    A link that loses the datagrams with these numbers.
    """
    return lambda number, datagram: () if number in numbers else (delay,)


class End:
    """
    One end: a gate, its sessions, and what its application saw.
    """

    def __init__(self, pair: Pair, name: str, address: Address, gate: RakNetGate) -> None:
        self.pair = pair
        self.name = name
        self.address = address
        self.gate = gate
        self.engines: dict[Key, RakNetEngine] = {}
        self.room = True
        self.admitted = 0
        self.received = bytearray()
        self.messages: list[Message] = []
        self.happened: list[tuple[Any, ...]] = []
        self.reading = True
        self.sent: list[bytes] = []
        self.verdicts: list[object] = []

    @property
    def engine(self) -> RakNetEngine:
        """
        The only session.
        """
        (engine,) = set(self.engines.values())
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

    def arrive(self, run: bytes, size: int, source: Address) -> None:
        """
        A run off the link.
        """
        now = self.pair.now
        for key, piece, length in self.gate.open(run, size, source):
            engine = self.engines.get(key) if key is not None else None
            if engine is None:
                verdict = self.gate.stranger(piece, source, now, self)
                self.verdicts.append(verdict)
                if isinstance(verdict, Reply):
                    for reply in verdict.datagrams:
                        self.pair.carry(self, reply, source)
                    continue
                if isinstance(verdict, Route):
                    engine = self.engines[verdict.key]
                elif isinstance(verdict, Admit):
                    assert isinstance(verdict.engine, RakNetEngine)
                    engine = verdict.engine
                    self.engines.update(dict.fromkeys(engine.keys(), engine))
                    self.admitted += 1
                else:
                    continue
            engine.receive(piece, length, source, now)
            self.turn(engine)

    def turn(self, engine: RakNetEngine) -> None:
        """
        Read, flush, and note what happened.
        """
        while True:
            if self.reading:
                while data := engine.take(0, 65536):
                    self.received += data
                while (message := engine.take_message()) is not None:
                    self.messages.append(message)
            more = engine.flush(self.pair.now, self._emit, 1 << 20)
            events = engine.events()
            self.happened += events
            if not (more or events):
                break
        if engine.forgotten:
            self.engines = {k: e for k, e in self.engines.items() if e is not engine}

    def _emit(self, run: Buffer, size: int, address: Address) -> bool:
        data = bytes(run)
        for start in range(0, len(data), size):
            self.pair.carry(self, data[start : start + size], address)
        return True


class Pair:
    """
    A dialler and a listener.
    """

    def __init__(
        self,
        settings: Settings = DEFAULT,
        there: Fate | None = None,
        back: Fate | None = None,
        *,
        cookies: bool = True,
        own_socket: bool = True,
        first: tuple[int, int, int] = (0, 0, 0),
        server_settings: Settings | None = None,
    ) -> None:
        """
        @param there: fate of what the client sends; C{back}: of what it gets.
        @param first: where the counters of both sides start.
        """
        self.settings = settings
        self.server_settings = server_settings or settings
        self.cookies = Cookies(bytes(range(32))) if cookies else None
        self.own_socket = own_socket
        self.first = first
        self.now = 0
        self.fates = {"client": there or steady(), "server": back or steady()}
        self.client = End(self, "client", CLIENT, RakNetGate(settings, CLIENT_GUID))
        gate = RakNetGate(
            self.server_settings,
            SERVER_GUID,
            self.accept,
            pong_data=lambda: b"\x00\x05hello",
            cookies=self.cookies,
        )
        self.server = End(self, "server", SERVER, gate)
        self._queue: list[tuple[float, int, End, bytes, Address]] = []
        self._order = 0

    def accept(self, request: Request2, address: Address, now: int, proved: bool) -> RakNetEngine:
        """
        What the server's gate does with a newcomer.
        """
        return RakNetEngine(
            address,
            self.server_settings,
            now=now,
            guid=SERVER_GUID,
            epoch=7_000_000,
            request=request,
            proved=proved,
            first=self.first,
        )

    def dial(self, guid: int = CLIENT_GUID) -> RakNetEngine:
        """
        Make the client's engine and let it speak.
        """
        engine = RakNetEngine(
            SERVER,
            self.settings,
            now=self.now,
            guid=guid,
            epoch=3_000_000,
            own_socket=self.own_socket,
            first=self.first,
        )
        self.client.engines[SERVER] = engine
        self.client.turn(engine)
        return engine

    def connect(self) -> None:
        """
        Dial, and run until both sides know of each other.
        """
        self.dial()
        self.run(200)

    def write(self, end: End, data: bytes) -> None:
        """
        Have one end write to the stream.
        """
        end.engine.write(0, data)
        end.turn(end.engine)

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
        Let time pass, event by event. Datagrams that arrive together come as runs.
        """
        end = self.now + milliseconds * MILLISECOND
        while True:
            due = [self._queue[0][0]] if self._queue else []
            engines = [(s, e) for s in (self.client, self.server) for e in set(s.engines.values())]
            wakes = [e.deadline() for _, e in engines]
            following = min([w for w in wakes if w is not None] + due, default=end + 1)
            if following > end:
                break
            if self._queue and self._queue[0][0] <= following:
                self._deliver()
                continue
            self.now = max(self.now + MILLISECOND, int(following))
            for side, engine in engines:
                deadline = engine.deadline()
                if deadline is not None and deadline <= self.now:
                    engine.tick(self.now)
                    side.turn(engine)
        self.now = max(self.now, end)

    def _deliver(self) -> None:
        when, _, target, datagram, source = heapq.heappop(self._queue)
        self.now = max(self.now, int(when))
        run = [datagram]
        while (
            self._queue
            and self._queue[0][0] <= self.now
            and self._queue[0][2] is target
            and len(run) < 44
            and len(run[-1]) == len(datagram)
            and len(self._queue[0][3]) <= len(datagram)
        ):
            run.append(heapq.heappop(self._queue)[3])
        target.arrive(b"".join(run), len(datagram), source)
