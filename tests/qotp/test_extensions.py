"""What our own ends say beyond the release (qotp.md 17)."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.pair import CLIENT, steady
from tests.qotp.pair import End, Pair
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import MILLISECOND, Drop, Event, Reason, Reply
from twisted_rudp.core.queues import MOST_MESSAGES
from twisted_rudp.core.ranges import Ranges
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.qotp.demux import RESETS_PER_SECOND, QOTPDemultiplexer
from twisted_rudp.qotp.extensions import (
    MORE_RANGES,
    Abort,
    NewId,
    RangesReader,
    RangesWriter,
    Reset,
    StatelessReset,
    decode_frame,
    decode_range,
    encode_abort,
    encode_new_id,
    encode_ranges,
    encode_reset,
    range_ack,
)


class FrameTests(SynchronousTestCase):
    """Control frames."""

    def test_frames(self) -> None:
        """Each is read as it was written; what is of no known form means nothing."""
        new = NewId(b"12345678", bytes(range(16)))
        for body, expected in (
            (encode_reset(7, 1 << 33 | 5), Reset(7, 5)),
            (encode_abort(9), Abort(9)),
            (encode_new_id(new), new),
        ):
            self.assertEqual(decode_frame(body), expected)
            for other in (body[:-1], body + b"x", b"\x63" + body[1:]):
                self.assertIsNone(decode_frame(other))
        self.assertNotIn(new.token.hex(), repr(new))

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(st.integers(1, 1 << 20), min_size=2, max_size=90), st.integers(0, 1 << 40))
    def test_ranges(self, steps: list[int], base: int) -> None:
        """Ranges of packet numbers, the newest with the acknowledgement, are read as written."""
        edges = [base]
        for step in steps:
            edges.append(edges[-1] + step)
        ranges = list(zip(edges[::2], edges[1::2], strict=False))[::-1]
        first, end = ranges[0]
        length = min(end - first, 65535)
        self.assertEqual(decode_range(range_ack(first, end, 0), end), (end - length, end))
        found = RangesReader().read(encode_ranges(first, ranges[1:]), first)
        self.assertEqual(found, ranges[1 : 1 + MORE_RANGES])

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(0, 1 << 30), st.floats(0.0, 0.4), st.floats(0.0, 0.3))
    def test_news(self, seed: int, lost: float, late: float) -> None:
        """
        What is read of acknowledgement after acknowledgement is all that they say, though most
        of it is passed over, and some of them are lost.
        """
        chance = Random(seed)
        received, writer, reader = Ranges(64), RangesWriter(), RangesReader()
        told, known = Ranges(), Ranges()
        delayed: list[int] = []
        for number in range(300):
            if chance.random() < lost:
                if chance.random() < late:
                    delayed.append(number)
                continue
            received.add(number, number + 1)
            if delayed and chance.random() < 0.1:
                came = delayed.pop(0)
                received.add(came, came + 1)
            if chance.random() < 0.5:
                continue
            newest, *more = received.newest(MORE_RANGES + 1)
            body = writer.write(newest[0], more)
            self.assertEqual(body, encode_ranges(newest[0], more))
            if chance.random() < lost:
                continue
            news = reader.read(body, newest[0])
            for first, end in (newest, *more):
                told.add(first, end)
            for first, end in (newest, *news):
                known.add(first, end)
            self.assertEqual(list(known), list(told))

    def test_nothingNew(self) -> None:
        """What an acknowledgement has told is no news in the next, also behind a new hole."""
        received, writer, reader = Ranges(64), RangesWriter(), RangesReader()
        for first in (0, 20, 40, 60):
            received.add(first, first + 10)
        news = []
        for first, end in ((70, 75), (80, 85), (85, 90)):
            received.add(first, end)
            newest, *more = received.newest(MORE_RANGES + 1)
            news.append(reader.read(writer.write(newest[0], more), newest[0]))
        self.assertEqual(news, [[(40, 50), (20, 30), (0, 10)], [(60, 75)], []])

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.binary(max_size=80), st.integers(0, 1 << 30))
    def test_junk(self, body: bytes, first: int) -> None:
        """Whatever comes, no range is negative, empty, or out of order."""
        decode_frame(body)
        for low, end in RangesReader().read(body, first):
            self.assertTrue(0 <= low < end < first, (low, end, first))
            first = low


class ResetTests(SynchronousTestCase):
    """A listener that was restarted (RFC 9000 10.3)."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.connect()
        self.pair.run(500)

    def restart(self) -> None:
        """The server's process is another one now, with the same key."""
        pair = self.pair
        pair.server.engines.clear()
        pair.server.demux = QOTPDemultiplexer(pair.settings, pair.identity)

    def test_noticed(self) -> None:
        """Whoever sends to it learns within a round trip that it has forgotten him."""
        self.restart()
        began = self.pair.now
        write(self.pair.client, 0, b"are you still there?")
        self.pair.run(21)
        self.assertEqual(self.pair.client.happened[-1], (Event.ENDED, Reason.FORGOTTEN, None))
        self.assertTrue(self.pair.now - began <= 21 * MILLISECOND)
        self.assertEqual(len(self.pair.server.sent[-1]), 39)

    def test_otherKey(self) -> None:
        """A listener with another key cannot tell, and says nothing."""
        pair = self.pair
        pair.identity = type(pair.identity).from_text("somebody else")
        sent = len(pair.server.sent)
        self.restart()
        write(pair.client, 0, b"are you still there?")
        pair.run(3000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        self.assertEqual(len(pair.server.sent), sent)

    def test_forged(self) -> None:
        """Only the right token ends a connection."""
        client: End = self.pair.client
        (name, own_id) = client.engine.keys()
        for id in (name, own_id):
            client.arrive(b"\x80" + bytes(id) + bytes(30), CLIENT)  # type: ignore[call-overload]
            client.arrive(b"\x80" + bytes(id) + bytes(1000), CLIENT)  # type: ignore[call-overload]
        self.assertEqual(client.kinds(), [Event.CONNECTED])
        write(client, 0, b"still here")
        self.pair.run(50)
        self.assertEqual(bytes(self.pair.server.streams[0]), b"still here")

    def test_release(self) -> None:
        """
        R9: an id that was not made here, as each of the release is, is never answered: it
        would end the release's loop.
        """
        pair = self.pair
        chance = Random(1)
        sent = len(pair.server.sent)
        for _ in range(2000):
            pair.server.arrive(b"\x80" + chance.randbytes(50), CLIENT)
        self.assertEqual(len(pair.server.sent), sent)
        self.assertEqual(set(pair.server.drops), {"unknown connection"})

    def test_limit(self) -> None:
        """So many resets in a second and no more, and none to another listener's."""
        pair = self.pair
        self.restart()
        (_, own_id) = pair.client.engine.keys()
        datagram = b"\x80" + bytes(own_id) + bytes(30)  # type: ignore[call-overload]
        demux = pair.server.demux
        verdicts = [
            demux.unknown_peer(datagram, CLIENT, pair.now, pair.server) for _ in range(3000)
        ]
        replies = [each for each in verdicts if isinstance(each, Reply)]
        self.assertEqual(len(replies), RESETS_PER_SECOND)
        self.assertEqual(verdicts[-1], Drop("too many resets"))
        other = StatelessReset(bytes(32))
        self.assertFalse(other.owns(bytes(own_id)))  # type: ignore[call-overload]

    def test_unreadKept(self) -> None:
        """B3: what the peer had delivered whole before it was lost is still read."""
        pair = self.pair
        pair.client.reading = False
        pair.server.engine.write(0, b"all of it")
        pair.server.engine.close_stream(0)
        pair.server.turn(pair.server.engine)
        pair.run(100)
        self.restart()
        write(pair.client, 0, b"are you still there?")
        pair.run(100)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.client.reading = True
        pair.client.turn(pair.client.engine)
        pair.run(100)
        self.assertEqual(bytes(pair.client.streams[0]), b"all of it")
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.FORGOTTEN, None))


class OutOfBandTests(SynchronousTestCase):
    """Messages beside the streams."""

    def test_both(self) -> None:
        """They arrive both ways, once, also empty ones and the longest."""
        pair = Pair()
        pair.client.reading = pair.server.reading = False
        pair.connect()
        for one, other in ((pair.client, pair.server), (pair.server, pair.client)):
            longest = one.engine.facts()["oob_max"]
            messages = [b"", b"hello", bytes(longest)]
            for message in messages:
                one.engine.send(message, Delivery.OUT_OF_BAND)
            self.assertRaises(ValueError, one.engine.send, bytes(longest + 1), Delivery.OUT_OF_BAND)
            one.turn(one.engine)
            pair.run(50)
            self.assertIn((Event.READABLE, None), other.happened)
            taken = list(other.engine.take_messages())
            self.assertEqual(taken, [Message(each, Delivery.OUT_OF_BAND) for each in messages])
        self.assertRaises(ValueError, pair.client.engine.send, b"x")

    def test_lost(self) -> None:
        """What is lost is not sent again, and the stream beside it goes on."""
        pair = Pair()
        pair.server.reading = False
        pair.connect()
        engine = pair.client.engine
        pair.fates["client"] = lambda number, datagram: ()
        for at in range(5):
            engine.send(bytes([at]), Delivery.OUT_OF_BAND)
        pair.client.turn(engine)
        pair.fates["client"] = steady()
        engine.write(0, b"stream")
        engine.send(b"last", Delivery.OUT_OF_BAND)
        pair.client.turn(engine)
        pair.run(2000)
        server = pair.server.engine
        self.assertEqual([each.data for each in server.take_messages()], [b"last"])
        self.assertEqual(server.take(0, 100), b"stream")
        self.assertEqual(engine.facts()["bytes_in_flight"], 0)
        self.assertGreaterEqual(engine.counters()["lost"], 5)

    def test_bounded(self) -> None:
        """A window that is full holds them back, and the oldest go."""
        pair = Pair()
        pair.server.reading = False
        pair.connect()
        engine = pair.client.engine
        for at in range(MOST_MESSAGES + 9):
            engine.send(at.to_bytes(2, "big") + bytes(198), Delivery.OUT_OF_BAND)
        pair.client.turn(engine)
        pair.run(3000)
        taken = [int.from_bytes(m.data[:2], "big") for m in pair.server.engine.take_messages()]
        self.assertEqual(taken, list(range(9, MOST_MESSAGES + 9)))
        self.assertEqual(engine.counters()["oob_dropped"], 9)
