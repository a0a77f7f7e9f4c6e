"""
Toy II: messages by address, with pings that need no session, receipts, and an end
that is told and heard. No window: the peer is not slowed down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from struct import Struct

from tests.toys.base import ToyDemultiplexer, ToyEngine
from twisted_rudp.core.engine import (
    SECOND,
    Address,
    Admit,
    Buffer,
    Capability,
    Drop,
    Engine,
    Event,
    Key,
    Reason,
    Reply,
    SessionTable,
    Verdict,
)
from twisted_rudp.messages import Delivery, Message

PING, PONG, OPEN, FULL, ACCEPT, PARCEL, RECEIVED, BYE, GONE = range(9)
OFFLINE = (PING, PONG)
HEADER = Struct("<BIBB")
"""Kind, number, delivery, channel."""

SESAME = b"sesame"
RECEIPT_TIMEOUT = SECOND
LONGEST = 1000


class ParcelDemultiplexer(ToyDemultiplexer):
    """Answers pings also while nobody is connected, and from those who are."""

    def __init__(self, name: bytes = b"toy") -> None:
        super().__init__()
        self.name = name

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        return self.cut(run, size, lambda piece: address if piece[0] not in OFFLINE else None)

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        if datagram[0] == PING:
            return Reply((bytes([PONG]) + self.name,))
        if datagram[0] != OPEN or bytes(datagram[HEADER.size :]) != SESAME:
            return Drop("notOpen")
        if not table.backlog_room:
            return Reply((HEADER.pack(FULL, 0, 0, 0),))
        return Admit(Parcels(address, dialled=False))

    def dial(self, address: Address, now: int = 0) -> Engine:
        engine = Parcels(address, dialled=True)
        engine.put(OPEN, data=SESAME)
        return engine


class Parcels(ToyEngine):
    capabilities = Capability.MESSAGES | Capability.ORDERLY_CLOSE

    def __init__(self, address: Address, dialled: bool) -> None:
        super().__init__(address)
        self.dialled = dialled
        self.validated = dialled
        self.inbox: deque[Message] = deque()
        self.number = 0
        self.unanswered: dict[int, int] = {}
        self.bye = self.byeHeard = self.closing = False
        self.moment = 0

    def put(
        self, kind: int, number: int = 0, delivery: int = 0, channel: int = 0, data: bytes = b""
    ) -> None:
        self.queue.append((HEADER.pack(kind, number, delivery, channel) + data, self.address))

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        self.moment = now
        readable = False
        for start in range(0, len(run), size):
            self.received += 1
            datagram = bytes(run[start : start + size])
            if len(datagram) < HEADER.size:
                continue
            kind, number, delivery, channel = HEADER.unpack_from(datagram)
            if kind == OPEN and not self.dialled:
                self.put(ACCEPT)
            elif kind == ACCEPT and self.dialled:
                self.put(ACCEPT)
                self.say(Event.CONNECTED, False)
            elif kind == ACCEPT and not self.validated:
                self.validated = True
                self.say(Event.CONNECTED, False)
            elif kind == PARCEL:
                self.put(RECEIVED, number)
                self.inbox.append(Message(datagram[HEADER.size :], Delivery(delivery), channel))
                readable = True
            elif kind == RECEIVED and self.unanswered.pop(number, None) is not None:
                self.say(Event.RECEIPT, number, True)
            elif kind == BYE:
                self.put(GONE)
                self.byeHeard = True
            elif kind == GONE:
                self.finish()
            elif kind == FULL and self.dialled:
                self.end(Reason.FULL)
        if readable and not self.closing:
            self.say(Event.READABLE, None)
        self.checkBye()

    def checkBye(self) -> None:
        if self.closing:
            self.inbox.clear()
        if self.byeHeard and not self.inbox:
            self.finish()

    def finish(self) -> None:
        self.end(Reason.DONE)
        self.closed = True

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        if not data or len(data) > LONGEST or delivery is Delivery.OUT_OF_BAND:
            raise ValueError("this wire does not carry that")
        self.number += 1
        self.put(PARCEL, self.number, delivery, channel, data)
        if not receipt:
            return None
        self.unanswered[self.number] = self.moment + RECEIPT_TIMEOUT
        return self.number

    def unsent(self, stream: int = 0) -> int:
        return sum(len(datagram) for datagram, _ in self.queue)

    def unread(self, stream: int = 0) -> int:
        return sum(len(message.data) for message in self.inbox)

    def take_messages(self) -> Iterator[Message]:
        while self.inbox:
            message = self.inbox.popleft()
            self.checkBye()
            yield message

    def deadline(self) -> int | None:
        return min(self.unanswered.values(), default=None)

    def tick(self, now: int) -> None:
        self.moment = now
        for number, due in list(self.unanswered.items()):
            if due <= now:
                del self.unanswered[number]
                self.say(Event.RECEIPT, number, False)

    def close(self, now: int) -> None:
        self.closing = True
        self.put(BYE)
        self.checkBye()

    def abort(self, now: int) -> None:
        self.put(BYE)
        self.end(Reason.ABORTED)
        self.closed = True
