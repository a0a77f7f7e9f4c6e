"""
A sender against a peer that ends the session when datagram numbers run too far ahead
of one that it misses, as go-raknet does (raknet.md 13).
"""

from __future__ import annotations

import random
from collections import deque

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import MILLISECOND, SECOND, Address
from twisted_rudp.core.ranges import Ranges
from twisted_rudp.core.timers import Timers
from twisted_rudp.raknet import timers
from twisted_rudp.raknet.sender import Sender
from twisted_rudp.raknet.settings import DEFAULT
from twisted_rudp.raknet.wire import (
    ACK_BIT,
    DATA,
    NACK_BIT,
    Reliability,
    pack_ping,
    pack_records,
    parse_frames,
    parse_records,
)

MTU = 1400
MOST = 2048
DATAGRAMS = 2 * MOST
"""So many are sent, at least."""
STEP = 5 * MILLISECOND
TICK = 100 * MILLISECOND
PING = 500 * MILLISECOND
ADDRESS = ("127.0.0.1", 1)


class Window:
    """
    The numbers of a peer like go-raknet: it acknowledges what is new to it every tick,
    names once what is missing below something old enough, and is silent about that
    number from then on.
    """

    def __init__(self, patience: int) -> None:
        """
        @param patience: how old the datagram above a gap must be; one and a half
            round trips as the peer reckons them, which may be far too many.
        """
        self.patience = patience
        self.lowest = self.highest = self.widest = 0
        self.came: dict[int, int] = {}
        self.unacknowledged: list[tuple[int, int]] = []
        self.indices = Ranges()
        self.next_tick = 0

    def receive(self, datagram: bytes, now: int) -> bytes | None:
        """
        Take in one datagram.

        @return: a NACK.
        """
        number = int.from_bytes(datagram[1:4], "little")
        if number < self.lowest or number in self.came:
            return None
        self.came[number] = now
        self.highest = max(self.highest, number + 1)
        self.unacknowledged.append((number, number + 1))
        complaint = None if self.shift() else self.complaint(now)
        self.widest = max(self.widest, self.highest - self.lowest)
        for frame in parse_frames(datagram)[0]:
            if frame.reliable is not None:
                self.indices.add(frame.reliable, frame.reliable + 1)
        return complaint

    def shift(self) -> bool:
        """Leave behind what has come in order."""
        before = self.lowest
        while self.came.pop(self.lowest, None) is not None:
            self.lowest += 1
        return self.lowest > before

    def complaint(self, now: int) -> bytes | None:
        """Name what is missing."""
        is_old = False
        missing = []
        for number in range(self.highest - 1, self.lowest - 1, -1):
            came = self.came.get(number)
            if came is not None:
                is_old = is_old or now - came >= self.patience
            elif is_old:
                missing.append((number, number + 1))
                self.came[number] = now - self.patience
        self.shift()
        return pack_records(DATA | NACK_BIT, missing[:200], MTU)[0] if missing else None

    def tick(self, now: int) -> list[bytes]:
        """Acknowledge."""
        if now < self.next_tick or not self.unacknowledged:
            return []
        self.next_tick = now + TICK
        ranges, self.unacknowledged = self.unacknowledged, []
        return pack_records(DATA | ACK_BIT, ranges, MTU)


class FarAheadTests(SynchronousTestCase):
    """L{Sender}."""

    def carry(self, seed: int, loss: float, patience: int, stops: bool) -> Window:
        """
        Send some thousand datagrams over a link that loses a share of everything.

        @param stops: now and then the peer reads nothing for a second or two, and its
            socket's buffer is small.
        """
        chance = random.Random(seed)
        sender = Sender(DEFAULT, Timers(timers.COUNT))
        sender.begin(MTU)
        sender.write(bytes(DATAGRAMS * 1360))
        window = Window(patience)
        waiting: deque[bytes] = deque()
        back: deque[bytes] = deque()

        def emit(run: bytes, size: int, address: Address) -> bool:
            for at in range(0, len(run), size):
                if chance.random() >= loss and len(waiting) < 1000:
                    waiting.append(bytes(run[at : at + size]))
            return True

        stopped_until = 0
        now = SECOND
        next_ping = now
        while not sender.drained and now < 600 * SECOND:
            now += STEP
            if stops and now > stopped_until and chance.random() < 0.002:
                stopped_until = now + chance.randrange(2 * SECOND)
            if now >= stopped_until:
                while waiting:
                    complaint = window.receive(waiting.popleft(), now)
                    if complaint is not None:
                        back.append(complaint)
                back.extend(window.tick(now))
            while back:
                records = back.popleft()
                if chance.random() < loss:
                    continue
                if records[0] & NACK_BIT:
                    sender.sent.reported_lost(parse_records(records))
                else:
                    sender.sent.acknowledged(parse_records(records), now)
            if now >= next_ping:
                next_ping = now + PING
                sender.system(pack_ping(now), Reliability.UNRELIABLE)
            writer = RunWriter(emit, ADDRESS)
            sender.flush(now, writer, 1 << 20, False)
            writer.finish()
        self.assertTrue(sender.drained)
        return window

    @settings(max_examples=6, deadline=None, derandomize=True)
    @given(
        seed=st.integers(0, 1 << 16),
        loss=st.sampled_from([0.01, 0.1, 0.2]),
        patience=st.sampled_from([75, 300, 1500, 4000]),
        stops=st.booleans(),
    )
    @example(seed=1, loss=0.1, patience=75, stops=True)
    @example(seed=2, loss=0.1, patience=4000, stops=True)
    def test_window(self, seed: int, loss: float, patience: int, stops: bool) -> None:
        """All arrives, and the peer never has to give up."""
        window = self.carry(seed, loss, patience * MILLISECOND, stops)
        self.assertEqual(len(window.indices), 1)
        self.assertLessEqual(window.widest, MOST)
