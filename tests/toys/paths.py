"""
Toy III: streams by connection id. Whoever knocks is challenged from a half-open
table in the demultiplexer; the id the dialler goes by changes when it is admitted; and a peer
that appears at another address is challenged there before it is answered there.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from struct import Struct

from tests.toys.base import ToyDemultiplexer, ToyEngine
from twisted_rudp.core.engine import (
    SECOND,
    Address,
    Admit,
    Buffer,
    Capability,
    Drop,
    Emit,
    Engine,
    Event,
    Key,
    Reason,
    Reply,
    SessionTable,
    Verdict,
)

HEADER = Struct("<BQQ")
"""Kind, connection id, value."""

KNOCK, CHALLENGE, ENTER, STREAM, FIN, RESET, ACK, PROBE, ECHO, BYE, GONE = range(11)

HALF_OPEN = 3 * SECOND
REPEAT = SECOND
MAX_HALF_OPEN = 8
LINGER = SECOND


class PathDemultiplexer(ToyDemultiplexer):
    """Keeps who has knocked for three seconds and repeats its challenge once."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.halfOpen: dict[int, tuple[Address, int, bytes]] = {}
        self.repeats: dict[int, int] = {}

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        pieces = self.cut(run, size, _keyOf)
        return [piece for piece in pieces if len(piece[1]) >= HEADER.size]

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        if len(datagram) < HEADER.size:
            return Drop("short")
        kind, number, _ = HEADER.unpack_from(datagram)
        if kind == KNOCK:
            if len(self.halfOpen) >= MAX_HALF_OPEN:
                return Drop("halfOpenFull")
            chosen = self.random.getrandbits(64)
            challenge = HEADER.pack(CHALLENGE, number, chosen)
            self.halfOpen[chosen] = (address, now + HALF_OPEN, challenge)
            self.repeats[chosen] = now + REPEAT
            return Reply((challenge,))
        if kind == ENTER and number in self.halfOpen and self.halfOpen[number][0] == address:
            del self.halfOpen[number]
            self.repeats.pop(number, None)
            engine = Streams(address, number, self.random, first=1)
            engine.validated = True
            return Admit(engine)
        return Drop("unknownId")

    def deadline(self) -> int | None:
        times = [expiry for _, expiry, _ in self.halfOpen.values()]
        return min([*times, *self.repeats.values()], default=None)

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        for number, (_, expiry, _) in list(self.halfOpen.items()):
            if expiry <= now:
                del self.halfOpen[number]
                self.count("halfOpenLapsed")
        due = [number for number, time in self.repeats.items() if time <= now]
        for number in due:
            del self.repeats[number]
        return [(self.halfOpen[n][2], self.halfOpen[n][0]) for n in due if n in self.halfOpen]

    def dial(self, address: Address, now: int = 0) -> Engine:
        engine = Streams(address, self.random.getrandbits(64), self.random, first=2)
        engine.validated = True
        engine.put(KNOCK, 0)
        return engine


def _keyOf(datagram: bytes) -> Key | None:
    """The id, for all but a knock, which names one that the dialler made up."""
    return None if datagram[0] == KNOCK else datagram[1:9]


class Half:
    """One stream's bytes in and out."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.inbox = bytearray()
        self.ending = self.endSent = self.endHeard = self.endGiven = False


class Streams(ToyEngine):
    capabilities = (
        Capability.BYTES | Capability.STREAMS | Capability.ORDERLY_CLOSE | Capability.HALF_CLOSE
    )

    def __init__(self, address: Address, number: int, random: Random, first: int) -> None:
        super().__init__(address)
        self.number = number
        self.random = random
        self.nextStream = first
        self.connected = False
        self.streams: dict[int, Half] = {0: Half()}
        self.probe: tuple[Address, int] | None = None
        self.closing = False
        self.moment = 0
        self.timer: int | None = None

    def keys(self) -> Sequence[Key]:
        return (self.number.to_bytes(8, "little"),)

    def put(self, kind: int, value: int, data: bytes = b"", to: Address | None = None) -> None:
        datagram = HEADER.pack(kind, self.number, value) + data
        self.queue.append((datagram, to or self.address))

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        self.moment = now
        for start in range(0, len(run), size):
            self.received += 1
            datagram = bytes(run[start : start + size])
            kind, _, value = HEADER.unpack_from(datagram)
            if not self.over:
                self.digest(kind, value, datagram[HEADER.size :], address)

    def digest(self, kind: int, value: int, data: bytes, address: Address) -> None:
        if address != self.address and kind != ECHO and self.probe is None:
            self.probe = (address, self.random.getrandbits(64))
            self.put(PROBE, self.probe[1], to=address)
        if kind == CHALLENGE and not self.connected:
            self.number = value
            self.say(Event.KEYS)
            self.put(ENTER, 0)
            self.connect()
        elif kind == ENTER and not self.connected:
            self.connect()
        elif kind == PROBE:
            self.put(ECHO, value, to=address)
        elif kind == ECHO and self.probe == (address, value):
            self.address, self.probe = address, None
            self.say(Event.PATH, address)
        elif kind in (STREAM, FIN, RESET, ACK):
            self.digestStream(kind, value, data)
        elif kind == BYE:
            self.put(GONE, 0)
            self.finish(Reason.DONE)
        elif kind == GONE and self.closing:
            self.finish(Reason.DONE)

    def digestStream(self, kind: int, number: int, data: bytes) -> None:
        if number not in self.streams:
            if kind != STREAM:
                return
            self.streams[number] = Half()
            self.say(Event.STREAM_OPENED, number)
        half = self.streams[number]
        if kind == STREAM:
            half.inbox += data
            self.say(Event.READABLE, number)
        elif kind == FIN:
            half.endHeard = True
            self.put(ACK, number)
            self.checkEnd(number)
        elif kind == ACK:
            self.say(Event.STREAM_FLUSHED, number)
        else:
            del self.streams[number]
            self.say(Event.STREAM_RESET, number, 0)

    def checkEnd(self, number: int) -> None:
        half = self.streams[number]
        if half.endHeard and not half.inbox and not half.endGiven:
            half.endGiven = True
            self.say(Event.STREAM_ENDED, number)

    def connect(self) -> None:
        self.connected = True
        self.say(Event.CONNECTED, False)

    def finish(self, reason: Reason) -> None:
        self.end(reason)
        self.timer = self.moment + LINGER

    # application

    def open_stream(self) -> int:
        self.nextStream += 2
        self.streams[self.nextStream] = Half()
        return self.nextStream

    def write(self, stream: int, data: bytes) -> None:
        self.streams[stream].out += data

    def unsent(self, stream: int = 0) -> int:
        return len(self.streams[stream].out) if stream in self.streams else 0

    def unread(self, stream: int = 0) -> int:
        return len(self.streams[stream].inbox) if stream in self.streams else 0

    def take(self, stream: int, limit: int) -> bytes:
        half = self.streams.get(stream)
        if half is None:
            return b""
        data = bytes(half.inbox[:limit])
        del half.inbox[:limit]
        self.checkEnd(stream)
        return data

    def close_stream(self, stream: int) -> None:
        self.streams[stream].ending = True

    def reset_stream(self, stream: int, code: int = 0) -> None:
        if self.streams.pop(stream, None) is not None:
            self.put(RESET, stream)

    def discard_stream(self, stream: int) -> None:
        """The peer is told at once, which it must bear."""
        self.reset_stream(stream)

    def close(self, now: int) -> None:
        self.closing = True

    def abort(self, now: int) -> None:
        self.put(BYE, 0)
        self.finish(Reason.ABORTED)

    # out

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        self.moment = now
        if self.connected and not self.over:
            for number, half in self.streams.items():
                while half.out:
                    self.put(STREAM, number, bytes(half.out[:1000]))
                    del half.out[:1000]
                if half.ending and not half.endSent:
                    half.endSent = True
                    self.put(FIN, number)
            if self.closing and self.timer is None:
                self.timer = now + LINGER
                self.put(BYE, 0)
        return self.flushQueue(emit, budget)[0]

    # time

    def deadline(self) -> int | None:
        return self.timer

    def tick(self, now: int) -> None:
        self.moment = now
        if self.timer is not None and now >= self.timer:
            self.end(Reason.CLOSE_TIMEOUT)
            self.timer, self.closed = None, True
