"""What the toys share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted_rudp.core.engine import (
    Address,
    Buffer,
    Capability,
    Emit,
    Engine,
    Event,
    Key,
    PathError,
    Reason,
    SessionTable,
)
from twisted_rudp.messages import Delivery, Message


class ToyEngine:
    """
    An engine that can do nothing yet.

    @ivar queue: datagrams for the next flush, with their addresses.
    """

    capabilities = Capability(0)

    def __init__(self, address: Address) -> None:
        self.address = address
        self.validated = False
        self.closed = False
        self.over = False
        self.queue: list[tuple[bytes, Address]] = []
        self.happened: list[tuple[Any, ...]] = []
        self.received = 0
        self.in_flight = 0
        self.round_trip = 0

    # life

    @property
    def pending(self) -> Sequence[tuple[Any, ...]]:
        return self.happened

    def events(self) -> Sequence[tuple[Any, ...]]:
        happened, self.happened = self.happened, []
        return happened

    def say(self, *event: Any) -> None:
        self.happened.append(event)

    def end(self, reason: Reason, detail: str | None = None) -> None:
        if not self.over:
            self.over = True
            self.say(Event.ENDED, reason, detail)

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        if kind is PathError.REFUSED:
            self.end(Reason.REFUSED)
        elif kind is PathError.UNREACHABLE:
            self.end(Reason.UNREACHABLE)

    def counters(self) -> Mapping[str, int]:
        return {"received": self.received}

    def facts(self) -> Mapping[str, Any]:
        return {"address": self.address}

    # out

    def flushQueue(self, emit: Emit, budget: int, overhead: int = 0) -> tuple[bool, int]:
        """
        Emit the queue one by one.

        @return: whether something is left because of the budget, and the budget left.
        """
        while self.queue:
            datagram, address = self.queue[0]
            if len(datagram) + overhead > budget:
                return True, budget
            del self.queue[0]
            budget -= len(datagram) + overhead
            if not emit(datagram, len(datagram), address):
                break
        return False, budget

    # what a toy may leave out

    def keys(self) -> Sequence[Key]:
        return (self.address,)

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        raise NotImplementedError

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        return self.flushQueue(emit, budget)[0]

    def tick(self, now: int) -> None:
        pass

    def deadline(self) -> int | None:
        return None

    def write(self, stream: int, data: bytes) -> None:
        raise NotImplementedError

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        raise NotImplementedError

    def unsent(self, stream: int = 0) -> int:
        return 0

    def unread(self, stream: int = 0) -> int:
        return 0

    def take(self, stream: int, limit: int) -> bytes:
        return b""

    def take_messages(self) -> Iterator[Message]:
        return iter(())

    def open_stream(self) -> int:
        raise NotImplementedError

    def close_stream(self, stream: int) -> None:
        raise NotImplementedError

    def reset_stream(self, stream: int, code: int = 0) -> None:
        raise NotImplementedError

    def discard_stream(self, stream: int) -> None:
        raise NotImplementedError

    def close(self, now: int) -> None:
        raise NotImplementedError

    def abort(self, now: int) -> None:
        raise NotImplementedError


class ToyDemultiplexer:
    """A demultiplexer that neither seals nor has anything half open."""

    overhead = 0

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.finished: list[Engine] = []

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        return run, size

    def cut(
        self, run: Buffer, size: int, keyOf: Callable[[bytes], Key | None]
    ) -> list[tuple[Key | None, Buffer, int]]:
        """Cut a run where the key changes and only there."""
        pieces: list[tuple[Key | None, Buffer, int]] = []
        for start in range(0, len(run), size):
            datagram = bytes(run[start : start + size])
            key = keyOf(datagram)
            if pieces and pieces[-1][0] == key:
                pieces[-1] = (key, bytes(pieces[-1][1]) + datagram, size)
            else:
                pieces.append((key, datagram, size))
        return pieces

    def continues(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> bool:
        return False

    def ended(self, engine: Engine, now: int) -> None:
        self.finished.append(engine)

    def deadline(self) -> int | None:
        return None

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        return ()

    def counters(self) -> Mapping[str, int]:
        return self.counts

    def diagnosis(self) -> str | None:
        return None
