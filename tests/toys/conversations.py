"""
Toy I: bytes by address and conversation, behind a cipher that the whole socket
shares. A window, half close, a reset, probes and an idle timeout; the address is proved by
returning a token.
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
    SessionTable,
    Verdict,
)

HEADER = Struct("<IBI")
"""Conversation, kind, value."""

HELLO, PROOF, DATA, END, TAKEN, RESET = range(6)

WINDOW = 64 * 1024
PAYLOAD = 1000
RUN = 60
IDLE = 30 * SECOND
PROBE = 10 * SECOND
CLOSE = 5 * SECOND
LINGER = 2 * SECOND
TAG = b"\x5a"


class CipherDemultiplexer(ToyDemultiplexer):
    """Every datagram has a tag in front and all its bytes exclusive-or'ed."""

    overhead = len(TAG)

    def __init__(self, secret: int, random: Random) -> None:
        super().__init__()
        self.table = bytes(byte ^ secret for byte in range(256))
        self.random = random

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        pieces = (bytes(run[start : start + size]) for start in range(0, len(run), size))
        return b"".join((TAG + piece).translate(self.table) for piece in pieces), size + 1

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        pieces = []
        for start in range(0, len(run), size):
            piece = bytes(run[start : start + size]).translate(self.table)
            if piece[:1] == TAG and len(piece) > HEADER.size:
                pieces.append(piece[1:])
            else:
                self.count("badTag")
        return self.cut(b"".join(pieces), max(1, size - 1), lambda piece: (address, piece[:4]))

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        conversation, kind, _ = HEADER.unpack_from(datagram)
        if kind != HELLO:
            return Drop("notHello")
        return Admit(Conversation(address, conversation, self.random, now))

    def dial(self, address: Address, now: int = 0) -> Engine:
        engine = Conversation(address, self.random.getrandbits(32), self.random, now)
        engine.put(HELLO, 0)
        engine.validated = True
        return engine

    def diagnosis(self) -> str | None:
        return "the secrets differ" if self.counts.get("badTag", 0) > 2 else None


class Conversation(ToyEngine):
    capabilities = (
        Capability.BYTES
        | Capability.RECEIVE_WINDOW
        | Capability.ORDERLY_CLOSE
        | Capability.HALF_CLOSE
        | Capability.NEEDS_IDLE_TIMEOUT
    )

    def __init__(self, address: Address, conversation: int, random: Random, now: int) -> None:
        super().__init__(address)
        self.conversation = conversation
        self.token = random.getrandbits(32)
        self.accepting = False
        self.connected = False
        self.heard = self.probed = now
        self.out = bytearray()
        self.sent = self.acknowledged = 0
        self.inbox = bytearray()
        self.taken = self.told = 0
        self.ending = self.endSent = self.endHeard = self.endGiven = False
        self.closing = False
        self.moment = now
        self.timer: int | None = None

    def keys(self) -> Sequence[Key]:
        return ((self.address, self.conversation.to_bytes(4, "little")),)

    def put(self, kind: int, value: int) -> None:
        self.queue.append((HEADER.pack(self.conversation, kind, value), self.address))

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        self.heard = self.moment = now
        readable = False
        for start in range(0, len(run), size):
            datagram = bytes(run[start : start + size])
            self.received += 1
            _, kind, value = HEADER.unpack_from(datagram)
            if self.over:
                if kind not in (RESET, TAKEN):
                    self.put(RESET, 0)
            elif kind == DATA:
                self.inbox += datagram[HEADER.size :]
                readable = True
            else:
                self.control(kind, value)
        if readable and not self.closing:
            self.say(Event.READABLE, 0)
        self.checkEnds()

    def control(self, kind: int, value: int) -> None:
        if kind == HELLO and not self.validated:
            self.accepting = True
            self.put(HELLO, self.token)
        elif kind == HELLO and not self.connected:
            self.put(PROOF, value)
            self.connect()
        elif kind == PROOF and value == self.token and not self.validated:
            self.validated = True
            self.connect()
        elif kind == TAKEN:
            self.acknowledged = max(self.acknowledged, min(value, self.sent + self.endSent))
            if self.endSent and self.acknowledged > self.sent:
                self.say(Event.STREAM_FLUSHED, 0)
        elif kind == END:
            self.endHeard = True
        elif kind == RESET:
            self.end(Reason.RESET)
            self.closed = True

    def connect(self) -> None:
        self.connected = True
        self.say(Event.CONNECTED, False)

    def checkEnds(self) -> None:
        if self.closing:
            self.taken += len(self.inbox)
            self.inbox.clear()
        if self.endHeard and not self.inbox and not self.endGiven:
            self.endGiven = True
            self.taken += 1
            self.say(Event.STREAM_ENDED, 0)
        done = self.endSent and self.acknowledged > self.sent
        if self.closing and done and self.endGiven and not self.over:
            self.end(Reason.DONE)
            self.timer = self.moment + LINGER

    # application

    def write(self, stream: int, data: bytes) -> None:
        if self.ending:
            raise RuntimeError("written after the end")
        self.out += data

    def unsent(self, stream: int = 0) -> int:
        return len(self.out)

    def unread(self, stream: int = 0) -> int:
        return len(self.inbox)

    def take(self, stream: int, limit: int) -> bytes:
        data = bytes(self.inbox[:limit])
        del self.inbox[:limit]
        self.taken += len(data)
        self.checkEnds()
        return data

    def close_stream(self, stream: int) -> None:
        self.ending = True

    def close(self, now: int) -> None:
        self.ending = self.closing = True
        self.timer = self.moment + CLOSE
        self.checkEnds()

    def abort(self, now: int) -> None:
        self.put(RESET, 0)
        self.end(Reason.ABORTED)
        self.timer = self.moment + LINGER

    # out

    def window(self) -> int:
        return self.acknowledged + WINDOW - self.sent

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        self.moment = now
        more, budget = self.flushQueue(emit, budget, 1)
        if more or (self.over and not self.closing):
            return more
        while self.connected and (room := min(len(self.out), self.window())):
            count = min(-(-room // PAYLOAD), RUN, budget // (PAYLOAD + HEADER.size + 1))
            if not count:
                return True
            run = bytearray()
            for _ in range(count):
                piece = bytes(self.out[: min(PAYLOAD, room)])
                del self.out[: len(piece)]
                room -= len(piece)
                run += HEADER.pack(self.conversation, DATA, self.sent & 0xFFFFFFFF) + piece
                self.sent += len(piece)
            budget -= len(run) + count
            if not emit(run, PAYLOAD + HEADER.size, self.address):
                return False
        if self.ending and not self.out and not self.endSent and self.connected:
            self.endSent = True
            self.put(END, 0)
        if self.taken != self.told:
            self.told = self.taken
            self.put(TAKEN, self.taken)
        self.in_flight = self.sent - min(self.acknowledged, self.sent)
        return self.flushQueue(emit, budget, 1)[0]

    # time

    def deadline(self) -> int | None:
        if self.timer is not None:
            return self.timer
        return min(max(self.heard, self.probed) + PROBE, self.heard + IDLE)

    def tick(self, now: int) -> None:
        self.moment = now
        if self.timer is not None and now >= self.timer:
            self.timer = None
            self.end(Reason.CLOSE_TIMEOUT)
            self.closed = True
        elif self.timer is None and now >= self.heard + IDLE:
            self.end(Reason.IDLE)
            self.closed = True
        elif self.timer is None and now >= max(self.heard, self.probed) + PROBE:
            self.probed = now
            self.put(TAKEN, self.taken)
