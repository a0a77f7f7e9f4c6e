"""
Which shape of FEC groups fits a path: by the round trip, the rate and the loss that are measured.

What is missing makes the messages behind it late. A loss that a group repairs delays the rest of
the group, until its parity is there. One that it does not repair delays all that is sent until the
repetition has come. From both follows the delay that 99 of 100 messages stay below; it should be
small, and the parity little. Where delay does not count, most of what is lost should be repaired
with as little parity as possible.

Losses come in runs as in Gilbert's model: a packet is lost with one probability behind a packet
that arrived, and with another behind one that was lost.
"""

from __future__ import annotations

from functools import lru_cache
from math import log, log2
from typing import Final, TypeAlias

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.serial import HALF32, MASK32

GroupShape: TypeAlias = tuple[int, int]
"""Data and parity packets of a group."""

Chances: TypeAlias = tuple[float, ...]
"""Of 0, 1, 2 and so on."""

LARGEST: Final = 16
"""Data packets of a group, at most."""

LATE: Final = 0.01
"""The share of messages that may be later than the delay of a shape, ..."""

WAYS: Final = 2
"""... when all cross the path so often: question and answer."""

REPEATED: Final = 1.1
"""Round trips after which a message is sent again that was not acknowledged."""

MOST_SENT: Final = 1.52
"""Packets for each data packet: with headers and acknowledgements 1.6 bytes for each byte."""

MOST_REPEATED: Final = 0.1
"""The share of repetitions that is part of that, at most: where more is lost, more is sent."""

FIRST_LOSS: Final = 0.03
"""Assumed until something is measured: too much parity costs less than too little at first."""

LEAST_LOSS: Final = 0.005
"""Assumed where less is measured: a clean path does not stay so."""

THRIFTY_LARGEST: Final = 32
"""Data packets of a group, at most, where parity is to be little; ..."""

THRIFTY_FIRST_LOSS: Final = 0.01

THRIFTY_LEAST_LOSS: Final = 0.001
"""... the loss that is assumed there, at least; ..."""

MANY: Final = 0.15
"""... and the share of the losses that may be left to repetitions."""

MOST_LOSS: Final = 0.3

MOST_RUNNING: Final = 0.8

AVERAGED: Final = 6 * SECOND
"""The measured loss is an average over about so long, ..."""

AVERAGED_PACKETS: Final = 300
"""... and over so many packets at least."""

ASSUMED_PACKETS: Final = 100
"""What is assumed counts as much as so many packets."""

REST: Final = 2 * SECOND
"""Between two changes, at least."""

RARE: Final = 0.02
"""A shape that leaves no more than this share of the losses unrepaired is waited for."""

RUNS: Final = 0.25
"""Losses come in runs where the packet behind a lost one is lost so often."""

FEW_RUNS: Final = 0.06
"""The share of runs that last longer than they are said to."""

NEAR: Final = 1.3
"""While the present shape would be chosen for a loss of so many times more or less, it stays."""

MEASURED: Final = 1000
"""Data packets after which the parity that bulk gets is chosen again."""

SHOWN: Final = 0.3
"""Of the losses about so many show as repetitions, though parity repairs them: where a peer reads
whole groups in one turn, the others are acknowledged as if nothing had been missing."""

LEFT: Final = 5e-4
"""Of the data packets of bulk so many may be lost and not repaired: about one in four windows of
kcptun's. Each of them holds the window up for a round trip."""

MOST_SHARE: Final = 0.1
"""A higher share of repetitions counts as this one: all parity is needed in any case."""

SLOW: Final = 5 * SECOND
"""What takes so long to make so many packets is no bulk. Much of it may be sent again, because
first bytes of connections are."""

_STEPS: Final = 4
"""Steps of each doubling of a quantity: what lies between chooses alike."""


@lru_cache(256)
def _lost(count: int, loss: float, running: float) -> tuple[Chances, Chances]:
    """
    How likely 0, 1, ... of C{count} packets are lost, and the last of them arrives (first) or
    is lost (second).
    """
    if count == 1:
        return (1 - loss, 0.0), (0.0, loss)
    arrived, lost = _lost(count - 1, loss, running)
    begins = loss * (1 - running) / (1 - loss)
    pairs = list(zip((*arrived, 0.0), (*lost, 0.0), strict=True))
    ends = tuple(after * (1 - begins) + within * (1 - running) for after, within in pairs)
    goes_on = tuple(after * begins + within * running for after, within in pairs)
    return ends, (0.0, *goes_on[:-1])


@lru_cache(256)
def _at_least(count: int, loss: float, running: float) -> tuple[Chances, Chances]:
    """
    How likely at least 0, 1, ... of the next C{count} packets are lost, behind one that arrived
    (first) and behind one that was lost (second).
    """
    if not count:
        return (1.0,), (1.0,)
    arrived, lost = _at_least(count - 1, loss, running)
    begins = loss * (1 - running) / (1 - loss)
    pairs = list(zip((*arrived, 0.0)[1:], lost, strict=True))
    first = (1.0, *(after * (1 - begins) + within * begins for after, within in pairs))
    second = (1.0, *(after * (1 - running) + within * running for after, within in pairs))
    return first, second


def failures(data: int, parity: int, loss: float, running: float) -> tuple[float, float]:
    """
    What a shape does not repair: the share of data packets that are lost and cannot be rebuilt,
    and, for each data packet, the groups in which there are such.

    @param running: how likely the packet behind a lost one is lost, too.
    """
    running = max(running, loss)
    packets = groups = 0.0
    further = _at_least(parity, loss, running)
    for before, more in zip(_lost(data, loss, running), further, strict=True):
        for lost in range(1, data + 1):
            chance = before[lost] * more[max(parity + 1 - lost, 0)]
            packets += lost * chance
            groups += chance
    return packets / data, groups / data


def unrepaired(data: int, parity: int, loss: float, running: float) -> float:
    """The first of L{failures}."""
    return failures(data, parity, loss, running)[0]


def wire(data: int, parity: int, loss: float, running: float) -> float:
    """
    Packets sent for each data packet, repetitions included. Where a repetition does not wait
    for the group, each loss makes one, and each acknowledgement that is lost.
    """
    left = unrepaired(data, parity, loss, running)
    repeated = left if left <= RARE * loss else min(WAYS * loss, MOST_REPEATED)
    return (1 + parity / data) * (1 + repeated)


def delay(
    data: int, parity: int, loss: float, running: float, round_trip: float, interval: float
) -> float:
    """
    What all but L{LATE} of the messages are delayed by, at most, in seconds.

    @param round_trip: seconds.
    @param interval: seconds between two data packets.
    """
    left, groups = failures(data, parity, loss, running)
    repetition = REPEATED * round_trip
    if groups:
        repetition += (left / groups - 1) * interval
    if left <= RARE * loss:
        repetition += (data - 1) * interval
    lasting = WAYS * groups / interval
    runs = WAYS * loss * (1 - max(running, loss))
    for steps in range(data):
        # With k packets of its group behind it, a lost one delays by k, k - 1, ... intervals.
        behind = data - 1 - steps
        repaired = runs * behind * (behind + 1) / 2 / data
        if repaired + lasting * max(repetition - steps * interval, 0) <= LATE:
            return steps * interval
    return max(repetition - LATE / lasting, (data - 1) * interval)


@lru_cache(256)
def _choose_thrifty(
    loss_step: int, running_step: int, trip_step: int, interval_step: int
) -> GroupShape:
    loss, round_trip, interval = (
        2.0 ** (step / _STEPS) for step in (loss_step, trip_step, interval_step)
    )
    running = loss + running_step / _STEPS * (1 - loss)
    found = []
    for data in range(2, THRIFTY_LARGEST + 1):
        if data > 2 and (data - 1) * interval > round_trip / 2:
            break
        for parity in range(1, data // 2 + 1):
            left = unrepaired(data, parity, loss, running) / loss
            found.append((max(left, MANY), parity / data, data, parity))
            if left <= MANY:
                break
    _, _, data, parity = min(found)
    return data, parity


@lru_cache(256)
def _choose(loss_step: int, running_step: int, trip_step: int, interval_step: int) -> GroupShape:
    loss, round_trip, interval = (
        2.0 ** (step / _STEPS) for step in (loss_step, trip_step, interval_step)
    )
    running = loss + running_step / _STEPS * (1 - loss)
    good = max(round_trip / 5, interval * 1.01)
    found = []
    for data in range(2, LARGEST + 1):
        if data > 2 and (data - 1) * interval > round_trip:
            break
        for parity in range(1, data // 2 + 1):
            much = wire(data, parity, loss, running) > MOST_SENT
            late = delay(data, parity, loss, running, round_trip, interval)
            found.append((much, max(late, good), parity / data, data, parity))
    _, _, _, data, parity = min(found)
    return data, parity


def choose(
    loss: float, running: float, round_trip: float, interval: float, thrifty: bool = False
) -> GroupShape:
    """
    The shape for a path: never more than half as much parity as data.

    @param loss: share of datagrams.
    @param running: how likely the packet behind a lost one is lost for the same reason.
    @param round_trip: seconds.
    @param interval: seconds between two data packets.
    @param thrifty: repair most of what is lost with as little parity as possible, whatever
        the delay.
    """
    loss = min(max(loss, THRIFTY_LEAST_LOSS if thrifty else LEAST_LOSS), MOST_LOSS)
    round_trip = min(max(round_trip, 0.001), 10.0)
    interval = min(max(interval, 0.0001), 10.0)
    pick = _choose_thrifty if thrifty else _choose
    return pick(
        round(log2(loss) * _STEPS),
        round(min(max(running - loss, 0.0), MOST_RUNNING) * _STEPS),
        round(log2(round_trip) * _STEPS),
        round(log2(interval) * _STEPS),
    )


class ShapeChoice:
    """
    Follows what is measured.

    @ivar loss: the present estimate, a share of data packets.
    @ivar running: how likely the packet behind a lost one is lost for the same reason.
    @ivar rate: data packets a second; 0 before it is known.
    """

    __slots__ = (
        "_at",
        "_changed",
        "_missed",
        "_runs",
        "_seen",
        "_sent",
        "_thrifty",
        "loss",
        "rate",
        "running",
    )

    def __init__(self, thrifty: bool = False) -> None:
        """
        @param thrifty: as of L{choose}.
        """
        self._thrifty = thrifty
        self.loss = THRIFTY_FIRST_LOSS if thrifty else FIRST_LOSS
        self.running = 0.0
        self.rate = 0.0
        self._at: int | None = None
        self._changed = 0
        self._sent = self._missed = self._runs = 0
        self._seen = 0

    def learn(self, now: int, sent: int, missed: int, runs: int) -> None:
        """
        Take in a report.

        @param sent: data packets so far; C{missed}: those of them that the peer did not get;
            C{runs}: how often one was missed though the one before it was not. The last two are
            modulo 2^32.
        """
        packets = sent - self._sent
        gone, began = (missed - self._missed) & MASK32, (runs - self._runs) & MASK32
        at = self._at
        if at is None:
            self._at, self._sent, self._missed, self._runs = now, sent, missed, runs
            self._changed = now - REST
            return
        if packets <= 0 or gone >= HALF32 or began > gone or now <= at:
            # A copy, or one that was overtaken.
            return
        self._at, self._sent, self._missed, self._runs = now, sent, missed, runs
        elapsed = now - at
        self._seen += packets
        steady = min(elapsed / AVERAGED, packets / AVERAGED_PACKETS)
        weight = min(max(steady, packets / (self._seen + ASSUMED_PACKETS)), 1.0)
        self.loss += (min(gone / packets, 1.0) - self.loss) * weight
        if gone:
            self.running += (1 - began / gone - self.running) * min(gone / 20, 1.0)
        rate = packets * SECOND / elapsed
        self.rate += (rate - self.rate) * (min(2 * weight, 1.0) if self.rate else 1.0)

    def repair_delay(self, shape: GroupShape) -> int:
        """
        Nanoseconds for which a repetition should wait, because a shape most likely repairs what
        is missing until then.
        """
        data, parity = shape
        loss = min(max(self.loss, LEAST_LOSS), MOST_LOSS)
        if not self.rate or unrepaired(data, parity, loss, self.running) > RARE * loss:
            return 0
        return round((data - 1) / self.rate * SECOND)

    def run_length(self) -> int:
        """Nanoseconds that few runs of losses last longer than; 0: losses do not come in runs."""
        if not self.rate or self.running < RUNS:
            return 0
        packets = log(FEW_RUNS) / log(min(self.running, MOST_RUNNING))
        return round(packets / self.rate * SECOND)

    def change(self, now: int, present: GroupShape, round_trip: int) -> GroupShape | None:
        """
        The shape to go over to; None if the present one is to stay.

        @param round_trip: in nanoseconds.
        """
        if not self.rate or not round_trip or now - self._changed < REST:
            return None
        trip, interval = round_trip / SECOND, 1 / self.rate
        shape = choose(self.loss, self.running, trip, interval, self._thrifty)
        for loss in (self.loss / NEAR, self.loss * NEAR):
            if present == choose(loss, self.running, trip, interval, self._thrifty):
                # Where it is even, nothing is gained by a change and another one back.
                return None
        if shape == present:
            return None
        self._changed = now
        return shape


@lru_cache(64)
def _enough(data: int, parity: int, loss_step: int) -> int:
    loss = 2.0 ** (loss_step / _STEPS)
    for fewer in range(1, parity):
        if unrepaired(data, fewer, loss, 0) <= LEFT:
            return fewer
    return parity


class ParityChoice:
    """
    How much of its parity a group of bulk needs, by what had to be sent again. The first
    groups have all of it, so that a peer can find out their shape.

    @ivar numbered: data packets up to the last measurement.
    """

    __slots__ = ("_at", "_repeated", "_share", "numbered")

    def __init__(self) -> None:
        self._at = 0
        self._repeated = 0
        self._share = MOST_SHARE
        self.numbered = 0

    def measure(self, now: int, numbered: int, repeated: int, shape: GroupShape) -> int:
        """
        @param numbered: data packets so far; C{repeated}: segments sent again so far.
        @return: parity packets for each group.
        """
        share = min((repeated - self._repeated) / (numbered - self.numbered), MOST_SHARE)
        if now - self._at < SLOW:
            self._share = (self._share + share) / 2
        self._at, self.numbered, self._repeated = now, numbered, repeated
        loss = max(self._share / SHOWN, THRIFTY_LEAST_LOSS)
        return _enough(*shape, round(log2(loss) * _STEPS))
