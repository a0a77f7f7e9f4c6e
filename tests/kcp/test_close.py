"""
Orderly ends of KCP sessions: the tables and drop scripts of C{kcp-close.md}
sections 3, 5 and 12.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import CONV, End, Pair
from tests.pair import CLIENT, Fate, steady
from twisted_rudp.core.engine import Event, Reason
from twisted_rudp.kcp.wire import ACK, END, MARK, PUSH, WASK, WINS, pack_header, segments

DONE = (Event.ENDED, Reason.DONE, None)


def write(end: End, data: bytes) -> None:
    """Write at one end and flush."""
    end.engine.write(0, data)
    end.turn(end.engine)


def close(end: End) -> None:
    """Close at one end and flush."""
    engine = end.engine
    engine.close(end.pair.now)
    end.turn(engine)


def half_close(end: End) -> None:
    """End one direction and flush."""
    end.engine.close_stream(0)
    end.turn(end.engine)


def dropping(predicate: object, times: int, delay: int = 10) -> Fate:
    """A link that loses the first datagrams for which a predicate holds."""
    left = [times]

    def fate(number: int, datagram: bytes) -> tuple[int, ...]:
        if left[0] and predicate(datagram):  # type: ignore[operator]
            left[0] -= 1
            return ()
        return (delay,)

    return fate


def has_fin(datagram: bytes) -> bool:
    """Whether a datagram is or ends with a FIN."""
    last = next(segments(datagram[-24:]), None)
    return last is not None and (last.cmd, last.frg) == (PUSH, END)


def sends_fin(end: End) -> bool:
    """Whether an end ever sent a FIN."""
    return any(has_fin(datagram) for datagram in end.sent)


class CloseOnEnd:
    """Runs a pair so that an end which hears the other's end closes too."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def run(self, milliseconds: int, step: int = 10) -> None:
        """Let time pass in small steps, closing what has ended."""
        for _ in range(0, milliseconds, step):
            self.pair.run(step)
            for end in (self.pair.client, self.pair.server):
                if end.kinds()[-1:] == [Event.STREAM_ENDED]:
                    close(end)
                    end.happened.append(("closed",))


class HalfCloseTests(SynchronousTestCase):
    """One direction ends, the other goes on."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.connect()

    def test_other_direction_goes_on(self) -> None:
        """The end is heard behind the last byte; answers still flow, for hours."""
        write(self.pair.client, b"question")
        half_close(self.pair.client)
        self.pair.run(200)
        self.assertEqual(self.pair.server.received, b"question")
        self.assertEqual(self.pair.server.kinds(), [Event.CONNECTED, Event.STREAM_ENDED])
        self.assertEqual(self.pair.client.kinds(), [Event.CONNECTED, Event.STREAM_FLUSHED])
        self.pair.run(3_600_000)
        write(self.pair.server, b"answer")
        self.pair.run(200)
        self.assertEqual(self.pair.client.received, b"answer")

    def test_end_waits_for_the_reader(self) -> None:
        """A reader that pauses hears of the end after it took the last byte."""
        self.pair.server.reading = False
        write(self.pair.client, b"x" * 5000)
        half_close(self.pair.client)
        self.pair.run(200)
        server = self.pair.server
        self.assertNotIn(Event.STREAM_ENDED, server.kinds())
        engine = server.engine
        while engine.take(0, 1000):
            self.assertEqual(engine.unread() == 0, bool(engine.events()))

    def test_both_halves(self) -> None:
        """With both halves closed the session still waits for the application."""
        half_close(self.pair.client)
        half_close(self.pair.server)
        self.pair.run(200)
        for end in (self.pair.client, self.pair.server):
            self.assertCountEqual(
                end.kinds(), [Event.CONNECTED, Event.STREAM_FLUSHED, Event.STREAM_ENDED]
            )
        close(self.pair.client)
        self.pair.run(10)
        self.assertEqual(self.pair.client.happened[-1], DONE)
        close(self.pair.server)
        self.pair.run(10)
        self.assertEqual(self.pair.server.happened[-1], DONE)


class OrderlyCloseTests(SynchronousTestCase):
    """Who closes first, and what is lost on the way."""

    def outcome(self, pair: Pair, end: End) -> object:
        """The last thing that happened at an end."""
        return [what for what in end.happened if what != ("closed",)][-1]

    def test_everything_arrives(self) -> None:
        """All that was written before the close is delivered, then both are done."""
        pair = Pair()
        pair.connect()
        data = bytes(range(256)) * 400
        write(pair.client, data)
        close(pair.client)
        CloseOnEnd(pair).run(1000)
        self.assertEqual(pair.server.received, data)
        self.assertEqual(self.outcome(pair, pair.client), DONE)
        self.assertEqual(self.outcome(pair, pair.server), DONE)

    def test_fins_lost(self) -> None:
        """The first 1, 3 and 6 sendings of the first FIN are lost."""
        for times in (1, 3, 6):
            pair = Pair()
            pair.connect()
            pair.fates["client"] = dropping(has_fin, times)
            write(pair.client, b"x" * 10_000)
            close(pair.client)
            CloseOnEnd(pair).run(5000)
            self.assertEqual(self.outcome(pair, pair.client), DONE, times)
            self.assertEqual(self.outcome(pair, pair.server), DONE, times)
            self.assertEqual(len(pair.server.received), 10_000)

    def test_acknowledgements_of_second_fin_lost(self) -> None:
        """Who closed first answers each repetition in TIME-WAIT."""
        for times in (1, 3, 6):
            pair = Pair()
            pair.connect()
            close(pair.client)
            pair.run(5)
            pair.fates["client"] = dropping(lambda datagram: True, times)
            CloseOnEnd(pair).run(9000)
            self.assertEqual(self.outcome(pair, pair.client), DONE, times)
            self.assertEqual(self.outcome(pair, pair.server), DONE, times)

    def test_secondFinLost(self) -> None:
        """It also answers a question of a peer whose end gets through once only."""
        pair = Pair()
        pair.connect()
        close(pair.client)
        pair.run(5)
        pair.fates["client"] = dropping(lambda datagram: True, 1)
        passed = []

        def fate(number: int, datagram: bytes) -> tuple[int, ...]:
            if any(segment.cmd == PUSH for segment in segments(datagram)):
                passed.append(number)
                return (10,) if len(passed) == 1 else ()
            return (10,)

        pair.fates["server"] = fate
        CloseOnEnd(pair).run(3000)
        self.assertGreater(len(passed), 1)
        self.assertEqual(self.outcome(pair, pair.client), DONE)
        self.assertEqual(self.outcome(pair, pair.server), DONE)

    def test_both_at_once(self) -> None:
        """Both close before they hear of the other."""
        pair = Pair()
        pair.connect()
        write(pair.client, b"c" * 10_000)
        write(pair.server, b"s" * 10_000)
        close(pair.client)
        close(pair.server)
        pair.run(2000)
        self.assertEqual(pair.client.happened[-1], DONE)
        self.assertEqual(pair.server.happened[-1], DONE)

    def test_server_speaks_and_closes(self) -> None:
        """A silent client gets all of it and the end."""
        pair = Pair()
        pair.connect()
        write(pair.server, b"banner" * 1000)
        close(pair.server)
        CloseOnEnd(pair).run(2000)
        self.assertEqual(pair.client.received, b"banner" * 1000)
        self.assertEqual(self.outcome(pair, pair.client), DONE)
        self.assertEqual(self.outcome(pair, pair.server), DONE)

    def test_own_socket(self) -> None:
        """
        A client with its own socket says its last acknowledgement three times and
        ends one round trip and a half after its close.
        """
        pair = Pair(own_socket=True)
        pair.connect()
        close(pair.client)
        closer = CloseOnEnd(pair)
        closer.run(100)
        self.assertEqual(self.outcome(pair, pair.client), DONE)
        self.assertEqual(pair.client.engines, {})
        self.assertEqual(self.outcome(pair, pair.server), DONE)

    def test_peer_ignores_end(self) -> None:
        """
        A peer that has everything and never closes is told by a reset when CLOSE ends. It had been
        told of an orderly end, behind which that is none either: its application may have paused.
        """
        pair = Pair()
        pair.connect()
        close(pair.client)
        pair.run(29_000)
        self.assertNotIn(DONE, pair.client.happened)
        pair.run(2_000)
        self.assertEqual(pair.client.happened[-1], DONE)
        self.assertEqual(pair.server.happened[-1], DONE)

    def test_peerIgnoresEndAndLacks(self) -> None:
        """It is a reset where something of the peer's did not arrive."""
        pair = Pair()
        pair.connect()
        close(pair.client)
        pair.run(29_000)
        pair.fates["server"] = lambda number, datagram: ()
        write(pair.server, b"x")
        pair.run(2_000)
        self.assertEqual(pair.client.happened[-1], DONE)
        self.assertEqual(pair.server.happened[-1], (Event.ENDED, Reason.RESET, None))

    def test_peerDoesNotRead(self) -> None:
        """
        A living peer that holds data which it has not read is waited for, however long,
        and gets all of it and the end.
        """
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, b"x" * 20_000)
        close(pair.client)
        pair.run(300_000)
        self.assertNotIn(Event.ENDED, pair.client.kinds())
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        CloseOnEnd(pair).run(2_000)
        self.assertEqual(pair.server.received, b"x" * 20_000)
        self.assertEqual(self.outcome(pair, pair.client), DONE)
        self.assertEqual(self.outcome(pair, pair.server), DONE)

    def test_resetBehindTheEnd(self) -> None:
        """What was delivered whole is not discarded by a reset that comes behind it."""
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, b"x" * 20_000)
        close(pair.client)
        pair.run(1_000)
        pair.client.engine.abort(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(200_000)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        self.assertEqual(pair.server.received, b"x" * 20_000)
        self.assertEqual(pair.server.kinds()[1:], [Event.STREAM_ENDED, Event.ENDED])
        self.assertEqual(pair.server.happened[-1], DONE)

    def test_silenceBehindTheEnd(self) -> None:
        """Nor by the silence of a peer that is gone after its end."""
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, b"x" * 20_000)
        half_close(pair.client)
        pair.run(1_000)
        pair.fates["client"] = pair.fates["server"] = lambda number, datagram: ()
        pair.run(200_000)
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        self.assertEqual(pair.server.received, b"x" * 20_000)
        self.assertEqual(pair.server.kinds()[1:], [Event.STREAM_ENDED, Event.ENDED])

    def test_peer_gone_unseen(self) -> None:
        """
        Their end is here, our FIN stays unanswered: clean after seven sendings and
        three seconds. A socket of its own closes then, and sends nothing more.
        """
        for own in (False, True):
            pair = Pair(own_socket=own)
            pair.connect()
            half_close(pair.server)
            pair.run(100)
            pair.server.engines.clear()
            pair.fates["server"] = lambda number, datagram: ()
            close(pair.client)
            pair.run(2_900)
            self.assertNotIn(DONE, pair.client.happened)
            pair.run(10_000)
            self.assertIn(DONE, pair.client.happened)
            self.assertEqual(pair.client.engines == {}, own)

    def test_unknownPeer(self) -> None:
        """
        Who closes before anything was heard asks what kind of peer there is. All that was
        written arrives first; without any answer the close is given up.
        """
        for answers in (True, False):
            pair = Pair()
            if not answers:
                pair.fates["server"] = lambda number, datagram: ()
            pair.dial(wait_for_peer=False)
            write(pair.client, b"all of it")
            close(pair.client)
            CloseOnEnd(pair).run(500)
            if answers:
                self.assertEqual(pair.server.received, b"all of it")
                self.assertIn(DONE, pair.client.happened)
                self.assertIn(DONE, pair.server.happened)
            else:
                self.assertNotIn(DONE, pair.client.happened)
                pair.run(60_000)
                [ended] = [each for each in pair.client.happened if each[0] is Event.ENDED]
                self.assertNotEqual(ended[1], Reason.DONE)

    def test_late_datagrams(self) -> None:
        """While TIME-WAIT lasts, nothing for its key opens a session."""
        pair = Pair()
        pair.connect()
        write(pair.client, b"x")
        close(pair.client)
        CloseOnEnd(pair).run(300)
        for late in (
            pack_header(CONV, WASK, MARK, 32, 0, 5, 5, 0),
            pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 1) + b"x",
            pack_header(CONV, ACK, MARK, 32, 0, 0, 0, 0),
            pack_header(CONV, WINS, MARK, 32, 0, 0, 0, 0),
        ):
            pair.server.arrive(late, CLIENT)
        self.assertEqual(pair.server.admitted, 1)
        pair.run(60_000)
        self.assertEqual(pair.server.engines, {})
        self.assertEqual(pair.client.engines, {})

    @given(st.integers(0, 2**32 - 1), st.sampled_from((0, 5, 20)))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def test_random_loss(self, seed: int, percent: int) -> None:
        """Whatever is lost at random, both streams are whole and both ends clean."""
        random = Random(seed)

        def fate(number: int, datagram: bytes) -> tuple[int, ...]:
            if random.random() * 100 < percent:
                return ()
            return (25 + random.randrange(10),)

        pair = Pair(fate, fate)
        pair.dial()
        pair.run(6000)
        write(pair.client, b"c" * 20_000)
        write(pair.server, b"s" * 20_000)
        close(pair.client)
        CloseOnEnd(pair).run(9000)
        self.assertEqual(pair.server.received, b"c" * 20_000)
        self.assertEqual(self.outcome(pair, pair.client), DONE)
        self.assertEqual(self.outcome(pair, pair.server), DONE)


class UnmarkedPeerTests(SynchronousTestCase):
    """Towards kcp-go and the C library: no FIN, no reset, leave with window 0."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.server.arrive(pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 1) + b"x", CLIENT)
        self.pair.server.arrive(pack_header(CONV, WINS, 0, 32, 0, 0, 0, 0), CLIENT)
        self.server = self.pair.server
        self.server.sent.clear()

    def test_close(self) -> None:
        """Drain, then window 0 until a silence of four timeouts, then done."""
        write(self.server, b"bye")
        close(self.server)
        self.pair.run(100)
        self.assertNotIn(DONE, self.server.happened)
        push = next(segments(self.server.sent[0]), None)
        assert push is not None
        self.server.arrive(
            pack_header(CONV, ACK, 0, 32, push.ts, push.sn, push.sn + 1, 0), CLIENT
        )
        self.server.sent.clear()
        self.server.arrive(pack_header(CONV, PUSH, 0, 32, 9, 1, 1, 1) + b"y", CLIENT)
        answers = [next(segments(datagram), None) for datagram in self.server.sent]
        self.assertEqual([s.wnd for s in answers if s is not None], [0])
        silence = 4000 * self.server.engine.facts()["retransmission_timeout"]
        self.assertGreater(silence, 300)
        self.pair.run(int(silence) - 20)
        self.assertNotIn(DONE, self.server.happened)
        self.pair.run(40)
        self.assertEqual(self.server.happened[-1], DONE)
        self.assertFalse(sends_fin(self.server))

    def test_half_close_tells_nobody(self) -> None:
        """A half close is local: flushed when all is acknowledged, no FIN."""
        half_close(self.server)
        self.assertIn((Event.STREAM_FLUSHED, 0), self.server.happened)
        self.pair.run(100)
        self.assertFalse(sends_fin(self.server))

    def test_abort_is_silent(self) -> None:
        """No reset goes to an unmarked peer."""
        self.server.engine.abort(self.pair.now)
        self.server.turn(self.server.engine)
        self.pair.run(100)
        self.assertEqual(self.server.sent, [])

    def test_turns_unmarked(self) -> None:
        """A peer that showed the mark and then lacks it is unmarked for good."""
        pair = Pair(there=steady(), back=steady())
        pair.connect()
        pair.server.arrive(pack_header(CONV, WINS, 0, 32, 0, 0, 0, 0), CLIENT)
        close(pair.server)
        pair.run(1000)
        self.assertFalse(sends_fin(pair.server))
        self.assertEqual(pair.server.happened[-1], DONE)
