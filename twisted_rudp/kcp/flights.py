"""
What was sent and is not acknowledged yet.

Consecutive segments that were numbered together are one L{Flight}: one object
with one timestamp, one timeout and one piece of the application's data. A
cumulative acknowledgement drops it whole. A segment gets a record of its own, a
L{Straggler}, only when loss makes its story differ from its neighbours'.

Numbers and times are unbounded integers here; the wire's are cut from them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from twisted_rudp.kernels.pure import Buffer

SETTLED: Final = -1
"""
C{skips} of a segment that was sent again because of its skips: it is not
counted any more before a timeout (kcp.md 1.9).
"""

NEVER: Final = 1 << 62


class Cause(Enum):
    """Why a segment is sent again."""

    FAST = auto()
    EARLY = auto()
    TIMEOUT = auto()


class Policy(NamedTuple):
    """
    When segments are sent again in one flush (kcp.md 1.11 step 5).

    @ivar now: the clock.
    @ivar threshold: skips that make a retransmission fast.
    @ivar early: a single skip is enough, as nothing new is sent.
    @ivar timeout: the session's present timeout.
    @ivar growth: what a segment's own timeout grows by when it has expired.
    @ivar settle: a segment that was sent again because of its skips waits for its
        timeout, as in kcp-go; else it is skipped by what was sent after it.
    """

    now: int
    threshold: int
    early: bool
    timeout: int
    growth: int
    settle: bool = True


class Straggler:
    """
    A segment with a story of its own.

    @ivar sent: clock of its last transmission.
    @ivar timeout: its own timeout.
    @ivar due: when that is over.
    @ivar skips: later segments acknowledged since it was sent, or L{SETTLED}.
    @ivar sendings: how often it was sent.
    """

    __slots__ = ("due", "sendings", "sent", "skips", "timeout")

    def __init__(self, flight: Flight) -> None:
        self.sent = flight.sent
        self.timeout = flight.timeout
        self.due = flight.due
        self.sendings = flight.sendings
        self.skips = 0

    def cause(self, policy: Policy) -> Cause | None:
        """Whether to send it now, by the first rule that applies."""
        if self.skips > 0:
            if self.skips >= policy.threshold:
                return Cause.FAST
            if policy.early:
                return Cause.EARLY
        return Cause.TIMEOUT if policy.now >= self.due else None

    def renew(self, cause: Cause, policy: Policy) -> None:
        """It is sent again."""
        if cause is Cause.TIMEOUT:
            self.timeout += policy.growth
            self.skips = 0
        else:
            self.timeout = policy.timeout
            self.skips = SETTLED if policy.settle else 0
        # In one millisecond others may have been sent before it, as well as after it.
        self.sent = policy.now if policy.settle else policy.now + 1
        self.due = policy.now + self.timeout
        self.sendings += 1


class Flight:
    """
    Segments numbered C{first} .. C{end} - 1, of C{mss} payload bytes each (the
    last may be shorter), and the story they have in common.

    @ivar frg: fragment field of the first; it counts down and stays at 0.
    @ivar sent: clock of the last common transmission; C{due} is when their
        common C{timeout} is over, L{NEVER} when it concerns none any more.
    @ivar sendings: common transmissions.
    @ivar delivered: bytes that had been acknowledged when it was sent.
    @ivar arrived: a byte for each, 1 if acknowledged by itself; None if none is.
    @ivar stragglers: those with a story of their own, by index.
    """

    __slots__ = (
        "arrived",
        "data",
        "delivered",
        "due",
        "end",
        "first",
        "frg",
        "mss",
        "sendings",
        "sent",
        "stragglers",
        "timeout",
    )

    def __init__(
        self,
        first: int,
        count: int,
        data: Buffer,
        mss: int,
        frg: int,
        sent: int = 0,
        timeout: int = NEVER,
        delivered: int = 0,
        sendings: int = 0,
    ) -> None:
        """It has numbers; without the last four it is not sent yet."""
        self.first = first
        self.end = first + count
        self.data = data
        self.mss = mss
        self.frg = frg
        self.sent = sent
        self.timeout = timeout
        self.due = sent + timeout
        self.sendings = sendings
        self.delivered = delivered
        self.arrived: bytearray | None = None
        self.stragglers: dict[int, Straggler] | None = None

    def launch(self, now: int, timeout: int, delivered: int) -> None:
        """It is sent for the first time."""
        self.sent = now
        self.timeout = timeout
        self.due = now + timeout
        self.sendings = 1
        self.delivered = delivered

    def payload(self, start: int, end: int) -> Buffer:
        """Payload of the segments with these indices, back to back."""
        if start == 0 and end == self.end - self.first:
            return self.data
        return memoryview(self.data)[start * self.mss : end * self.mss]

    def fragment(self, index: int) -> int:
        """C{frg} of a segment."""
        return max(self.frg - index, 0)

    def size_between(self, start: int, end: int) -> int:
        """
        Payload bytes of the segments C{start} .. C{end} - 1 that have not been
        acknowledged one by one.
        """
        total = len(self.data)
        mss = self.mss
        size = min(end * mss, total) - min(start * mss, total)
        if self.arrived is not None:
            size -= self.arrived.count(1, start, end) * mss
            last = len(self.arrived) - 1
            if start <= last < end and self.arrived[last]:
                size += (last + 1) * mss - total
        return size

    def missing(self, start: int, end: int) -> Iterator[int]:
        """Indices in C{start} .. C{end} - 1 that have not been acknowledged."""
        arrived = self.arrived
        if arrived is None:
            yield from range(start, end)
            return
        index = arrived.find(0, start, end)
        while index >= 0:
            yield index
            index = arrived.find(0, index + 1, end)

    def straggler(self, index: int) -> Straggler:
        """The record of one segment, made if there is none."""
        if self.stragglers is None:
            self.stragglers = {}
        found = self.stragglers.get(index)
        if found is None:
            found = self.stragglers[index] = Straggler(self)
        return found

    def repeats(self, start: int, policy: Policy) -> list[tuple[int, Cause]]:
        """
        What is to be sent again, from index C{start}, in order. It counts as
        sent with this call.
        """
        chosen: list[tuple[int, Cause]] = []
        own = self.stragglers
        if own:
            for index in [index for index in own if self._is_done(index, start)]:
                del own[index]
            for index, straggler in own.items():
                cause = straggler.cause(policy)
                if cause is not None:
                    straggler.renew(cause, policy)
                    chosen.append((index, cause))
        if policy.now >= self.due:
            common = [
                index
                for index in self.missing(start, self.end - self.first)
                if not own or index not in own
            ]
            if common:
                chosen += [(index, Cause.TIMEOUT) for index in common]
                self.timeout += policy.growth
                self.sent = policy.now
                self.due = policy.now + self.timeout
                self.sendings += 1
            else:
                self.due = NEVER
        chosen.sort(key=_by_index)
        return chosen

    def _is_done(self, index: int, start: int) -> bool:
        return index < start or (self.arrived is not None and self.arrived[index] == 1)

    def next_due(self) -> int:
        """A time before which nothing here expires; L{NEVER} if nothing will."""
        if not self.stragglers:
            return self.due
        return min(self.due, min(straggler.due for straggler in self.stragglers.values()))

    def postpone(self, now: int) -> None:
        """Let what has expired wait once more for as long, without counting it."""
        if self.due <= now:
            self.due = now + self.timeout
        for straggler in (self.stragglers or {}).values():
            if straggler.due <= now:
                straggler.due = now + straggler.timeout

    @property
    def has_skips(self) -> bool:
        """A later retransmission because of skips is possible."""
        return any(one.skips > 0 for one in (self.stragglers or {}).values())

    def most_sendings(self) -> int:
        """How often the most often sent segment was sent."""
        return max(
            [self.sendings, *(one.sendings for one in (self.stragglers or {}).values())]
        )


def _by_index(choice: tuple[int, Cause]) -> int:
    return choice[0]


class Flights:
    """
    All flights, oldest first, and what is acknowledged of them.

    @ivar una: the first number not covered by the peer's cumulative
        acknowledgement. Segments acknowledged one by one stay until it passes
        them, as in kcp-go.
    @ivar nxt: the next number to give.
    @ivar outstanding: segments not acknowledged in either way.
    @ivar numbered: payload bytes that got a number.
    @ivar delivered: payload bytes acknowledged in either way.
    @ivar skipped: some segment has skips that no flush has looked at.
    """

    __slots__ = ("delivered", "numbered", "nxt", "outstanding", "queue", "skipped", "una")

    def __init__(self, first: int) -> None:
        self.una = self.nxt = first
        self.queue: list[Flight] = []
        self.outstanding = 0
        self.numbered = 0
        self.delivered = 0
        self.skipped = False

    def __iter__(self) -> Iterator[Flight]:
        return iter(self.queue)

    def add(self, flight: Flight) -> None:
        """Append the flight that begins at L{nxt}."""
        self.queue.append(flight)
        self.outstanding += flight.end - flight.first
        self.numbered += len(flight.data)
        self.nxt = flight.end

    def release(self) -> None:
        """Drop all flights, keep the numbers."""
        self.queue.clear()
        self.outstanding = 0
        self.skipped = False

    def start_of(self, flight: Flight) -> int:
        """Index of the first segment that L{una} does not cover."""
        return max(self.una - flight.first, 0)

    def forget(self, una: int) -> None:
        """Everything before C{una}, which is not after L{nxt}, has arrived."""
        past = 0
        for flight in self.queue:
            if flight.first >= una:
                break
            if flight.arrived is None and self.una <= flight.first and flight.end <= una:
                self.outstanding -= flight.end - flight.first
                self.delivered += len(flight.data)
                past += 1
                continue
            start = max(self.una - flight.first, 0)
            end = min(una, flight.end) - flight.first
            arrived = flight.arrived
            self.outstanding -= end - start
            if arrived is not None:
                self.outstanding += arrived.count(1, start, end)
            self.delivered += flight.size_between(start, end)
            if flight.end > una:
                break
            past += 1
        del self.queue[:past]
        self.una = una

    def acknowledge(self, acks: Sequence[tuple[int, int]]) -> None:
        """
        Take in acknowledgements of single segments: mark these, and count them
        as skips of what is still missing below (kcp.md 1.9).

        @param acks: pairs of number, in L{una} .. L{nxt} - 1, and clock echoed; at
            least one, in any order.
        """
        ordered = sorted(acks)
        self._mark(number for number, _ in ordered)
        self._skip(ordered)

    def _mark(self, numbers: Iterable[int]) -> None:
        flights = iter(self.queue)
        flight = next(flights)
        for number in numbers:
            while number >= flight.end:
                flight = next(flights)
            arrived = flight.arrived
            if arrived is None:
                arrived = flight.arrived = bytearray(flight.end - flight.first)
            index = number - flight.first
            if not arrived[index]:
                arrived[index] = 1
                self.outstanding -= 1
                self.delivered += flight.mss
                if number == flight.end - 1:
                    self.delivered -= len(arrived) * flight.mss - len(flight.data)

    def _skip(self, ordered: list[tuple[int, int]]) -> None:
        numbers = [number for number, _ in ordered]
        total = len(numbers)
        oldest = min(clock for _, clock in ordered)
        newest = max(clock for _, clock in ordered)
        top = numbers[-1]
        for flight in self.queue:
            if flight.first >= top:
                break
            own = flight.stragglers
            if own is None and flight.sent > newest:
                continue
            for index in flight.missing(self.start_of(flight), min(flight.end, top) - flight.first):
                straggler = own.get(index) if own else None
                if straggler is None:
                    sent = flight.sent
                elif straggler.skips == SETTLED:
                    continue
                else:
                    sent = straggler.sent
                if sent > newest:
                    continue
                above = bisect_right(numbers, flight.first + index)
                if sent <= oldest:
                    skips = total - above
                else:
                    skips = sum(1 for _, clock in ordered[above:] if clock >= sent)
                if skips:
                    straggler = flight.straggler(index)
                    own = flight.stragglers
                    straggler.skips += skips
                    self.skipped = True
