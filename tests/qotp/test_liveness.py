"""A connection that is alive stays alive, one that is not ends."""

from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import chancy
from tests.qotp.pair import Pair
from tests.qotp.releasepair import ReleasePair, sink
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import SECOND, Event, Reason

HOUR = 3_600_000


class IdleTests(SynchronousTestCase):
    """F1: nothing is said, over links that lose much."""

    def test_idle(self) -> None:
        """Idle connections live for hours: what asks for a sign of life is repeated."""
        for loss in (0.2, 0.3):
            for seed in range(2):
                pair = Pair(chancy(loss, seed), chancy(loss, seed + 10))
                pair.dial()
                pair.run(HOUR)
                for end in (pair.client, pair.server):
                    self.assertEqual(end.kinds(), [Event.CONNECTED], (loss, seed))

    def test_paused(self) -> None:
        """
        So do those whose reader does not read. It is asked for room less and less often, up
        to once a second (RFC 9293 section 3.8.6.1).
        """
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, 0, bytes(500_000))
        pair.run(2000)
        sent = len(pair.client.sent)
        pair.run(20_000)
        self.assertIn(len(pair.client.sent) - sent, range(18, 30))
        pair.fates["client"], pair.fates["server"] = chancy(0.2, 1), chancy(0.2, 2)
        pair.run(HOUR // 2)
        for end in (pair.client, pair.server):
            self.assertEqual(end.kinds(), [Event.CONNECTED])

    def test_release(self) -> None:
        """A peer of the release answers each PING, and is kept as well."""
        pair = ReleasePair(sink, there=chancy(0.2, 1), back=chancy(0.2, 2))
        connection = pair.connected()
        pair.run(HOUR // 4)
        self.assertIsNone(connection.dead)
        self.assertEqual(pair.mine.kinds(), [Event.CONNECTED])

    def test_gone(self) -> None:
        """A peer that is gone is asked at least once a second, not more, and then given up."""
        pair = Pair()
        pair.connect()
        pair.run(500)
        pair.fates["server"] = lambda number, datagram: ()
        began, sent = pair.now, len(pair.client.sent)
        pair.run(31_000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.IDLE, None))
        self.assertTrue(pair.now - began < 32 * SECOND)
        self.assertTrue(20 <= len(pair.client.sent) - sent <= 30, len(pair.client.sent) - sent)


class KeepAliveTests(SynchronousTestCase):
    """F9: how often to ask is not how long to wait."""

    def gaps(self, **settings: int) -> float:
        """The longest pause, in seconds, between two datagrams of an idle client."""
        pair = Pair(**settings)
        pair.connect()
        times = [pair.now]

        def fate(number: int, datagram: bytes) -> tuple[float]:
            times.append(pair.now)
            return (10,)

        pair.fates["client"] = fate
        pair.run(200_000)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
        return max(b - a for a, b in pairwise(times)) / SECOND

    def test_interval(self) -> None:
        """
        A NAT sees something every 15 seconds, whatever the idle timeout; who waits less
        asks more often.
        """
        self.assertEqual(round(self.gaps(idle_timeout=600 * SECOND)), 15)
        self.assertEqual(round(self.gaps()), 10)
        self.assertEqual(round(self.gaps(keep_alive=5 * SECOND)), 5)
        self.assertEqual(round(self.gaps(idle_timeout=6 * SECOND)), 2)

    def test_timeout(self) -> None:
        """The idle timeout holds as it was chosen."""
        pair = Pair(idle_timeout=600 * SECOND)
        pair.connect()
        pair.fates["server"] = lambda number, datagram: ()
        pair.run(590_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.run(15_000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.IDLE, None))
