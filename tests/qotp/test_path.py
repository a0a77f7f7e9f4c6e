"""A peer whose address changes (qotp.md W10)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import CLIENT
from tests.qotp.pair import Pair
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import Event
from twisted_rudp.qotp.extensions import CONTROL, range_ack
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
