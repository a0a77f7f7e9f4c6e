"""
What was sent and is not acknowledged yet.

Consecutive segments that were numbered together are one L{SentBatch}: one object with
one time of sending, one timeout and one piece of the application's data. A cumulative
acknowledgement drops it whole. A segment gets a L{SegmentState} of its own only when
loss makes it differ from its neighbours.

Numbers and times are unbounded integers here; the wire's are cut from them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from twisted_rudp.core.timers import NEVER
from twisted_rudp.kernels.pure import Buffer

Data: TypeAlias = Buffer | tuple[Buffer, ...]
"""
Payload of consecutive segments, back to back. Of several parts each but the last ends with
a segment; there are at most L{MAXIMUM_PARTS <twisted_rudp.kernels.pure.MAXIMUM_PARTS>}.
"""

SETTLED: Final = -1
"""
C{skips} of a segment that was sent again because of its skips: it is not
counted any more before a timeout (kcp.md 1.9).
"""


class Cause(Enum):
    """Why a segment is sent again."""

    FAST = auto()
    EARLY = auto()
    TIMEOUT = auto()


class RetransmitPolicy(NamedTuple):
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


class SegmentState:
    """
    What is known of one segment that differs from the rest of its batch.

    @ivar sent: clock of its last transmission.
    @ivar timeout: its own timeout.
    @ivar due: when that is over.
    @ivar skips: later segments acknowledged since it was sent, or L{SETTLED}.
    @ivar sendings: how often it was sent.
    """

    __slots__ = ("due", "sendings", "sent", "skips", "timeout")

    def __init__(self, batch: SentBatch) -> None:
        self.sent = batch.sent
        self.timeout = batch.timeout
        self.due = batch.due
        self.sendings = batch.sendings
        self.skips = 0

    def cause(self, policy: RetransmitPolicy) -> Cause | None:
        """Whether to send it now, by the first rule that applies."""
        if self.skips > 0:
            if self.skips >= policy.threshold:
                return Cause.FAST
            if policy.early:
                return Cause.EARLY
        return Cause.TIMEOUT if policy.now >= self.due else None

    def renew(self, cause: Cause, policy: RetransmitPolicy) -> None:
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


class SentBatch:
    """
    Segments numbered C{first} .. C{end} - 1, of C{mss} payload bytes each (the last may
    be shorter), and what they have in common.

    @ivar length: payload bytes.
    @ivar frg: fragment field of the first; it counts down and stays at 0.
    @ivar sent: clock of the last common transmission; C{due} is when their
        common C{timeout} is over, L{NEVER} when it concerns none any more.
    @ivar sendings: common transmissions.
    @ivar states: of segments that differ, by number.
    """

    __slots__ = (
        "data",
        "due",
        "end",
        "first",
        "frg",
        "length",
        "mss",
        "sendings",
        "sent",
        "states",
        "timeout",
    )

    def __init__(self, first: int, data: Data, mss: int, frg: int) -> None:
        """It has numbers and is not sent yet."""
        self.first = first
        self.length = sum(map(len, data)) if type(data) is tuple else len(data)
        self.end = first + (-(-self.length // mss) or 1)
        self.data = data
        self.mss = mss
        self.frg = frg
        self.sent = 0
        self.timeout = 0
        self.due = NEVER
        self.sendings = 0
        self.states: dict[int, SegmentState] | None = None

    def launch(self, now: int, timeout: int) -> None:
        """It is sent for the first time."""
        self.sent = now
        self.timeout = timeout
        self.due = now + timeout
        self.sendings = 1

    def payload(self, first: int, end: int) -> Buffer:
        """Payload of the segments C{first} .. C{end} - 1, back to back."""
        data = self.data
        if isinstance(data, tuple):
            # Only what is sent again comes here.
            data = self.data = b"".join(data)
        if first == self.first and end == self.end:
            return data
        mss = self.mss
        return memoryview(data)[(first - self.first) * mss : (end - self.first) * mss]

    def fragment(self, number: int) -> int:
        """C{frg} of a segment."""
        left = self.frg - (number - self.first)
        return left if left > 0 else 0

    def size(self, first: int, end: int) -> int:
        """Payload bytes of the segments C{first} .. C{end} - 1."""
        total, mss = self.length, self.mss
        return min((end - self.first) * mss, total) - min((first - self.first) * mss, total)

    def state(self, number: int) -> SegmentState:
        """The record of one segment, made if there is none."""
        if self.states is None:
            self.states = {}
        found = self.states.get(number)
        if found is None:
            found = self.states[number] = SegmentState(self)
        return found

    def retransmit(
        self, sent: SentSegments, policy: RetransmitPolicy
    ) -> list[tuple[int, Cause]]:
        """
        What is to be sent again, in order. It counts as sent with this call.

        @param sent: knows what has arrived.
        """
        chosen: list[tuple[int, Cause]] = []
        own = self.states
        if own:
            una, arrived = sent.una, sent.arrived
            for number in [each for each in own if each < una or arrived[each - una]]:
                del own[number]
            for number, state in own.items():
                cause = state.cause(policy)
                if cause is not None:
                    state.renew(cause, policy)
                    chosen.append((number, cause))
        if policy.now >= self.due:
            missing = sent.missing_of(self)
            common = [number for number in missing if not own or number not in own]
            if common:
                chosen += [(number, Cause.TIMEOUT) for number in common]
                self.timeout += policy.growth
                self.sent = policy.now
                self.due = policy.now + self.timeout
                self.sendings += 1
            else:
                self.due = NEVER
        chosen.sort(key=_by_number)
        return chosen

    def next_due(self) -> int:
        """A time before which nothing here expires; L{NEVER} if nothing will."""
        if not self.states:
            return self.due
        return min(self.due, min(state.due for state in self.states.values()))

    def postpone(self, now: int) -> None:
        """Let what has expired wait once more for as long, without counting it."""
        if self.due <= now:
            self.due = now + self.timeout
        for state in (self.states or {}).values():
            if state.due <= now:
                state.due = now + state.timeout

    @property
    def has_skips(self) -> bool:
        """A later retransmission because of skips is possible."""
        return any(state.skips > 0 for state in (self.states or {}).values())

    def most_sendings(self) -> int:
        """How often the most often sent segment was sent."""
        return max([self.sendings, *(state.sendings for state in (self.states or {}).values())])


def _by_number(choice: tuple[int, Cause]) -> int:
    return choice[0]


_first: Final = attrgetter("first")


class SentSegments:
    """
    All batches, oldest first, and which of their segments have arrived.

    @ivar una: the first number not covered by the peer's cumulative acknowledgement.
        Segments acknowledged one by one stay until it passes them, as in kcp-go.
    @ivar nxt: the next number to give.
    @ivar batches: those not covered altogether.
    @ivar arrived: a byte for each number from L{una} on, 1 if it was acknowledged.
    @ivar outstanding: segments not acknowledged in either way.
    @ivar numbered: payload bytes that got a number.
    @ivar delivered: payload bytes acknowledged in either way.
    """

    __slots__ = ("arrived", "batches", "delivered", "numbered", "nxt", "outstanding", "una")

    def __init__(self, first: int) -> None:
        self.una = self.nxt = first
        self.batches: list[SentBatch] = []
        self.arrived = bytearray()
        self.outstanding = 0
        self.numbered = 0
        self.delivered = 0

    @property
    def in_flight(self) -> int:
        """Payload bytes sent and not acknowledged in either way."""
        return self.numbered - self.delivered

    def add(self, batch: SentBatch) -> None:
        """Append the batch that begins at L{nxt}."""
        count = batch.end - batch.first
        self.batches.append(batch)
        self.arrived += b"\0" if count == 1 else bytes(count)
        self.outstanding += count
        self.numbered += batch.length
        self.nxt = batch.end

    def release(self) -> None:
        """Drop all batches, keep the numbers."""
        self.batches.clear()
        self.una = self.nxt
        self.arrived = bytearray()
        self.outstanding = 0
        self.delivered = self.numbered

    def cover(self, una: int) -> int:
        """
        Everything before C{una}, which is not after L{nxt}, has arrived.

        @return: how many segments were not known to have arrived.
        """
        before = self.una
        newly = self.arrived.count(0, 0, una - before)
        whole = newly == una - before
        past = 0
        for batch in self.batches:
            if batch.first >= una:
                break
            if newly:
                first = batch.first if batch.first > before else before
                end = batch.end if batch.end < una else una
                if whole:
                    inside = batch.first == first and batch.end == end
                    self.delivered += batch.length if inside else batch.size(first, end)
                else:
                    for number in self.missing(first, end):
                        self.delivered += batch.size(number, number + 1)
            if batch.end > una:
                break
            past += 1
        del self.batches[:past]
        del self.arrived[: una - before]
        self.una = una
        self.outstanding -= newly
        return newly

    def mark(self, numbers: Iterable[int]) -> int:
        """
        Segments have arrived.

        @param numbers: within L{una} .. L{nxt} - 1, in ascending order.
        @return: of how many this was not known.
        """
        una, arrived = self.una, self.arrived
        batch: SentBatch | None = None
        newly = 0
        for number in numbers:
            if arrived[number - una]:
                continue
            arrived[number - una] = 1
            newly += 1
            if batch is None or number >= batch.end:
                batch = self.batch_of(number)
            if number == batch.end - 1:
                self.delivered += batch.size(number, number + 1)
            else:
                self.delivered += batch.mss
        self.outstanding -= newly
        return newly

    def mark_stretch(self, first: int, end: int) -> None:
        """L{mark} for C{first} .. C{end} - 1; quick where none of them was known."""
        low, high = first - self.una, end - self.una
        if self.arrived.find(1, low, high) >= 0:
            self.mark(range(first, end))
            return
        self.arrived[low:high] = b"\1" * (end - first)
        self.outstanding -= end - first
        while first < end:
            batch = self.batch_of(first)
            stop = end if end < batch.end else batch.end
            self.delivered += batch.size(first, stop)
            first = stop

    def batch_of(self, number: int) -> SentBatch:
        """The batch that has a number within L{una} .. L{nxt} - 1."""
        batches = self.batches
        if number < batches[0].end:
            return batches[0]
        return batches[bisect_right(batches, number, key=_first) - 1]

    def missing(self, first: int, end: int) -> Iterator[int]:
        """Numbers in C{first} .. C{end} - 1, none before L{una}, that have not arrived."""
        una, arrived = self.una, self.arrived
        index = arrived.find(0, first - una, end - una)
        while index >= 0:
            yield index + una
            index = arrived.find(0, index + 1, end - una)

    def missing_among(self, stretches: Iterable[tuple[int, int]]) -> list[int]:
        """Numbers in any of these, first and end, that have not arrived, each once."""
        una = self.una
        found: dict[int, None] = {}
        for first, end in stretches:
            for number in self.missing(first if first > una else una, end):
                found[number] = None
        return list(found)

    def missing_of(self, batch: SentBatch) -> list[int]:
        """Numbers of a batch that have not arrived."""
        first = batch.first if batch.first > self.una else self.una
        return list(self.missing(first, batch.end))
