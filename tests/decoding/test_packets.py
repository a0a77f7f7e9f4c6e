"""Tests for L{twisted_rudp.decoding.packets}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.decoding.packets import READERS, KCPPackets, RakNetPackets
from twisted_rudp.kcp.wire import ACK, PUSH, pack_header
from twisted_rudp.raknet.wire import ACK as RAKNET_ACK
from twisted_rudp.raknet.wire import pack_frame_header, pack_records
from twisted_rudp.raknet.wire import pack_header as raknet_header


def push(sn: int, ts: int = 0) -> bytes:
    return pack_header(1, PUSH, 0, 0, ts, sn, 0, 0)


def ack(sn: int, una: int) -> bytes:
    return pack_header(1, ACK, 0, 0, 0, sn, una, 0)


class PacketsTests(SynchronousTestCase):
    """What traces say of datagrams."""

    def test_kcp(self) -> None:
        """Segments lead to the datagrams in which they were sent last."""
        reader = KCPPackets()
        self.assertEqual(reader.sent(push(0) + push(1), 0).lost, ())
        self.assertEqual(reader.sent(push(2), 1).lost, ())
        # A copy that leaves at once is none of a lost one.
        self.assertEqual(reader.sent(push(2), 2).lost, ())
        self.assertEqual(reader.sent(push(0, ts=50), 3).lost, (0,))
        self.assertEqual(reader.received(ack(1, 0), 0).frames[-1]["acked_ranges"], [[0, 0]])
        self.assertEqual(reader.received(ack(9, 3), 0).frames[-1]["acked_ranges"], [[2, 3]])
        self.assertEqual(len(reader.received(ack(9, 3), 0).frames), 1)

    def test_raknet(self) -> None:
        """Numbers go on beyond 24 bits; an index that comes again shows what was lost."""
        reader = RakNetPackets()
        frame = pack_frame_header(2, 1, reliable=5) + b"x"
        last = (1 << 24) - 1
        for number in range(0, last, 1 << 22):
            reader.sent(raknet_header(number), 0)
        self.assertEqual(reader.sent(raknet_header(last) + frame, 0).number, last)
        again = reader.sent(raknet_header(last + 1) + frame, 0)
        self.assertEqual((again.number, again.lost), (last + 1, (last,)))
        [record] = pack_records(RAKNET_ACK, [(last, last + 2)], 1000)
        ranges = [reader.received(record, 0).frames[0]["acked_ranges"]]
        self.assertEqual(ranges, [[[last, last], [last + 1, last + 1]]])

    @given(st.sampled_from(sorted(READERS)), st.lists(st.binary(min_size=1), max_size=4))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_anything(self, wire: str, datagrams: list[bytes]) -> None:
        """Any bytes are read."""
        reader = READERS[wire]()
        for data in datagrams:
            reader.sent(data, 0)
            reader.received(data, 0)
