"""An inner session that loses nothing: a pair of byte pipes with a window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted_rudp.core.engine import (
    MILLISECOND,
    Address,
    Buffer,
    Capability,
    Emit,
    Event,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.messages import Delivery, Message

PEER: Address = ("192.0.2.1", 4000)


class Pipe:
    """
    One end. What is flushed goes to C{emit} in one piece, at most C{window} bytes at a time.
    """

    def __init__(self, window: int = 1 << 30) -> None:
        self.window = window
        self.sending = bytearray()
        self.received = bytearray()
        self.told: list[tuple[Any, ...]] = [(Event.CONNECTED, False)]
        self.over: Reason | None = None
        self.closing = False
        self.at, self.room = -1, 0

    capabilities = Capability.BYTES | Capability.RECEIVE_WINDOW | Capability.ORDERLY_CLOSE
    validated = True
    round_trip = 10 * MILLISECOND

    @property
    def closed(self) -> bool:
        return self.over is not None

    def keys(self) -> Sequence[Key]:
        return ("pipe",)

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        self.received += run
        self.told.append((Event.READABLE, 0))

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        pass

    def tick(self, now: int) -> None:
        pass

    def deadline(self) -> int | None:
        return None

    def write(self, stream: int, data: bytes) -> None:
        assert stream == 0 and self.over is None
        self.sending += data

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        raise ValueError("no messages")

    def unsent(self, stream: int = 0) -> int:
        return len(self.sending)

    def unread(self, stream: int = 0) -> int:
        return len(self.received)

    def take(self, stream: int, limit: int) -> bytes:
        data = bytes(self.received[:limit])
        del self.received[:limit]
        return data

    def take_messages(self) -> Iterator[Message]:
        return iter(())

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        if now != self.at:
            self.at, self.room = now, self.window
        size = min(len(self.sending), self.room, max(budget, 0))
        self.room -= size
        if size:
            data = bytes(self.sending[:size])
            del self.sending[:size]
            emit(data, size, PEER)
        if self.closing and not self.sending:
            self._end(Reason.DONE)
        return bool(self.sending) and self.room > 0

    @property
    def pending(self) -> Sequence[tuple[Any, ...]]:
        return self.told

    def events(self) -> Sequence[tuple[Any, ...]]:
        found, self.told = self.told, []
        return found

    def open_stream(self) -> int:
        raise AssertionError("one stream only")

    def close_stream(self, stream: int) -> None:
        pass

    def reset_stream(self, stream: int, code: int = 0) -> None:
        pass

    def discard_stream(self, stream: int) -> None:
        pass

    def close(self, now: int) -> None:
        self.closing = True

    def abort(self, now: int) -> None:
        self._end(Reason.ABORTED)

    def _end(self, reason: Reason) -> None:
        if self.over is None:
            self.over = reason
            self.told.append((Event.ENDED, reason, None))

    def counters(self) -> Mapping[str, int]:
        return {}

    def facts(self) -> Mapping[str, Any]:
        return {}
