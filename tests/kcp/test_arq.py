"""
L{ARQ} rule by rule: windows, probes, budgets, verdict, end of stream, reset,
and whatever a stranger may send.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.segments import Segment, Wire, parse
from twisted_rudp.kcp.arq import ARQ, Peer
from twisted_rudp.kcp.profiles import Settings
from twisted_rudp.kcp.tombstone import reset
from twisted_rudp.kcp.wire import ACK, END, MARK, PUSH, RESET, WASK, WINS

CONV = 0x11223344
UNLIMITED = 1 << 40
WORD = 0xFFFFFFFF


class ARQTestCase(SynchronousTestCase):
    """
    One ARQ, spoken to by hand.
    """

    def make(self, first: tuple[int, int] = (0, 0), overhead: int = 0, **changes: Any) -> ARQ:
        chosen = Settings(**{"nc": 1, "mtu": 124, "sndwnd": 32, "rcvwnd": 32, **changes})
        return ARQ(CONV, chosen, initial_numbers=first, overhead=overhead)

    def hear(self, arq: ARQ, *segments: Segment, now: int = 0, regular: bool = True) -> None:
        datagram = b"".join(segment.pack() for segment in segments)
        arq.input(datagram, len(datagram), now, regular)

    def flush(self, arq: ARQ, now: int = 0, budget: int = UNLIMITED, **how: Any) -> list[Segment]:
        wire = Wire()
        arq.flush(now, wire, budget, **how)
        return wire.segments()

    def push(
        self, sn: int, payload: bytes = b"x", frg: int = 0, una: int = 0, wnd: int = 32, ts: int = 0
    ) -> Segment:
        return Segment(CONV, PUSH, frg, wnd, ts, sn & WORD, una, payload)

    def end(self, sn: int) -> Segment:
        return self.push(sn, b"", frg=END)

    def control(
        self,
        cmd: int = WINS,
        frg: int = MARK,
        sn: int = 0,
        una: int = 0,
        wnd: int = 32,
        ts: int = 0,
    ) -> Segment:
        return Segment(CONV, cmd, frg, wnd, ts, sn & WORD, una & WORD)


class WritingTests(ARQTestCase):
    """
    Queueing and the shape of what is sent.
    """

    def test_misuse(self) -> None:
        """
        A stream takes no messages, messages are no stream, and nothing follows
        the end.
        """
        stream, messages = self.make(), self.make(stream=False)
        self.assertRaises(TypeError, stream.send, b"x")
        self.assertRaises(TypeError, stream.take_message)
        self.assertRaises(TypeError, messages.write, b"x")
        self.assertRaises(TypeError, messages.take, 1)
        stream.finish()
        messages.finish()
        self.assertRaises(RuntimeError, stream.write, b"x")
        self.assertRaises(RuntimeError, messages.send, b"x")

    def test_messageLimits(self) -> None:
        """
        A message has 1 to 255 segments (kcp.md 1.3).
        """
        arq = self.make(stream=False)
        self.assertRaises(ValueError, arq.send, b"")
        self.assertRaises(ValueError, arq.send, bytes(25_501))
        arq.send(bytes(25_500))
        self.assertEqual((arq.wait_snd, arq.unsent), (255, 25_500))

    def test_fragments(self) -> None:
        """
        C{frg} counts down to 0 within a message, also when the window divides
        it (kcp.md 1.4).
        """
        arq = self.make(stream=False, sndwnd=2)
        arq.send(bytes(350))
        first = self.flush(arq)
        self.hear(arq, self.control(ACK, sn=1, una=2))
        second = self.flush(arq)
        self.assertEqual([one.frg for one in first + second], [3, 2, 1, 0])
        self.assertEqual([len(one.payload) for one in first + second], [100, 100, 100, 50])

    def test_echoIsOneDatagram(self) -> None:
        """
        A small write and the acknowledgement share a datagram.
        """
        arq = self.make()
        arq.write(b"a")
        self.flush(arq)
        self.hear(arq, self.control(ACK, una=1), self.push(0, b"a", una=1))
        arq.write(arq.take(10))
        wire = Wire()
        self.assertFalse(arq.flush(0, wire, UNLIMITED))
        (datagram,) = wire.datagrams()
        self.assertEqual([one.cmd for one in parse(datagram)], [ACK, PUSH])

    def test_acknowledgementsInTheTail(self) -> None:
        """
        Acknowledgements ride in the short last datagram of a run.
        """
        arq = self.make()
        self.hear(arq, self.push(0))
        arq.take(10)
        arq.write(bytes(250))
        wire = Wire()
        arq.flush(0, wire, UNLIMITED)
        ((run, size),) = wire.runs
        self.assertEqual((len(run), size), (3 * 24 + 250 + 24, 124))
        self.assertEqual([one.cmd for one in wire.segments()], [PUSH, PUSH, PUSH, ACK])

    def test_runLimits(self) -> None:
        """
        A run has at most 64 datagrams and 65000 bytes, the overhead counted.
        """
        for mtu, overhead, most in ((124, 0, 64), (1400, 0, 46), (1400, 100, 43)):
            arq = self.make(mtu=mtu, overhead=overhead, sndwnd=500)
            self.hear(arq, self.control(wnd=500))
            arq.write(bytes(200 * (mtu - 24)))
            wire = Wire()
            arq.flush(0, wire, UNLIMITED)
            self.assertEqual(max(len(run) // size for run, size in wire.runs), most)

    def test_portFull(self) -> None:
        """
        When C{emit} answers False nothing more gets a number, and C{flush}
        answers that there is more.
        """
        arq = self.make(sndwnd=500)
        self.hear(arq, self.control(wnd=500))
        arq.write(bytes(200 * 100))
        wire = Wire(room=1)
        self.assertTrue(arq.flush(0, wire, UNLIMITED))
        self.assertEqual(arq.snd_nxt, 64)
        wire.room = 100
        self.assertFalse(arq.flush(0, wire, UNLIMITED))
        self.assertEqual(arq.snd_nxt, 200)

    def test_budget(self) -> None:
        """
        The run that crosses the budget goes out whole, no other follows.
        """
        arq = self.make(sndwnd=500)
        self.hear(arq, self.control(wnd=500))
        arq.write(bytes(200 * 100))
        wire = Wire()
        self.assertTrue(arq.flush(0, wire, 1))
        self.assertEqual(arq.snd_nxt, 64)

    def test_dead(self) -> None:
        """
        The link is marked dead when a segment was sent C{dead_link} times; it
        goes on sending (kcp.md 1.13).
        """
        arq = self.make(dead_link=3)
        arq.write(b"x")
        sent = 0
        now = 0
        while not arq.dead:
            sent += len(self.flush(arq, now))
            now += arq.next_flush(now) or 0
        self.assertEqual(sent, 3)
        self.assertEqual(len(self.flush(arq, now)), 1)

    def test_deadLinkOff(self) -> None:
        """
        C{dead_link} 0 never marks.
        """
        arq = self.make(dead_link=0)
        arq.write(b"x")
        now = 0
        for _ in range(40):
            self.flush(arq, now)
            now += arq.next_flush(now) or 0
        self.assertFalse(arq.dead)
        self.assertEqual(arq.counters.lost_segs, 39)


class WindowTests(ARQTestCase):
    """
    Windows and probes.
    """

    def test_probes(self) -> None:
        """
        The first WASK comes 500 ms after a window of 0 was seen, the next ones
        after 1.5 times the last wait each, as long as there is something to
        send (kcp.md 1.11 step 2).
        """
        arq = self.make()
        self.hear(arq, self.control(wnd=0))
        self.flush(arq)
        self.assertIsNone(arq.next_flush(0))
        arq.write(b"x")
        now = 0
        asked = []
        for _ in range(3):
            now += arq.next_flush(now) or 0
            asked.append((now, [one.cmd for one in self.flush(arq, now)]))
        self.assertEqual(asked, [(500, [WASK]), (1250, [WASK]), (2375, [WASK])])
        self.hear(arq, self.control(wnd=1), now=now)
        self.assertEqual([one.cmd for one in self.flush(arq, now)], [PUSH])

    def test_tell(self) -> None:
        """
        Taking from a full queue announces the window (kcp.md 1.5).
        """
        arq = self.make(rcvwnd=2)
        self.hear(arq, self.push(0), self.push(1), self.push(2))
        self.assertEqual([(one.sn, one.wnd) for one in self.flush(arq)], [(2, 0)])
        self.assertEqual(arq.take(10), b"xx")
        (wins,) = self.flush(arq)
        self.assertEqual((wins.cmd, wins.wnd, wins.una), (WINS, 1, 3))
        self.assertEqual(arq.take(10), b"x")

    def test_askAndTell(self) -> None:
        """
        C{ask} and C{tell} send a WASK and a WINS with the next flush.
        """
        arq = self.make()
        arq.control_ts_out = 99
        arq.ask()
        arq.tell()
        ask, tell = self.flush(arq)
        self.assertEqual((ask.cmd, ask.frg, ask.sn, ask.una, ask.ts), (WASK, MARK, 0, 0, 99))
        self.assertEqual((tell.cmd, tell.frg, tell.ts), (WINS, MARK, 99))
        self.assertEqual(self.flush(arq), [])

    def test_firstWordKeepsNumberZero(self) -> None:
        """
        A WASK carries sn 0 until the peer was heard, then C{snd_nxt}
        (kcp_close.md 7.2).
        """
        arq = self.make()
        arq.write(b"x")
        self.flush(arq)
        arq.ask()
        self.assertEqual(self.flush(arq)[0].sn, 0)
        self.hear(arq, self.control())
        arq.ask()
        arq.tell()
        self.assertEqual([one.sn for one in self.flush(arq)], [1, 1])

    def test_shrinkingWindow(self) -> None:
        """
        Windows change while data is in flight and queued.
        """
        arq = self.make()
        arq.write(bytes(3_200))
        self.flush(arq)
        self.assertEqual(arq.snd_nxt, 32)
        arq.set_window(4, 4)
        arq.write(bytes(1_000))
        self.hear(arq, self.control(ACK, sn=29, una=30))
        self.assertEqual(len(self.flush(arq)), 2)
        self.assertEqual(arq.wnd, 4)
        for arguments in ((0, 1), (1, 0), (65536, 1), (1, 65536)):
            self.assertRaises(ValueError, arq.set_window, *arguments)
        self.assertRaises(ValueError, arq.set_mss, 0)

    def test_unaBeyond(self) -> None:
        """
        A C{una} beyond C{snd_nxt} is ignored and counted (kcp_close.md 7.3).
        """
        arq = self.make()
        arq.write(b"x")
        self.flush(arq)
        self.hear(arq, self.control(una=2))
        self.assertEqual((arq.snd_una, arq.counters.una_beyond), (0, 1))
        self.hear(arq, self.control(una=1))
        self.assertEqual((arq.snd_una, arq.counters.una_beyond), (1, 1))
        self.hear(arq, self.control(una=0))
        self.assertEqual((arq.snd_una, arq.counters.una_beyond), (1, 1))

    def test_nextFlush(self) -> None:
        """
        The next flush is wanted at the retransmission timeout, and not at all
        when nothing is in flight.
        """
        arq = self.make()
        self.assertIsNone(arq.next_flush(0))
        arq.write(b"x")
        self.flush(arq, 100)
        self.assertEqual(arq.next_flush(130), 170)
        self.assertEqual(arq.next_flush(900), 0)
        self.hear(arq, self.control(ACK, una=1), now=130)
        self.assertIsNone(arq.next_flush(130))

    def test_selectivelyAcknowledged(self) -> None:
        """
        What was acknowledged one by one wants no retransmission and counts as
        delivered, though C{una} has not passed it.
        """
        arq = self.make()
        arq.write(bytes(250))
        self.flush(arq)
        for sn in (2, 0, 1):
            self.assertFalse(arq.drained)
            self.hear(arq, self.control(ACK, sn=sn))
        self.assertTrue(arq.drained)
        self.assertEqual((arq.in_flight, arq.snd_una, arq.wait_snd), (0, 0, 3))
        self.assertIsNone(arq.next_flush(0))
        self.hear(arq, self.control(una=3))
        self.assertEqual((arq.in_flight, arq.wait_snd), (0, 0))


class ProofTests(ARQTestCase):
    """
    Recognising an acknowledgement of ours, and budgets before that.
    """

    def test_echo(self) -> None:
        """
        Number and timestamp must both be those of one transmission, whether
        C{una} covers it by now or not.
        """
        arq = self.make(first=(10, 0))
        arq.write(bytes(150))
        self.flush(arq, 700)
        for sn, ts in ((10, 699), (12, 700), (9, 700)):
            self.hear(arq, self.control(ACK, sn=sn, ts=ts, una=10))
            self.assertFalse(arq.proved)
        self.hear(arq, self.control(ACK, sn=11, ts=700, una=12))
        self.assertTrue(arq.proved)

    def test_echoOfEarlierSending(self) -> None:
        """
        The echo of any transmission of a segment proves.
        """
        arq = self.make()
        arq.write(b"x")
        self.flush(arq, 0)
        self.flush(arq, 5_000)
        self.hear(arq, self.control(ACK, sn=0, ts=0, una=1), now=5_001)
        self.assertTrue(arq.proved)

    def strict(self, arq: ARQ, budget: int, now: int = 0) -> tuple[int, list[Segment], bool]:
        wire = Wire()
        more = arq.flush(now, wire, budget, strict=True)
        datagrams = wire.datagrams()
        cost = sum(len(datagram) + 20 for datagram in datagrams)
        self.assertLessEqual(cost, max(budget, 0))
        return cost, [one for datagram in datagrams for one in parse(datagram)], more

    def test_third(self) -> None:
        """
        A strict budget: acknowledgements first, then a third of the rest for
        new data, in a shorter segment if need be.
        """
        arq = self.make(overhead=20)
        self.hear(arq, self.push(0))
        arq.write(bytes(500))
        _, sent, more = self.strict(arq, 344)
        self.assertEqual([one.cmd for one in sent], [ACK, PUSH])
        self.assertEqual(len(sent[1].payload), (344 - 44) // 3 - 44)
        self.assertTrue(more)

    def test_repeats(self) -> None:
        """
        The other two thirds carry two repetitions, then nothing more; what
        could not be repeated waits and does not want a flush at once.
        """
        arq = self.make(overhead=20)
        arq.write(bytes(500))
        left = 300
        now = 0
        sendings = []
        for _ in range(6):
            cost, sent, _ = self.strict(arq, left, now)
            left -= cost
            sendings.append(len(sent))
            wait = arq.next_flush(now)
            assert wait is not None
            self.assertGreater(wait, 0)
            now += wait
        self.assertEqual(sendings, [1, 1, 1, 0, 0, 0])

    def test_oneFlightAtATime(self) -> None:
        """
        New data waits until what is in flight is acknowledged, even if the
        budget grows: its repetitions come first.
        """
        arq = self.make(overhead=20)
        arq.write(bytes(500))
        self.strict(arq, 300)
        _, sent, more = self.strict(arq, 10_000)
        self.assertEqual((sent, more), ([], True))
        self.hear(arq, self.control(ACK, una=1))
        self.assertEqual(len(self.strict(arq, 10_000)[1]), 5)

    def test_wholeSegments(self) -> None:
        """
        A large strict budget sends whole segments.
        """
        arq = self.make(overhead=20)
        arq.write(bytes(5_000))
        _, sent, _ = self.strict(arq, 144 * 9)
        self.assertEqual([len(one.payload) for one in sent], [100, 100, 100])

    def test_shortMessage(self) -> None:
        """
        A message may begin with a short fragment; the others follow as usual.
        """
        arq = self.make(stream=False, overhead=20)
        arq.send(bytes(range(200)))
        _, first, _ = self.strict(arq, 300)
        self.hear(arq, self.control(ACK, sn=0, una=1))
        rest = self.flush(arq)
        self.assertEqual([one.frg for one in first + rest], [2, 1, 0])
        self.assertEqual([len(one.payload) for one in first + rest], [56, 100, 44])
        self.assertEqual(b"".join(one.payload for one in first + rest), bytes(range(200)))

    def test_acknowledgementsThatDoNotFit(self) -> None:
        """
        Control segments that a strict budget has no room for stay due.
        """
        arq = self.make(overhead=20)
        self.hear(arq, self.push(2), self.push(3), self.control(WASK))
        _, sent, more = self.strict(arq, 44)
        self.assertEqual([one.sn for one in sent], [2])
        self.assertTrue(more)
        self.assertEqual(self.strict(arq, 43)[1], [])
        _, sent, more = self.strict(arq, 1_000)
        self.assertEqual([one.cmd for one in sent], [ACK, WINS])
        self.assertFalse(more)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        st.integers(0, 700),
        st.integers(0, 40),
        st.booleans(),
        st.lists(st.integers(0, 400), min_size=1, max_size=12),
    )
    def test_hardBound(self, size: int, acks: int, stream: bool, budgets: list[int]) -> None:
        """
        A strict budget is never exceeded, whatever is due.
        """
        arq = self.make(overhead=20, stream=stream)
        for sn in range(acks):
            self.hear(arq, self.push(sn + 1))
        if size and stream:
            arq.write(bytes(size))
        elif size:
            arq.send(bytes(size))
        arq.finish()
        self.hear(arq, self.control(WASK))
        for number, budget in enumerate(budgets):
            self.strict(arq, budget, number * 150)


class RunTests(ARQTestCase):
    """
    Runs with holes, out of order and at the edge of the window.
    """

    def run_of(self, *segments: Segment) -> bytes:
        return b"".join(segment.pack() for segment in segments)

    def test_mixed(self) -> None:
        """
        One run may hold what is in order, a hole, and what comes behind it.
        """
        arq = self.make()
        arq.input(self.run_of(*(self.push(sn, b"%d" % sn) for sn in (0, 1, 3, 4, 5))), 25, 0)
        self.assertEqual(arq.take(9), b"01")
        arq.input(self.run_of(self.push(2, b"2"), self.push(6, b"6")), 25, 0)
        self.assertEqual(arq.take(1) + arq.take(9) + arq.take(9), b"23456")
        self.assertEqual((arq.rcv_nxt, arq.counters.in_segs), (7, 7))

    def test_windowEdge(self) -> None:
        """
        What lies beyond the window is neither kept nor acknowledged, also when
        the run begins inside.
        """
        arq = self.make(rcvwnd=4)
        arq.input(self.run_of(*(self.push(sn) for sn in range(1, 8))), 25, 0)
        self.assertEqual([one.sn for one in self.flush(arq)], [1, 2, 3])
        self.assertEqual((len(arq.receiver._held), arq.counters.repeat_segs), (3, 4))

    def test_timestamps(self) -> None:
        """
        Each segment out of order is acknowledged with its own timestamp.
        """
        arq = self.make()
        arq.input(self.run_of(self.push(2, ts=20), self.push(3, ts=30)), 25, 0)
        self.assertEqual([(one.sn, one.ts) for one in self.flush(arq)], [(2, 20), (3, 30)])

    def test_fullQueue(self) -> None:
        """
        In order into a full queue: held and acknowledged, and given out later.
        """
        arq = self.make(rcvwnd=3)
        arq.input(self.run_of(*(self.push(sn, b"%d" % sn) for sn in range(5))), 25, 0)
        self.assertEqual((arq.rcv_nxt, arq.wnd), (3, 0))
        self.assertEqual({one.sn for one in self.flush(arq)}, {3, 4})
        self.assertEqual(arq.take(9) + arq.take(9), b"01234")

    def test_smallDatagrams(self) -> None:
        """
        A run of datagrams that are one header each is taken one by one.
        """
        arq = self.make()
        arq.write(bytes(400))
        self.flush(arq)
        foreign = Segment(CONV + 1, ACK, MARK, 0, 0, 0, 0)
        run = self.run_of(self.control(ACK, sn=2), foreign, self.control(ACK, sn=1))
        arq.input(run, 24, 0)
        self.assertEqual((arq.counters.kcp_in_errors, arq.in_flight), (1, 200))


class VerdictTests(ARQTestCase):
    """
    The table of kcp_close.md 2.
    """

    def test_table(self) -> None:
        """
        Unknown, marked and unmarked after each sequence of C{frg}.
        """
        reset = self.control(WINS, RESET)
        wrong = self.control(WINS, RESET, sn=99)
        for heard, verdict in (
            ([], Peer.UNKNOWN),
            ([self.push(0)], Peer.UNKNOWN),
            ([self.control(ACK)], Peer.MARKED),
            ([self.control(WASK)], Peer.MARKED),
            ([self.control(WINS)], Peer.MARKED),
            ([reset], Peer.MARKED),
            ([wrong], Peer.UNKNOWN),
            ([self.end(0)], Peer.MARKED),
            ([self.end(32)], Peer.UNKNOWN),
            ([self.push(0, b"y", frg=END)], Peer.UNKNOWN),
            ([self.push(0, b"", frg=254)], Peer.UNKNOWN),
            ([self.control(ACK, 0)], Peer.UNMARKED),
            ([self.control(WASK, 0)], Peer.UNMARKED),
            ([self.control(WINS, 1)], Peer.UNMARKED),
            ([self.control(ACK, RESET)], Peer.UNMARKED),
            ([self.control(WASK, RESET)], Peer.UNMARKED),
            ([self.control(), self.control(ACK, 0)], Peer.UNMARKED),
            ([self.control(ACK, 0), self.control()], Peer.UNMARKED),
            ([self.control(ACK, 0), self.end(0)], Peer.UNMARKED),
            ([self.end(0), self.control(ACK, 0)], Peer.UNMARKED),
            ([self.control(), wrong], Peer.MARKED),
        ):
            arq = self.make()
            self.hear(arq, *heard)
            self.assertIs(arq.peer, verdict, heard)

    def test_ourMark(self) -> None:
        """
        All ACK, WASK and WINS of ours are marked, no PUSH is.
        """
        arq = self.make()
        self.hear(arq, self.push(0), self.control(WASK))
        arq.write(b"x")
        arq.ask()
        self.assertEqual(
            {(one.cmd, one.frg) for one in self.flush(arq)},
            {(ACK, MARK), (WASK, MARK), (WINS, MARK), (PUSH, 0)},
        )

    def test_controlsAreRemembered(self) -> None:
        """
        C{ts} and C{una} of the last regular WASK or WINS are kept.
        """
        arq = self.make()
        self.hear(arq, self.control(WINS, ts=5), self.control(ACK, ts=6))
        self.assertEqual((arq.control_heard, arq.control_ts, arq.control_una), (1, 5, 0))
        self.hear(arq, self.control(WASK, ts=7, una=WORD))
        self.hear(arq, self.control(WASK, ts=8), regular=False)
        self.assertEqual((arq.control_heard, arq.control_ts, arq.control_una), (2, 7, WORD))


class ReceivedEndTests(ARQTestCase):
    """
    The receiving half of kcp_close.md 3.
    """

    def acked(self, arq: ARQ) -> list[int]:
        return [one.sn for one in self.flush(arq) if one.cmd == ACK]

    def test_inOrder(self) -> None:
        """
        In order: acknowledged, and given to the application after the last byte.
        """
        arq = self.make()
        self.hear(arq, self.push(0, b"ab"), self.end(1))
        self.assertTrue(arq.end_in_order)
        self.assertFalse(arq.end_received)
        self.assertEqual(arq.take(1), b"a")
        self.assertFalse(arq.end_received)
        self.assertEqual(arq.take(1), b"b")
        self.assertTrue(arq.end_received)
        (ack,) = self.flush(arq)
        self.assertEqual((ack.sn, ack.una), (1, 2))

    def test_noSlot(self) -> None:
        """
        In order it takes no place in the window, even a full one.
        """
        arq = self.make(rcvwnd=2)
        self.hear(arq, self.push(0), self.push(1), self.end(2))
        self.assertTrue(arq.end_in_order)
        arq.take(1)
        self.assertEqual(arq.wnd, 1)

    def test_gap(self) -> None:
        """
        Before a gap is filled: acknowledged and remembered.
        """
        arq = self.make()
        self.hear(arq, self.end(2))
        self.assertEqual(self.acked(arq), [2])
        self.hear(arq, self.push(1))
        self.assertFalse(arq.end_in_order)
        self.hear(arq, self.push(0))
        self.assertTrue(arq.end_in_order)
        self.assertEqual((arq.take(9), arq.rcv_nxt), (b"xx", 3))

    def test_dataAfter(self) -> None:
        """
        A PUSH numbered after the end is dropped, counted and not acknowledged,
        held or in order.
        """
        arq = self.make()
        self.hear(arq, self.end(1))
        self.acked(arq)
        self.hear(arq, self.push(2))
        self.assertEqual((self.acked(arq), arq.counters.data_after_end), ([], 1))
        self.hear(arq, self.push(0))
        self.acked(arq)
        self.hear(arq, self.push(2))
        self.assertEqual((self.acked(arq), arq.counters.data_after_end), ([], 2))

    def test_dataHeldBehind(self) -> None:
        """
        Data that was held already and turns out to be after the end is dropped.
        """
        arq = self.make()
        run = b"".join(self.push(sn).pack() for sn in (3, 4, 5))
        arq.input(run, 25, 0)
        self.hear(arq, self.push(1), self.end(2))
        self.assertEqual(arq.counters.data_after_end, 3)
        self.hear(arq, self.push(0))
        self.assertTrue(arq.end_in_order)
        self.assertEqual((arq.take(9), arq.rcv_nxt), (b"xx", 3))

    def test_duplicates(self) -> None:
        """
        A PUSH up to the end, and the end itself, are acknowledged again.
        """
        arq = self.make()
        self.hear(arq, self.push(0), self.end(1))
        self.acked(arq)
        self.hear(arq, self.push(0))
        self.assertEqual(self.acked(arq), [0])
        self.hear(arq, self.end(1))
        self.assertEqual(self.acked(arq), [1])
        self.assertEqual(arq.take(9), b"x")

    def test_secondEnd(self) -> None:
        """
        An end with another number is dropped and counted.
        """
        arq = self.make()
        self.hear(arq, self.end(3))
        self.acked(arq)
        for sn in (0, 2, 4):
            self.hear(arq, self.end(sn))
        self.assertEqual((self.acked(arq), arq.counters.second_ends), ([], 3))

    def test_beyondWindow(self) -> None:
        """
        An end beyond the window is dropped like data.
        """
        arq = self.make()
        self.hear(arq, self.end(32))
        self.assertEqual(self.acked(arq), [])
        self.hear(arq, self.end(0))
        self.assertTrue(arq.end_in_order)

    def test_oldEnd(self) -> None:
        """
        An end with a number that was data is a duplicate of that.
        """
        arq = self.make()
        self.hear(arq, self.push(0), self.end(0))
        self.assertEqual((self.acked(arq), arq.end_in_order), ([0], False))
        self.hear(arq, self.push(2), self.end(2), self.push(1))
        self.assertFalse(arq.end_in_order)
        self.assertEqual(arq.rcv_nxt, 3)

    def test_fromUnmarked(self) -> None:
        """
        From an unmarked peer it is an empty piece of data: acknowledged, not
        delivered, counted (kcp_close.md 2.2).
        """
        for stream in (True, False):
            arq = self.make(stream=stream)
            self.hear(arq, self.control(ACK, 0), self.end(1))
            self.hear(arq, self.push(0, b"a"), self.push(2, b"b"))
            self.assertEqual((arq.rcv_nxt, arq.counters.unmarked_ends), (3, 1))
            self.assertFalse(arq.end_in_order)
            taken = [arq.take(9)] if stream else [arq.take_message(), arq.take_message()]
            self.assertEqual(taken, [b"ab"] if stream else [b"a", b"b"])
            self.assertFalse(arq.readable)

    def test_lastNumber(self) -> None:
        """
        The number may be 2^32 - 1.
        """
        arq = self.make(first=(0, WORD - 1))
        self.hear(arq, self.end(WORD))
        self.hear(arq, self.push(WORD - 1))
        self.assertTrue(arq.end_in_order)
        self.assertEqual((arq.rcv_nxt, self.acked(arq)), (0, [WORD - 1]))
        self.hear(arq, self.push(0))
        self.assertEqual(arq.counters.data_after_end, 1)

    def test_incompleteMessage(self) -> None:
        """
        A message the peer did not complete does not hold the end up.
        """
        arq = self.make(stream=False)
        self.hear(arq, self.push(0, b"a"), self.push(1, b"b", frg=1), self.end(2))
        self.assertFalse(arq.end_received)
        self.assertEqual(arq.take_message(), b"a")
        self.assertTrue(arq.end_received)
        self.assertIsNone(arq.take_message())


class SentEndTests(ARQTestCase):
    """
    The sending half of kcp_close.md 3.
    """

    def test_afterTheData(self) -> None:
        """
        It is numbered after all data and may share its datagram.
        """
        arq = self.make()
        self.hear(arq, self.control())
        arq.write(b"ab")
        arq.finish()
        wire = Wire()
        arq.flush(0, wire, UNLIMITED)
        (datagram,) = wire.datagrams()
        data, end = parse(datagram)
        self.assertEqual((data.payload, end.frg, end.payload, end.sn), (b"ab", END, b"", 1))
        self.assertEqual((arq.fin_sent, arq.fin_sendings, arq.fin_acknowledged), (True, 1, False))
        self.hear(arq, self.control(una=1))
        self.assertFalse(arq.drained or arq.fin_acknowledged)
        self.hear(arq, self.control(una=2))
        self.assertTrue(arq.drained and arq.fin_acknowledged)

    def test_oneByOne(self) -> None:
        """
        It is acknowledged when everything up to it is, one by one.
        """
        arq = self.make()
        self.hear(arq, self.control())
        arq.write(bytes(150))
        arq.finish()
        self.flush(arq)
        for sn in (2, 0):
            self.hear(arq, self.control(ACK, sn=sn))
            self.assertFalse(arq.fin_acknowledged)
        self.hear(arq, self.control(ACK, sn=1))
        self.assertTrue(arq.fin_acknowledged)

    def test_onlyToMarked(self) -> None:
        """
        While the verdict is unknown it waits; an unmarked peer never gets one.
        """
        arq = self.make()
        arq.finish()
        self.assertEqual(self.flush(arq), [])
        self.hear(arq, self.control(ACK, 0))
        self.assertEqual(self.flush(arq), [])
        self.assertTrue(arq.drained)
        self.assertFalse(arq.fin_sent)

    def test_windowZero(self) -> None:
        """
        It obeys the peer's window; at 0 probing goes on.
        """
        arq = self.make()
        self.hear(arq, self.control(wnd=0))
        arq.finish()
        self.assertEqual(self.flush(arq), [])
        self.assertEqual(arq.next_flush(0), 500)
        self.assertEqual([one.cmd for one in self.flush(arq, 500)], [WASK])
        self.hear(arq, self.control(wnd=1), now=500)
        self.assertEqual([one.frg for one in self.flush(arq, 500)], [END])

    def test_fullWindow(self) -> None:
        """
        It waits for room in the send window.
        """
        arq = self.make(sndwnd=2)
        self.hear(arq, self.control())
        arq.write(bytes(200))
        arq.finish()
        self.assertEqual([one.frg for one in self.flush(arq)], [0, 0])
        self.hear(arq, self.control(ACK, una=1))
        self.assertEqual([one.frg for one in self.flush(arq)], [END])

    def test_repeated(self) -> None:
        """
        After a timeout it is sent again as it was, with the present window and
        una.
        """
        arq = self.make()
        self.hear(arq, self.control())
        arq.finish()
        self.flush(arq)
        self.hear(arq, self.push(0))
        wait = arq.next_flush(0)
        end = next(one for one in self.flush(arq, wait) if one.cmd == PUSH)
        self.assertEqual((end.frg, end.payload, end.sn, end.una, end.wnd), (END, b"", 0, 1, 31))
        self.assertEqual(arq.fin_sendings, 2)

    def test_lastNumber(self) -> None:
        """
        Its number may be 2^32 - 1.
        """
        arq = self.make(first=(WORD, 0))
        self.hear(arq, self.control(una=WORD))
        arq.finish()
        (end,) = self.flush(arq)
        self.assertEqual((end.sn, arq.snd_nxt), (WORD, 0))
        self.hear(arq, self.control(ACK, sn=WORD, una=0))
        self.assertTrue(arq.fin_acknowledged)

    def test_firstAfterTheirs(self) -> None:
        """
        It is known whether theirs was in order when ours was sent first.
        """
        for theirs_first in (True, False):
            arq = self.make()
            self.hear(arq, self.control())
            arq.finish()
            if theirs_first:
                self.hear(arq, self.end(0))
            self.flush(arq)
            self.hear(arq, self.end(0))
            self.flush(arq, 5_000)
            self.assertEqual(arq.our_fin_first_sent_after_theirs, theirs_first)


class ResetTests(ARQTestCase):
    """
    The reset of kcp_close.md 6.
    """

    def make_used(self) -> ARQ:
        """
        snd_una 1, snd_nxt 3, rcv_nxt 1, window 32.
        """
        arq = self.make()
        arq.write(bytes(300))
        self.flush(arq)
        self.hear(arq, self.control(ACK, una=1), self.push(0, una=1))
        return arq

    def test_bounds(self) -> None:
        """
        Every number within the bounds is valid, the next ones on either side
        are not.
        """
        for una, sn, valid in (
            (1, 1, True),
            (3, 1, True),
            (0, 1, False),
            (4, 1, False),
            (1, 0, False),
            (1, 33, True),
            (1, 34, False),
            (WORD, WORD, False),
        ):
            arq = self.make_used()
            self.hear(arq, self.control(WINS, RESET, sn=sn, una=una, wnd=0))
            self.assertEqual(arq.reset_heard, valid, (una, sn))
            self.assertEqual(arq.counters.bad_resets, 0 if valid else 1)

    def test_invalidChangesNothing(self) -> None:
        """
        C{una} and C{wnd} of an invalid one are not used.
        """
        arq = self.make_used()
        self.hear(arq, self.control(WINS, RESET, sn=99, una=2, wnd=0))
        self.assertEqual((arq.snd_una, arq.rmt_wnd), (1, 32))

    def test_otherKinds(self) -> None:
        """
        Only a WINS is a reset.
        """
        for cmd in (ACK, WASK, PUSH):
            arq = self.make_used()
            self.hear(arq, self.control(cmd, RESET, sn=1, una=1, wnd=0))
            self.assertFalse(arq.reset_heard)

    def test_ours(self) -> None:
        """
        Ours names C{snd_nxt} and C{rcv_nxt}, and is valid for the other side.
        """
        arq = self.make_used()
        (ours,) = parse(reset(CONV, arq.snd_nxt, arq.rcv_nxt))
        self.assertEqual(
            ours, Segment(CONV, WINS, RESET, 0, ours.ts, arq.snd_nxt, arq.rcv_nxt)
        )
        other = self.make(first=(0, 1))
        other.write(b"x")
        self.flush(other)
        self.hear(other, ours)
        self.assertTrue(other.reset_heard)


class StrangerTests(ARQTestCase):
    """
    Whatever arrives, nothing is raised and memory stays bounded.
    """

    def check_bounded(self, arq: ARQ) -> None:
        receiver = arq.receiver
        self.assertLessEqual(len(receiver._held), 32)
        self.assertLessEqual(receiver.inbox.segments, 32)
        self.assertLessEqual(len(receiver.acks), 4_096 + 64)

    def test_sizes(self) -> None:
        """
        Any length and any size of a run, also impossible ones.
        """
        good = self.push(0).pack()
        for size in (-5, 0, 1, 23, 24, 25, 26, 10_000):
            for run in (b"", good, good * 3, good[:23], good + b"?"):
                arq = self.make()
                arq.input(run, size, 0)
                arq.input(memoryview(run), size, 0)
                self.check_bounded(arq)

    def test_errors(self) -> None:
        """
        After an error the rest of that datagram is skipped; what came before,
        and the next datagram, count (kcp.md 1.7).
        """
        foreign = Segment(CONV + 1, PUSH, 0, 9, 0, 1, 0, b"x")
        unknown = Segment(CONV, 85, 0, 9, 0, 1, 0, b"x")
        too_long = self.push(1).pack()[:-1]
        for bad in (foreign.pack(), unknown.pack(), too_long):
            arq = self.make()
            first = self.push(0).pack() + bad
            run = first + self.push(1).pack()
            arq.input(run, len(first), 0)
            self.assertEqual(arq.rcv_nxt, 2)
            self.assertEqual((arq.counters.kcp_in_errors, arq.counters.in_segs), (1, 1))

    def test_acknowledgementsAreBounded(self) -> None:
        """
        Pending acknowledgements do not grow without end when nothing is
        flushed; all numbers still get theirs.
        """
        arq = self.make()
        for _ in range(300):
            for sn in range(1, 32):
                self.hear(arq, self.push(sn))
        self.check_bounded(arq)
        self.assertEqual({one.sn for one in self.flush(arq)}, set(range(1, 32)))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.data())
    def test_garbage(self, data: st.DataObject) -> None:
        """
        Arbitrary segments, damaged anywhere, in runs of any size.
        """
        arq = self.make(stream=data.draw(st.booleans()), first=(WORD - 3, WORD - 3))
        if arq.settings.stream:
            arq.write(bytes(900))
        else:
            arq.send(bytes(900))
        arq.finish()
        near = st.one_of(st.integers(-3, 12).map(lambda x: (WORD - 3 + x) & WORD),
                         st.integers(0, WORD))
        segment = st.builds(
            Segment,
            st.just(CONV),
            st.sampled_from([PUSH, PUSH, ACK, ACK, WASK, WINS, 80]),
            st.sampled_from([0, 0, 1, MARK, RESET, END]),
            st.integers(0, 65535),
            st.one_of(st.integers(0, 100), st.integers(0, WORD)),
            near,
            near,
            st.binary(max_size=3),
        )
        for now in range(data.draw(st.integers(1, 8))):
            heard = data.draw(st.lists(segment, max_size=8))
            run = bytearray(b"".join(one.pack() for one in heard))
            for _ in range(data.draw(st.integers(0, 2))):
                if run:
                    run[data.draw(st.integers(0, len(run) - 1))] = data.draw(st.integers(0, 255))
            arq.input(run, data.draw(st.integers(-1, 120)), now * 100, data.draw(st.booleans()))
            self.check_bounded(arq)
            if data.draw(st.booleans()):
                self.flush(arq, now * 100)
            if data.draw(st.booleans()):
                _ = arq.take(5) if arq.settings.stream else arq.take_message()
            wait = arq.next_flush(now * 100)
            self.assertTrue(wait is None or wait >= 0)
            self.assertGreaterEqual(arq.in_flight, 0)
            self.assertGreaterEqual(arq.unread, 0)

    def test_unaOvertakesAcknowledgement(self) -> None:
        """
        An ACK whose number a later C{una} of the same datagram covers is no
        news.
        """
        arq = self.make()
        arq.write(bytes(300))
        self.flush(arq)
        self.hear(arq, self.control(ACK, sn=1), self.control(ACK, sn=0, una=3))
        self.assertTrue(arq.drained)

    def test_noise(self) -> None:
        """
        Pure noise.
        """
        random = Random(1)
        arq = self.make()
        for _ in range(300):
            arq.input(random.randbytes(random.randrange(200)), random.randrange(1, 100), 0)
        self.assertEqual((arq.rcv_nxt, arq.counters.in_segs), (0, 0))
