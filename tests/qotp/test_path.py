"""A peer whose address changes (qotp.md W10)."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import CLIENT, Fate, chancy, steady
from tests.qotp.pair import Pair
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import Event, Reason
from twisted_rudp.qotp.extensions import CONTROL, range_ack
from twisted_rudp.qotp.path import GAP, REPEAT, TRIES, Path, PathMTU
from twisted_rudp.qotp.wire import Ack, Segment

ELSEWHERE = ("198.51.100.7", 9)


class PathTests(SynchronousTestCase):
    """A new address is believed when it has answered there."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.connect()

    def test_followed(self) -> None:
        """A peer that moved is reached at its new address."""
        pair = self.pair
        pair.client.address = ELSEWHERE
        write(pair.client, 0, b"from elsewhere")
        pair.run(1000)
        self.assertIn((Event.PATH, ELSEWHERE), pair.server.happened)
        write(pair.server, 0, b"found you")
        pair.run(100)
        self.assertEqual(pair.client.streams[0], b"found you")

    def moved(self, address: tuple[str, int]) -> tuple[float, float]:
        """A peer moves while it is sent much: congestion window and round trip, new to old."""
        pair = self.pair
        write(pair.server, 0, bytes(4_000_000))
        pair.run(150)
        before = pair.server.engine.facts()
        pair.client.address = address
        write(pair.client, 0, b"from elsewhere")
        while (Event.PATH, address) not in pair.server.happened:
            pair.run(1)
        after = pair.server.engine.facts()
        return tuple(after[n] / before[n] for n in ("congestion_window", "round_trip"))  # type: ignore[return-value]

    def test_otherPath(self) -> None:
        """At another host what was learnt of the path is forgotten (RFC 9000 9.4)."""
        window, trip = self.moved(ELSEWHERE)
        self.assertLess(window, 0.3)
        self.assertEqual(trip, 0)

    def test_samePath(self) -> None:
        """Another port alone is the same path, behind a NAT."""
        window, trip = self.moved((str(CLIENT[0]), 5))
        self.assertGreater(window, 0.8)
        self.assertGreater(trip, 0.8)

    def test_challengeLost(self) -> None:
        """A challenge that is lost is repeated."""
        pair = self.pair
        pair.client.address = ELSEWHERE
        lost = len(pair.server.sent)
        pair.fates["server"] = lambda number, _: () if number in (lost, lost + 1) else (10,)
        write(pair.client, 0, b"from elsewhere")
        pair.run(2000)
        self.assertIn((Event.PATH, ELSEWHERE), pair.server.happened)

    def test_victim(self) -> None:
        """
        S1: a hostile peer that names an address of somebody else's cannot answer the
        challenge: neither its packet number, which can be predicted, nor a guess will do.
        """
        pair = self.pair
        victim = ("203.0.113.5", 53)
        ping = Segment(CONTROL, 0, b"")
        pair.server.arrive(pair.forge(pair.client, None, ping, 1000), victim)
        for number in range(1001, 1100):
            pair.run(20)
            sent = pair.server.engine.counters()["datagrams_out"]
            for ack in (
                range_ack(0, sent, 1 << 20),
                Ack(CONTROL, 0, 0, 1 << 20),
                Ack(CONTROL, 1 << 47 | number, 0, 1 << 20),
                Ack(0, 1 << 47 | number, 0, 1 << 20),
            ):
                pair.server.arrive(pair.forge(pair.client, ack, None, 4 * number), CLIENT)
        self.assertNotIn(Event.PATH, pair.server.kinds())
        write(pair.server, 0, b"still there")
        pair.run(100)
        self.assertEqual(pair.client.streams[0], b"still there")


class ChallengeTests(SynchronousTestCase):
    """L{Path} alone."""

    def setUp(self) -> None:
        self.path = Path(Random(1).randbytes, CONTROL)

    def offset(self, now: int) -> int:
        """That of the challenge that is sent now."""
        frame = self.path.challenge(now)
        assert frame is not None
        return frame.offset

    def test_amplification(self) -> None:
        """No more is sent to a new address than three times what came from there."""
        self.path.seen(ELSEWHERE, 21, 0)
        self.assertIsNone(self.path.deadline)
        self.path.seen(ELSEWHERE, 21, 0)
        self.assertEqual(self.path.deadline, 0)
        self.offset(0)
        self.assertIsNone(self.path.deadline)

    def test_tries(self) -> None:
        """It is asked a few times only, however much comes from there."""
        self.path.seen(ELSEWHERE, 10_000, 0)
        times = [self.path.challenge(now * REPEAT) is not None for now in range(2 * TRIES)]
        self.assertEqual(times, [True] * TRIES + [False] * TRIES)

    def test_next(self) -> None:
        """
        Another address is looked at after a second, and then what was answered at the one
        before proves nothing.
        """
        self.path.seen(ELSEWHERE, 1000, 0)
        first = self.offset(0)
        self.path.seen(CLIENT, 1000, GAP - 1)
        self.assertEqual(self.path.candidate, ELSEWHERE)
        self.path.answered(CONTROL, first)
        self.path.seen(CLIENT, 1000, GAP)
        self.assertEqual(self.path.candidate, CLIENT)
        self.assertIsNone(self.path.take_proved())
        self.path.answered(CONTROL, first)
        self.assertIsNone(self.path.take_proved())
        second = self.offset(GAP)
        self.path.answered(0, second)
        self.assertIsNone(self.path.take_proved())
        self.path.answered(CONTROL, second)
        self.assertEqual(self.path.take_proved(), CLIENT)
        self.assertIsNone(self.path.candidate)


class LengthTests(SynchronousTestCase):
    """L{PathMTU} alone."""

    def test_late(self) -> None:
        """What is told late of longer datagrams does not make them longer."""
        path = PathMTU(1400)
        path.shrink(1300)
        self.assertEqual((path.mtu, path.probe()), (1280, 1400))
        path.frame_acknowledged(1390)
        self.assertEqual(path.mtu, 1400)
        path.shrink(1300)
        path.frame_acknowledged(1390)
        self.assertEqual(path.mtu, 1280)
        path.shrink(1100)
        path.shrink(1500)
        self.assertEqual(path.mtu, 576)


def swallowing(length: int) -> Fate:
    """A path that takes no longer datagrams, and says nothing."""
    return lambda number, datagram: () if len(datagram) > length else (10,)


class BlackHoleTests(SynchronousTestCase):
    """F4: a path that swallows long datagrams."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.connect()
        self.pair.run(500)

    def limit(self, length: int) -> None:
        """From now on the path is narrow."""
        self.pair.fates["client"] = self.pair.fates["server"] = swallowing(length)

    def test_shrinks(self) -> None:
        """Long datagrams are given up, and everything arrives, in both directions."""
        pair = self.pair
        for length in (1300, 1200, 600):
            self.setUp()
            pair = self.pair
            self.limit(length)
            data = bytes(range(250)) * 400
            write(pair.client, 0, data)
            write(pair.server, 0, data)
            pair.run(10_000)
            for end in (pair.client, pair.server):
                self.assertTrue(end.streams[0] == data, (length, len(end.streams[0])))
                self.assertTrue(end.engine.facts()["mtu"] <= length)

    def test_grows(self) -> None:
        """When the path is wide again, that is found, step by step."""
        pair = self.pair
        self.limit(1100)
        write(pair.client, 0, bytes(50_000))
        pair.run(10_000)
        self.assertEqual(pair.client.engine.facts()["mtu"], 1024)
        pair.run(150_000)
        self.assertEqual(pair.client.engine.facts()["mtu"], 1024)
        pair.fates["client"] = pair.fates["server"] = steady()
        pair.run(240_000)
        self.assertEqual(pair.client.engine.facts()["mtu"], 1400)
        write(pair.client, 0, bytes(50_000))
        pair.run(1000)
        self.assertEqual(len(pair.server.streams[0]), 100_000)

    def test_losses(self) -> None:
        """Losses and outages do not narrow a path."""
        for seed in range(3):
            pair = Pair(chancy(0.1, seed), chancy(0.1, seed + 10))
            pair.connect()
            for _ in range(30):
                write(pair.client, 0, b"small")
                write(pair.client, 0, bytes(10_000))
                write(pair.server, 0, b"small")
                pair.run(300)
            pair.fates["client"] = pair.fates["server"] = lambda number, datagram: ()
            write(pair.client, 0, bytes(30_000))
            pair.run(8000)
            pair.fates["client"] = pair.fates["server"] = steady()
            pair.run(5000)
            self.assertEqual(pair.client.engine.facts()["mtu"], 1400)
            self.assertEqual(len(pair.server.streams[0]), 30 * 10_005 + 30_000)

    def test_nothing(self) -> None:
        """
        Where nothing of what was written ever gets through, the connection ends, though
        small datagrams pass.
        """
        pair = self.pair
        self.limit(400)
        write(pair.client, 0, bytes(50_000))
        pair.run(150_000)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.DEAD_LINK))
