"""
What was sent and is not acknowledged yet (raknet.md 9).

A L{Flight} is one or many datagrams with consecutive numbers that were sent
together. A reliable frame gets a record of its own, a L{Parcel}, when it shares a
datagram with others or when loss makes it be sent again; the datagrams of a run of
bulk data are known by their place in it.

Numbers are unbounded integers here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

from twisted_rudp.raknet.outbox import Outgoing
from twisted_rudp.raknet.wire import HEADER_SIZE

FLYING, ARRIVED, LOST, UNNAMED = 0, 1, 2, 3
"""What became of a datagram. The peer has named what is lost, or was given the time
to; what is unnamed has timed out and may be a gap at the peer yet, though its frames
arrive in another datagram."""


class Parcel:
    """
    One reliable frame.

    @ivar data: the whole frame as it goes into a datagram.
    @ivar reliable: its reliable index.
    @ivar message: whose part it is; None for a piece of the stream.
    @ivar repeats: how often it has timed out.
    @ivar flying: it counts as in flight; else it waits to be sent again.
    @ivar done: some datagram with it was acknowledged.
    """

    __slots__ = ("data", "done", "flying", "message", "reliable", "repeats")

    def __init__(self, data: bytes, reliable: int, message: Outgoing | None) -> None:
        self.data = data
        self.reliable = reliable
        self.message = message
        self.repeats = 0
        self.flying = True
        self.done = False


class Ledger(Protocol):
    """Who keeps the sums."""

    def arrived(self, reliable: int, count: int, size: int) -> None:
        """Frames of bulk data that were in flight are acknowledged, C{size} bytes."""

    def parcel_arrived(self, parcel: Parcel) -> None:
        """A datagram with this frame was acknowledged, perhaps not the first one."""

    def receipt(self, message: Outgoing, arrived: bool) -> None:
        """The fate of an unreliable message."""

    def lost_parcel(self, parcel: Parcel) -> None:
        """A frame that was in flight is to be sent again."""


class Flight(Protocol):
    """
    @ivar first: its first number; C{end} the one after its last.
    @ivar sent: when it was.
    @ivar due: when it times out; after that, when its gaps are to be filled.
    @ivar live: some datagram is neither acknowledged nor given up.
    @ivar finished: every frame in it is acknowledged, here or elsewhere.
    @ivar unnamed: some datagram is.
    @ivar fillings: how often its gaps were filled to no avail.
    @ivar filled: the next number when they were last.
    """

    first: int
    end: int
    sent: int
    due: int
    fillings: int
    filled: int

    @property
    def live(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    @property
    def unnamed(self) -> bool: ...

    def acknowledge(self, first: int, end: int, ledger: Ledger) -> bool:
        """
        Datagrams C{first} .. C{end} - 1, which are all here, have arrived.

        @return: that was news.
        """

    def lose(self, first: int, end: int, ledger: Ledger, expired: bool) -> int:
        """
        They have not.

        @param expired: it is time that says so, not the peer.
        @return: how many of them had counted as in flight.
        """

    def gaps(self) -> list[tuple[int, bytes]]:
        """
        What fills the gaps that the peer may have: the number of each unnamed
        datagram, with those frames of it that have not arrived otherwise, so that its
        acknowledgement tells the truth.
        """

    def forget(self) -> None:
        """Nothing is unnamed any more."""


class Packet:
    """One datagram with any frames."""

    __slots__ = (
        "_parcels",
        "_state",
        "_unreliable",
        "due",
        "end",
        "filled",
        "fillings",
        "first",
        "sent",
    )

    def __init__(
        self, number: int, parcels: Sequence[Parcel], unreliable: Sequence[Outgoing], sent: int
    ) -> None:
        """
        @param unreliable: messages in it that want a receipt.
        """
        self.first = number
        self.end = number + 1
        self.sent = sent
        self.due = sent
        self.fillings = self.filled = 0
        self._parcels = parcels
        self._unreliable = unreliable
        # Nobody waits for a datagram without either; that it may be missing counts.
        self._state = FLYING if parcels or unreliable else UNNAMED

    @property
    def repeats(self) -> int:
        """How often the most unlucky frame has timed out."""
        return max((parcel.repeats for parcel in self._parcels), default=0)

    @property
    def live(self) -> bool:
        return self._state == FLYING

    @property
    def finished(self) -> bool:
        return self._state != FLYING and all(parcel.done for parcel in self._parcels)

    @property
    def unnamed(self) -> bool:
        return self._state == UNNAMED

    def acknowledge(self, first: int, end: int, ledger: Ledger) -> bool:
        if self._state == ARRIVED:
            return False
        if self._state == FLYING:
            for message in self._unreliable:
                ledger.receipt(message, True)
        self._state = ARRIVED
        for parcel in self._parcels:
            if not parcel.done:
                ledger.parcel_arrived(parcel)
        return True

    def lose(self, first: int, end: int, ledger: Ledger, expired: bool) -> int:
        if self._state != FLYING:
            if self._state == UNNAMED and not expired:
                self._state = LOST
            return 0
        self._state = UNNAMED if expired else LOST
        if expired:
            for message in self._unreliable:
                ledger.receipt(message, False)
        found = 0
        for parcel in self._parcels:
            if not parcel.done:
                parcel.repeats += expired
                ledger.lost_parcel(parcel)
                found = 1
        return found

    def gaps(self) -> list[tuple[int, bytes]]:
        return [(self.first, _unfinished(self._parcels))]

    def forget(self) -> None:
        self._state = LOST


def _unfinished(parcels: Iterable[Parcel]) -> bytes:
    return b"".join(parcel.data for parcel in parcels if not parcel.done)


Build: TypeAlias = Callable[[int], bytes]
"""C{(index)} -> the datagram at this place of a run."""


def _nothing(index: int) -> bytes:
    return b""


class Run:
    """
    Datagrams of bulk data (L{twisted_rudp.raknet.bulk}), equally long but for the
    last, with equally many frames of one length in each but the last.
    """

    __slots__ = (
        "_build",
        "_frames",
        "_length",
        "_live",
        "_open",
        "_parcels",
        "_per",
        "_reliable",
        "_size",
        "_states",
        "due",
        "end",
        "filled",
        "fillings",
        "first",
        "sent",
    )

    def __init__(
        self, number: int, frames: tuple[int, int, int], length: int, size: int, build: Build
    ) -> None:
        """
        @param frames: reliable index of the first, how many there are, and how many
            to a datagram.
        @param length: bytes of all datagrams, C{size} in each but the last.
        @param build: makes datagrams of it once more. The data it is made of has other
            owners too; a built run would fill the memory a second time.
        """
        count = -(-length // size)
        self.first = number
        self.end = number + count
        self.sent = self.due = self.fillings = self.filled = 0
        self._reliable, self._frames, self._per = frames
        self._length = length
        self._size = size
        self._build = build
        self._states: bytearray | None = None
        self._parcels: dict[int, list[Parcel]] = {}
        self._live = self._open = count

    @property
    def live(self) -> bool:
        return self._live > 0

    @property
    def finished(self) -> bool:
        return not self._open or (
            not self._live
            and all(parcel.done for parcels in self._parcels.values() for parcel in parcels)
        )

    @property
    def unnamed(self) -> bool:
        return self._states is not None and UNNAMED in self._states

    def acknowledge(self, first: int, end: int, ledger: Ledger) -> bool:
        states = self._states
        if states is None:
            if first == self.first and end == self.end:
                self._live = self._open = 0
                self._states = bytearray(b"\1" * (end - first))
                ledger.arrived(self._reliable, self._frames, self._bytes(0, end - first))
                self._build = _nothing
                return True
            states = self._states = bytearray(self.end - self.first)
        news = False
        for start, stop in self._stretches(states, first - self.first, end - self.first, FLYING):
            states[start:stop] = b"\1" * (stop - start)
            self._live -= stop - start
            self._open -= stop - start
            at = start * self._per
            frames = min(stop * self._per, self._frames) - at
            ledger.arrived(self._reliable + at, frames, self._bytes(start, stop))
            news = True
        if self._parcels:
            for index in range(first - self.first, end - self.first):
                if states[index] >= LOST:
                    states[index] = ARRIVED
                    self._open -= 1
                    news = True
                    for parcel in self._parcels[index]:
                        if not parcel.done:
                            ledger.parcel_arrived(parcel)
        return news

    def lose(self, first: int, end: int, ledger: Ledger, expired: bool) -> int:
        states = self._states
        if states is None:
            states = self._states = bytearray(self.end - self.first)
        low, high = first - self.first, end - self.first
        if not expired:
            states[low:high] = states[low:high].replace(b"\3", b"\2")
        found = 0
        for start, stop in list(self._stretches(states, low, high, FLYING)):
            states[start:stop] = (b"\3" if expired else b"\2") * (stop - start)
            found += stop - start
            for index in range(start, stop):
                parcels = self._parcels[index] = self._cut(index)
                for parcel in parcels:
                    parcel.repeats += expired
                    ledger.lost_parcel(parcel)
        self._live -= found
        return found

    def gaps(self) -> list[tuple[int, bytes]]:
        states = self._states
        if states is None:
            return []
        return [
            (self.first + index, _unfinished(self._parcels[index]))
            for start, stop in self._stretches(states, 0, len(states), UNNAMED)
            for index in range(start, stop)
        ]

    def forget(self) -> None:
        if self._states is not None:
            self._states = self._states.replace(b"\3", b"\2")

    @staticmethod
    def _stretches(
        states: bytearray, start: int, end: int, state: int
    ) -> Iterator[tuple[int, int]]:
        """Where neighbours are in one state."""
        at = states.find(state, start, end)
        while at >= 0:
            stop = at + 1
            while stop < end and states[stop] == state:
                stop += 1
            yield at, stop
            at = states.find(state, stop, end)

    def _bytes(self, start: int, stop: int) -> int:
        size = self._size
        return min(stop * size, self._length) - start * size - HEADER_SIZE * (stop - start)

    def _cut(self, index: int) -> list[Parcel]:
        """The frames of one datagram, each by itself."""
        size = self._size
        body = self._build(index)[HEADER_SIZE:]
        length = (size - HEADER_SIZE) // self._per
        reliable = self._reliable + index * self._per
        return [
            Parcel(body[at : at + length], reliable + number, None)
            for number, at in enumerate(range(0, len(body), length))
        ]
