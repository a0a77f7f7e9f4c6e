"""
Tests for L{twisted_rudp.kcp.engine}: openings, the watch on the peer, aborts.
Orderly ends are in L{tests.kcp.test_close}.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import CONV, Pair
from tests.pair import CLIENT, SERVER, chancy, losing, steady
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import (
    AMPLIFICATION,
    MILLISECOND,
    SECOND,
    Admit,
    Capability,
    Drop,
    Event,
    PathError,
    Reason,
    Reply,
)
from twisted_rudp.kcp.arq import SMALLEST_PATH
from twisted_rudp.kcp.settings import PROFILES
from twisted_rudp.kcp.wire import (
    ACK,
    END,
    FORGOTTEN,
    HEADER_SIZE,
    MARK,
    PUSH,
    QUESTION,
    WASK,
    WINS,
    pack_forgotten,
    pack_header,
    pack_wins,
    reset,
    segments,
)
from twisted_rudp.messages import Delivery

ELSEWHERE = ("203.0.113.9", 9)


class OpeningTests(SynchronousTestCase):
    """The first word, the cookie, and who is shown to the application when."""

    def test_both_connected(self) -> None:
        """A dialler that says nothing is known to the server after three words."""
        pair = Pair()
        pair.connect()
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
        self.assertTrue(pair.server.engine.validated)

    def test_first_word(self) -> None:
        """The first datagram is a marked WASK with sn 0 and una 0 (kcp-close.md 1)."""
        pair = Pair()
        pair.dial()
        word = next(segments(pair.client.sent[0]), None)
        assert word is not None
        self.assertEqual((word.cmd, word.frg, word.sn, word.una), (WASK, MARK, 0, 0))
        self.assertEqual(len(pair.client.sent[0]), 24)

    def test_words_end(self) -> None:
        """Once both know of each other nobody says anything more."""
        pair = Pair()
        pair.connect()
        said = len(pair.client.sent), len(pair.server.sent)
        pair.run(5000)
        self.assertEqual((len(pair.client.sent), len(pair.server.sent)), said)

    def test_first_words_lost(self) -> None:
        """The word is repeated after 200, 300, 450 ms until it is heard."""
        pair = Pair(there=losing(0, 1, 2))
        pair.dial()
        pair.run(940)
        self.assertEqual(pair.client.kinds(), [])
        pair.run(100)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])

    def test_any_word_lost(self) -> None:
        """
        Whichever single datagram of the opening is lost, both connect, and a
        server that speaks first is heard.
        """
        for lost in range(4):
            for side in ("there", "back"):
                pair = Pair(**{side: losing(lost)})
                pair.dial()
                pair.run(1500)
                self.assertEqual(pair.server.kinds(), [Event.CONNECTED], (lost, side))
                pair.server.engine.write(0, b"hello")
                pair.server.turn(pair.server.engine)
                pair.run(1500)
                self.assertEqual(pair.client.received, b"hello", (lost, side))

    def test_data_overtakes_cookie(self) -> None:
        """The session is opened by data that came before the cookie, and shown after the cookie."""
        pair = Pair(there=lambda number, datagram: (50,) if number == 1 else (10,))
        pair.dial()
        pair.run(25)
        pair.client.engine.write(0, b"early")
        pair.client.turn(pair.client.engine)
        pair.run(15)
        self.assertEqual(pair.server.admitted, 1)
        self.assertEqual(pair.server.kinds(), [])
        pair.run(60)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
        self.assertEqual(pair.server.received, b"early")

    def test_nothing_before_connected(self) -> None:
        """What came with the opening is told of after CONNECTED, the end included (CONN-1)."""
        pair = Pair(there=lambda number, datagram: (50,) if number == 1 else (10,))
        pair.server.reading = False
        pair.dial()
        pair.run(25)
        client = pair.client
        client.engine.write(0, b"all there is")
        client.engine.close_stream(0)
        client.turn(client.engine)
        pair.run(15)
        self.assertEqual(pair.server.happened, [])
        pair.run(100)
        self.assertEqual(
            pair.server.happened[:2], [(Event.CONNECTED, False), (Event.READABLE, 0)]
        )
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED, Event.STREAM_ENDED])

    def test_end_alone(self) -> None:
        """A FIN before anything else opens nothing; repeated, it is an end behind CONNECTED."""
        pair = Pair(there=lambda number, datagram: (50,) if number == 1 else (10,))
        pair.dial()
        pair.run(25)
        client = pair.client
        client.engine.close_stream(0)
        client.turn(client.engine)
        pair.run(600)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED, Event.STREAM_ENDED])

    def test_without_waiting(self) -> None:
        """A dialler told not to wait is connected at once and its data goes with the first word."""
        pair = Pair()
        engine = pair.dial(wait_for_peer=False)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        engine.write(0, b"now")
        pair.client.turn(engine)
        pair.run(200)
        self.assertEqual(pair.server.received, b"now")
        self.assertEqual(pair.server.admitted, 1)

    def test_longWait(self) -> None:
        """A dialler that is not heard sleeps between its words, however long it waits."""
        pair = Pair(there=lambda number, datagram: ())
        engine = pair.dial()
        pair.run(100_000)
        self.assertGreater(engine.deadline(), pair.now - 10 * MILLISECOND)

    def test_refused(self) -> None:
        """A closed port ends a dialler that has heard nothing, and nobody else."""
        pair = Pair()
        engine = pair.dial()
        engine.path_error(PathError.REFUSED, 0, SERVER, pair.now)
        self.assertEqual(engine.events(), [(Event.ENDED, Reason.REFUSED, None)])
        self.assertTrue(pair.client.engine is engine)
        pair = Pair()
        pair.connect()
        pair.client.engine.path_error(PathError.REFUSED, 0, SERVER, pair.now)
        self.assertEqual(pair.client.engine.events(), ())


    def test_tooBig(self) -> None:
        """What the system says of a datagram's size is believed at once, but not below any path."""
        pair = Pair()
        pair.connect()
        engine = pair.client.engine
        longest = engine.facts()["mss"]
        engine.path_error(PathError.TOO_BIG, 1200, SERVER, pair.now)
        shorter = engine.facts()["mss"]
        self.assertLess(shorter, longest)
        self.assertEqual(shorter, 1200 - 1200 // 8 - HEADER_SIZE)
        engine.path_error(PathError.TOO_BIG, 1400, SERVER, pair.now)
        self.assertEqual(engine.facts()["mss"], shorter)
        before = len(pair.client.sent)
        engine.write(0, bytes(20_000))
        pair.client.turn(engine)
        pair.run(300)
        self.assertEqual(max(map(len, pair.client.sent[before:])), 1050)
        self.assertEqual(len(pair.server.received), 20_000)
        for _ in range(30):
            engine.path_error(PathError.TOO_BIG, 100, SERVER, pair.now)
        self.assertEqual(engine.facts()["mss"], SMALLEST_PATH - HEADER_SIZE)


class UnknownPeerTests(SynchronousTestCase):
    """What those who only claim an address can get."""

    def setUp(self) -> None:
        self.pair = Pair()

    def judge(self, datagram: bytes) -> object:
        """The demultiplexer's verdict on a datagram from an unknown address."""
        return self.pair.server.demux.unknown_peer(
            datagram, ELSEWHERE, self.pair.now, self.pair.server
        )

    def test_forged_probe(self) -> None:
        """A forged first word gets one WINS of its own size and leaves no state."""
        word = pack_header(CONV, WASK, MARK, 1024, 0, 0, 0, 0)
        verdict = self.judge(word)
        self.assertIsInstance(verdict, Reply)
        assert isinstance(verdict, Reply)
        (answer,) = verdict.datagrams
        self.assertEqual(len(answer), len(word))
        self.assertEqual(self.pair.server.engines, {})

    def test_replayed_opening(self) -> None:
        """
        All that a client ever sent, sent again from elsewhere, is never shown to
        the application and draws at most three times its size.
        """
        self.pair.connect()
        client = self.pair.client
        client.engine.write(0, b"GET / HTTP/1.1\r\n\r\n")
        client.turn(client.engine)
        self.pair.run(300)
        self.assertEqual(self.pair.server.admitted, 1)
        recorded = list(client.sent)

        victim = Pair()
        received = 0
        for datagram in recorded:
            received += len(datagram)
            victim.server.arrive(datagram, ELSEWHERE)
            victim.run(500)
        self.assertEqual(victim.server.kinds(), [])

    def test_credit(self) -> None:
        """An unproved session keeps to its budget, however much there is to say."""
        self.pair.server.arrive(
            pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 5) + b"hello", ELSEWHERE
        )
        engine = self.pair.server.engine
        engine.write(0, b"x" * 100_000)
        spent: list[int] = []

        def emit(run: object, size: int, address: object) -> bool:
            spent.append(len(run))  # type: ignore[arg-type]
            return True

        budget = AMPLIFICATION * 29 - sum(map(len, self.pair.server.sent))
        for step in range(200):
            engine.tick(self.pair.now + step * SECOND // 10)
            engine.flush(self.pair.now + step * SECOND // 10, emit, budget - sum(spent))
        self.assertLessEqual(sum(spent), budget)

    def test_unmarked_is_shown_after_its_answer(self) -> None:
        """A kcp-go client is asked what it is, and shown when it has answered."""
        self.pair.server.arrive(
            pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 5) + b"hello", ELSEWHERE
        )
        self.assertEqual(self.pair.server.kinds(), [])
        asked = [next(segments(d), None) for d in self.pair.server.sent]
        self.assertIn(WASK, [s.cmd for s in asked if s is not None])
        self.pair.server.arrive(pack_header(CONV, WINS, 0, 32, 0, 0, 0, 0), ELSEWHERE)
        self.assertEqual(self.pair.server.kinds(), [Event.CONNECTED])
        self.assertEqual(self.pair.server.received, b"hello")
        self.assertNotIn(Capability.HALF_CLOSE, self.pair.server.engine.capabilities)
        self.assertFalse(self.pair.server.engine.validated)

    def test_verdicts(self) -> None:
        """Leftovers, rubbish and data outside the window open nothing (kcp-close.md 7)."""
        cookie = self.pair.cookies.make(ELSEWHERE, CONV, self.pair.now)
        question = pack_header(CONV, WASK, MARK, 1024, cookie, QUESTION, 0, 0)

        def asked(sn: int, una: int) -> Reply:
            return Reply((question + pack_forgotten(CONV, 1024, sn, una),))

        table = [
            (pack_header(CONV, ACK, MARK, 32, 0, 0, 0, 0), Drop("leftover of a session")),
            (pack_header(CONV, WINS, 0, 32, 0, 0, 0, 0), Drop("leftover of a session")),
            (pack_header(CONV, PUSH, END, 32, 0, 0, 0, 0), Drop("leftover of a session")),
            (pack_header(CONV, PUSH, 0, 32, 0, 1024, 0, 1) + b"x", asked(1024, 0)),
            (pack_header(CONV, PUSH, 0, 32, 0, 0, 7, 1) + b"x", asked(0, 7)),
            (pack_header(CONV, WINS, MARK, 32, 0, 5, 7, 0), Reply((reset(CONV, 7, 5),))),
            (pack_header(CONV, 80, 0, 32, 0, 0, 0, 0), Drop("malformed")),
            (pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 2) + b"x", Drop("malformed")),
        ]
        for datagram, verdict in table:
            self.assertEqual(self.judge(datagram), verdict)
        accepted = self.judge(pack_header(CONV, PUSH, 0, 32, 0, 1023, 0, 1) + b"x")
        self.assertIsInstance(accepted, Admit)

    def test_no_room(self) -> None:
        """A full table is silent, so that the dialler does not count as connected."""
        self.pair.server.backlog_room = False
        self.pair.server.room = False
        for datagram in (
            pack_header(CONV, WASK, MARK, 32, 0, 0, 0, 0),
            pack_header(CONV, WASK, 0, 32, 0, 0, 0, 0),
            pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 1) + b"x",
        ):
            self.assertEqual(self.judge(datagram), Drop("no room"))

    def test_no_backlog(self) -> None:
        """
        Cookies cost no state: they are given, and taken, however many sessions wait for
        their validation. Who comes without one waits.
        """
        self.pair.server.backlog_room = False
        probe = pack_header(CONV, WASK, MARK, 32, 0, 0, 0, 0)
        answer = self.judge(probe)
        assert isinstance(answer, Reply)
        cookie = int.from_bytes(answer.datagrams[0][8:12], "little")
        admitted = self.judge(pack_header(CONV, WASK, MARK, 32, cookie, 0, 0, 0))
        assert isinstance(admitted, Admit)
        self.assertTrue(admitted.engine.validated)
        push = pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 1) + b"x"
        self.assertEqual(self.judge(push), Drop("no room"))


class WatchTests(SynchronousTestCase):
    """Keepalive, idle timeout, and peers that forgot."""

    def test_kept_alive(self) -> None:
        """Two silent ends stay connected by a probe each 15 s."""
        pair = Pair()
        pair.connect()
        before = len(pair.client.sent) + len(pair.server.sent)
        pair.run(300_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
        probes = len(pair.client.sent) + len(pair.server.sent) - before
        self.assertLess(probes, 4 * 300 // 15)

    def test_aliveOnBadLinks(self) -> None:
        """
        A healthy session that says nothing outlives the loss of probes: 48 hours with a
        tenth of all datagrams lost, 24 with a fifth.
        """
        for loss, hours in ((0.1, 48), (0.2, 24)):
            for seed in range(1):
                pair = Pair(chancy(loss, seed), chancy(loss, seed + 100))
                pair.dial()
                pair.run(hours * 3_600_000)
                self.assertEqual(pair.client.kinds(), [Event.CONNECTED], (loss, seed))
                self.assertEqual(pair.server.kinds(), [Event.CONNECTED], (loss, seed))

    def test_keepAlive(self) -> None:
        """
        How often a silent peer is probed is apart from how long silence lasts: some address
        translators forget after 30 s what may be silent for an hour.
        """
        pair = Pair()
        pair.dial(idle_timeout=3600 * SECOND, keep_alive=10 * SECOND)
        pair.run(100)
        before = len(pair.client.sent)
        pair.run(300_000)
        self.assertIn(len(pair.client.sent) - before, range(27, 34))
        pair.fates["client"] = pair.fates["server"] = lambda number, datagram: ()
        pair.run(3_500_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.run(120_000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.IDLE, None))

    def test_nothingAcknowledged(self) -> None:
        """
        Without any progress for the idle time-out a session ends, whatever small datagrams
        come: a path that swallows long datagrams, a peer that acknowledges nothing.
        """
        pair = Pair()
        pair.connect()
        pair.fates["client"] = lambda number, datagram: (10,) if len(datagram) < 500 else ()
        pair.client.engine.write(0, bytes(100_000))
        pair.client.turn(pair.client.engine)
        pair.run(50_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.run(50_000)
        self.assertEqual(
            pair.client.happened[-1],
            (Event.ENDED, Reason.IDLE, "nothing was acknowledged for 60 seconds"),
        )

    def test_slowReader(self) -> None:
        """A peer that does not read for hours is no peer without progress."""
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        pair.client.engine.write(0, bytes(5_000_000))
        pair.client.turn(pair.client.engine)
        pair.run(7_200_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        pair.run(60_000)
        self.assertEqual(len(pair.server.received), 5_000_000)

    def test_idle(self) -> None:
        """A peer that is gone ends the session after the idle time."""
        pair = Pair()
        pair.connect()
        pair.fates["client"] = pair.fates["server"] = lambda number, datagram: ()
        pair.run(59_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.run(2_000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.IDLE, None))

    def test_restarted_server(self) -> None:
        """
        A server of ours that was restarted resets the sessions of its former
        life at their next word.
        """
        pair = Pair()
        pair.connect()
        client = pair.client
        client.engine.write(0, b"x")
        client.turn(client.engine)
        pair.run(200)
        pair.server.engines.clear()
        pair.run(21_000)
        self.assertEqual(client.happened[-1], (Event.ENDED, Reason.RESET, None))
        self.assertEqual(pair.server.admitted, 1)

    def test_restartedServerHearsData(self) -> None:
        """
        The first data of a client tells it, in a round trip of 20 ms, if the client has heard
        anything; else it looks like that of a newcomer, and the second answer tells.
        """
        for both in (False, True):
            pair = Pair()
            pair.connect()
            client = pair.client
            for end in (client, pair.server) if both else (client,):
                end.engine.write(0, b"x" * 3000)
                end.turn(end.engine)
                pair.run(200)
            pair.server.engines.clear()
            pair.cookies = Cookies(b"another secret of a test")
            pair.server.demux = pair.new_demux()
            client.engine.write(0, bytes(2_000_000))
            client.turn(client.engine)
            pair.run(22 if both else 42)
            reason = Reason.RESET if both else Reason.FORGOTTEN
            self.assertEqual(client.happened[-1], (Event.ENDED, reason, None))
            self.assertEqual(pair.server.received, b"x" * 3000)

    def test_forgottenNotForged(self) -> None:
        """
        Whoever does not know the numbers cannot say that a session is forgotten (kcp-close.md
        7.4); nor does an old answer, to what has arrived since.
        """
        pair = Pair()
        pair.connect()
        client = pair.client
        client.engine.write(0, b"x" * 3000)
        client.turn(client.engine)
        pair.run(200)
        client.engine.write(0, b"y")
        client.turn(client.engine)
        sn, una = 3, 0
        for forged in ((sn - 1, una), (sn + 1, una), (sn, una + 1), (sn, una - (1 << 17))):
            numbers = [number & 0xFFFFFFFF for number in forged]
            client.arrive(pack_forgotten(CONV, 32, *numbers), SERVER)
        for size in (1, 5, 12):
            client.arrive(pack_wins(CONV, 32, 0, 0, bytes((FORGOTTEN,)) * size), SERVER)
        self.assertEqual(client.kinds(), [Event.CONNECTED])
        client.arrive(pack_forgotten(CONV, 32, sn, una), SERVER)
        self.assertEqual(client.happened[-1], (Event.ENDED, Reason.RESET, None))

    def test_restarted_server_without_history(self) -> None:
        """
        Also where nothing was exchanged yet: the new life asks for a proof that the
        old one had, and that twice, since one question may be late.
        """
        pair = Pair()
        pair.connect()
        pair.server.engines.clear()
        pair.cookies = Cookies(b"another secret of a test")
        pair.server.demux = pair.new_demux()
        pair.client.engine.write(0, b"do you know me?")
        pair.client.turn(pair.client.engine)
        pair.run(60)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.FORGOTTEN, None))
        pair.run(2_000)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED, Event.ENDED])

    def test_forgotten(self) -> None:
        """
        Four answers in a row from behind our acknowledged data mean the peer forgot
        us; one does not (kcp-close.md 5.5), nor any number of them that nobody asked
        for: whoever has recorded an old one could end the session with it.
        """
        pair = Pair()
        pair.connect()
        client = pair.client
        client.engine.write(0, b"x")
        client.turn(client.engine)
        pair.run(1000)
        stale = pack_header(CONV, WINS, 0, 32, 0, 0, 0, 0)
        for _ in range(5):
            client.arrive(stale, SERVER)
        pair.run(100)
        self.assertEqual(client.kinds(), [Event.CONNECTED])
        pair.fates["client"] = pair.fates["server"] = lambda number, datagram: ()
        pair.run(20_500)
        for _ in range(4):
            self.assertEqual(client.kinds(), [Event.CONNECTED])
            client.arrive(stale, SERVER)
            pair.run(2500)
        self.assertEqual(client.happened[-1], (Event.ENDED, Reason.FORGOTTEN, None))

    def _restarted(self, written: int, answer: bytes = b"") -> tuple[int | None, int]:
        """
        A session with a peer of another make that begins anew after C{written} bytes have
        arrived, and goes on answering. The first question is lost.

        @param answer: what comes every 20 ms besides.
        @return: milliseconds until the session ends, None within 5 s if not; and how often
            the peer was asked.
        """
        pair = Pair()
        pair.connect()
        client = pair.client
        client.arrive(pack_header(CONV, WINS, 0, 1024, 0, 0, 0, 0), SERVER)
        known = 0
        client.engine.write(0, b"x" * written)
        client.turn(client.engine)
        pair.run(1000)
        questions = 0
        if answer:
            known = max(s.sn for datagram in client.sent for s in segments(datagram)) + 1
        pair.fates["client"] = lambda number, datagram: ()
        client.sent.clear()
        client.engine.write(0, b"is there anybody?")
        client.turn(client.engine)
        for waited in range(0, 5000, 20):
            sent, client.sent = client.sent, []
            for segment in (s for datagram in sent for s in segments(datagram)):
                if segment.cmd == PUSH and segment.sn < 1024:
                    acknowledged = pack_header(CONV, ACK, 0, 1024, segment.ts, segment.sn, known, 0)
                    client.arrive(acknowledged, SERVER)
                elif segment.cmd == WASK:
                    questions += 1
                    if questions == 1:
                        continue
                    client.arrive(pack_header(CONV, WINS, 0, 1024, 0, 0, known, 0), SERVER)
            if answer:
                client.arrive(answer, SERVER)
            pair.run(20)
            if client.happened[-1][0] is Event.ENDED:
                self.assertEqual(client.happened[-1], (Event.ENDED, Reason.FORGOTTEN, None))
                return waited, questions
        return None, questions

    def test_restartedStranger(self) -> None:
        """
        A kcp-go server that was restarted takes what comes for a new session and acknowledges
        it, or drops it where its number is too high. That is asked about, not waited for.
        """
        for written in (3_000, 3_000_000):
            waited, questions = self._restarted(written)
            assert waited is not None
            self.assertLess(waited, 4_000)
            self.assertLess(questions, 10)

    def test_recordedAcknowledgements(self) -> None:
        """Nor do old acknowledgements that somebody repeats end a session whose peer answers."""
        old = pack_header(CONV, ACK, 0, 1024, 0, 0, 0, 0)
        waited, questions = self._restarted(3_000, old)
        self.assertIsNone(waited)
        self.assertGreater(questions, 0)


class AbortTests(SynchronousTestCase):
    """The end without delivery."""

    def test_peer_told(self) -> None:
        """An abort is a reset at the peer (kcp-close.md 6), here and now on a hub."""
        pair = Pair()
        pair.connect()
        pair.client.engine.abort(pair.now)
        pair.client.turn(pair.client.engine)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.ABORTED, None))
        pair.run(20)
        self.assertEqual(pair.server.happened[-1], (Event.ENDED, Reason.RESET, None))

    def test_own_socket(self) -> None:
        """
        A client's own socket says it three times before the application hears of
        the end, and nothing is left then.
        """
        pair = Pair(own_socket=True)
        pair.connect()
        said = len(pair.client.sent)
        pair.client.engine.abort(pair.now)
        pair.client.turn(pair.client.engine)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.run(40)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.ABORTED, None))
        self.assertEqual(len(pair.client.sent) - said, 3)
        self.assertEqual(pair.client.engines, {})

    def test_time_wait_resets(self) -> None:
        """Data for an aborted session is answered by the reset again."""
        pair = Pair(there=losing(*range(3, 6)))
        pair.connect()
        self.assertEqual(len(pair.client.sent), 2)
        pair.client.engine.write(0, b"")
        pair.fates["client"] = lambda number, datagram: ()
        pair.client.engine.abort(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(100)
        pair.fates["client"] = steady()
        pair.server.engine.write(0, b"are you there?")
        pair.server.turn(pair.server.engine)
        pair.run(40)
        self.assertEqual(pair.server.happened[-1], (Event.ENDED, Reason.RESET, None))

    def test_twice(self) -> None:
        """A second abort, and a close after it, change nothing."""
        pair = Pair()
        pair.connect()
        engine = pair.client.engine
        engine.abort(pair.now)
        engine.abort(pair.now)
        engine.close(pair.now)
        self.assertEqual(list(engine.events()), [(Event.ENDED, Reason.ABORTED, None)])

    def test_opening(self) -> None:
        """A dialler that nobody answered ends at once, whichever way."""
        for how in ("abort", "close"):
            pair = Pair(there=lambda number, datagram: ())
            engine = pair.dial()
            getattr(engine, how)(pair.now)
            self.assertEqual(list(engine.events()), [(Event.ENDED, Reason.ABORTED, None)])


class MessageTests(SynchronousTestCase):
    """Message mode."""

    def setUp(self) -> None:
        self.pair = Pair(settings=replace(PROFILES["default"], stream=False))
        self.pair.server.reading = self.pair.client.reading = False
        self.pair.connect()

    def test_boundaries(self) -> None:
        """Messages arrive whole, in order, also when longer than a segment."""
        messages = [b"a", b"b" * 5000, b"c" * 1376]
        client, server = self.pair.client.engine, self.pair.server.engine
        for message in messages:
            client.send(message)
        self.pair.client.turn(client)
        self.pair.run(300)
        self.assertIn((Event.READABLE, None), self.pair.server.happened)
        self.assertEqual([message.data for message in server.take_messages()], messages)
        self.assertIn(Capability.MESSAGES, client.capabilities)

    def test_refusals(self) -> None:
        """What KCP cannot carry is refused with its name."""
        client = self.pair.client.engine
        error = self.assertRaises(ValueError, client.send, b"x", Delivery.UNRELIABLE)
        self.assertIn("UNRELIABLE", str(error))
        self.assertRaises(ValueError, client.send, b"x", channel=1)
        self.assertRaises(ValueError, client.send, b"")
        self.assertRaises(ValueError, client.open_stream)
        self.assertRaises(ValueError, client.reset_stream, 0)
        self.assertRaises(ValueError, client.discard_stream, 0)


class MessageWindowTests(SynchronousTestCase):
    """Messages and windows."""

    def test_longest(self) -> None:
        """A receiver of messages takes the longest there is, whatever its window."""
        small = replace(PROFILES["default"], stream=False, rcvwnd=4)
        pair = Pair(settings=small)
        pair.server.reading = pair.client.reading = False
        pair.connect()
        message = bytes(255 * small.mss)
        pair.client.engine.send(message)
        pair.client.turn(pair.client.engine)
        pair.run(5_000)
        (received,) = pair.server.engine.take_messages()
        self.assertEqual(received.data, message)

    def test_refused(self) -> None:
        """What the window of a peer cannot take is refused by name, not stopped for ever."""
        pair = Pair(settings=replace(PROFILES["default"], stream=False))
        pair.server.reading = False
        pair.server.arrive(pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 1) + b"x", CLIENT)
        pair.server.arrive(pack_header(CONV, WINS, 0, 32, 0, 0, 0, 0), CLIENT)
        engine = pair.server.engine
        engine.send(b"first")
        pair.server.turn(engine)
        first = next(one for d in pair.server.sent for one in segments(d) if one.cmd == PUSH)
        pair.server.arrive(pack_header(CONV, ACK, 0, 32, first.ts, 0, 1, 0), CLIENT)
        engine.send(bytes(32 * 1376))
        error = self.assertRaises(ValueError, engine.send, bytes(32 * 1376 + 1))
        self.assertIn("32", str(error))

    def test_afterTheEnd(self) -> None:
        """What is sent between an end and the news of it is dropped, as with a stream."""
        for stream in (True, False):
            pair = Pair(settings=replace(PROFILES["default"], stream=stream))
            pair.server.reading = pair.client.reading = False
            pair.connect()
            engine = pair.client.engine
            engine.abort(pair.now)
            if stream:
                engine.write(0, b"late")
            else:
                engine.send(b"late")
            pair.client.turn(engine)

    def test_empty(self) -> None:
        """There are no empty messages: none is sent, and an empty PUSH is none."""
        pair = Pair(settings=replace(PROFILES["default"], stream=False))
        pair.server.reading = pair.client.reading = False
        pair.connect()
        pair.server.arrive(pack_header(CONV, PUSH, 0, 32, 0, 0, 0, 0), CLIENT)
        pair.server.arrive(pack_header(CONV, PUSH, 0, 32, 0, 1, 0, 1) + b"x", CLIENT)
        self.assertEqual([m.data for m in pair.server.engine.take_messages()], [b"x"])


class StateTests(SynchronousTestCase):
    """What a person sees."""

    def test_facts(self) -> None:
        """Facts and counters name the conversation, the peer and what was lost."""
        pair = Pair()
        pair.connect()
        facts = pair.client.engine.facts()
        self.assertEqual(facts["conversation"], CONV)
        self.assertEqual(facts["peer"], "MARKED")
        self.assertEqual(facts["state"], "ESTABLISHED")
        self.assertGreater(pair.client.engine.counters()["InSegs"], 0)
        self.assertEqual(pair.server.engine.keys(), ((CLIENT, CONV),))
