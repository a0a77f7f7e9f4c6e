"""Two L{ARQ}s over a simulated link: what goes in comes out, whatever the link does."""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.arqcase import wait_of
from tests.kcp.segments import split
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.settings import Settings

UNLIMITED = 1 << 40
MASK = 0xFFFFFFFF


class Link:
    """
    Carries datagrams between two ARQs, loses, repeats and reorders them, and
    flushes each ARQ after what it received and when it asks to.

    @ivar now: the clock in milliseconds, unbounded.
    """

    def __init__(
        self,
        a: ARQ,
        b: ARQ,
        seed: int,
        loss: float = 0.0,
        repeat: float = 0.0,
        jitter: int = 0,
        start: int = 0,
    ) -> None:
        self.ends = (a, b)
        self.random = Random(seed)
        self.loss = loss
        self.repeat = repeat
        self.jitter = jitter
        self.now = start
        self.sent = 0
        self._queue: list[tuple[int, int, int, bytes, int]] = []

    def flush(self, end: int) -> None:
        self.ends[end].flush(
            self.now * MILLISECOND, lambda run, size: self._carry(end, bytes(run), size), UNLIMITED
        )

    def _carry(self, end: int, run: bytes, size: int) -> bool:
        kept: list[bytes] = []
        for datagram in split(run, size):
            copies = 1 + (self.random.random() < self.repeat)
            kept += [datagram for _ in range(copies) if self.random.random() >= self.loss]
        if not self.jitter:
            # Without reordering what is left of a run stays together.
            while kept:
                count = 1
                while count < len(kept) and len(kept[count - 1]) == size:
                    count += 1
                self._put(end, b"".join(kept[:count]), size, 20)
                del kept[:count]
        for datagram in kept:
            self._put(end, datagram, len(datagram), 20 + self.random.randrange(self.jitter))
        return True

    def _put(self, end: int, run: bytes, size: int, delay: int) -> None:
        self.sent += 1
        heappush(self._queue, (self.now + delay, self.sent, 1 - end, run, size))

    def step(self) -> bool:
        """
        Go on to the next thing that happens.

        @return: False if nothing will ever happen again.
        """
        times = [self._queue[0][0]] if self._queue else []
        waits = [wait_of(arq, self.now) for arq in self.ends]
        times += [self.now + wait for wait in waits if wait is not None]
        if not times:
            return False
        self.now = max(self.now, min(times))
        touched = {0, 1} if not self._queue or self._queue[0][0] > self.now else set()
        while self._queue and self._queue[0][0] <= self.now:
            _, _, end, run, size = heappop(self._queue)
            self.ends[end].input(run, size, self.now * MILLISECOND)
            touched.add(end)
        for end in touched:
            self.flush(end)
        return True


class LinkTests(SynchronousTestCase):
    """Streams and messages over bad links."""

    def transfer(self, link: Link, size: int, limit: int = 60_000) -> None:
        """Send C{size} bytes in pieces each way as the other side reads; check that they arrive."""
        data = [link.random.randbytes(size), link.random.randbytes(size)]
        unsent = list(data)
        received = [b"", b""]
        for _ in range(limit):
            for end, arq in enumerate(link.ends):
                if unsent[end] and arq.sender.queue.size < 20_000:
                    piece = unsent[end][: link.random.randrange(1, 9_000)]
                    unsent[end] = unsent[end][len(piece) :]
                    arq.write(piece)
                    link.flush(end)
                while taken := arq.take(link.random.randrange(1, 40_000)):
                    received[1 - end] += taken
            if received == data and all(arq.sender.drained for arq in link.ends):
                break
            link.step()
        self.assertEqual([len(each) for each in received], [size, size])
        self.assertEqual(received, data)
        for arq in link.ends:
            self.assertTrue(arq.sender.drained)
            sender = arq.sender
            held = (sender.sent.in_flight, sender.queue.size, arq.receiver.queue.size)
            self.assertEqual(held, (0, 0, 0))
            self.assertEqual(arq.counters.kcp_in_errors, 0)

    def pair(self, numbers: int = 0, **changes: object) -> tuple[ARQ, ARQ]:
        chosen = Settings(**{"nc": True, "mtu": 300, "sndwnd": 64, "rcvwnd": 64, **changes})
        other = (numbers + 5) & MASK
        return (
            ARQ(7, chosen, first_sent=numbers, first_received=other),
            ARQ(7, chosen, first_sent=other, first_received=numbers),
        )

    def test_clean(self) -> None:
        """A clean link needs no retransmission."""
        link = Link(*self.pair(), seed=1)
        self.transfer(link, 200_000)
        self.assertEqual([arq.counters.retrans_segs for arq in link.ends], [0, 0])

    def test_bad(self) -> None:
        """Loss, repetition and reordering together, several seeds."""
        for seed in range(6):
            link = Link(*self.pair(), seed, loss=0.15, repeat=0.1, jitter=60)
            self.transfer(link, 60_000)

    def test_lossOfRuns(self) -> None:
        """Runs with holes, in order, take the way of whole runs."""
        for seed in range(4):
            link = Link(*self.pair(), seed, loss=0.1)
            self.transfer(link, 120_000)
            self.assertGreater(link.ends[0].counters.fast_retrans_segs, 0)

    def test_congestionWindow(self) -> None:
        """With the congestion window on."""
        self.transfer(Link(*self.pair(nc=False), seed=3, loss=0.05, jitter=30), 40_000)

    def test_profileNodelayOff(self) -> None:
        """With nodelay off and no fast retransmission."""
        self.transfer(
            Link(*self.pair(nodelay=0, interval=40, resend=0), seed=3, loss=0.1, jitter=30), 40_000
        )

    def test_numbersWrap(self) -> None:
        """Segment numbers pass 2^32 under loss."""
        link = Link(*self.pair(numbers=MASK - 90), seed=4, loss=0.1, repeat=0.1, jitter=40)
        self.transfer(link, 60_000)
        self.assertLess(link.ends[0].snd_nxt, 1 << 20)

    def test_clockWraps(self) -> None:
        """The clock passes 2^32 under loss."""
        link = Link(*self.pair(), seed=5, loss=0.1, jitter=40, start=MASK - 300)
        self.transfer(link, 60_000)
        self.assertGreater(link.now, MASK)

    def test_smallPeerWindow(self) -> None:
        """A peer with a window of 32 is not overrun."""
        a, _ = self.pair(sndwnd=1024, rcvwnd=1024)
        _, b = self.pair(sndwnd=32, rcvwnd=32)
        link = Link(a, b, seed=6)
        self.transfer(link, 100_000)
        self.assertEqual(a.counters.retrans_segs, 0)

    def test_changingSize(self) -> None:
        """The segment size may change in both directions at any time."""
        a, b = self.pair()
        link = Link(a, b, seed=7, loss=0.1, jitter=30)
        data = link.random.randbytes(80_000)
        received = b""
        unsent = data
        while received != data:
            if unsent and a.sender.queue.size < 3_000:
                a.set_mss(link.random.randrange(1, 900))
                a.write(unsent[:2_000])
                unsent = unsent[2_000:]
                link.flush(0)
            received += b.take(5_000)
            self.assertTrue(link.step())
        self.assertEqual(received, data)

    def received(self, link: Link, to: ARQ, count: int) -> list[bytes]:
        """So many messages, or fewer if no more come."""
        received: list[bytes] = []
        link.flush(0)
        while len(received) < count and link.step():
            while (message := to.take_message()) is not None:
                received.append(message)
        return received

    def test_messages(self) -> None:
        """Messages of one and of many fragments keep their borders and order."""
        a, b = self.pair(stream=False)
        link = Link(a, b, seed=8, loss=0.1, repeat=0.1, jitter=50)
        sizes = [1, 276, 277, 5_000, 12, 12, 12, 9_000, 276 * 40]
        messages = [link.random.randbytes(size) for size in sizes * 4]
        for message in messages:
            a.send(message)
        self.assertEqual(self.received(link, b, len(messages)), messages)

    def test_messagesWhileSizeChanges(self) -> None:
        """A message keeps the division it was queued with."""
        a, b = self.pair(stream=False)
        link = Link(a, b, seed=9, loss=0.1)
        messages = [link.random.randbytes(3_000) for _ in range(30)]
        for number, message in enumerate(messages):
            a.set_mss(50 + 17 * number)
            a.send(message)
        self.assertEqual(self.received(link, b, len(messages)), messages)

    def test_stoppedReader(self) -> None:
        """
        While the application does not read, at most the window and what may be
        held ahead of it is sent; when it reads again, a lost announcement does
        not stop the stream.
        """
        a, b = self.pair()
        link = Link(a, b, seed=10)
        data = link.random.randbytes(300 * 276)
        a.write(data)
        link.flush(0)
        while link.now < 20_000 and link.step():
            pass
        self.assertEqual(b.receiver.free, 0)
        self.assertLessEqual(b.receiver.queue.size, 64 * 276)
        received = b.take(10_000_000)
        link.loss = 1.0
        link.flush(1)
        link.loss = 0.0
        while len(received) < len(data) and link.step():
            received += b.take(10_000)
        self.assertEqual(received, data)

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        seed=st.integers(0, 1 << 30),
        loss=st.floats(0, 0.4),
        jitter=st.sampled_from([0, 1, 100]),
        resend=st.integers(0, 3),
        nc=st.booleans(),
        window=st.integers(1, 80),
        numbers=st.sampled_from([0, MASK, MASK - 40]),
    )
    def test_anyLink(
        self,
        seed: int,
        loss: float,
        jitter: int,
        resend: int,
        nc: bool,
        window: int,
        numbers: int,
    ) -> None:
        """Any combination of settings and link delivers."""
        pair = self.pair(numbers, resend=resend, nc=nc, sndwnd=window, rcvwnd=window)
        self.transfer(Link(*pair, seed, loss=loss, repeat=0.05, jitter=jitter), 12_000)


class EndTests(SynchronousTestCase):
    """Ends of stream over bad links (kcp-close.md 3 and 12)."""

    def finished(self, loss: float, seed: int) -> Link:
        chosen = Settings(nc=True, mtu=300, sndwnd=64, rcvwnd=64, dead_link=0)
        # The end of a, behind 37 segments of data, has the number 2^32 - 1.
        first = MASK - 37
        a = ARQ(7, chosen, first_sent=first, first_received=0)
        b = ARQ(7, chosen, first_sent=0, first_received=first)
        link = Link(a, b, seed, loss=loss, jitter=20)
        data = link.random.randbytes(37 * 276 - 5)
        a.write(data)
        a.finish()
        b.finish()
        a.control.ask = True
        b.control.ask = True
        received = b""
        link.flush(0)
        link.flush(1)
        for _ in range(5_000):
            received += b.take(10_000)
            a.take(10)
            if all(arq.sender.end_acknowledged and arq.receiver.end_received for arq in link.ends):
                break
            if not link.step():
                a.control.ask = True
                b.control.ask = True
                link.flush(0)
                link.flush(1)
        self.assertEqual(received, data)
        return link

    def test_everyLoss(self) -> None:
        """
        Both ends arrive and are acknowledged, at 0, 20 and 40 % loss; the number
        2^32 - 1 is one like any other.
        """
        for loss in (0.0, 0.2, 0.4):
            for seed in range(5):
                link = self.finished(loss, seed)
                for arq in link.ends:
                    self.assertTrue(arq.sender.end_acknowledged)
                    self.assertTrue(arq.receiver.end_received)
                    self.assertTrue(arq.sender.drained)
                self.assertEqual((link.ends[0].snd_nxt, link.ends[1].rcv_nxt), (0, 0))
