"""
What is in flight: lost acknowledgements, and gaps that the peer may still have.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.flights import Packet, Parcel
from twisted_rudp.raknet.inflight import LONG_PATIENCE, SPARE, InFlight
from twisted_rudp.raknet.profiles import DEFAULT

BYTES = 1000


class InFlightTests(SynchronousTestCase):
    """
    L{InFlight} with a window of a hundred datagrams.
    """

    def setUp(self) -> None:
        self.table = InFlight(replace(DEFAULT, window=100), Counters())
        self.table.begin(BYTES)

    def send(self, count: int, now: int) -> None:
        """
        So many datagrams with a frame each.
        """
        table = self.table
        for _ in range(count):
            parcel = Parcel(bytes(BYTES), table.reliable, None)
            table.sent(1, BYTES)
            table.launch(Packet(table.number, [parcel], [], now), now)

    def repeat(self, now: int) -> None:
        """
        Send everything lost again.
        """
        table = self.table
        while table.lost:
            parcel = table.lost.popleft()
            table.resent(parcel)
            table.launch(Packet(table.number, [parcel], [], now), now)

    def test_lostAcknowledgement(self) -> None:
        """
        What times out although something sent later was acknowledged, and nobody has
        asked for it, has probably arrived: it is sent again, and the window stays.
        """
        self.send(30, 0)
        before = self.table.controller.window
        self.table.acknowledge([(25, 29)], MILLISECOND)
        self.table.expire(SECOND)
        self.assertEqual(len(self.table.lost), 25)
        self.assertGreaterEqual(self.table.controller.window, before)

    def test_silence(self) -> None:
        """
        Where nothing later was acknowledged it makes the window smaller.
        """
        self.send(30, 0)
        before = self.table.controller.window
        self.table.expire(SECOND)
        self.assertEqual(len(self.table.lost), 30)
        self.assertLess(self.table.controller.window, before)

    def test_gapAtThePeer(self) -> None:
        """
        A number that timed out may be missing at the peer although its frame has
        arrived in another datagram: until the peer had the time to name it, no number
        more than the window beyond it is given (raknet.md 13).
        """
        table = self.table
        self.send(60, 0)
        table.acknowledge([(1, 59)], MILLISECOND)
        table.expire(SECOND // 2)
        self.repeat(SECOND // 2)
        table.acknowledge([(60, 60)], SECOND // 2 + MILLISECOND)
        self.assertEqual(table.outstanding, 0)
        self.assertEqual(table.frames_room, 100 - 100 // SPARE - 61)
        table.expire(table.alarm)
        self.assertEqual(table.alarm, LONG_PATIENCE)
        table.expire(LONG_PATIENCE)
        self.assertEqual(table.frames_room, 100)

    def test_promptPeer(self) -> None:
        """
        A peer that has always named its gaps at once is not waited for so long.
        """
        table = self.table
        self.send(10, 0)
        table.acknowledge([(1, 9)], MILLISECOND)
        table.complain([(0, 0)], 10 * MILLISECOND)
        self.repeat(10 * MILLISECOND)
        self.send(60, 10 * MILLISECOND)
        table.acknowledge([(10, 10), (12, 70)], 11 * MILLISECOND)
        table.expire(SECOND // 2)
        self.repeat(SECOND // 2)
        table.acknowledge([(71, 71)], SECOND // 2 + MILLISECOND)
        self.assertEqual(table.frames_room, 100)

    def test_unreliable(self) -> None:
        """
        A datagram that nobody waits for holds numbers back too when it is missing, and
        needs no timer.
        """
        table = self.table
        table.launch(Packet(table.number, [], [], 0), 0)
        self.assertGreater(table.alarm, SECOND)
        self.send(60, 0)
        table.acknowledge([(1, 60)], MILLISECOND)
        self.assertEqual(table.frames_room, 100 - 100 // SPARE - 61)
        table.expire(LONG_PATIENCE)
        self.assertEqual(table.frames_room, 100)
        table.launch(Packet(table.number, [], [], LONG_PATIENCE), LONG_PATIENCE)
        table.acknowledge([(61, 61)], LONG_PATIENCE + MILLISECOND)
        self.assertEqual(table.frames_room, 100)

    def test_named(self) -> None:
        """
        A number that the peer has asked for, late, holds nothing back any more.
        """
        table = self.table
        self.send(60, 0)
        table.acknowledge([(1, 59)], MILLISECOND)
        table.expire(SECOND // 2)
        self.repeat(SECOND // 2)
        table.complain([(0, 0)], SECOND // 2 + MILLISECOND)
        table.acknowledge([(60, 60)], SECOND // 2 + MILLISECOND)
        self.assertEqual(table.frames_room, 100)
