"""Whether unknown peers flood a socket, and how much of what they send is let through."""

from __future__ import annotations

from collections.abc import Container
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.net.support import FakePort
from tests.toys.base import ToyDemultiplexer
from twisted_rudp.core.engine import Address, Drop
from twisted_rudp.net.flood import EARLY, HASTE, INTERVAL, LEAST, PART, Flood
from twisted_rudp.net.handover import SharedPort
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.session import HANDSHAKE_DATAGRAMS
from twisted_rudp.net.table import ADDRESS_RUNS, TURN_ADDRESSES
from twisted_rudp.net.udp.sourcefilter import WHOLE, Thinning, bucketOf

KNOWN = [("10.0.0.2", 5000)]
FLOODER = "198.51.100.1"
HONEST = "203.0.113.7"


def known(flooding: Container[Address] = ()) -> list[Address]:
    return [each for each in KNOWN if each not in flooding]


class FloodTests(SynchronousTestCase):
    """L{Flood}."""

    def setUp(self) -> None:
        self.flood = Flood(Random(1).getrandbits)
        self.now = 0
        self.assertFalse(self.flood.review(self.now, False, known))

    def share(self, host: str) -> float:
        """What part of a host's datagrams is let through."""
        thinning = self.flood.thinning
        assert thinning is not None
        return thinning.shares.get(bucketOf(host, thinning.salt), WHOLE) / WHOLE

    def interval(self, offered: dict[str, int], looked: int, spent: int = 0) -> bool:
        """Hosts send something, of which what is let through arrives."""
        for host, datagrams in offered.items():
            share = 1.0 if self.flood.thinning is None else self.share(host)
            self.flood.note(host, int(datagrams * share))
        self.flood.looked(min(looked, self.flood.came), spent)
        self.now += INTERVAL
        return self.flood.review(self.now, False, known)

    def test_calm(self) -> None:
        """What is looked at, however much it is, and few datagrams, are no flood."""
        self.assertFalse(self.interval({FLOODER: 50 * EARLY}, 50 * EARLY))
        self.assertFalse(self.interval({FLOODER: LEAST}, 0))
        self.assertIsNone(self.flood.thinning)
        self.assertIsNone(self.flood.deadline())

    def test_flood(self) -> None:
        """One host floods: it is thinned to what can be looked at, another one is not."""
        self.assertTrue(self.interval({FLOODER: 100_000, HONEST: 10}, 500))
        assert self.flood.thinning is not None
        self.assertEqual(self.flood.thinning.known, KNOWN)
        self.assertApproximates(self.share(FLOODER), 0.01, 0.001)
        self.assertEqual(self.share(HONEST), 1)
        self.assertEqual(self.flood.deadline(), self.now + INTERVAL)
        for _ in range(5):
            self.interval({FLOODER: 100_000, HONEST: 10}, 500)
            self.assertApproximates(self.share(FLOODER), 0.01, 0.001)

    def test_beside(self) -> None:
        """
        Who has opened a session does not flood unthinned from its address; handshakes pass, also
        from a host that many dial from.
        """
        address = KNOWN[0]
        everywhere = {f"10.{a}.{b}.1": 20 for a in range(50) for b in range(50)}
        # Whoever is thinned goes on, and nothing of it may come through in an interval.
        for datagrams, passes in ((HANDSHAKE_DATAGRAMS, True), (1000, False), (0, False)):
            for port in range(1, 100):
                self.flood.noteBeside((address[0], port), HANDSHAKE_DATAGRAMS)
            self.flood.noteBeside(address, datagrams)
            self.interval(everywhere, 200)
            assert self.flood.thinning is not None
            self.assertEqual(list(self.flood.thinning.known), KNOWN if passes else [])
        while self.flood.thinning is not None:
            self.interval({}, 0)
        self.interval(everywhere, 200)
        assert self.flood.thinning is not None
        self.assertEqual(list(self.flood.thinning.known), KNOWN)

    def test_early(self) -> None:
        """A flood that fills the queue long before the interval is over is found out at once."""
        self.flood.note(FLOODER, EARLY)
        self.flood.looked(100, 0)
        self.assertTrue(self.flood.review(INTERVAL // 10, False, known))
        self.assertApproximates(self.share(FLOODER), 0.2, 0.01)

    def test_overflow(self) -> None:
        """All was looked at, but the queue was full: a flood all the same."""
        self.flood.note(FLOODER, EARLY)
        self.flood.looked(EARLY, 4 * INTERVAL // PART)
        self.assertTrue(self.flood.review(INTERVAL, True, known))
        self.assertApproximates(self.share(FLOODER), 0.25, 0.01)

    def test_time(self) -> None:
        """What unknown peers may take of the time is a limit, too."""
        self.interval({FLOODER: 10_000}, 4000, INTERVAL)
        self.assertApproximates(self.share(FLOODER), 4000 / PART / 10_000, 0.001)

    def test_everywhere(self) -> None:
        """A flood from forged addresses thins all, equally."""
        hosts = {f"10.{a}.{b}.1": 2 for a in range(100) for b in range(100)}
        self.interval(hosts, 1000)
        assert self.flood.thinning is not None
        self.assertEqual(len(self.flood.thinning.shares), 256)
        self.assertApproximates(self.share(HONEST), 0.1, 0.05)

    def test_over(self) -> None:
        """When it is over, the shares grow step by step, then nothing is done any more."""
        self.interval({FLOODER: 1_000_000}, 500)
        share = self.share(FLOODER)
        self.interval({}, 0)
        self.assertApproximates(self.share(FLOODER), HASTE * share, 0.001)
        for _ in range(10):
            if self.flood.thinning is not None:
                self.assertTrue(self.interval({}, 0))
        self.assertIsNone(self.flood.thinning)
        self.assertFalse(self.interval({}, 0))

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.dictionaries(st.ip_addresses().map(str), st.integers(0, 10**6), max_size=20),
            max_size=5,
        ),
        st.integers(0, 10_000),
        st.integers(0, INTERVAL),
    )
    def test_any(self, intervals: list[dict[str, int]], looked: int, spent: int) -> None:
        """Whatever is sent, shares are possible."""
        self.flood = Flood(Random(1).getrandbits)
        for offered in intervals:
            self.interval(offered, looked, spent)
            thinning = self.flood.thinning
            if thinning is not None:
                self.assertTrue(all(0 < share < WHOLE for share in thinning.shares.values()))


class HubTests(SynchronousTestCase):
    """A socket that is flooded."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = FakePort()
        self.demux = ToyDemultiplexer()
        self.demux.open = lambda run, size, address: [(address, run, size)]  # type: ignore[method-assign]
        self.demux.unknown_peer = lambda *arguments: Drop("unwanted")  # type: ignore[method-assign]
        self.hub = Hub(self.clock, self.demux)
        self.hub.attach(self.port)
        self.addCleanup(self.hub.close)
        self.lines: list[str] = []

        def observe(event: dict[str, object]) -> None:
            self.lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def send(self, datagrams: int) -> None:
        """As many datagrams in one turn, of nobody's."""
        for number in range(datagrams):
            self.hub.runReceived(b"junk", 4, (FLOODER, number + 1))
        self.hub.turnEnded()

    def test_thinned(self) -> None:
        """The kernel is told to thin, and when it is over to let everything through again."""
        self.send(1)
        self.send(5 * EARLY)
        (thinning,) = self.port.thinned
        assert thinning is not None
        self.assertEqual(list(thinning.shares), [bucketOf(FLOODER, thinning.salt)])
        self.assertEqual(self.hub.snapshot().counters["floods"], 1)
        self.assertTrue(any("unknown peers send more" in line for line in self.lines))
        self.clock.pump([0.05] * 100)
        self.assertIsNone(self.port.thinned[-1])

    def test_twoOwners(self) -> None:
        """While the socket has two owners the newer one has it thinned; sessions of both pass."""
        self.hub.divide()
        shared = SharedPort(self.port, lambda: KNOWN)
        self.port.thinned.clear()
        self.hub = Hub(self.clock, self.demux)
        self.hub.attach(shared)
        self.addCleanup(self.hub.close)
        self.send(1)
        self.send(5 * EARLY)
        thinning = self.port.thinned[-1]
        assert thinning is not None
        self.assertEqual(list(thinning.known), KNOWN)
        self.hub.close()
        self.assertIsNone(self.port.thinned[-1])
        self.port.thinned.clear()
        shared.thin(None)
        self.assertEqual(self.port.thinned, [])

    def test_takenBack(self) -> None:
        """Nothing of a successor's filter is left when it does not come after all."""
        self.hub.divide()
        SharedPort(self.port, lambda: KNOWN).thin(Thinning(1, (), {1: 1}))
        self.assertIsNotNone(self.port.thinned[-1])
        self.hub.undivide()
        self.assertIsNone(self.port.thinned[-1])

    def test_unopened(self) -> None:
        """An address that has had its share of a turn costs no more than reading what it sends."""
        opened: list[Address] = []
        opens = self.demux.open
        self.demux.open = lambda *run: (opened.append(run[2]), opens(*run))[1]  # type: ignore[method-assign]
        for _ in range(10 * ADDRESS_RUNS):
            self.hub.runReceived(b"junk", 4, (FLOODER, 1))
        self.hub.runReceived(b"call", 4, (HONEST, 1))
        self.assertEqual(opened, [(FLOODER, 1)] * ADDRESS_RUNS + [(HONEST, 1)])
        for number in range(2 * TURN_ADDRESSES):
            self.hub.runReceived(b"junk", 4, (FLOODER, 2 + number))
        self.assertEqual(len(set(opened)), TURN_ADDRESSES)
        self.assertEqual(
            self.hub.snapshot().counters["unknownPeersDropped"],
            9 * ADDRESS_RUNS + TURN_ADDRESSES + 2,
        )

    def test_readingCosts(self) -> None:
        """The time that unknown peers may take is that of reading, too."""
        self.send(1)
        for number in range(5 * EARLY):
            self.clock.advance(0.000_01)
            self.hub.runReceived(b"junk", 4, (FLOODER, number + 1))
        self.hub.turnEnded()
        thinning = self.port.thinned[-1]
        assert thinning is not None
        (share,) = thinning.shares.values()
        self.assertApproximates(share / WHOLE, LEAST / (5 * EARLY) / 2, 0.001)

    def test_unreadable(self) -> None:
        """What the demultiplexer drops at once is part of a flood."""
        self.demux.open = lambda *arguments: []  # type: ignore[method-assign]
        for amount in (1, 5 * EARLY):
            self.hub.runReceived(bytes(amount), 1, (FLOODER, 1))
            self.hub.turnEnded()
        self.assertEqual(len(self.port.thinned), 1)

    def test_queue(self) -> None:
        """That the kernel had no room is said once a minute, and counted."""
        self.send(1)
        self.port.drops = 7
        self.clock.advance(2)
        self.send(1)
        self.assertEqual(self.hub.snapshot().counters["port.kernelDrops"], 7)
        self.assertEqual(len([line for line in self.lines if "7 datagrams lost" in line]), 1)
