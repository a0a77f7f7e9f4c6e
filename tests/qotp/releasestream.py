"""One stream as release v0.2.19 keeps it, faults included (qotp.md 5)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

CAPACITY = 16 << 20
"""What a connection buffers in each direction."""


ATTEMPTS = 5
"""What was sent more often ends the connection when it is looked at, without waiting (5.3)."""


class ReleasePanicked(Exception):
    """The process of the release is gone."""


class GivenUp(Exception):
    """A segment was sent too often."""


@dataclass
class Entry:
    """
    A segment in flight.

    @ivar sendings: how often it was sent.
    """

    offset: int
    data: bytes
    close: bool
    sent_at: int
    sendings: int = 1
    ping: bool = False


@dataclass
class SendBuffer:
    """The sending half; the list in flight is in the order of insertion (5.1)."""

    queue: bytearray = field(default_factory=bytearray)
    sent: int = 0
    flying: dict[tuple[int, int], Entry] = field(default_factory=dict)
    close_at: int | None = None
    close_sent: bool = False
    ever_sent: bool = False

    def close(self) -> None:
        """5.5: fixed when it is called."""
        if self.close_at is None:
            self.close_at = self.sent + len(self.queue)

    @property
    def acknowledged(self) -> bool:
        """qotp.md 5.5, W8: only the offset of the first entry is looked at."""
        if self.close_at is None:
            return False
        first = next(iter(self.flying.values()), None)
        return (self.sent if first is None else first.offset) >= self.close_at

    def fresh(self, space: int, now: int) -> Entry | None:
        """The next new segment (5.1)."""
        if not self.queue or not space:
            if self.close_at is None or self.sent < self.close_at or self.close_sent:
                return None
            if (self.sent, 0) in self.flying:
                return None
            return self._enter(Entry(self.sent, b"", True, now))
        data = bytes(self.queue[:space])
        del self.queue[:space]
        entry = Entry(self.sent, data, False, now)
        self.sent += len(data)
        entry.close = self.close_at is not None and self.sent >= self.close_at
        return self._enter(entry)

    def opening(self, now: int) -> Entry:
        """3.2: the InitSnd stands for an empty segment, and swallows a CLOSE."""
        closing = self.close_at is not None and self.sent >= self.close_at
        return self._enter(Entry(0, b"", closing, now))

    def _enter(self, entry: Entry) -> Entry:
        self.close_sent = self.close_sent or entry.close
        self.ever_sent = True
        self.flying[entry.offset, len(entry.data)] = entry
        return entry

    def late(self, now: int, timeout: int) -> Entry | None:
        """
        5.3: the first entry alone, if its time has passed.

        @raise GivenUp: it has been sent as often as anything is.
        """
        first = next(iter(self.flying.values()), None)
        if first is None:
            return None
        if first.sendings > ATTEMPTS:
            raise GivenUp
        return first if now - first.sent_at > timeout << (first.sendings - 1) else None

    def again(self, entry: Entry, space: int, now: int) -> Entry | None:
        """
        What is sent of an entry that is late: all of it, or its left part, which goes
        to the end of the list.
        """
        if entry.ping:
            del self.flying[entry.offset, 0]
            return None
        if len(entry.data) <= space:
            entry.sendings += 1
            entry.sent_at = now
            return entry
        left = Entry(entry.offset, entry.data[:space], False, now, entry.sendings + 1)
        right = Entry(
            entry.offset + space, entry.data[space:], entry.close, entry.sent_at, entry.sendings
        )
        old = (entry.offset, len(entry.data))
        self.flying = {
            (right.offset, len(right.data)) if key == old else key: right if key == old else each
            for key, each in self.flying.items()
        }
        self.flying[left.offset, len(left.data)] = left
        return left


@dataclass
class ReceiveBuffer:
    """
    The receiving half (5.4), for senders that keep rule R5.

    @ivar borders: where segments began and ended.
    """

    next: int = 0
    close_at: int | None = None
    segments: dict[int, bytes] = field(default_factory=dict)
    borders: list[int] = field(default_factory=list)

    def insert(self, offset: int, data: bytes) -> int:
        """
        @return: by how much more is buffered.
        @raise ReleasePanicked: bytes that overlap differ.
        @raise AssertionError: a segment crosses a border that was sent before (R5).
        """
        end = offset + len(data)
        borders = self.borders
        crossed = borders[bisect_right(borders, offset) : bisect_left(borders, end)]
        assert not crossed, f"R5: {offset} to {end} crosses {crossed}"
        for border in (offset, end):
            at = bisect_left(borders, border)
            if borders[at : at + 1] != [border]:
                borders.insert(at, border)
        if end <= self.next:
            return 0
        for start, held in self.segments.items():
            if start <= offset and end <= start + len(held):
                if held[offset - start : end - start] != data:
                    raise ReleasePanicked("overlapping bytes differ")
                return 0
        self.segments[offset] = data
        return len(data)

    def read(self) -> bytes:
        """One stored segment; none when there is a gap."""
        data = self.segments.pop(self.next, b"")
        self.next += len(data)
        return data
