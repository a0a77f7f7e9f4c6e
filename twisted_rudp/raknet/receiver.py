"""The receiving half: from datagrams to messages in order (raknet.md 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.ranges import Ranges
from twisted_rudp.core.serial import unwrap24
from twisted_rudp.kernels import take_messages, take_stream
from twisted_rudp.raknet.arrivals import Arrival, Arrivals
from twisted_rudp.raknet.channels import ReceiveChannel
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.messages import is_users
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.splits import Disagreement, Splits
from twisted_rudp.raknet.system import FIRST_USER_ID
from twisted_rudp.raknet.wire import (
    CHANNELS,
    HAS_ORDER,
    HEADER_SIZE,
    WITHOUT_RECEIPT,
    ZERO,
    Frame,
    Starts,
    parse_frames,
)


class Delivered(NamedTuple):
    """
    What is to be handed up next.

    @ivar payload: valid during the call that gave it.
    @ivar reliability: one of the first five.
    """

    payload: Buffer
    reliability: int
    channel: int


class LimitExceeded(Exception):
    """The peer makes this session hold more than it may."""


class Receiver:
    """
    @ivar arrivals: the numbers of datagrams.
    @ivar reliable: the first reliable index that has not come.
    @ivar bad: datagrams that could not be read, or not to their end.
    """

    def __init__(
        self, settings: Settings, counters: Counters, starts: Starts = ZERO
    ) -> None:
        """
        @param starts: the peer's.
        """
        self.reliable = starts.reliable
        self.arrivals = Arrivals(settings, starts.datagram)
        self._starts = starts
        self.bad = 0
        self._settings = settings
        self._counters = counters
        self._above = Ranges()
        self._channels: dict[int, ReceiveChannel] = {}
        self._splits = Splits(settings)
        self._zero = self._channel(0)

    @property
    def held(self) -> int:
        """Bytes that wait for something else."""
        return self._splits.size + sum(one.size for one in self._channels.values())

    def _channel(self, number: int) -> ReceiveChannel:
        found = self._channels.get(number)
        if found is None:
            starts = self._starts
            found = self._channels[number] = ReceiveChannel(starts.order, starts.sequence)
        return found

    def take(self, run: Buffer, size: int, now: int) -> tuple[int, bytes | list[bytes]]:
        """
        Take in the leading datagrams of a run if they are bulk data and just what is
        expected next, while nothing waits for anything.

        @return: how many bytes they have, and their part of the stream or their
            messages.
        """
        zero = self._zero
        if zero or self._above:
            return 0, b""
        settings, arrivals = self._settings, self.arrivals
        number = arrivals.expected
        taken: bytes | list[bytes]
        if settings.stream:
            count, taken = take_stream(
                run, size, number, self.reliable, zero.next, settings.user_id
            )
            frames = count
        else:
            count, taken = take_messages(
                run, size, number, self.reliable, zero.next, FIRST_USER_ID
            )
            frames = len(taken)
        if not count:
            return 0, b""
        self.reliable += frames
        zero.advance(frames)
        length = min(count * size, len(run))
        arrivals.accept(number, count, length, now, 0)
        self._counters.datagrams_received += count
        return length, taken

    def datagram(
        self, datagram: memoryview, now: int, guard: int, full: bool, early: bool = False
    ) -> Iterator[Delivered]:
        """
        Digest any datagram with frames.

        @param guard: how long a gap may close by itself.
        @param full: nothing reliable is taken in.
        @param early: nothing reliable of the application's is taken in.
        @raise LimitExceeded: the session cannot go on.
        """
        counters = self._counters
        if len(datagram) < HEADER_SIZE:
            counters.datagrams_malformed += 1
            self.bad += 1
            return
        arrivals = self.arrivals
        number = arrivals.near(int.from_bytes(datagram[1:HEADER_SIZE], "little"))
        frames, broken = parse_frames(datagram)
        if self._unwelcome(frames, full, early, now):
            counters.datagrams_withheld += 1
            arrivals.withhold(number)
            return
        arrival = arrivals.accept(number, 1, len(datagram), now, guard)
        if arrival is Arrival.FAR:
            counters.datagrams_far += 1
            if self._settings.jump_ends:
                raise LimitExceeded("datagram numbers jumped")
            return
        counters.datagrams_received += 1
        if arrival is Arrival.REPEATED:
            counters.datagrams_repeated += 1
            return
        for frame in frames:
            yield from self._frame(frame, now)
        if broken:
            counters.datagrams_malformed += 1
            self.bad += 1

    def _unwelcome(self, frames: list[Frame], full: bool, early: bool, now: int) -> bool:
        """Something here cannot be taken in now and would be lost if acknowledged."""
        edge = self.reliable + self._settings.reliable_window
        for frame in frames:
            if frame.reliable is None:
                continue
            number = unwrap24(frame.reliable, self.reliable)
            if full or number >= edge:
                return True
            if early and not (frame.split and frame.split.number) and is_users(frame.payload[0]):
                # Of a message in pieces the first says whose it is.
                return True
            if (
                frame.split is not None
                and not self._splits.has_room(frame.split, now)
                and number >= self.reliable
                and number not in self._above
            ):
                return True
        return False

    def _frame(self, frame: Frame, now: int) -> Iterator[Delivered]:
        counters = self._counters
        if frame.channel >= CHANNELS:
            counters.frames_malformed += 1
            self.bad += 1
            return
        if frame.reliable is not None and not self._is_first(frame.reliable):
            counters.frames_repeated += 1
            return
        whole: Frame | None = frame
        if frame.split is not None:
            try:
                whole = self._splits.add(frame, now)
            except Disagreement:
                counters.frames_malformed += 1
                self.bad += 1
                return
            if whole is None:
                self._check_held()
                return
            counters.messages_joined += 1
        assert whole is not None
        if not HAS_ORDER[whole.reliability]:
            yield self._deliver(whole)
            return
        channel = self._channel(whole.channel)
        for each in channel.put(whole):
            yield self._deliver(each)
        if channel:
            if len(channel) > self._settings.order_limit:
                raise LimitExceeded("too many messages wait for an earlier one")
            self._check_held()

    def _deliver(self, frame: Frame) -> Delivered:
        return Delivered(frame.payload, WITHOUT_RECEIPT[frame.reliability], frame.channel)

    def _is_first(self, index: int) -> bool:
        """
        Note a reliable index.

        @return: it had not come before.
        """
        number = unwrap24(index, self.reliable)
        if number == self.reliable:
            self.reliable = self._above.pop_through(number + 1)
            return True
        return number > self.reliable and self._above.add(number, number + 1) > 0

    def _check_held(self) -> None:
        if self.held > self._settings.held:
            raise LimitExceeded("too many bytes wait for others")
