"""
Tests for L{twisted_rudp.raknet.sent}: lost acknowledgements, frames sent twice, and gaps that
the peer may still have.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.congestion.bbr import BBR
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.timers import NEVER
from twisted_rudp.raknet.sent import (
    EXTENDED_WINDOW,
    FILLINGS,
    SPARE,
    SentBatch,
    SentFrame,
    SentPacket,
    SentPackets,
)
from twisted_rudp.raknet.settings import DEFAULT
from twisted_rudp.raknet.wire import HEADER_SIZE

BYTES = 1000

WINDOW = 100
FREE = WINDOW - WINDOW // SPARE


def remembered() -> int:
    """How many packets are kept anywhere."""
    gc.collect()
    return sum(isinstance(each, SentPacket) for each in gc.get_objects())


class SentPacketsTests(SynchronousTestCase):
    """L{SentPackets} with a window of a hundred datagrams."""

    def setUp(self) -> None:
        self.table = SentPackets(replace(DEFAULT, window=WINDOW))
        self.controller = BBR(BYTES)

    def send(self, count: int, now: int) -> None:
        """So many datagrams with a frame each."""
        table = self.table
        for _ in range(count):
            frame = SentFrame(bytes(BYTES), table.reliable, None)
            table.framed(1)
            table.enter(SentPacket(table.number, [frame], [], now), now, BYTES, BYTES, False)

    def again(self, now: int) -> None:
        """Send everything lost again."""
        table = self.table
        while table.lost and table.may_retransmit:
            frame = table.lost.popleft()
            if not frame.done:
                table.retransmitting(frame)
                packet = SentPacket(table.number, [frame], [], now)
                table.enter(packet, now, BYTES, BYTES, False)

    def heard(self, records: list[tuple[int, int]], now: int) -> None:
        """An ACK, and the end of its turn."""
        self.table.acknowledged(records, now)
        self.table.turn(now, self.controller)

    def expire(self, now: int) -> None:
        """What time brings."""
        table = self.table
        table.turn(now, self.controller)
        while table.recovery.probe_deadline() <= now:
            table.probe(now, self.controller)
        if table.fill_due <= now:
            table.fill(now)

    def test_nothingHeard(self) -> None:
        """
        Answers to a peer that pings and acknowledges nothing are not remembered: nothing in them
        can be missing.
        """
        table, before = self.table, remembered()
        table.extended = True
        table.round_trip.sample(20 * MILLISECOND, 0)
        for number in range(4000):
            now = number * MILLISECOND
            table.enter(SentPacket(table.number, (), (), now), now, 50, 50, False)
            self.expire(now)
        self.assertLess(remembered() - before, 3000)

    def test_lostAcknowledgement(self) -> None:
        """
        What times out although something sent later was acknowledged, and nobody has
        asked for it, has probably arrived: it is sent again, and nothing is told to the
        controller.
        """
        self.send(30, 0)
        self.heard([(25, 29)], MILLISECOND)
        before = self.controller.window
        self.expire(SECOND)
        self.assertEqual(len(self.table.lost), 25)
        self.assertEqual(self.controller.window, before)
        self.assertEqual(self.table.counters.lost, 25)

    def test_silence(self) -> None:
        """Where nothing at all is acknowledged the window becomes smaller, after some probes."""
        self.send(30, 0)
        before = self.controller.window
        for _ in range(3):
            self.expire(self.table.recovery.probe_deadline())
        self.assertEqual(len(self.table.lost), 30)
        self.assertLess(self.controller.window, before)

    def test_probes(self) -> None:
        """
        Silence makes the frames of the first and the last datagram be sent again, before
        anything counts as lost. Whichever copy arrives, each frame is settled once.
        """
        table = self.table
        self.send(5, 0)
        self.expire(table.recovery.probe_deadline())
        self.assertEqual(sorted(frame.reliable for frame in table.lost), [0, 4])
        self.assertEqual(table.counters.lost, 0)
        self.again(SECOND)
        self.heard([(0, 6)], SECOND + MILLISECOND)
        self.assertEqual((table.outstanding, table.base, table.recovery.in_flight), (0, 5, 0))

    def test_oldestFirst(self) -> None:
        """
        What is lost once more goes before later frames that were lost meanwhile: they wait for
        it at the peer.
        """
        table = self.table
        self.send(6, 0)
        table.reported_lost([(0, 0), (2, 2)])
        self.again(MILLISECOND)
        table.reported_lost([(4, 5), (6, 6), (1, 1), (7, 7)])
        self.assertEqual([frame.reliable for frame in table.lost], [0, 1, 2, 4, 5])

    def test_copies(self) -> None:
        """
        Frames of datagrams that are in flight are sent once more when that is due, one by one or
        of a run, and settled once.
        """
        table = self.table
        table.extended = True
        self.send(2, 0)
        run = bytes(3 * BYTES)
        batch = SentBatch(
            table.number, (table.reliable, 3, 1), len(run), BYTES, lambda index: run[:BYTES], 0
        )
        table.enter(batch, 0, BYTES, BYTES, False, 3)
        table.copies.plan(0, 10 * MILLISECOND, 0, 4, 1)
        self.heard([(1, 2)], MILLISECOND)
        table.copy(MILLISECOND)
        self.assertEqual(len(table.lost), 0)
        table.copy(10 * MILLISECOND)
        self.assertEqual([frame.reliable for frame in table.lost], [0, 3])
        self.again(10 * MILLISECOND)
        self.assertEqual((table.counters.retransmitted, table.counters.lost), (2, 0))
        self.heard([(5, 6)], 20 * MILLISECOND)
        self.assertEqual((table.outstanding, table.base), (1, 4))
        self.heard([(0, 4)], 30 * MILLISECOND)
        self.assertEqual((table.outstanding, table.base, table.recovery.in_flight), (0, 5, 0))

    def gap(self) -> SentPackets:
        """Number 0 has timed out; its frame has arrived in number 60."""
        table = self.table
        self.send(60, 0)
        self.heard([(1, 59)], MILLISECOND)
        self.expire(SECOND // 2)
        self.again(SECOND // 2)
        self.heard([(60, 60)], SECOND // 2 + MILLISECOND)
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
        self.expire(table.fill_due)
        self.expire(60 * SECOND)
        self.assertEqual(table.frames_room, FREE - table.number)

    def test_filled(self) -> None:
        """
        What is far behind is sent again under its number, without the frames that have
        arrived otherwise, and holds nothing back when it is acknowledged.
        """
        table = self.gap()
        self.expire(table.fill_due)
        self.assertEqual(table.gaps, [(0, b"")])
        self.heard([(0, 0)], 2 * SECOND)
        self.assertEqual(table.frames_room, FREE)

    def test_filledWithFrames(self) -> None:
        """Frames that are still missing are in it, so that its acknowledgement is theirs."""
        table = self.table
        self.send(60, 0)
        self.heard([(1, 59)], MILLISECOND)
        self.expire(SECOND // 2)
        self.expire(max(SECOND, table.fill_due))
        self.assertEqual(table.gaps, [(0, bytes(BYTES))])
        self.heard([(0, 0)], 2 * SECOND)
        self.assertEqual((table.outstanding, table.recovery.in_flight), (0, 0))

    def test_silentAboutGaps(self) -> None:
        """
        A peer that has named a number does not acknowledge it, and its NACK may be
        lost: after a few fillings that it had the time to see the number is free.
        """
        table = self.gap()
        for _ in range(FILLINGS):
            now = table.fill_due
            self.expire(now)
            self.assertEqual(table.gaps.pop(), (0, b""))
            self.assertLess(table.frames_room, 40)
            self.send(1, now)
            self.heard([(table.number - 1, table.number - 1)], now + MILLISECOND)
        self.expire(table.fill_due)
        self.assertEqual(table.frames_room, FREE)

    def test_silentPeer(self) -> None:
        """
        Fillings count only if something sent after them has come through. While
        nothing does, an empty datagram asks for it.
        """
        table = self.gap()
        self.expire(table.fill_due)
        self.assertEqual(table.gaps, [(0, b"")])
        for _ in range(3 * FILLINGS):
            table.gaps.clear()
            table.fill(table.fill_due)
            self.assertEqual(table.gaps, [(table.number - 1, b"")])
        self.assertEqual(table.frames_room, FREE - table.number)

    def test_retransmissions(self) -> None:
        """
        When everything times out at once, as it does if the peer stops for a while,
        there are not numbers for all retransmissions.
        """
        table = self.table
        while table.frames_room > 0:
            self.send(1, 0)
        self.heard([(1, 1)], MILLISECOND)
        table.recovery.declare_lost()
        table.turn(SECOND // 2, self.controller)
        table.probe(SECOND // 2, self.controller)
        waiting = len(table.lost)
        self.again(SECOND // 2)
        self.assertLess(table.number, WINDOW)
        self.assertGreater(len(table.lost), waiting - 20)
        table.reported_lost([(0, table.number - 1)])
        self.assertTrue(table.may_retransmit)

    def test_reportedAgain(self) -> None:
        """
        A peer can have everything sent again by a few bytes, but not have everything looked at
        that it has named before; and frames that are lost once more are in their order.
        """
        table = self.table = SentPackets(replace(DEFAULT, window=8000))
        self.send(3000, 0)
        table.reported_lost([(1, 2999)])
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += 1

        for turn in range(20):
            for _ in range(10):
                frame = table.lost.popleft()
                table.retransmitting(frame)
                packet = SentPacket(table.number, [frame], [], turn)
                table.enter(packet, turn, BYTES, BYTES, False)
            before = sys.getprofile()
            sys.setprofile(count)
            table.reported_lost([(1, (1 << 23) - 1)])
            sys.setprofile(before)
            found = [frame.reliable for frame in table.lost]
            self.assertEqual(found, list(range(1, 3000)))
        self.assertLess(calls, 20 * 8000)
        self.assertEqual(table.counters.lost_reported, 2999 + 200)

    def test_denied(self) -> None:
        """
        NACKs that name all that is in flight, twice in a row, shrink the window to the least:
        whoever misses something has received something else.
        """
        table = self.table = SentPackets(replace(DEFAULT, window=8000))
        for turn in range(1, 40):
            self.send(min(2 * turn, 50), turn * SECOND)
            self.heard([(0, table.number - 1)], turn * SECOND + 10 * MILLISECOND)
        now = 39 * SECOND + 20 * MILLISECOND
        window = self.controller.window
        self.send(40, now)
        table.reported_lost([(0, table.number - 1)])
        table.turn(now, self.controller)
        self.assertGreater(self.controller.window, window // 2)
        self.again(now)
        table.reported_lost([(0, table.number - 1)])
        table.turn(now, self.controller)
        self.assertLess(self.controller.window, 5 * BYTES)
        for turn in range(40, 50):
            self.again(turn * SECOND)
            self.send(10, turn * SECOND)
            self.heard([(0, table.number - 1)], turn * SECOND + 10 * MILLISECOND)
        self.assertGreater(self.controller.window, 5 * BYTES)

    def test_unreliable(self) -> None:
        """A datagram that nobody waits for holds numbers back too when it is missing."""
        table = self.table
        table.enter(SentPacket(table.number, [], [], 0), 0, BYTES, BYTES, False)
        self.send(60, 0)
        self.heard([(1, 60)], MILLISECOND)
        self.assertEqual(table.frames_room, FREE - 61)
        self.expire(SECOND // 2)
        self.expire(max(table.fill_due, SECOND))
        self.assertEqual(table.gaps, [(0, b"")])
        self.heard([(0, 0)], SECOND)
        self.assertEqual(table.frames_room, FREE)
        self.assertEqual(table.lost, type(table.lost)())

    def test_named(self) -> None:
        """A number that the peer has asked for, late, holds nothing back any more."""
        table = self.gap()
        table.reported_lost([(0, 0)])
        self.assertEqual(table.frames_room, FREE)

    def test_extended(self) -> None:
        """
        Towards our own kind later acknowledgements tell of a loss, which leaves no gap, and
        the windows are larger.
        """
        table = self.table
        table.extended = True
        self.send(60, 0)
        self.heard([(1, 59)], MILLISECOND)
        self.assertEqual([frame.reliable for frame in table.lost], [0])
        self.assertEqual(table.frames_room, EXTENDED_WINDOW - 60)
        self.assertEqual(table.fill_due, NEVER)
        self.heard([(0, 0)], MILLISECOND)
        self.assertEqual((table.outstanding, table.counters.lost_spurious), (0, 1))


class SentBatchTests(SynchronousTestCase):
    """Gaps within a run."""

    def entered(self) -> tuple[SentPackets, SentBatch]:
        """Six datagrams of ten bytes that left together."""
        table = SentPackets(DEFAULT)
        size = HEADER_SIZE + 10
        batch = SentBatch(
            0, (0, 6, 1), 6 * size, size, lambda index: bytes(HEADER_SIZE) + b"%010d" % index, 0
        )
        table.framed(6)
        table.enter(batch, 0, size, size, False)
        return table, batch

    def test_gaps(self) -> None:
        """Each is one by itself: what the peer names or acknowledges is none any more."""
        table, batch = self.entered()
        batch.acknowledge(1, 2, table)
        self.assertFalse(batch.missing)
        table.recovery.declare_lost()
        table.turn(0, BBR(BYTES))
        for first, end in [(0, 1), (2, 6)]:
            batch.lose(first, end, table, 3)
        self.assertEqual([number for number, _ in batch.gaps()], [0, 2, 3, 4, 5])
        batch.lose(2, 4, table, 2)
        batch.acknowledge(5, 6, table)
        self.assertEqual(batch.gaps(), [(0, b"%010d" % 0), (4, b"%010d" % 4)])
        table.lost[0].done = True
        self.assertEqual(batch.gaps(), [(0, b""), (4, b"%010d" % 4)])
        batch.forget()
        self.assertFalse(batch.missing)
        self.assertEqual(batch.gaps(), [])

    def test_probed(self) -> None:
        """What was sent twice is settled once, whichever copy arrives."""
        table, batch = self.entered()
        batch.probe(True, table)
        (frame,) = table.lost
        self.assertEqual((frame.reliable, frame.data), (5, b"%010d" % 5))
        table.frame_acknowledged(frame)
        batch.acknowledge(0, 6, table)
        self.assertEqual((table.outstanding, table.base), (0, 6))
        self.assertTrue(batch.finished)
