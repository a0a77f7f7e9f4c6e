"""
Our ends against a model of the release (qotp.md section 11), over links with and
without loss.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import Fate, chancy, losing, steady
from tests.qotp.releaseconnection import ReleaseConnection
from tests.qotp.releasepair import ReleasePair, echo, idle, links, sink
from tests.qotp.releasestream import CAPACITY, ReceiveBuffer
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import MILLISECOND, SECOND, Event, Reason
from twisted_rudp.qotp.extensions import CONTROL
from twisted_rudp.qotp.settings import Budget


class DiallingTests(SynchronousTestCase):
    """We dial the release."""

    def test_echo(self) -> None:
        """Both handshakes, with and without loss: bytes go there and come back."""
        data = random.Random(1).randbytes(60_000)
        for known in (True, False):
            for there, back in links():
                pair = ReleasePair(echo, there=there, back=back)
                pair.connected(known)
                self.assertEqual(pair.mine.engine.facts()["peer"], "BASELINE")
                self.assertEqual(pair.mine.engine.facts()["peer_key_proved"], known)
                write(pair.mine, 0, data)
                self.assertTrue(pair.receives(len(data)) == data)

    def test_large(self) -> None:
        """
        More than any window, over offsets that become wide, with losses: nothing is
        lost, and every border is kept (R5).
        """
        pair = ReleasePair(sink, there=chancy(0.01, 4), back=chancy(0.01, 5))
        connection = pair.connected()
        start = (1 << 24) - 100_000
        connection.receives[0] = ReceiveBuffer(next=start)
        stream = pair.mine.engine._streams.open[0]
        stream.sent = start
        data = random.Random(2).randbytes(700_000)
        write(pair.mine, 0, data)
        self.assertTrue(pair.delivers(connection, len(data)) == data)

    def test_nothingTwice(self) -> None:
        """
        R10: without loss nothing is sent twice, however slowly the release
        acknowledges; each repetition would cost it bandwidth.
        """
        pair = ReleasePair(sink)
        connection = pair.connected()
        pair.run(1000)
        write(pair.mine, 0, bytes(500_000))
        pair.delivers(connection, 500_000)
        pair.run(3000)
        self.assertEqual(pair.mine.engine.counters()["retransmitted"], 0)
        self.assertEqual(connection.duplicates, 0)

    def test_littleTwice(self) -> None:
        """
        5.2: what acknowledges a repeated segment may be meant for the first sending,
        and is no sign that anything sent in between is lost. So loss, or a path longer
        than the first timeout, costs few repetitions.
        """
        for loss, delay in ((0.0, 150), (0.02, 20), (0.02, 60)):
            pair = ReleasePair(
                echo, there=chancy(loss, 1, delay), back=chancy(loss, 51, delay)
            )
            pair.connected(known=False)
            data = random.Random(1).randbytes(80_000)
            write(pair.mine, 0, data)
            self.assertTrue(pair.receives(len(data)) == data)
            self.assertTrue(pair.mine.engine.counters()["retransmitted"] <= 8, (loss, delay))

    def test_streams(self) -> None:
        """
        Many streams at once, each with its own bytes, over a link with losses; the
        release sees none but these: the echo challenge (12.1) is of stream 0.
        """
        pair = ReleasePair(echo, there=chancy(0.05, 1), back=chancy(0.05, 2))
        connection = pair.connected()
        numbers = [pair.mine.engine.open_stream() for _ in range(7)]
        data = {number: random.Random(number).randbytes(9000) for number in numbers}
        for number in numbers:
            write(pair.mine, number, data[number])
        found = {number: pair.receives(9000, number) for number in numbers}
        self.assertEqual(found, data)
        self.assertEqual(set(connection.named) - {0, *numbers}, set())

    def test_lateReply(self) -> None:
        """R3: what the release says long after the handshake arrives."""
        for known in (True, False):
            pair = ReleasePair(sink)
            connection = pair.connected(known)
            pair.run(2000)
            connection.write(0, b"at last" * 500)
            self.assertEqual(pair.receives(3500), b"at last" * 500)

    def test_weClose(self) -> None:
        """
        R4, R14: our close delivers everything, and ends also when the release never
        sends its own.
        """
        for there, back in links():
            pair = ReleasePair(sink, there=there, back=back)
            connection = pair.connected()
            write(pair.mine, 0, bytes(30_000))
            pair.close()
            pair.happens(Event.ENDED, Reason.DONE)
            self.assertEqual(len(connection.delivered[0]), 30_000)

    def test_theyClose(self) -> None:
        """
        What the release wrote before its close arrives, then the end; we may still
        write (R4), and after our end the release forgets the stream.
        """
        for there, back in links():
            pair = ReleasePair(sink, there=there, back=back)
            connection = pair.connected()
            connection.write(0, bytes(20_000))
            connection.close(0)
            pair.happens(Event.STREAM_ENDED, 0)
            self.assertEqual(len(pair.mine.streams[0]), 20_000)
            write(pair.mine, 0, b"still said")
            pair.close()
            pair.happens(Event.ENDED, Reason.DONE)
            self.assertEqual(bytes(connection.delivered[0]), b"still said")
            pair.run(500)
            self.assertIn(0, connection.forgotten)

    def test_streamsClose(self) -> None:
        """
        R6: with losses too the release comes to forget a stream other than 0 that both
        sides have ended.
        """
        for there, back in links():
            pair = ReleasePair(echo, there=there, back=back)
            connection = pair.connected()
            number = pair.mine.engine.open_stream()
            write(pair.mine, number, bytes(20_000))
            pair.receives(20_000, number)
            connection.close(number)
            pair.happens(Event.STREAM_ENDED, number)
            pair.mine.engine.close_stream(number)
            pair.mine.turn(pair.mine.engine)
            pair.run(8000)
            self.assertIn(number, connection.forgotten)
            self.assertEqual(pair.mine.engine.facts()["streams"], 1)

    def test_completedOutOfOrder(self) -> None:
        """
        R6: the acknowledgement that completes a stream of the release is that of the
        segment that was lost, not that of the end.
        """
        pair = ReleasePair(sink)
        connection = pair.connected()
        pair.run(1000)
        number = pair.mine.engine.open_stream()
        write(pair.mine, number, b"hello")
        pair.run(500)
        pair.fates["server"] = losing(len(pair.release.sent))
        connection.write(number, bytes(4000))
        connection.close(number)
        pair.happens(Event.STREAM_ENDED, number)
        pair.run(2000)
        self.assertTrue(connection.streams[number].sending_over)

    def test_endNotConfused(self) -> None:
        """
        R8: what the release echoes of our acknowledgement of its end is not taken for
        the acknowledgement of ours, which was lost.
        """
        pair = ReleasePair(sink)
        connection = pair.connected()
        pair.run(1000)
        pair.fates["client"] = losing(len(pair.mine.sent) + 1)
        connection.close(9)
        pair.happens(Event.STREAM_OPENED, 9)
        pair.mine.engine.close_stream(9)
        pair.mine.turn(pair.mine.engine)
        pair.run(3000)
        self.assertEqual(connection.receives[9].close_at, 0)

    def test_closedWindow(self) -> None:
        """
        qotp.md 6, R7: the release's application does not read and then does; it has no word
        for that, so we ask. Nothing appears on the control stream.
        """
        pair = ReleasePair(idle)
        connection = pair.connected()
        pair.run(1000)
        held = CAPACITY - 4000
        connection.buffered = held
        data = bytes(range(256)) * 80
        write(pair.mine, 0, data[:1000])
        pair.run(1000)
        write(pair.mine, 0, data[1000:])
        pair.run(8000)
        self.assertTrue(pair.mine.engine.unsent())
        connection.buffered -= held
        pair.release.application = sink
        self.assertTrue(pair.delivers(connection, len(data)) == data)
        self.assertNotIn(CONTROL, connection.named)

    def test_ourWindow(self) -> None:
        """R7: our application does not read and then does; the release goes on."""
        pair = ReleasePair(sink, budget=Budget(1 << 18))
        connection = pair.connected()
        pair.run(1000)
        pair.mine.reading = False
        data = random.Random(1).randbytes(600_000)
        connection.write(0, data)
        pair.run(20_000)
        self.assertTrue(connection.sends[0].queue)
        pair.mine.reading = True
        pair.mine.turn(pair.mine.engine)
        self.assertTrue(pair.receives(len(data)) == data)

    def test_reset(self) -> None:
        """
        A stream that we give up is an end to the release, and what it still sends is
        acknowledged; the others go on.
        """
        pair = ReleasePair(echo, there=chancy(0.05, 8), back=chancy(0.05, 9))
        connection = pair.connected()
        number = pair.mine.engine.open_stream()
        write(pair.mine, number, bytes(30_000))
        pair.run(100)
        pair.mine.engine.reset_stream(number)
        write(pair.mine, 0, b"and on")
        self.assertEqual(pair.receives(6), b"and on")
        pair.run(10_000)
        self.assertIsNotNone(connection.receives[number].close_at)
        self.assertFalse(connection.sends[number].flying)
        self.assertIsNone(connection.dead)

    def test_kept(self) -> None:
        """R13: an idle connection lives as long as both want it."""
        pair = ReleasePair(sink)
        connection = pair.connected()
        pair.run(200_000)
        self.assertIsNone(connection.dead)
        self.assertEqual(pair.mine.kinds(), [Event.CONNECTED])


class NearTests(SynchronousTestCase):
    """
    The release is near: a round trip of 0.4 ms, in which it can fill a window before it
    repeats anything. It was run so, live.
    """

    def near(self, loss: float, seed: int) -> Fate:
        """A short link that loses."""
        chance = random.Random(seed)
        return lambda number, datagram: () if chance.random() < loss else (0.2,)

    def receive(self, pair: ReleasePair, connection: ReleaseConnection, size: int) -> None:
        """The release sends all at once."""
        data = random.Random(1).randbytes(size)
        connection.write(0, data)
        self.assertTrue(pair.receives(size) == data)

    def test_hole(self) -> None:
        """
        A: the release repeats nothing while what is behind a hole fills our window. All
        arrives, also when there is little room for it, and no more than that is kept.
        """
        for room in (1 << 28, 600_000, 300_000):
            for loss in (0.01, 0.05):
                pair = ReleasePair(
                    sink, there=self.near(loss, 3), back=self.near(loss, 4), budget=Budget(room)
                )
                self.receive(pair, pair.connected(), 1_000_000)
                self.assertTrue(pair.mine.engine.facts()["receive_window"] <= room)

    def test_lostAcknowledgements(self) -> None:
        """
        The release ends the connection when it has sent something six times, and looks at its
        oldest segment alone. So what it sends again is acknowledged more than once.
        """
        for seed in (3, 7):
            pair = ReleasePair(sink, there=self.near(0.3, seed))
            connection = pair.connected()
            self.receive(pair, connection, 1_000_000)
            self.assertIsNone(connection.dead)

    def test_manyLost(self) -> None:
        """
        Where much is lost, each segment is acknowledged twice: the release repeats half as much,
        which is what takes its time. Without loss it hears of nothing twice.
        """
        data = random.Random(1).randbytes(15_000_000)
        pair = ReleasePair(sink, there=self.near(0.05, 3), back=self.near(0.05, 4))
        connection = pair.connected()
        began = pair.now
        connection.write(0, data)
        pair.until(lambda: len(pair.mine.streams[0]) == len(data))
        self.assertTrue(pair.mine.streams[0] == data)
        self.assertLess(pair.now - began, 15 * SECOND)
        pair = ReleasePair(sink, there=self.near(0, 3), back=self.near(0, 4))
        connection = pair.connected()
        self.receive(pair, connection, 1_000_000)
        self.assertEqual(connection.duplicates, 0)

    def test_refusedEarly(self) -> None:
        """A: data that came early and was refused is such a hole, every time."""
        for room in (1 << 28, 300_000):
            for loss in (0.0, 0.05):
                pair = ReleasePair(
                    sink,
                    dialling=True,
                    there=self.near(loss, 3),
                    back=self.near(loss, 4),
                    budget=Budget(room),
                )
                self.receive(pair, pair.call(known=True), 600_000)

    def test_challengeCostsNothing(self) -> None:
        """
        B: a proved key makes the release no slower: it serves each stream it has heard of in
        turn, a mere PING's too, with a pause of 10 ms behind each acknowledgement.
        """
        times = []
        for known in (False, True):
            pair = ReleasePair(echo, there=self.near(0, 1), back=self.near(0, 2))
            pair.connected(known)
            data = random.Random(1).randbytes(200_000)
            began = pair.now
            write(pair.mine, 0, data)
            self.assertTrue(pair.receives(len(data)) == data)
            times.append(pair.now - began)
            closed = pair.now
            pair.close()
            pair.happens(Event.ENDED, Reason.DONE)
            self.assertTrue(pair.now - closed <= SECOND // 10)
        self.assertTrue(times[1] < 1.2 * times[0], times)

    def closes(self, loss: float, seed: int) -> float:
        """How many seconds a close takes behind an echo."""
        pair = ReleasePair(echo, there=self.near(loss, seed), back=self.near(loss, seed + 1))
        connection = pair.connected()
        data = random.Random(1).randbytes(300_000)
        write(pair.mine, 0, data)
        self.assertTrue(pair.receives(len(data)) == data)
        closed = pair.now
        pair.close()
        pair.happens(Event.ENDED, Reason.DONE)
        self.assertEqual(len(connection.delivered[0]), len(data))
        return (pair.now - closed) / SECOND

    def test_echo(self) -> None:
        """An echo of a megabyte takes what the release's pace makes it take."""
        pair = ReleasePair(echo, there=self.near(0, 1), back=self.near(0, 2))
        pair.connected()
        began = pair.now
        data = random.Random(1).randbytes(1_000_000)
        write(pair.mine, 0, data)
        self.assertTrue(pair.receives(len(data)) == data)
        self.assertLess(pair.now - began, SECOND // 2)

    def test_close(self) -> None:
        """
        5.5: the release may forget a stream before it sends its end, or ours is acknowledged; a
        close does not wait for what never comes. Its lost end comes again after 100 ms.
        """
        self.assertLess(self.closes(0, 1), 0.1)
        self.assertLess(max(self.closes(0.01, seed) for seed in range(40)), 0.2)

    def test_closeBehindUpload(self) -> None:
        """
        So it is where the release owes acknowledgements of all that was written: what it has
        forgotten is asked for.
        """
        for loss in (0.0, 0.02):
            pair = ReleasePair(sink, there=self.near(loss, 3), back=self.near(loss, 4))
            connection = pair.connected()
            data = random.Random(1).randbytes(300_000)
            began = pair.now
            write(pair.mine, 0, data)
            pair.close()
            pair.happens(Event.ENDED, Reason.DONE)
            self.assertTrue(connection.delivered[0] == data)
            self.assertLess(pair.now - began, SECOND)

    def test_upload(self) -> None:
        """
        D: a release that has sent nothing acknowledges one segment in 10 ms; that is no
        reason to send no more than one in 10 ms.
        """
        pair = ReleasePair(sink, there=self.near(0, 1), back=self.near(0, 2))
        connection = pair.connected()
        began = pair.now
        data = random.Random(1).randbytes(1_000_000)
        write(pair.mine, 0, data)
        self.assertTrue(pair.delivers(connection, len(data)) == data)
        self.assertTrue(pair.now - began < SECOND // 2, pair.now - began)
        pair.run(10_000)
        self.assertEqual(pair.mine.engine.counters()["retransmitted"], 0)
        self.assertEqual(connection.duplicates, 0)

    def uploads(self, size: int, loss: float) -> float:
        """How many seconds the release, which only reads, waits for so many bytes."""
        pair = ReleasePair(sink, there=self.near(loss, 3), back=self.near(loss, 4))
        connection = pair.connected()
        began = pair.now
        data = random.Random(1).randbytes(size)
        write(pair.mine, 0, data)
        self.assertTrue(pair.delivers(connection, size) == data)
        return (pair.now - began) / SECOND

    def test_uploadBeyondItsWindow(self) -> None:
        """
        What it has not acknowledged yet is not what it has no room for: its window is whole all
        the time.
        """
        self.assertLess(self.uploads(18_000_000, 0), 5)

    def test_uploadWithinBudget(self) -> None:
        """
        What is in flight beyond that window is of the socket's budget: no more than is left to
        others, and given back.
        """
        budget = Budget(12 << 20)
        pair = ReleasePair(sink, there=self.near(0, 1), back=self.near(0, 2), budget=budget)
        connection = pair.connected()
        before = budget.free
        write(pair.mine, 0, bytes(30_000_000))
        pair.run(4000)
        self.assertIn(before - budget.free, range(2 << 20, before // 2 + (1 << 20)))
        self.assertGreater(len(connection.delivered[0]), CAPACITY + (2 << 20))
        pair.mine.engine.abort(pair.now)
        self.assertEqual(budget.free, 12 << 20)

    def test_uploadNoticesHoles(self) -> None:
        """
        A window that is not whole shows that something is missing, long before the
        acknowledgements would. They owe 15 s.
        """
        for loss in (0.01, 0.05):
            self.assertLess(self.uploads(2_000_000, loss), 4)

    def test_uploadToPaused(self) -> None:
        """
        A window is not whole either while its application does not read. Then little is sent
        again, and everything arrives when it reads.
        """
        pair = ReleasePair(idle, there=self.near(0, 1), back=self.near(0, 2))
        connection = pair.connected()
        data = random.Random(1).randbytes(2_000_000)
        write(pair.mine, 0, data)
        pair.run(20_000)
        counters = pair.mine.engine.counters()
        self.assertLess(counters["retransmitted"], 3 * len(data) // 1361)
        pair.release.application = sink
        self.assertTrue(pair.delivers(connection, len(data)) == data)

    def test_uploadWithLoss(self) -> None:
        """
        The acknowledgements that such a release owes come one in 10 ms, and the last is seconds
        late. When it owes none, what is missing is sent again at once, not after the round trip
        that those seem to show.
        """
        pair = ReleasePair(sink, there=self.near(0.05, 3), back=self.near(0.05, 4))
        connection = pair.connected()
        began = pair.now
        data = random.Random(1).randbytes(1_000_000)
        write(pair.mine, 0, data)
        self.assertTrue(pair.delivers(connection, len(data)) == data)
        owed = len(data) // 1358 * 10 * MILLISECOND
        self.assertLess(pair.now - began, owed + SECOND)


class ListeningTests(SynchronousTestCase):
    """The release dials us."""

    def test_echo(self) -> None:
        """
        Both handshakes, with early data taken and refused: what the release says
        arrives, and so does our answer.
        """
        for known in (True, False):
            for early in (True, False):
                for there, back in links():
                    self.exchange(known, early, there, back)

    def exchange(self, known: bool, early: bool, there: Fate, back: Fate) -> None:
        pair = ReleasePair(sink, dialling=True, there=there, back=back, early_data=early)
        data = random.Random(1).randbytes(40_000)
        connection = pair.call(known)
        connection.write(0, data)
        self.assertTrue(pair.receives(len(data)) == data)
        self.assertEqual(pair.mine.engine.facts()["peer"], "BASELINE")
        write(pair.mine, 0, data[::-1])
        self.assertTrue(pair.delivers(connection, len(data)) == data[::-1])

    def test_streams(self) -> None:
        """The release opens many streams, with losses; each gets its own bytes back."""
        pair = ReleasePair(sink, dialling=True, there=chancy(0.05, 1), back=chancy(0.05, 2))
        connection = pair.call()
        data = {number: random.Random(number).randbytes(9000) for number in range(1, 8)}
        for number, each in data.items():
            connection.write(number, each)
        for number, each in data.items():
            self.assertTrue(pair.receives(9000, number) == each)
            write(pair.mine, number, each[::-1])
        for number, each in data.items():
            self.assertTrue(pair.delivers(connection, 9000, number) == each[::-1])

    def test_anotherStreamFirst(self) -> None:
        """3.2: the release begins with stream 7 and never mentions stream 0."""
        for known in (True, False):
            pair = ReleasePair(sink, dialling=True)
            pair.call(known).write(7, b"seven" * 1000)
            self.assertEqual(pair.receives(5000, 7), b"seven" * 1000)
            self.assertIn((Event.STREAM_OPENED, 7), pair.mine.happened)

    def test_weSpeakFirst(self) -> None:
        """
        W7: the release opens a stream and waits; its one opening message is enough for
        our greeting, also when our answer is lost.
        """
        for known in (True, False):
            for back in (steady(), losing(0)):
                pair = ReleasePair(sink, dialling=True, back=back)
                connection = pair.call(known)
                connection.stream(0)
                pair.happens(Event.CONNECTED, within=4000)
                write(pair.mine, 0, b"welcome" * 1000)
                self.assertEqual(pair.delivers(connection, 7000), b"welcome" * 1000)

    def test_close(self) -> None:
        """Close from each side, with everything delivered."""
        for we in (True, False):
            for there, back in links():
                pair = ReleasePair(sink, dialling=True, there=there, back=back)
                connection = pair.call()
                connection.write(0, bytes(20_000))
                pair.receives(20_000)
                if not we:
                    connection.close(0)
                    pair.happens(Event.STREAM_ENDED, 0)
                write(pair.mine, 0, b"good bye")
                pair.close()
                pair.happens(Event.ENDED, Reason.DONE)
                self.assertEqual(bytes(connection.delivered[0]), b"good bye")

    def test_vanished(self) -> None:
        """A dialler that is gone is noticed within the idle time."""
        pair = ReleasePair(sink, dialling=True)
        pair.call().write(0, b"here I am")
        pair.run(1000)
        pair.fates["client"] = lambda number, datagram: ()
        began = pair.now
        pair.happens(Event.ENDED, Reason.IDLE)
        self.assertTrue(pair.now - began < 32 * SECOND)
