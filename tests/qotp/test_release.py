"""
The release's dialect: two of our ends that do not know each other for what they are
(qotp.md section 11).
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import chancy, steady
from tests.qotp.pair import End, Pair
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import Capability, Event, Reason
from twisted_rudp.qotp import demux
from twisted_rudp.qotp.extensions import CONTROL
from twisted_rudp.qotp.protection import KeyLogReader, lines_of
from twisted_rudp.qotp.settings import Budget
from twisted_rudp.qotp.wire import Payload, Segment


class ReleaseCase(SynchronousTestCase):
    """Without the offer of the extensions."""

    def setUp(self) -> None:
        self.patch(demux, "OFFER", Segment(0, 1 << 47, b""))

    def payloads(self, pair: Pair, end: End) -> list[Payload]:
        """What one end has said."""
        ((name, secrets),) = pair.secrets.items()
        reader = KeyLogReader(lines_of(name, secrets).splitlines())
        found = [reader.read(datagram) for datagram in end.sent]
        return [each.payload for each in found if each is not None and each.payload is not None]


class DialectTests(ReleaseCase):
    """What is said to the release."""

    def test_met(self) -> None:
        """The peer is taken for the release, and half close is not offered (R4)."""
        pair = Pair()
        pair.connect()
        for end in (pair.client, pair.server):
            self.assertEqual(end.engine.facts()["peer"], "BASELINE")
            self.assertNotIn(Capability.HALF_CLOSE, end.engine.capabilities)
            self.assertEqual(end.happened, [(Event.CONNECTED, False)])

    def test_first(self) -> None:
        """
        R2, R3: InitSnd is answered with the acknowledgement of stream 0, and that at
        once with a PING, whose offset cannot be taken for anything else (R8).
        """
        pair = Pair()
        pair.connect(known=False)
        answer = self.payloads(pair, pair.server)[0]
        assert answer.ack is not None
        self.assertEqual(answer.ack[:3], (0, 0, 0))
        pings = [payload.segment for payload in self.payloads(pair, pair.client)]
        (ping,) = filter(None, pings)
        self.assertEqual((ping.stream, len(ping.data), ping.close), (0, 0, False))
        self.assertTrue(ping.offset >= 1 << 47)

    def test_losses(self) -> None:
        """
        R5, R10: everything arrives whatever is lost; every segment is acknowledged by
        itself, and a repeated one has the border it had.
        """
        for loss in (0.0, 0.1):
            pair = Pair(chancy(loss, 11), chancy(loss, 12))
            self.assertTrue(pair.exchange(150_000))
            sizes: dict[int, int] = {}
            for payload in self.payloads(pair, pair.client):
                segment = payload.segment
                if segment is not None and segment.data:
                    size = sizes.setdefault(segment.offset, len(segment.data))
                    self.assertEqual(len(segment.data), size)

    def test_nothingOfOurs(self) -> None:
        """The release is shown nothing on the control stream but windows (R7)."""
        pair = Pair()
        pair.connect()
        write(pair.client, 0, bytes(50_000))
        number = pair.client.engine.open_stream()
        write(pair.client, number, b"more")
        pair.run(500)
        pair.client.engine.reset_stream(number)
        pair.client.engine.close(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(500)
        pair.client.engine.abort(pair.now)
        for end in (pair.client, pair.server):
            for payload in self.payloads(pair, end)[1:]:
                if payload.segment is not None:
                    self.assertNotEqual(payload.segment.stream, CONTROL)
                if payload.ack is not None and payload.ack.stream == CONTROL:
                    self.assertEqual(payload.ack[1:3], (0, 0))

    def test_window(self) -> None:
        """R7: a window that reopens is announced."""
        pair = Pair(budget=Budget(1 << 19))
        pair.connect()
        pair.server.reading = False
        data = bytes(400_000)
        write(pair.client, 0, data)
        pair.run(3000)
        self.assertTrue(pair.server.engine.unread() <= 1 << 18)
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        pair.run(3000)
        self.assertEqual(len(pair.server.streams[0]), len(data))

    def test_closeOfAStream(self) -> None:
        """
        R6: the acknowledgement of the end of a stream other than 0 carries that
        stream's header.
        """
        pair = Pair()
        pair.connect()
        number = pair.client.engine.open_stream()
        write(pair.client, number, b"all of it")
        pair.client.engine.close_stream(number)
        pair.client.turn(pair.client.engine)
        pair.run(100)
        found = [
            payload.segment.stream
            for payload in self.payloads(pair, pair.server)
            if payload.ack is not None and payload.ack.stream == number and payload.segment
        ]
        self.assertIn(number, found)
        self.assertIn((Event.STREAM_ENDED, number), pair.server.happened)
        self.assertIn((Event.STREAM_FLUSHED, number), pair.client.happened)


class EndTests(ReleaseCase):
    """Ends without a word for them."""

    def test_inOrder(self) -> None:
        """CLOSE from both sides ends the connection."""
        pair = Pair()
        pair.connect()
        write(pair.client, 0, b"last words")
        pair.client.engine.close(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(100)
        self.assertIn((Event.STREAM_ENDED, 0), pair.server.happened)
        pair.server.engine.close(pair.now)
        pair.server.turn(pair.server.engine)
        pair.run(20_000)
        for end in (pair.client, pair.server):
            self.assertEqual(end.happened[-1], (Event.ENDED, Reason.DONE, None))
        self.assertEqual(bytes(pair.server.streams[0]), b"last words")

    def test_lostClose(self) -> None:
        """R14: the other side's CLOSE is waited for in bounded time only."""
        pair = Pair()
        pair.connect()
        pair.client.engine.close(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(4000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.DONE, None))

    def test_kept(self) -> None:
        """R13: PINGs keep an idle connection, and show when the peer is gone."""
        pair = Pair()
        pair.connect()
        pair.run(100_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        self.assertTrue(len(pair.client.sent) > 8)
        pair.fates["server"] = lambda number, datagram: ()
        pair.run(41_000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.IDLE, None))
        pair.fates["server"] = steady()
