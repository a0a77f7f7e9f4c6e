"""Tests for L{twisted_rudp.kcp.recovery}: transmissions that C{(sn, ts)} names."""

from __future__ import annotations

import gc
from dataclasses import replace
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kcp.arqcase import ARQTestCase, wait_of
from tests.kcp.segments import Segment
from tests.kcp.test_arq_link import Link
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.kcpgo import SkipRecovery
from twisted_rudp.kcp.recovery import Burst, PacedRecovery
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import ACK, MARK, PUSH


class PacedTests(ARQTestCase):
    """One paced ARQ, spoken to by hand."""

    def paced(self, **changes: object) -> ARQ:
        arq = self.make(**{"nc": False, "sndwnd": 200, **changes})
        self.hear(arq, self.control(wnd=200))
        return arq

    def pushed(self, arq: ARQ, now: int) -> list[tuple[int, int]]:
        return [(one.sn, one.ts) for one in self.flush(arq, now) if one.cmd == PUSH]

    def ack(self, sn: int, ts: int, una: int) -> Segment:
        return self.control(ACK, sn=sn, ts=ts, una=una, wnd=200)

    def test_lossByOrder(self) -> None:
        """What was sent three before something that arrived is lost, later all before it."""
        arq = self.paced()
        arq.write(bytes(800))
        self.assertEqual(len(self.pushed(arq, 0)), 8)
        self.hear(arq, self.ack(3, 0, 0), now=40)
        self.assertEqual(self.pushed(arq, 40), [(0, 40)])
        self.hear(arq, self.ack(7, 0, 1), now=41)
        self.assertEqual([sn for sn, _ in self.pushed(arq, 41)], [1, 2])
        self.assertEqual([sn for sn, _ in self.pushed(arq, 80)], [4, 5, 6])

    def test_copies(self) -> None:
        """
        Where losses come in runs, what was sent again is sent once more a quarter of a round
        trip later, unless it has arrived.
        """
        for arrives in (False, True):
            arq = self.paced(eager=True)
            arq.sender.expect_repair(3, 0, runs=50 * MILLISECOND)
            arq.write(bytes(400))
            self.pushed(arq, 0)
            self.hear(arq, *(self.ack(sn, 0, 0) for sn in (1, 2, 3)), now=40)
            self.assertEqual(self.pushed(arq, 40), [(0, 40)])
            if arrives:
                self.hear(arq, self.ack(0, 0, 1), now=45)
            self.assertEqual(self.pushed(arq, 45), [])
            self.assertEqual(wait_of(arq, 45), None if arrives else 5)
            self.assertEqual(self.pushed(arq, 50), [] if arrives else [(0, 50)])
            self.hear(arq, self.control(una=4, wnd=200), now=90)
            self.assertEqual(self.pushed(arq, 90), [])
            self.assertEqual(arq.sender.recovery.underway, 0)
            self.assertIsNone(wait_of(arq, 90))

    def test_copyNext(self) -> None:
        """
        Bytes that somebody waits for are sent again an eighth and a quarter of a round trip later,
        with the few before them that have not arrived, by either recovery; on a near path they
        are not.
        """
        for paced in (True, False):
            for trip, copied in ((40, True), (1, False)):
                arq = self.paced(nc=not paced)
                kind = PacedRecovery if paced else SkipRecovery
                self.assertIsInstance(arq.sender.recovery, kind)
                arq.write(bytes(100))
                self.pushed(arq, 0)
                self.hear(arq, self.ack(0, 0, 1), now=trip)
                self.flush(arq, trip)
                arq.write(bytes(50))
                self.assertEqual(self.pushed(arq, 100), [(1, 100)])
                arq.sender.copy_next(150)
                arq.write(bytes(150))
                self.assertEqual(self.pushed(arq, 101), [(2, 101), (3, 101)])
                self.assertEqual(self.pushed(arq, 102), [])
                if copied:
                    self.assertEqual(wait_of(arq, 102), 4)
                    self.assertEqual(self.pushed(arq, 106), [(1, 106), (2, 106), (3, 106)])
                    self.hear(arq, self.control(una=3, wnd=200), now=108)
                    self.flush(arq, 108)
                    self.assertEqual(wait_of(arq, 108), 3)
                    self.assertEqual(self.pushed(arq, 111), [(3, 111)])
                    self.assertEqual(arq.counters.early_retrans_segs, 4)
                else:
                    self.assertEqual(self.pushed(arq, 112), [])
                self.hear(arq, self.control(una=4, wnd=200), now=140)
                self.flush(arq, 140)
                self.assertIsNone(wait_of(arq, 140))

    def test_copyAmongMany(self) -> None:
        """Of much that is in flight only what somebody waits for is sent again."""
        for paced in (True, False):
            arq = self.paced(nc=not paced)
            arq.write(bytes(100))
            self.pushed(arq, 0)
            self.hear(arq, self.ack(0, 0, 1), now=40)
            self.flush(arq, 40)
            arq.write(bytes(1020))
            arq.sender.copy_next(30)
            arq.write(bytes(30))
            self.assertEqual([sn for sn, _ in self.pushed(arq, 100)], list(range(1, 12)))
            self.assertEqual(self.pushed(arq, 105), [(11, 105)])

    def test_namedAgain(self) -> None:
        """
        What an acknowledgement names again is no news, unless it had named what was not sent yet.
        """
        arq = self.paced()
        arq.write(bytes(100))
        self.assertEqual(self.pushed(arq, 0), [(0, 0)])
        early = self.ack(1, 10, 0)
        self.hear(arq, early, now=5)
        arq.write(bytes(200))
        self.assertEqual(self.pushed(arq, 10), [(1, 10), (2, 10)])
        for now in (50, 55):
            self.hear(arq, early, now=now)
            self.assertEqual(arq.sender.sent.outstanding, 2)

    def test_repetitionIsNotCountedTwice(self) -> None:
        """What is in flight counts segments, not sendings."""
        arq = self.paced()
        arq.write(bytes(100))
        self.pushed(arq, 0)
        for _ in range(2):
            now = wait_of(arq, 0) or 0
            self.assertEqual([sn for sn, _ in self.pushed(arq, now)], [0])
        self.hear(arq, self.ack(0, 0, 1), now=now + 1)
        self.flush(arq, now + 1)
        self.assertEqual(arq.sender.recovery.underway, 0)
        self.assertIsNone(wait_of(arq, now + 1))

    def test_unneededRepetition(self) -> None:
        """The echo of the first sending, after a repetition, is no round trip of the second."""
        arq = self.paced()
        arq.write(bytes(800))
        self.pushed(arq, 0)
        self.hear(arq, self.ack(3, 0, 0), now=40)
        self.assertEqual(self.pushed(arq, 40), [(0, 40)])
        self.hear(arq, self.ack(0, 0, 1), now=45)
        self.flush(arq, 45)
        self.assertEqual(arq.facts()["round_trip"], 0.040)
        self.hear(arq, self.control(una=8, wnd=200), now=46)
        self.flush(arq, 46)
        self.assertEqual((arq.sender.recovery.underway, arq.sender.drained), (0, True))

    def test_unaAlone(self) -> None:
        """A repetition that only C{una} covers teaches no round trip."""
        arq = self.paced()
        arq.write(bytes(800))
        self.pushed(arq, 0)
        self.hear(arq, self.ack(3, 0, 0), now=40)
        self.pushed(arq, 40)
        before = arq.facts()["round_trip"]
        self.hear(arq, self.control(una=8, wnd=200), now=500)
        self.flush(arq, 500)
        self.assertTrue(arq.sender.drained)
        self.assertGreaterEqual(arq.facts()["round_trip"], before)

    def test_silence(self) -> None:
        """Probes are repeated; at the third all counts as lost and a small window is left."""
        arq = self.paced()
        arq.write(bytes(20_000))
        first = self.pushed(arq, 0)
        self.hear(arq, self.ack(0, 0, 1), now=20)
        self.pushed(arq, 20)
        now, sent = 20, []
        for _ in range(3):
            now += wait_of(arq, now) or 1
            sent.append(self.pushed(arq, now))
        self.assertGreater(len(first), 30)
        self.assertEqual(sent[0][0][0], 1)
        self.assertLessEqual(arq.sender.recovery.window, 4)

    def test_windowIsNoApplicationLimit(self) -> None:
        """
        A sender that waits for the peer's window is not one whose application has nothing
        to send: its rates count, and start-up ends.
        """
        for size, limited in ((100, True), (20_000, False)):
            arq = self.paced()
            self.hear(arq, self.control(wnd=8))
            arq.write(bytes(size))
            self.flush(arq, 0)
            self.hear(arq, self.control(ACK, sn=0, una=1, wnd=8), now=40)
            self.flush(arq, 40)
            self.hear(arq, self.control(ACK, sn=0, una=1, wnd=8), now=41)
            self.assertEqual(wait_of(arq, 41) is None, limited)

    def test_withheld(self) -> None:
        """
        A peer that acknowledges the newest transmission each time, and C{una} never, has
        everything sent again; what is remembered of that is bounded.
        """
        arq = self.paced()
        arq.write(bytes(4000))
        now = 0
        for _ in range(3000):
            now += 5
            pushed = self.pushed(arq, now)
            if pushed and pushed[-1][0]:
                self.hear(arq, self.ack(*pushed[-1], una=0), now=now + 3)
            arq.sender.recovery.give_up()
        self.assertGreater(arq.counters.fast_retrans_segs, 2500)
        gc.collect()
        self.assertLess(sum(isinstance(each, Burst) for each in gc.get_objects()), 1600)

    def test_dead(self) -> None:
        """C{dead_link} counts the sendings of one segment here too."""
        arq = self.paced(dead_link=3)
        arq.write(b"x")
        now = 0
        for _ in range(3):
            self.assertFalse(arq.sender.transmitter.dead)
            self.flush(arq, now)
            now += wait_of(arq, now) or 0
        self.assertTrue(arq.sender.transmitter.dead)

    def test_whichRecovery(self) -> None:
        """Who asks for one of kcp-go's numbers gets kcp-go's recovery."""
        for changes in (
            {"nc": True}, {"nodelay": 0}, {"interval": 20}, {"resend": 3}, {"congestion": "kcp-go"}
        ):
            self.assertIsInstance(self.paced(**changes).sender.recovery, SkipRecovery)
        for congestion in ("bbr", "cubic"):
            arq = self.paced(congestion=congestion)
            self.assertIsInstance(arq.sender.recovery, PacedRecovery)


class NamingTests(ARQTestCase):
    """What a receiver tells a peer of ours beyond the acknowledgements of kcp-go."""

    def acks(self, arq: ARQ) -> list[tuple[int, int]]:
        return [(one.sn, one.ts) for one in self.flush(arq) if one.cmd == ACK]

    def test_named(self) -> None:
        """What filled a gap, and what was here already, is named though C{una} covers it."""
        for mark, named in ((MARK, True), (0, False)):
            arq = self.make()
            self.hear(arq, self.control(frg=mark))
            self.hear(arq, self.push(1, ts=5))
            self.assertEqual(self.acks(arq), [(1, 5)])
            self.hear(arq, self.push(0, ts=9), self.push(1, ts=10), self.push(2, ts=11))
            expected = [(0, 9), (1, 10), (2, 11)] if named else [(2, 11)]
            self.assertEqual(sorted(set(self.acks(arq)) - {(1, 5)}), expected)

    def test_saidTwice(self) -> None:
        """What lies behind a gap is said once more with the next acknowledgements."""
        for mark, twice in ((MARK, True), (0, False)):
            arq = self.make()
            self.hear(arq, self.control(frg=mark))
            said = []
            for sn in (1, 2, 3):
                self.hear(arq, self.push(sn, ts=sn))
                said.append([number for number, _ in self.acks(arq)])
            self.assertEqual(said, [[1], [1, 2], [2, 3]] if twice else [[1], [2], [3]])

    def test_saidTwiceOfLongTurns(self) -> None:
        """So is what came in a long turn: a turn of a fast link brings hundreds."""
        arq = self.make(mtu=1400, rcvwnd=2048)
        self.hear(arq, self.control(frg=MARK))
        first, second = range(1, 401), range(401, 801)
        self.hear(arq, *(self.push(sn, ts=sn) for sn in first))
        self.assertEqual([number for number, _ in self.acks(arq)], [*first])
        self.hear(arq, *(self.push(sn, ts=sn) for sn in second))
        self.assertEqual([number for number, _ in self.acks(arq)], [*first, *second])


class LinkTests(ARQTestCase):
    """Two paced ARQs over bad links."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        seed=st.integers(0, 1 << 30),
        loss=st.floats(0, 0.4),
        jitter=st.sampled_from([0, 1, 100]),
        window=st.integers(1, 300),
        numbers=st.sampled_from([0, (1 << 32) - 40]),
        congestion=st.sampled_from(["bbr", "cubic"]),
        switch=st.booleans(),
        copies=st.booleans(),
    )
    @example(0, 0.0, 100, 3, 0, "bbr", False, True)
    def test_anyLink(
        self,
        seed: int,
        loss: float,
        jitter: int,
        window: int,
        numbers: int,
        congestion: str,
        switch: bool,
        copies: bool,
    ) -> None:
        """
        All arrives once and in order, nothing stays in flight, also when the recovery is
        changed on the way.
        """
        chosen = Settings(
            mtu=300, sndwnd=window, rcvwnd=window, congestion=congestion, eager=copies  # type: ignore[arg-type]
        )
        a = ARQ(7, chosen, first_sent=numbers)
        a.sender.expect_repair(0, 0, SECOND if copies else 0)
        b = ARQ(7, chosen, first_received=numbers)
        link = Link(a, b, seed, loss=loss, repeat=0.05, jitter=jitter)
        data = Random(seed).randbytes(20_000)
        a.write(data)
        received = b""
        link.flush(0)
        for step in range(20_000):
            received += b.take(10_000)
            if a.sender.drained or not link.step():
                break
            if switch and step in (20, 60):
                a.adopt(replace(chosen, nc=step == 20), link.now * 1_000_000)
        received += b.take(1 << 20)
        self.assertEqual(received, data)
        self.assertTrue(a.sender.drained)
        self.assertEqual(a.sender.recovery.underway, 0)
