"""What is in flight: lost acknowledgements, and gaps that the peer may still have."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.flights import Packet, Parcel, Run
from twisted_rudp.raknet.inflight import FILLINGS, SPARE, InFlight
from twisted_rudp.raknet.profiles import DEFAULT
from twisted_rudp.raknet.wire import HEADER_SIZE

BYTES = 1000

WINDOW = 100
FREE = WINDOW - WINDOW // SPARE


class InFlightTests(SynchronousTestCase):
    """L{InFlight} with a window of a hundred datagrams."""

    def setUp(self) -> None:
        self.table = InFlight(replace(DEFAULT, window=WINDOW), Counters())
        self.table.begin(BYTES)

    def send(self, count: int, now: int) -> None:
        """So many datagrams with a frame each."""
        table = self.table
        for _ in range(count):
            parcel = Parcel(bytes(BYTES), table.reliable, None)
            table.sent(1, BYTES)
            table.launch(Packet(table.number, [parcel], [], now), now)

    def repeat(self, now: int) -> None:
        """Send everything lost again."""
        table = self.table
        while table.lost and table.may_repeat:
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
        """Where nothing later was acknowledged it makes the window smaller."""
        self.send(30, 0)
        before = self.table.controller.window
        self.table.expire(SECOND)
        self.assertEqual(len(self.table.lost), 30)
        self.assertLess(self.table.controller.window, before)

    def gap(self) -> InFlight:
        """Number 0 has timed out; its frame has arrived in number 60."""
        table = self.table
        self.send(60, 0)
        table.acknowledge([(1, 59)], MILLISECOND)
        table.expire(SECOND // 2)
        self.repeat(SECOND // 2)
        table.acknowledge([(60, 60)], SECOND // 2 + MILLISECOND)
        self.assertEqual(table.outstanding, 0)
        return table

    def test_gapAtThePeer(self) -> None:
        """
        A number that timed out may be missing at the peer although its frame has
        arrived in another datagram: no number more than the window beyond it is given
        (raknet.md 13), however much time passes.
        """
        table = self.gap()
        self.assertEqual(table.frames_room, FREE - 61)
        table.expire(table.alarm)
        table.expire(60 * SECOND)
        self.assertEqual(table.frames_room, FREE - table.number)

    def test_filled(self) -> None:
        """
        What is far behind is sent again under its number, without the frames that have
        arrived otherwise, and holds nothing back when it is acknowledged.
        """
        table = self.gap()
        table.expire(table.alarm)
        self.assertEqual(table.gaps, [(0, b"")])
        table.acknowledge([(0, 0)], 2 * SECOND)
        self.assertEqual(table.frames_room, FREE)

    def test_filledWithFrames(self) -> None:
        """Frames that are still missing are in it, so that its acknowledgement is theirs."""
        table = self.table
        self.send(60, 0)
        table.acknowledge([(1, 59)], MILLISECOND)
        table.expire(SECOND // 2)
        table.expire(SECOND)
        self.assertEqual(table.gaps, [(0, bytes(BYTES))])
        table.acknowledge([(0, 0)], 2 * SECOND)
        self.assertEqual((table.outstanding, table.bytes), (0, 0))

    def test_silentAboutGaps(self) -> None:
        """
        A peer that has named a number does not acknowledge it, and its complaint may be
        lost: after a few fillings that it had the time to see the number is free.
        """
        table = self.gap()
        for _ in range(FILLINGS):
            now = table.alarm
            table.expire(now)
            self.assertEqual(table.gaps.pop(), (0, b""))
            self.assertLess(table.frames_room, 40)
            self.send(1, now)
            table.acknowledge([(table.number - 1, table.number - 1)], now + MILLISECOND)
        table.expire(table.alarm)
        self.assertEqual(table.frames_room, FREE)

    def test_silentPeer(self) -> None:
        """
        Fillings count only if something sent after them has come through. While
        nothing does, an empty datagram asks for it.
        """
        table = self.gap()
        table.expire(table.alarm)
        self.assertEqual(table.gaps, [(0, b"")])
        for _ in range(3 * FILLINGS):
            table.gaps.clear()
            table.expire(table.alarm)
            self.assertEqual(table.gaps, [(table.number - 1, b"")])
        self.assertEqual(table.frames_room, FREE - table.number)

    def test_repeats(self) -> None:
        """
        When everything times out at once, as it does if the peer stops for a while,
        there are not numbers for all repeats.
        """
        table = self.table
        while table.frames_room > 0:
            self.send(1, 0)
        table.acknowledge([(1, 1)], MILLISECOND)
        table.expire(SECOND // 2)
        waiting = len(table.lost)
        self.repeat(SECOND // 2)
        self.assertLess(table.number, WINDOW)
        self.assertGreater(len(table.lost), waiting - 20)
        table.complain([(0, table.number - 1)], SECOND)
        self.assertTrue(table.may_repeat)

    def test_unreliable(self) -> None:
        """
        A datagram that nobody waits for holds numbers back too when it is missing, and
        needs no timer before it is far behind.
        """
        table = self.table
        table.launch(Packet(table.number, [], [], 0), 0)
        self.assertGreater(table.alarm, SECOND)
        self.send(60, 0)
        table.acknowledge([(1, 60)], MILLISECOND)
        self.assertEqual(table.frames_room, FREE - 61)
        table.expire(table.alarm)
        self.assertEqual(table.gaps, [(0, b"")])
        table.acknowledge([(0, 0)], SECOND)
        self.assertEqual(table.frames_room, FREE)
        table.launch(Packet(table.number, [], [], SECOND), SECOND)
        table.acknowledge([(61, 61)], SECOND + MILLISECOND)
        self.assertEqual(table.frames_room, FREE)

    def test_named(self) -> None:
        """A number that the peer has asked for, late, holds nothing back any more."""
        table = self.gap()
        table.complain([(0, 0)], SECOND)
        self.assertEqual(table.frames_room, FREE)


class RunTests(SynchronousTestCase):
    """Gaps within a run."""

    def test_gaps(self) -> None:
        """Each is one by itself: what the peer names or acknowledges is none any more."""
        table = InFlight(DEFAULT, Counters())
        table.begin(BYTES)
        size = HEADER_SIZE + 10
        run = Run(0, (0, 6, 1), 6 * size, size, lambda index: bytes(HEADER_SIZE) + b"%010d" % index)
        table.sent(6, 60)
        table.launch(run, 0)
        run.acknowledge(1, 2, table)
        self.assertFalse(run.unnamed)
        run.lose(0, 6, table, True)
        self.assertEqual([number for number, _ in run.gaps()], [0, 2, 3, 4, 5])
        run.lose(2, 4, table, False)
        run.acknowledge(5, 6, table)
        self.assertEqual(run.gaps(), [(0, b"%010d" % 0), (4, b"%010d" % 4)])
        table.lost[0].done = True
        self.assertEqual(run.gaps(), [(0, b""), (4, b"%010d" % 4)])
        run.forget()
        self.assertFalse(run.unnamed)
        self.assertEqual(run.gaps(), [])
