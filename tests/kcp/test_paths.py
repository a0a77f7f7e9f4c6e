"""The default profile over paths with a bottleneck: what arrives, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from math import ceil

from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.arqcase import wait_of
from tests.kcp.segments import split
from twisted_rudp.core.engine import SECOND
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.settings import PROFILES, Settings
from twisted_rudp.testing.impairments import Impairments

TICK = 10
PIECE = bytes(1 << 16)
WAITING = 1 << 18
BUDGET = 1 << 19


class Path:
    """
    A stream that never ends, from one ARQ to another, which are flushed as a port
    flushes them: after each datagram, and when they ask for it, in a reactor that
    wakes at once for what is nearer than its tick.

    @ivar arrived: bytes that the application got.
    @ivar sent: bytes of datagrams that the sender has sent.
    """

    def __init__(
        self, way: Impairments, epoch: int = 0, settings: Settings = PROFILES["default"]
    ) -> None:
        self.ends = (ARQ(7, settings, epoch=epoch), ARQ(7, settings, epoch=epoch))
        self.ways = (way, way.reseeded(way.seed + 1))
        self.arrived = self.sent = 0
        self._now = 0.0
        self._order = 0
        self._queue: list[tuple[float, int, int, bytes]] = []

    def run(self, seconds: float) -> None:
        """Shake hands by one message each way, then send for so long."""
        for end in (0, 1):
            self.ends[end].write(b"hello")
            self._flush(end)
        self._until(self._now + 1, flooding=False)
        self.arrived = self.sent = 0
        self._until(self._now + seconds, flooding=True)

    def _until(self, end: float, flooding: bool) -> None:
        while self._now < end:
            if flooding:
                self._fill()
            waits = [wait_of(arq, int(self._now * 1000)) for arq in self.ends]
            wakes = [self._now + self._wake(wait) / 1000 for wait in waits if wait is not None]
            wake = min([end, *wakes])
            if self._queue and self._queue[0][0] <= wake:
                self._now, _, target, datagram = heappop(self._queue)
                self.ends[target].input(datagram, len(datagram), self.time)
                self._take(target)
                self._flush(target)
                continue
            self._now = wake
            for number, arq in enumerate(self.ends):
                if wait_of(arq, int(self._now * 1000)) == 0:
                    self._flush(number)

    @staticmethod
    def _wake(wait: int) -> int:
        return max(wait, 1) if wait < TICK else ceil(wait / TICK) * TICK

    def _fill(self) -> None:
        sender = self.ends[0]
        if sender.sender.queue.size < WAITING:
            while sender.sender.queue.size < WAITING:
                sender.write(PIECE)
            self._flush(0)

    def _take(self, end: int) -> None:
        while taken := self.ends[end].take(BUDGET):
            self.arrived += len(taken)

    @property
    def time(self) -> int:
        """The clock in nanoseconds."""
        return int(self._now * SECOND)

    def _flush(self, end: int) -> None:
        while self.ends[end].flush(
            self.time, lambda run, size: self._carry(end, bytes(run), size), BUDGET
        ):
            pass

    def _carry(self, end: int, run: bytes, size: int) -> bool:
        for datagram in split(run, size):
            self.sent += len(datagram) if end == 0 else 0
            for delay in self.ways[end].fate(self._now, len(datagram)):
                self._order += 1
                heappush(self._queue, (self._now + delay, self._order, 1 - end, datagram))
        return True


class PathTests(SynchronousTestCase):
    """How much of a rate is used, and how many bytes are sent for each that arrives."""

    RATE = 2.5e6

    def measure(
        self, delay: float, loss: float, seconds: float, epoch: int = 0
    ) -> tuple[float, float]:
        """
        @return: the share of the rate, and bytes sent for each that arrived.
        """
        way = Impairments(
            seed=5, delay=delay, loss=loss, rate=self.RATE, queue=int(self.RATE / 20)
        )
        path = Path(way, epoch)
        path.run(seconds)
        return path.arrived / seconds / self.RATE, path.sent / max(path.arrived, 1)

    def test_full(self) -> None:
        """A link that is full is used, and not flooded."""
        share, cost = self.measure(0.02, 0.0, 3)
        self.assertGreater(share, 0.9)
        self.assertLess(cost, 1.1)

    def test_noise(self) -> None:
        """One datagram in a hundred that is lost costs hardly more than itself."""
        share, cost = self.measure(0.02, 0.01, 3)
        self.assertGreater(share, 0.85)
        self.assertLess(cost, 1.12)

    def test_bad(self) -> None:
        """Nor do five in a hundred."""
        share, cost = self.measure(0.02, 0.05, 3)
        self.assertGreater(share, 0.75)
        self.assertLess(cost, 1.25)

    def test_long(self) -> None:
        """The other side of the world, where a round trip is as long as the first timeout."""
        share, cost = self.measure(0.1, 0.01, 6)
        self.assertGreater(share, 0.6)
        self.assertLess(cost, 1.2)

    def test_switchedOn(self) -> None:
        """A window that is asked for on the way is the same as one from the beginning."""
        way = Impairments(
            seed=5, delay=0.02, loss=0.01, rate=self.RATE, queue=int(self.RATE / 20)
        )
        path = Path(way, settings=replace(PROFILES["default"], nc=True))
        path.run(1)
        for arq in path.ends:
            arq.adopt(PROFILES["default"], path.time)
        path.run(1)
        path.run(3)
        self.assertGreater(path.arrived / 3 / self.RATE, 0.85)
        self.assertLess(path.sent / path.arrived, 1.12)

    def test_anyClock(self) -> None:
        """What a clock shows at the beginning makes no difference."""
        self.assertEqual(
            self.measure(0.02, 0.01, 1, 0x90000000), self.measure(0.02, 0.01, 1, 0)
        )
