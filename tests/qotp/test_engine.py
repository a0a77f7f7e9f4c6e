"""Connections between our own peers, on a scripted link."""

from __future__ import annotations

import random
import tracemalloc
from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import CLIENT, SERVER, chancy, losing, steady
from tests.qotp.pair import End, Pair
from twisted_rudp.core.engine import SECOND, Capability, Event, PathError, Reason
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.extensions import CONTROL, encode_reset
from twisted_rudp.qotp.protection import Cipher, KeyLogReader, lines_of
from twisted_rudp.qotp.receiver import FIRST, LARGEST, SMALLEST, STEP, ReceiveWindow
from twisted_rudp.qotp.settings import Budget, Congestion
from twisted_rudp.qotp.streams import MAX_STREAMS
from twisted_rudp.qotp.wire import Segment


def write(end: End, stream: int, data: bytes) -> None:
    """Write and flush, as a turn does."""
    end.engine.write(stream, data)
    end.turn(end.engine)


class HandshakeTests(SynchronousTestCase):
    """Becoming connected (3, 12.1)."""

    def test_known(self) -> None:
        """12.1: with the listener's key the echo proves it; both know what the other is."""
        pair = Pair()
        pair.connect()
        for end in (pair.client, pair.server):
            self.assertEqual(end.happened, [(Event.CONNECTED, False)])
            self.assertEqual(end.engine.facts()["peer"], "EXTENDED")
            self.assertIn(Capability.HALF_CLOSE, end.engine.capabilities)
        ours, theirs = pair.client.engine.facts(), pair.server.engine.facts()
        self.assertEqual((ours["peer_key_proved"], theirs["peer_key_proved"]), (True, False))
        self.assertEqual(ours["peer_key"], pair.identity.public.hex())
        self.assertEqual(pair.client.engine.export(b"a"), pair.server.engine.export(b"a"))

    def test_unknown(self) -> None:
        """W1: without it everything works and nothing is proved."""
        pair = Pair()
        pair.connect(known=False)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        self.assertEqual(pair.client.engine.facts()["peer_key_proved"], False)
        self.assertEqual(len(pair.client.sent[0]), 1400)

    def test_losses(self) -> None:
        """W7: whatever of the handshake is lost, it comes about; the key stays."""
        for known in (True, False):
            for lost in range(3):
                for there, back in ((lost, 99), (99, lost)):
                    pair = Pair(losing(there), losing(back))
                    pair.dial(known)
                    pair.run(3000)
                    self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
                    self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
                    self.assertEqual(pair.server.engine.facts()["peer"], "EXTENDED")

    def test_wrongKey(self) -> None:
        """Whoever expects another key is never connected."""
        pair = Pair()
        pair.identity = type(pair.identity).from_text("another")
        pair.dial()
        pair.run(5000)
        self.assertEqual(pair.client.happened, [])
        self.assertEqual(pair.server.engines, {})
        self.assertEqual(set(pair.server.drops), {"not authentic"})

    def test_amplification(self) -> None:
        """W11: before Data came, no more than three times what came is sent."""
        pair = Pair(losing(*range(1, 50)))
        pair.dial()
        pair.run(10_000)
        self.assertTrue(sum(map(len, pair.server.sent)) <= 3 * 1400)

    def test_refused(self) -> None:
        """A closed port ends the attempt at once."""
        for kind, reason in [
            (PathError.REFUSED, Reason.REFUSED),
            (PathError.UNREACHABLE, Reason.UNREACHABLE),
        ]:
            pair = Pair()
            engine = pair.dial()
            engine.path_error(kind, 1400, SERVER, pair.now)
            self.assertEqual(engine.events()[0][:2], (Event.ENDED, reason))

    def test_forbidden(self) -> None:
        """F11: a filter of this machine that goes away in time does no harm."""
        pair = Pair(losing(0))
        engine = pair.dial()
        engine.path_error(PathError.FORBIDDEN, 1400, SERVER, pair.now)
        pair.client.turn(engine)
        pair.run(500)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])

    def test_longOpening(self) -> None:
        """
        F5: a first message that is too long for the path is sent again, for the system then
        cuts it into fragments; unless it is refused again and again.
        """
        pair = Pair(losing(0))
        engine = pair.dial()
        engine.path_error(PathError.TOO_BIG, 1400, SERVER, pair.now)
        pair.client.turn(engine)
        pair.run(60)
        self.assertEqual([len(each) for each in pair.client.sent[:2]], [1400, 1400])
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair = Pair(lambda number, datagram: ())
        engine = pair.dial()
        for _ in range(6):
            self.assertEqual(pair.client.kinds(), [])
            engine.path_error(PathError.TOO_BIG, 1400, SERVER, pair.now)
            pair.client.turn(engine)
            pair.run(200)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.UNREACHABLE))

    def test_answeredTooLate(self) -> None:
        """An answer that comes when the attempt was given up changes nothing."""
        pair = Pair()
        engine = pair.dial()
        engine.abort(pair.now)
        pair.client.turn(engine)
        pair.run(1000)
        self.assertTrue(pair.server.sent)
        self.assertEqual(pair.client.happened, [(Event.ENDED, Reason.ABORTED, None)])

    def test_patient(self) -> None:
        """9.3: who punches a hole goes on when nobody listens there yet."""
        pair = Pair()
        engine = pair.dial(patient=True)
        engine.path_error(PathError.REFUSED, 1400, SERVER, pair.now)
        pair.run(200)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])


class DataTests(SynchronousTestCase):
    """Bytes in both directions."""

    def test_losses(self) -> None:
        """Everything arrives in order over links that lose, repeat and reorder."""
        for loss in (0.0, 0.05, 0.3):
            pair = Pair(chancy(loss, 1), chancy(loss, 2))
            self.assertTrue(pair.exchange(400_000))

    def test_runs(self) -> None:
        """Datagrams of a bulk transfer are full."""
        pair = Pair()
        pair.connect()
        before = len(pair.client.sent)
        answers = len(pair.server.sent)
        write(pair.client, 0, bytes(20 * 1361))
        pair.run(40)
        sizes = [len(each) for each in pair.client.sent[before:]]
        self.assertEqual(sizes, [1400] * 20)
        self.assertTrue(len(pair.server.sent) - answers <= 20)

    def test_echoIsOneDatagram(self) -> None:
        """A small answer carries the acknowledgement of what it answers."""
        pair = Pair()
        pair.connect()
        pair.run(500)
        engine = pair.server.engine
        arrive, sent = pair.server.arrive, len(pair.server.sent)

        def echo(datagram: bytes, source: object, size: int) -> None:
            engine.write(0, b"pong")
            arrive(datagram, CLIENT)

        pair.server.arrive = echo  # type: ignore[method-assign,assignment]
        write(pair.client, 0, b"ping")
        pair.run(15)
        self.assertEqual(len(pair.server.sent), sent + 1)
        pair.run(15)
        self.assertEqual(pair.client.streams[0], b"pong")
        self.assertEqual(pair.client.engine.facts()["bytes_in_flight"], 0)

    def test_wideOffsets(self) -> None:
        """4.2: beyond 2^24 offsets are wide, and nothing is lost at the border."""
        pair = Pair(steady(1), steady(1))
        pair.connect()
        for end in (pair.client, pair.server):
            stream = end.engine._streams.open[0]
            stream.sent = stream.incoming.next = (1 << 24) - 5000
        data = random.Random(1).randbytes(30_000)
        write(pair.client, 0, data)
        pair.run(200)
        self.assertTrue(pair.server.streams[0] == data)

    def test_window(self) -> None:
        """qotp.md 6, R7: a reader that stops stops the writer; when it goes on the rest comes."""
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        data = random.Random(2).randbytes(FIRST * 2)
        write(pair.client, 0, data)
        pair.run(3000)
        waiting = pair.server.engine.unread()
        self.assertTrue(0 < waiting <= FIRST, waiting)
        self.assertTrue(pair.client.engine.unsent() >= len(data) - FIRST)
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        pair.run(2000)
        self.assertTrue(pair.server.streams[0] == data)

    def test_windowOfPieces(self) -> None:
        """
        W6: when the first segment of a full window is lost the others are kept, though
        each costs more than its bytes.
        """
        # A budget that leaves a window no larger than what the path carries in a round trip.
        pair = Pair(steady(50), steady(50), budget=Budget(2 * FIRST))
        pair.connect()
        write(pair.client, 0, bytes(4_000_000))
        pair.run(8000)
        self.assertEqual(len(pair.server.streams.pop(0)), 4_000_000)
        self.assertTrue(pair.client.engine.facts()["congestion_window"] > FIRST)
        lost = len(pair.client.sent)
        pair.fates["client"] = losing(lost, delay=50)
        data = random.Random(2).randbytes(FIRST - 1400)
        write(pair.client, 0, data)
        pair.run(140)
        self.assertTrue(len(pair.client.sent) - lost > 150)
        facts = pair.server.engine.facts()
        self.assertTrue(facts["bytes_waiting"] > FIRST // 2, facts)
        pair.run(1000)
        self.assertTrue(pair.server.streams[0] == data)
        self.assertNotIn("no_room", pair.server.engine.counters())

    def test_beyondWindow(self) -> None:
        """
        What a peer sends behind a hole is kept up to the window and neither kept nor
        acknowledged beyond it. When the hole is filled, all that was kept is there. The window
        cannot grow: other connections have the rest.
        """
        pair = Pair(budget=Budget(2 * FIRST))
        pair.connect()
        engine = pair.server.engine
        size, count = 1000, 2 * FIRST // 1000
        for number in range(count):
            segment = Segment(0, size * (number + 1), bytes(size))
            pair.server.arrive(pair.forge(pair.client, None, segment, number), CLIENT)
        refused = engine.counters()["no_room"]
        facts = engine.facts()
        self.assertTrue(count // 4 < refused < count, (refused, count))
        # A quarter more is for what pieces out of order cost.
        self.assertLessEqual(facts["bytes_waiting"], facts["receive_window"] * 5 // 4)
        pair.server.arrive(pair.forge(pair.client, None, Segment(0, 0, bytes(size)), count), CLIENT)
        self.assertEqual(len(pair.server.streams[0]), size * (1 + count - refused))

    def windowUpdateLost(self) -> tuple[Pair, bytes]:
        """
        A server whose application goes on reading what a client has written, which is not told
        of the room.
        """
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        data = bytes(FIRST + 50_000)
        write(pair.client, 0, data)
        pair.run(2000)
        pair.fates["server"] = lambda number, datagram: ()
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        pair.run(300)
        pair.fates["server"] = steady()
        return pair, data

    def test_windowUpdateLost(self) -> None:
        """6: when the news of the open window is lost, a probe finds it out."""
        pair, data = self.windowUpdateLost()
        pair.run(9000)
        self.assertEqual(len(pair.server.streams[0]), len(data))

    def test_windowUpdateLostAmongData(self) -> None:
        """The same while the other side goes on sending: its data says nothing of its window."""
        pair, data = self.windowUpdateLost()
        for _ in range(300):
            write(pair.server, 0, b"and on and on")
            pair.run(10)
        self.assertEqual(len(pair.server.streams[0]), len(data))

    def test_congestion(self) -> None:
        """7: any controller can be chosen; that of the release is slower; everything arrives."""
        times = {}
        data = random.Random(5).randbytes(60_000)
        for congestion in get_args(Congestion):
            pair = Pair(chancy(0.02, 3), chancy(0.02, 4), congestion=congestion)
            pair.connect()
            start = pair.now
            write(pair.client, 0, data)
            while len(pair.server.streams[0]) < len(data):
                pair.run(10)
            self.assertTrue(pair.server.streams[0] == data)
            times[congestion] = pair.now - start
        self.assertTrue(times["release"] > max(times["bbr"], times["cubic"]), times)
        with self.assertRaises(ValueError):
            Pair(congestion="fast")

    def test_outage(self) -> None:
        """Two seconds without a link are survived."""
        pair = Pair()
        pair.connect()
        pair.fates["client"] = pair.fates["server"] = lambda number, datagram: ()
        write(pair.client, 0, bytes(100_000))
        pair.run(2000)
        pair.fates["client"] = pair.fates["server"] = steady()
        pair.run(4000)
        self.assertEqual(len(pair.server.streams[0]), 100_000)

    def test_extremes(self) -> None:
        """F8: with the smallest and the largest datagrams all arrives, and none is longer."""
        data = random.Random(6).randbytes(300_000)
        for mtu in (508, 65000, 65507):
            pair = Pair(mtu=mtu)
            pair.connect()
            write(pair.client, 0, data)
            for _ in range(100):
                pair.run(50)
            self.assertTrue(pair.server.streams[0] == data)
            sizes = list(map(len, pair.client.sent))
            self.assertEqual(max(sizes), mtu)
            self.assertTrue(len(sizes) < 20 + 1.2 * len(data) / (mtu - 60), len(sizes))

    def test_smallerPath(self) -> None:
        """W13, R5: when the path takes less, segments are cut and none is joined."""
        pair = Pair()
        pair.connect()
        pair.fates["client"] = lambda number, datagram: () if len(datagram) > 1280 else (10,)
        data = random.Random(4).randbytes(40_000)
        write(pair.client, 0, data)
        pair.client.engine.path_error(PathError.TOO_BIG, 1400, SERVER, pair.now)
        for _ in range(100):
            pair.run(50)
        self.assertTrue(pair.server.streams[0] == data)


class StreamTests(SynchronousTestCase):
    """More streams than one."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.connect()

    def test_numbers(self) -> None:
        """The dialler's are even, the listener's odd."""
        self.assertEqual([self.pair.client.engine.open_stream() for _ in range(2)], [2, 4])
        self.assertEqual([self.pair.server.engine.open_stream() for _ in range(2)], [1, 3])

    def test_halves(self) -> None:
        """
        qotp.md 5.5, W8: each direction of each stream ends by itself, and both sides forget
        the stream when both have.
        """
        client, server = self.pair.client, self.pair.server
        number = client.engine.open_stream()
        write(client, number, b"question")
        client.engine.close_stream(number)
        client.turn(client.engine)
        self.pair.run(100)
        self.assertIn((Event.STREAM_OPENED, number), server.happened)
        self.assertIn((Event.STREAM_ENDED, number), server.happened)
        self.assertIn((Event.STREAM_FLUSHED, number), client.happened)
        self.assertNotIn((Event.STREAM_ENDED, number), client.happened)
        write(server, number, b"answer")
        server.engine.close_stream(number)
        server.turn(server.engine)
        self.pair.run(100)
        self.assertEqual(client.streams[number], b"answer")
        self.assertIn((Event.STREAM_ENDED, number), client.happened)
        for end in (client, server):
            self.assertEqual(end.engine.facts()["streams"], 1)
        with self.assertRaises(ValueError):
            client.engine.close_stream(0)
            client.engine.write(0, b"after the end")

    def test_closedFirst(self) -> None:
        """
        B1: whoever ends a stream first learns that all has arrived and that the peer's half
        has ended, also when both come in one datagram.
        """
        for opener, acceptor in (
            (self.pair.client, self.pair.server),
            (self.pair.server, self.pair.client),
        ):
            number = opener.engine.open_stream()
            opener.engine.write(number, b"question")
            opener.engine.close_stream(number)
            opener.turn(opener.engine)
            # The acceptor answers in the turn in which the end has come.
            take = acceptor.read

            def read(engine: QOTPEngine, acceptor: End = acceptor, stream: int = number) -> None:
                take(engine)  # noqa: B023
                if acceptor.streams[stream]:
                    engine.close_stream(stream)

            self.patch(acceptor, "read", read)
            self.pair.run(100)
            for end in (opener, acceptor):
                self.assertIn((Event.STREAM_FLUSHED, number), end.happened)
                self.assertIn((Event.STREAM_ENDED, number), end.happened)
                self.assertEqual(end.engine.facts()["streams"], 1)

    def test_reset(self) -> None:
        """A stream that is given up takes nothing with it."""
        client, server = self.pair.client, self.pair.server
        number = client.engine.open_stream()
        write(client, number, bytes(300_000))
        client.engine.reset_stream(number, 7)
        write(client, 0, b"still here")
        self.pair.run(500)
        self.assertIn((Event.STREAM_RESET, number, 7), server.happened)
        self.assertEqual(server.streams[0], b"still here")
        self.assertEqual(client.engine.facts()["bytes_in_flight"], 0)
        for end in (client, server):
            self.assertEqual(end.engine.facts()["streams"], 1)

    def test_resetLost(self) -> None:
        """A reset that is lost is said again."""
        client, server = self.pair.client, self.pair.server
        number = client.engine.open_stream()
        write(client, number, b"x")
        self.pair.run(50)
        self.pair.fates["client"] = losing(len(client.sent))
        client.engine.reset_stream(number)
        client.turn(client.engine)
        self.pair.run(1000)
        self.assertIn((Event.STREAM_RESET, number, 0), server.happened)

    def test_limit(self) -> None:
        """W6: there are so many streams and no more, on either side's account."""
        client, server = self.pair.client, self.pair.server
        for _ in range(MAX_STREAMS - 1):
            number = client.engine.open_stream()
            client.engine.write(number, b"x")
        with self.assertRaises(ValueError):
            client.engine.open_stream()
        client.turn(client.engine)
        self.pair.run(500)
        self.assertEqual(server.engine.facts()["streams"], MAX_STREAMS)
        extra = Segment(2 * MAX_STREAMS, 0, b"one too many")
        answers = len(server.sent)
        server.arrive(self.pair.forge(client, None, extra), CLIENT)
        self.assertEqual(server.engine.facts()["streams"], MAX_STREAMS)
        self.assertEqual(server.engine.counters()["streams_refused"], 1)
        lines = [lines_of(*each) for each in self.pair.secrets.items()]
        reader = KeyLogReader("".join(lines).splitlines())
        said = [reader.read(datagram) for datagram in server.sent[answers:]]
        frames = [each.payload.segment for each in said if each and each.payload]
        reset = encode_reset(extra.stream, 0)
        self.assertIn(Segment(CONTROL, 0, reset), frames)


class EndTests(SynchronousTestCase):
    """How connections end."""

    def test_inOrder(self) -> None:
        """Both sides end with everything delivered, and forget each other."""
        for loss in (0.0, 0.3):
            pair = Pair(chancy(loss, 5), chancy(loss, 6))
            pair.dial()
            pair.run(4000)
            write(pair.client, 0, bytes(50_000))
            pair.client.engine.close(pair.now)
            pair.client.turn(pair.client.engine)
            for _ in range(200):
                pair.run(50)
                if (Event.STREAM_ENDED, 0) in pair.server.happened:
                    break
            pair.server.engine.close(pair.now)
            pair.server.turn(pair.server.engine)
            pair.run(20_000)
            for end in (pair.client, pair.server):
                self.assertEqual(end.happened[-1], (Event.ENDED, Reason.DONE, None))
                self.assertEqual(end.engines, {})
            self.assertEqual(len(pair.server.streams[0]), 50_000)

    def test_ownSocket(self) -> None:
        """A client with a socket of its own repeats its last word, then ends and forgets in one."""
        pair = Pair(own_socket=True)
        pair.connect()
        pair.client.engine.close(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(50)
        pair.server.engine.close(pair.now)
        pair.server.turn(pair.server.engine)
        pair.run(100)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.DONE, None))
        self.assertEqual(pair.client.engines, {})

    def test_abort(self) -> None:
        """The other side hears of it, also when the first word of it is lost."""
        for lost in (False, True):
            pair = Pair()
            pair.connect()
            if lost:
                pair.fates["client"] = losing(len(pair.client.sent))
            pair.client.engine.abort(pair.now)
            pair.client.turn(pair.client.engine)
            pair.run(500)
            self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.ABORTED, None))
            self.assertEqual(pair.server.happened[-1], (Event.ENDED, Reason.RESET, None))

    def test_vanished(self) -> None:
        """An idle peer that is gone is noticed, one that is there is kept."""
        pair = Pair()
        pair.connect()
        pair.run(200_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.fates["server"] = lambda number, datagram: ()
        pair.run(41_000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.IDLE, None))

    def test_closeInVain(self) -> None:
        """A close that nobody acknowledges ends in bounded time."""
        pair = Pair()
        pair.connect()
        pair.fates["client"] = lambda number, datagram: ()
        write(pair.client, 0, b"nobody hears this")
        pair.client.engine.close(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(45_000)
        self.assertEqual(pair.client.happened[-1][0], Event.ENDED)
        self.assertIn(pair.client.happened[-1][1], (Reason.IDLE, Reason.CLOSE_TIMEOUT))

    def test_contradictingEnds(self) -> None:
        """W17: a stream that ends in two places, or goes on behind its end, ends the connection."""
        for second in (
            Segment(2, 0, b"longer", True),
            Segment(2, 3, b"more", False),
            Segment(2, 0, b"12", True),
        ):
            pair = Pair()
            pair.connect()
            segments = (Segment(2, 0, b"123", True), Segment(2, 0, b"123"), second)
            for number, segment in enumerate(segments):
                self.assertEqual(pair.server.engine.facts()["state"], "ESTABLISHED")
                pair.server.arrive(pair.forge(pair.client, None, segment, number), CLIENT)
            self.assertEqual(pair.server.happened[-1][:2], (Event.ENDED, Reason.PROTOCOL))
            pair.run(100)
            self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.RESET))

    def test_numbersUsedUp(self) -> None:
        """W9: before a nonce could repeat the connection ends."""
        pair = Pair()
        pair.connect()
        name, secrets = next(iter(pair.secrets.items()))
        engine = QOTPEngine.accept(
            name,
            CLIENT,
            pair.settings,
            Cipher(secrets.session),
            secrets,
            pair.now,
            numbers_used=(128 << 48) - 1000,
        )
        engine.tick(pair.now)
        self.assertEqual(engine.events()[-1][:2], (Event.ENDED, Reason.LIMIT))


class AbuseTests(SynchronousTestCase):
    """What somebody on the path can do."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.connect()

    def test_replay(self) -> None:
        """W4: nothing that was received is digested twice, whatever its age."""
        client, server = self.pair.client, self.pair.server
        for number in range(50):
            write(client, 0, b"%d" % number)
            self.pair.run(5)
        self.pair.run(200)
        received = bytes(server.streams[0])
        events = list(server.happened)
        sent = len(server.sent)
        count = server.engine.counters().get("replayed", 0)
        for datagram in client.sent:
            server.arrive(datagram, CLIENT)
        self.pair.run(50)
        self.assertEqual(bytes(server.streams[0]), received)
        self.assertEqual(server.happened, events)
        self.assertEqual(len(server.sent), sent)
        self.assertTrue(server.engine.counters()["replayed"] >= count + 50)

    def test_refusals(self) -> None:
        """
        W6: a peer that opens ever new streams beyond the limit and acknowledges no
        refusal takes no memory with that.
        """
        server, client = self.pair.server, self.pair.client
        engine = server.engine
        self.pair.fates["server"] = lambda number, datagram: ()

        def open_streams(first: int, end: int) -> None:
            for number in range(first, end, 2):
                segment = Segment(number, 0, b"x")
                server.arrive(self.pair.forge(client, None, segment, number), CLIENT)

        open_streams(2, 4000)
        self.assertEqual(len(engine.streams), MAX_STREAMS)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        open_streams(4000, 8000)
        self.pair.run(2000)
        server.sent.clear()
        client.sent.clear()
        server.verdicts.clear()
        taken, _ = tracemalloc.get_traced_memory()
        self.assertTrue(taken < 100_000, taken)
        self.assertEqual(len(engine.streams), MAX_STREAMS)

    def test_reflected(self) -> None:
        """2.3: what a side sent itself is not authentic to it."""
        client = self.pair.client
        for datagram in list(client.sent):
            client.arrive(datagram, SERVER)
        self.assertEqual(client.kinds(), [Event.CONNECTED])
        self.assertTrue(client.engine.counters()["not_authentic"])

    def test_stolen(self) -> None:
        """
        W10: a datagram that somebody sends on from another address moves nothing: the
        challenge is not answered from there.
        """
        pair = self.pair
        thief = ("198.51.100.66", 6)
        arrive = pair.server.arrive
        pair.server.arrive = lambda run, source, size: arrive(run, thief, size)  # type: ignore
        write(pair.client, 0, b"caught on the way")
        pair.run(11)
        del pair.server.arrive
        pair.run(3000)
        self.assertNotIn(Event.PATH, pair.server.kinds())
        write(pair.server, 0, b"still there")
        pair.run(100)
        self.assertEqual(pair.client.streams[0], b"still there")

    def test_roamingOff(self) -> None:
        """It can be switched off."""
        pair = Pair(roaming=False)
        pair.connect()
        pair.client.address = ("198.51.100.7", 9)
        write(pair.client, 0, b"from elsewhere")
        pair.run(1000)
        self.assertNotIn(Event.PATH, pair.server.kinds())

    def test_openingsOnALiveConnection(self) -> None:
        """W16: a repeated opening is ignored."""
        pair = self.pair
        sent = len(pair.server.sent)
        pair.server.arrive(pair.client.sent[0], CLIENT)
        self.assertEqual(len(pair.server.sent), sent)
        self.assertEqual(pair.server.engine.counters()["openings_ignored"], 1)


class StatisticsTests(SynchronousTestCase):
    """What an operator reads."""

    def test_counters(self) -> None:
        """What one end counts out the other counts in, but for what the link lost."""
        pair = Pair(steady(), steady())
        pair.connect(known=False)
        lost = len(pair.client.sent) + 3
        pair.fates["client"] = losing(lost)
        write(pair.client, 0, bytes(20_000))
        pair.run(1000)
        ours, theirs = pair.client.engine.counters(), pair.server.engine.counters()
        self.assertEqual(ours["datagrams_out"], len(pair.client.sent))
        self.assertEqual(ours["bytes_out"], sum(map(len, pair.client.sent)))
        # The demultiplexer takes the opening message.
        arrived = [each for at, each in enumerate(pair.client.sent) if at not in (0, lost)]
        self.assertEqual(theirs["datagrams_in"], len(arrived))
        self.assertEqual(theirs["bytes_in"], sum(map(len, arrived)))
        self.assertEqual([ours[name] for name in ("lost", "retransmitted")], [1, 1])
        self.assertEqual(ours["lost_spurious"], 0)

    def test_facts(self) -> None:
        """What is in flight, unsent, unread and out of order."""
        pair = Pair()
        pair.connect()
        pair.run(500)
        pair.server.reading = False
        pair.fates["client"] = losing(len(pair.client.sent))
        write(pair.client, 0, bytes(100_000))
        facts = pair.client.engine.facts()
        self.assertTrue(facts["bytes_in_flight"] > 10_000)
        self.assertTrue(facts["bytes_unsent"] > 0)
        pair.run(12)
        facts = pair.server.engine.facts()
        self.assertEqual(facts["bytes_unread"], 0)
        self.assertTrue(facts["bytes_waiting"] > 10_000)
        pair.run(500)
        facts = pair.server.engine.facts()
        self.assertEqual((facts["bytes_unread"], facts["bytes_waiting"]), (100_000, 0))
        self.assertEqual(pair.client.engine.facts()["bytes_in_flight"], 0)


class BudgetTests(SynchronousTestCase):
    """W6: what may be kept."""

    def test_growth(self) -> None:
        """
        A window doubles for a reader that keeps up, to a limit, and not for one that
        does not.
        """
        window = ReceiveWindow(Budget())
        for _ in range(200):
            window.keep(FIRST)
            window.took(FIRST)
        self.assertEqual(window.capacity, LARGEST)
        lazy = ReceiveWindow(Budget())
        lazy.keep(2 * FIRST)
        lazy.took(FIRST)
        self.assertEqual(lazy.capacity, FIRST)

    def test_hole(self) -> None:
        """
        What waits behind a hole makes the window wider, for no reader could take it; but not the
        one of a peer whose address is not validated.
        """
        for validated in (True, False):
            window = ReceiveWindow(Budget())
            if not validated:
                window.confine()
            first = window.capacity
            window.held_up(first // 2)
            self.assertEqual(window.capacity, first)
            window.held_up(first // 2 + 1)
            self.assertEqual(window.capacity, 2 * first if validated else first)
            for _ in range(20):
                window.held_up(LARGEST)
            self.assertEqual(window.capacity, LARGEST if validated else first)

    def test_stuck(self) -> None:
        """
        While nothing comes, a full window is announced as larger and larger, up to what lets the
        release repeat with all that it can have in flight; that stays until no hole is left.
        """
        window = ReceiveWindow(Budget())
        window.keep(window.capacity)
        told = []
        for _ in range(3):
            window.stuck()
            told.append(window.free)
        self.assertEqual(told, [STEP, 3 * STEP, 7 * STEP])
        window.moved(holes=True)
        window.stuck()
        self.assertEqual(window.free, 8 * STEP)
        for _ in range(20):
            window.stuck()
        self.assertGreaterEqual(window.free, LARGEST + 1400)
        window.moved(holes=False)
        self.assertEqual(window.free, 0)

    def test_shared(self) -> None:
        """
        Connections share what the socket has; each has a little; what one leaves
        the others get.
        """
        budget = Budget(FIRST + 1000)
        first, second = ReceiveWindow(budget), ReceiveWindow(budget)
        self.assertEqual((first.capacity, second.capacity), (FIRST, SMALLEST))
        self.assertEqual(budget.free, 0)
        first.release()
        second.release()
        self.assertEqual(budget.free, FIRST + 1000)

    def test_idle(self) -> None:
        """
        What some have reserved and do not use is others' who need it: thirty idle connections of
        the release left nothing.
        """
        budget = Budget()
        idle = [ReceiveWindow(budget) for _ in range(60)]
        for each in idle:
            each.expect_bursts()
        newcomer = ReceiveWindow(budget)
        self.assertEqual(newcomer.capacity, FIRST)
        for _ in range(200):
            newcomer.keep(FIRST)
            newcomer.took(FIRST)
        self.assertGreater(newcomer.capacity, LARGEST // 4)
        self.assertGreaterEqual(min(each.capacity for each in idle[:20]), FIRST)
        for each in (newcomer, *idle):
            each.release()
        self.assertEqual(budget.free, Budget().free)

    def test_used(self) -> None:
        """What is kept is given to nobody, and who has less gives nothing."""
        budget = Budget(2 * LARGEST)
        full, other = ReceiveWindow(budget), ReceiveWindow(budget)
        for window in (full, other):
            for _ in range(200):
                window.keep(FIRST)
                window.took(FIRST)
        self.assertEqual(budget.free, 0)
        full.keep(LARGEST)
        other.keep(LARGEST // 2)
        third = ReceiveWindow(budget)
        self.assertEqual((full.capacity, third.capacity), (LARGEST, FIRST))
        self.assertEqual(other.capacity, LARGEST - FIRST)
        other.keep(LARGEST // 2 - FIRST)
        self.assertEqual(ReceiveWindow(budget).capacity, SMALLEST)
        self.assertEqual(full.free, 0)

    def test_released(self) -> None:
        """A connection that has ended keeps nothing."""
        pair = Pair()
        free = pair.settings.budget.free
        pair.connect()
        pair.client.engine.abort(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(100)
        self.assertEqual(pair.settings.budget.free, free)
        self.assertTrue(pair.now < 100 * SECOND)
