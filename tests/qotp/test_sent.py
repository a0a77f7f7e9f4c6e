"""What was sent and is not acknowledged (qotp.md 5.2, 5.3)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.qotp.pair import Pair
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.qotp.path import PathMTU
from twisted_rudp.qotp.sent import SentPackets, SentRun
from twisted_rudp.qotp.streams import Stream
from twisted_rudp.qotp.wire import ControlFrame


class ReorderingTests(SynchronousTestCase):
    """On a link that carries every datagram, some later than those behind them."""

    def retransmitted(self, overtaken_by: int) -> int:
        """How much is sent again when one datagram arrives behind so many later ones."""
        pair = Pair()
        pair.connect()
        pair.run(500)
        late = len(pair.client.sent) + 4
        # Datagrams of one turn arrive in turn, a tenth of a millisecond apart.
        pair.fates["client"] = lambda number, datagram: (
            10 + (number - late) / 10 + (overtaken_by + 0.5 if number == late else 0) / 10,
        )
        write(pair.client, 0, bytes(14 * 1361))
        pair.run(500)
        self.assertEqual(len(pair.server.streams[0]), 14 * 1361)
        return pair.client.engine.counters()["retransmitted"]

    def test_threshold(self) -> None:
        """RFC 9002 6.1.1: two later ones tell nothing, three make it lost."""
        self.assertEqual([self.retransmitted(count) for count in (0, 1, 2)], [0, 0, 0])
        self.assertEqual(self.retransmitted(3), 1)


class PacketsTests(SynchronousTestCase):
    """L{SentPackets} alone."""

    def setUp(self) -> None:
        self.packets = SentPackets(RoundTrip(SECOND, SECOND, SECOND), 0, PathMTU(1400))
        self.stream = Stream(4)

    def send(self, first: int, data: bytes, size: int, fin: bool = False) -> None:
        """A run of segments of C{size} bytes."""
        count = -(-len(data) // size)
        run = SentRun(first, count, self.stream, first * 100, size, data, fin)
        self.stream.unsettled += len(data)
        self.packets.sent(run, size + 39, len(data) - (count - 1) * size + 39, SECOND, False)
        self.packets.plan_copies(run, SECOND)

    def test_parts(self) -> None:
        """A run can be acknowledged in parts; what is missing has its place and its bytes."""
        self.send(0, b"aabbccddee", 2, fin=True)
        self.packets.acknowledge(0, 2)
        self.packets.acknowledge(4, 5)
        self.assertEqual((self.packets.stream_bytes, self.packets.acknowledged_bytes), (4, 6))
        self.assertTrue(self.stream.fin_acknowledged)
        self.assertEqual(self.packets.give_up_oldest(1), [])
        lost = [(each.offset, bytes(each.data), each.fin) for each in self.stream.lost]
        self.assertEqual(lost, [(4, b"cc", False)])
        self.packets.acknowledge(0, 5)
        self.assertEqual((self.packets.stream_bytes, self.stream.unsettled), (0, 0))

    def test_oldestFirst(self) -> None:
        """What is lost once more goes before later bytes: they wait for it at the peer."""
        self.send(0, bytes(10), 2)
        self.packets.give_up_oldest(5)
        again = self.stream.lost.popleft()
        for number, offset in ((5, again.offset), (6, 10)):
            run = SentRun(number, 1, self.stream, offset, 2, bytes(2), False)
            self.packets.sent(run, 41, 41, SECOND, False)
        self.packets.give_up_oldest(2)
        self.assertEqual([each.offset for each in self.stream.lost], [0, 2, 4, 6, 8, 10])

    def test_lateArrival(self) -> None:
        """
        What was given up and arrives all the same is not sent again; if it was, that is not
        waited for. Nobody may be left to acknowledge it.
        """
        self.send(0, b"aabbcc", 2, fin=True)
        self.packets.give_up_oldest(3)
        again = self.stream.lost.popleft()
        run = SentRun(3, 1, self.stream, again.offset, 2, again.data, False, sendings=2)
        self.stream.unsettled += 2
        self.packets.sent(run, 41, 41, SECOND, False)
        self.packets.acknowledge(0, 2)
        self.assertEqual([each.offset for each in self.stream.lost], [4])
        self.assertEqual((self.packets.stream_bytes, self.stream.unsettled), (0, 0))
        self.assertEqual(self.packets.acknowledged_bytes, 4)
        self.assertFalse(self.stream.fin_acknowledged)
        self.packets.acknowledge(0, 4)
        self.assertEqual(self.packets.acknowledged_bytes, 6)
        self.assertTrue(self.stream.fin_acknowledged)
        self.assertFalse(self.packets.losing)
        self.assertEqual(self.packets.recovery.in_flight, 0)

    def test_stretches(self) -> None:
        """What was known already, in the middle of a part or of the whole, counts once."""
        self.send(0, b"aabbccddeef", 2, fin=True)
        for first, end, left in ((1, 2, 9), (3, 4, 7), (0, 5, 1), (2, 5, 1), (0, 6, 0)):
            self.packets.acknowledge(first, end)
            self.assertEqual((self.packets.stream_bytes, self.stream.unsettled), (left, left))
            self.assertEqual(self.stream.fin_acknowledged, not left)
        self.assertEqual(self.packets.acknowledged_bytes, 11)

    def test_frames(self) -> None:
        """Of the control frames only those are repeated that ask for it."""
        once, repeated = ControlFrame(1, 0), ControlFrame(1, 0, b"x", True)
        for number, frame in enumerate((once, repeated)):
            self.packets.sent(SentRun(number, 1, frame=frame), 40, 40, SECOND, False)
        self.assertEqual(self.packets.frames, 2)
        self.assertEqual(self.packets.give_up_oldest(9), [repeated])
        self.assertEqual(self.packets.frames, 0)

    def copy(self, numbers: list[int]) -> None:
        """Send the packets that are due once more."""
        found = self.packets.to_copy(2 * SECOND)
        self.assertEqual([run.first + index for run, index in found], numbers)
        for run, index in found:
            again = SentRun(self.packets.recovery.next, 1, original=run, copied=index)
            self.packets.sent(again, 41, 41, SECOND, False)

    def test_copies(self) -> None:
        """
        Whichever of a packet and its copy arrives, and in whatever order, its bytes are settled
        once and nothing stays in flight. What has arrived or is lost is not copied.
        """
        for arriving in ((0, 1), (1, 0), (1, None), (None, 1)):
            self.setUp()
            self.packets.recovery.round_trip.sample(40 * MILLISECOND, SECOND)
            self.send(0, b"aabb", 4)
            self.copy([0])
            for number in arriving:
                if number is None:
                    self.packets.give_up_oldest(1)
                else:
                    self.packets.acknowledge(number, number + 1)
            lost = arriving[0] is None
            self.assertEqual(len(self.stream.lost), lost)
            self.assertEqual(self.packets.acknowledged_bytes, 0 if lost else 4)
            self.assertEqual((self.packets.stream_bytes, self.stream.unsettled), (0, 0))
            self.assertEqual(self.packets.recovery.in_flight, 0)
            self.copy([])

    def test_copiedStretch(self) -> None:
        """Of a run the packets with the first 1024 bytes are copied, if they have not arrived."""
        self.packets.recovery.round_trip.sample(40 * MILLISECOND, SECOND)
        self.send(0, bytes(3000), 500)
        self.packets.acknowledge(1, 2)
        self.copy([0, 2])
        self.packets.acknowledge(6, 8)
        self.packets.acknowledge(3, 6)
        self.assertEqual((self.packets.stream_bytes, self.stream.unsettled), (0, 0))

    def test_segments(self) -> None:
        """A peer of the release names segments, exactly."""
        self.packets.expect_segments()
        self.send(0, b"aabb", 2)
        self.assertFalse(self.packets.acknowledge_segment(4, 0, 4))
        self.assertTrue(self.packets.acknowledge_segment(4, 2, 2))
        self.assertFalse(self.packets.acknowledge_segment(4, 2, 2))
        self.assertEqual(self.packets.stream_bytes, 2)

    def test_forgotten(self) -> None:
        """Nothing of a stream that was given up is sent again or in flight."""
        self.send(0, b"aabb", 2)
        self.packets.forget(self.stream)
        self.assertEqual(self.packets.stream_bytes, 0)
        self.packets.give_up_oldest(9)
        self.assertFalse(self.packets.losing)
