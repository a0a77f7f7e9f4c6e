"""
Which datagrams have come, and what the peer is told of that (raknet.md 7 and 8).

Numbers are unbounded integers here, read back from the wire's 24 bits near the
number expected next.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final

from twisted_rudp.core.ranges import Ranges
from twisted_rudp.core.serial import unwrap24
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.records import pack_records
from twisted_rudp.raknet.wire import ACK, NACK

NEVER: Final = 1 << 62

REMEMBERED = 8192
"""How far back a repeated number is recognised."""

FIRST_DATAGRAMS = 32
"""Acknowledged at once at the start of a session, so that the peer learns the round
trip (raknet.md 8.1)."""


class Arrival(Enum):
    """What a datagram's number means."""

    NEW = auto()
    REPEATED = auto()
    FAR = auto()
    """Too far ahead to be believed."""


_NEW = Arrival.NEW


class Arrivals:
    """
    @ivar expected: the number after the highest that has come.
    @ivar ack_due: when the waiting acknowledgements are to be sent at the latest.
    @ivar nack_due: when the oldest gap is to be reported.
    @ivar waiting: datagrams to be acknowledged.
    @ivar withholding: something was dropped for lack of room.
    """

    def __init__(self, settings: Settings, first: int = 0) -> None:
        """
        @param first: the peer's first number.
        """
        self._settings = settings
        self.expected = first
        self._first = first
        self.ack_due = NEVER
        self.nack_due = NEVER
        self._seen = Ranges()
        self._acks = Ranges()
        self._told: deque[Ranges] = deque(maxlen=settings.ack_repeats)
        self.waiting = 0
        self._bytes = 0
        self._gaps: deque[tuple[int, int, int]] = deque()
        self._withheld = Ranges()
        self.withholding = False

    def near(self, number: int) -> int:
        """The integer that a number on the wire stands for."""
        return unwrap24(number, self.expected)

    def accept(self, number: int, count: int, size: int, now: int, guard: int) -> Arrival:
        """
        Note datagrams with consecutive numbers, to be acknowledged whether new or
        not. With C{count} above 1 they are the next expected ones.

        @param size: their bytes.
        @param guard: how long a gap before them may close by itself.
        """
        ahead = number - self.expected
        if ahead > self._settings.jump:
            return Arrival.FAR
        end = number + count
        if ahead > 0:
            oldest = max(self.expected, number - self._settings.nack_limit)
            self._missed(oldest, number, now + guard)
        if end > self.expected:
            self.expected = end
        self._acks.add(number, end)
        self.waiting += count
        self._bytes += size
        if self.ack_due == NEVER:
            self.ack_due = now + self._settings.ack_delay
        if self.withholding:
            self._withheld.remove(number, end)
            self.withholding = bool(self._withheld)
        if number < self.expected - REMEMBERED:
            return Arrival.REPEATED
        if not self._seen.add(number, end):
            return Arrival.REPEATED
        if len(self._seen) > 1:
            self._seen.remove(-(1 << 62), self.expected - REMEMBERED)
        return _NEW

    def withhold(self, number: int) -> None:
        """
        A datagram that there is no room for: it is not acknowledged, and asked for
        again when there is (raknet.md 15).
        """
        if abs(number - self.expected) < REMEMBERED:
            self._withheld.add(number, number + 1)
            self.withholding = True

    def release(self, now: int) -> None:
        """There is room again."""
        for first, end in self._withheld:
            self._gaps.append((now, first, end))
            self.nack_due = min(self.nack_due, now)
            self.expected = max(self.expected, end)
        self._withheld.clear()
        self.withholding = False

    def _missed(self, first: int, end: int, due: int) -> None:
        self._gaps.append((due, first, end))
        if due < self.nack_due:
            self.nack_due = due

    def hurry(self, now: int) -> None:
        """Acknowledge with the next flush."""
        if self.waiting:
            self.ack_due = now

    def is_ack_due(self, now: int, datagram: int) -> bool:
        """
        Whether to acknowledge at the end of this turn (raknet.md 8.1, adapted to
        runs: two full datagrams at once do not wait).

        @param datagram: bytes of a full one.
        """
        if not self.waiting:
            return False
        settings = self._settings
        if now >= self.ack_due or self.waiting >= settings.ack_count:
            return True
        return settings.prompt and (
            self._bytes >= 2 * datagram or self.expected - self._first <= FIRST_DATAGRAMS
        )

    def acknowledgements(self, limit: int) -> list[bytes]:
        """
        Acknowledge everything that waits, and what was acknowledged just before.

        @param limit: longest datagram.
        """
        if not self.waiting:
            return []
        fresh, self._acks = self._acks, Ranges()
        told = Ranges()
        for ranges in (*self._told, fresh):
            for first, end in ranges:
                told.add(first, end)
        self._told.append(fresh)
        datagrams = pack_records(ACK, told, limit)
        self.waiting = self._bytes = 0
        self.ack_due = NEVER
        return datagrams

    def complaints(self, now: int, limit: int) -> list[bytes]:
        """Report the gaps that had their time to close; each is reported once."""
        missing: list[tuple[int, int]] = []
        gaps = self._gaps
        while gaps and gaps[0][0] <= now:
            _, first, end = gaps.popleft()
            missing += self._seen.gaps(first, end)
        self.nack_due = gaps[0][0] if gaps else NEVER
        return pack_records(NACK, missing, limit)
