"""L{ARQ} rule by rule: queueing, windows, probes, budgets, runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kcp.arqcase import CONV, UNLIMITED, ARQTestCase, wait_of
from tests.kcp.segments import Segment, Wire, parse
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.congestion import FixedWindow, KCPWindow
from twisted_rudp.kcp.wire import ACK, MARK, PUSH, WASK, WINS


class WritingTests(ARQTestCase):
    """Queueing and the shape of what is sent."""

    def test_misuse(self) -> None:
        """A stream takes no messages, messages are no stream, and nothing follows the end."""
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
        """A message has 1 to 255 segments (kcp.md 1.3)."""
        arq = self.make(stream=False)
        self.assertRaises(ValueError, arq.send, b"")
        self.assertRaises(ValueError, arq.send, bytes(25_501))
        arq.send(bytes(25_500))
        self.assertEqual((arq.sender.wait_snd, arq.sender.queue.size), (255, 25_500))

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
        """A small write and the acknowledgement share a datagram."""
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
        """Acknowledgements ride in the short last datagram of a run."""
        arq = self.make()
        self.hear(arq, self.push(0))
        arq.take(10)
        arq.write(bytes(250))
        wire = Wire()
        arq.flush(0, wire, UNLIMITED)
        ((run, size),) = wire.runs
        self.assertEqual((len(run), size), (3 * 24 + 250 + 24, 124))
        self.assertEqual([one.cmd for one in wire.segments()], [PUSH, PUSH, PUSH, ACK])

    def test_acknowledgementsFirst(self) -> None:
        """Before much data they come first: its una, heard before them, would leave no news."""
        arq = self.make(sndwnd=100)
        self.hear(arq, self.push(0))
        arq.take(10)
        arq.write(bytes(1000))
        wire = Wire()
        arq.flush(0, wire, UNLIMITED)
        self.assertEqual([one.cmd for one in wire.segments()], [ACK] + 10 * [PUSH])

    def test_runLimits(self) -> None:
        """A run has at most 64 datagrams and 65000 bytes, the overhead counted."""
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
        """The datagram that crosses the budget goes out whole, no other follows."""
        arq = self.make(sndwnd=500)
        self.hear(arq, self.control(wnd=500))
        arq.write(bytes(200 * 100))
        wire = Wire()
        self.assertTrue(arq.flush(0, wire, 1))
        self.assertEqual(arq.snd_nxt, 1)
        self.assertTrue(arq.flush(0, wire, 1_241))
        self.assertEqual(arq.snd_nxt, 12)

    def test_dead(self) -> None:
        """
        The link is marked dead when a segment was sent C{dead_link} times; it
        goes on sending (kcp.md 1.13).
        """
        arq = self.make(dead_link=3)
        arq.write(b"x")
        sent = 0
        now = 0
        while not arq.sender.transmitter.dead:
            sent += len(self.flush(arq, now))
            now += wait_of(arq, now) or 0
        self.assertEqual(sent, 3)
        self.assertEqual(len(self.flush(arq, now)), 1)

    def test_deadLinkOff(self) -> None:
        """C{dead_link} 0 never marks."""
        arq = self.make(dead_link=0)
        arq.write(b"x")
        now = 0
        for _ in range(40):
            self.flush(arq, now)
            now += wait_of(arq, now) or 0
        self.assertFalse(arq.sender.transmitter.dead)
        self.assertEqual(arq.counters.lost_segs, 39)


class WindowTests(ARQTestCase):
    """Windows and probes."""

    def test_probes(self) -> None:
        """
        The first WASK comes 500 ms after a window of 0 was seen, the next ones
        after 1.5 times the last wait each, as long as there is something to
        send (kcp.md 1.11 step 2).
        """
        arq = self.make()
        self.hear(arq, self.control(wnd=0))
        self.flush(arq)
        self.assertIsNone(wait_of(arq, 0))
        arq.write(b"x")
        now = 0
        asked = []
        for _ in range(3):
            now += wait_of(arq, now) or 0
            asked.append((now, [one.cmd for one in self.flush(arq, now)]))
        self.assertEqual(asked, [(500, [WASK]), (1250, [WASK]), (2375, [WASK])])
        self.hear(arq, self.control(wnd=1), now=now)
        self.assertEqual([one.cmd for one in self.flush(arq, now)], [PUSH])

    def fill(self, arq: ARQ, now: int) -> None:
        """Half of what the window admits comes and is read."""
        for _ in range(arq.receiver.wnd // 2):
            self.hear(arq, self.push(arq.rcv_nxt), now=now)
            arq.take(10)
        self.flush(arq, now)

    def test_windowGrows(self) -> None:
        """
        A receive window that is not chosen doubles when half of it came quickly and was
        read, up to its bytes; the bound on bytes goes with it.
        """
        arq = self.make(rcvwnd=0, mtu=1400)
        self.assertEqual(arq.receiver.wnd, 1024)
        self.fill(arq, 100)
        self.assertEqual(arq.receiver.wnd, 2048)
        self.assertEqual(arq.receiver.limit, 2048 * 1500)
        self.fill(arq, 3_000)
        self.assertEqual(arq.receiver.wnd, 2048)
        for now in (3_100, 3_200, 3_300):
            self.fill(arq, now)
        self.assertEqual(arq.receiver.wnd, (12 << 20) // 1500)

    def test_windowOfSlowReader(self) -> None:
        """It stays where it is while the application does not keep up, or if it was chosen."""
        arq = self.make(rcvwnd=0, mtu=1400)
        for _ in range(1024):
            self.hear(arq, self.push(arq.rcv_nxt))
        self.flush(arq)
        self.assertEqual((arq.receiver.wnd, arq.receiver.free), (1024, 0))
        chosen = self.make(rcvwnd=64, mtu=1400)
        self.fill(chosen, 100)
        self.assertEqual(chosen.receiver.wnd, 64)

    def test_tell(self) -> None:
        """Taking from a full queue announces the window (kcp.md 1.5)."""
        arq = self.make(rcvwnd=2)
        self.hear(arq, self.push(0), self.push(1), self.push(2))
        self.assertEqual([(one.sn, one.wnd) for one in self.flush(arq)], [(2, 0)])
        self.assertEqual(arq.take(10), b"xx")
        (wins,) = self.flush(arq)
        self.assertEqual((wins.cmd, wins.wnd, wins.una), (WINS, 1, 3))
        self.assertEqual(arq.take(10), b"x")

    def test_askAndTell(self) -> None:
        """C{ask} and C{tell} send a WASK and a WINS with the next flush."""
        arq = self.make()
        arq.control.ts_out = 99
        arq.control.ask = True
        arq.control.tell = True
        ask, tell = self.flush(arq)
        self.assertEqual((ask.cmd, ask.frg, ask.sn, ask.una, ask.ts), (WASK, MARK, 0, 0, 99))
        self.assertEqual((tell.cmd, tell.frg, tell.ts), (WINS, MARK, 99))
        self.assertEqual(self.flush(arq), [])

    def test_firstWordKeepsNumberZero(self) -> None:
        """A WASK carries sn 0 until the peer was heard, then C{snd_nxt} (kcp-close.md 7.2)."""
        arq = self.make()
        arq.write(b"x")
        self.flush(arq)
        arq.control.ask = True
        self.assertEqual(self.flush(arq)[0].sn, 0)
        self.hear(arq, self.control())
        arq.control.ask = True
        arq.control.tell = True
        self.assertEqual([one.sn for one in self.flush(arq)], [1, 1])

    def test_shrinkingWindow(self) -> None:
        """Windows change while data is in flight and queued."""
        arq = self.make()
        arq.write(bytes(3_200))
        self.flush(arq)
        self.assertEqual(arq.snd_nxt, 32)
        arq.adopt(replace(arq.settings, sndwnd=4, rcvwnd=4), 0)
        arq.write(bytes(1_000))
        self.hear(arq, self.control(ACK, sn=29, una=30))
        self.assertEqual(len(self.flush(arq)), 2)
        self.assertEqual(arq.receiver.free, 4)
        self.assertRaises(ValueError, arq.set_mss, 0)

    def test_adopts(self) -> None:
        """
        Pace and congestion control change while data is in flight; a size that the
        path has taught stays unless another one is asked for.
        """
        arq = self.make(nc=True, nodelay=1, interval=10, mtu=1400)
        arq.shrink(1400)
        mss = arq.facts()["mss"]
        arq.adopt(replace(arq.settings, nodelay=0, interval=70, resend=5), 0)
        self.assertEqual(arq.facts()["mss"], mss)
        trip = arq.sender.recovery.round_trip
        self.assertEqual((trip.minimum, trip.granularity), (100, 70))
        self.assertIsInstance(arq.sender.recovery.controller, FixedWindow)
        arq.adopt(replace(arq.settings, nc=False, congestion="kcp-go"), 0)
        window = arq.sender.recovery.controller
        assert isinstance(window, KCPWindow)
        self.assertEqual((window.segments, window.resend), (1, 5))
        arq.adopt(replace(arq.settings, resend=2, mtu=600), 0)
        self.assertIs(arq.sender.recovery.controller, window)
        self.assertEqual((window.resend, arq.facts()["mss"]), (2, 576))
        self.assertRaises(ValueError, arq.adopt, replace(arq.settings, stream=False), 0)

    def test_unaBeyond(self) -> None:
        """A C{una} beyond C{snd_nxt} is ignored and counted (kcp-close.md 7.3)."""
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
        self.assertIsNone(wait_of(arq, 0))
        arq.write(b"x")
        self.flush(arq, 100)
        self.assertEqual(wait_of(arq, 130), 170)
        self.assertEqual(wait_of(arq, 900), 0)
        self.hear(arq, self.control(ACK, una=1), now=130)
        self.assertIsNone(wait_of(arq, 130))

    def test_selectivelyAcknowledged(self) -> None:
        """
        What was acknowledged one by one wants no retransmission and counts as
        delivered, though C{una} has not passed it.
        """
        arq = self.make()
        arq.write(bytes(250))
        self.flush(arq)
        for sn in (2, 0, 1):
            self.assertFalse(arq.sender.drained)
            self.hear(arq, self.control(ACK, sn=sn))
        self.assertTrue(arq.sender.drained)
        self.assertEqual((arq.sender.sent.in_flight, arq.snd_una, arq.sender.wait_snd), (0, 0, 3))
        self.assertIsNone(wait_of(arq, 0))
        self.hear(arq, self.control(una=3))
        self.assertEqual((arq.sender.sent.in_flight, arq.sender.wait_snd), (0, 0))


class LossTests(ARQTestCase):
    """What is lost, and lost again."""

    def lostTwice(self, **settings: Any) -> list[int]:
        """
        The first segment is lost, and its repetition too. What was sent after that
        is acknowledged.

        @return: numbers of what is then sent at once, before any timeout.
        """
        arq = self.make(**settings)
        acks = [self.control(ACK, sn=sn, ts=0) for sn in (1, 2, 3)]
        arq.write(bytes(4 * arq.settings.mss))
        self.flush(arq, 0)
        self.hear(arq, *acks, now=1)
        self.assertEqual([segment.sn for segment in self.flush(arq, 1)], [0])
        arq.write(bytes(3 * arq.settings.mss))
        self.flush(arq, 3)
        self.hear(arq, *(self.control(ACK, sn=sn, ts=3) for sn in (4, 5, 6)), now=4)
        return [segment.sn for segment in self.flush(arq, 4)]

    def test_again(self) -> None:
        """A repetition that is skipped is sent again, with a congestion window and without."""
        for nc in (False, True):
            self.assertEqual(self.lostTwice(nc=nc), [0])

    def test_asKCPGo(self) -> None:
        """kcp-go's is left to the timeout (kcp.md 1.9)."""
        self.assertEqual(self.lostTwice(nc=True, congestion="kcp-go"), [])


class ProofTests(ARQTestCase):
    """Recognising an acknowledgement of ours, and budgets before that."""

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
            self.assertFalse(arq.sender.transmitter.validated)
        self.hear(arq, self.control(ACK, sn=11, ts=700, una=12))
        self.assertTrue(arq.sender.transmitter.validated)

    def test_echoOfEarlierSending(self) -> None:
        """The echo of any transmission of a segment proves."""
        arq = self.make()
        arq.write(b"x")
        self.flush(arq, 0)
        self.flush(arq, 5_000)
        self.hear(arq, self.control(ACK, sn=0, ts=0, una=1), now=5_001)
        self.assertTrue(arq.sender.transmitter.validated)

    def strict(self, arq: ARQ, budget: int, now: int = 0) -> tuple[int, list[Segment], bool]:
        wire = Wire()
        more = arq.flush(now * MILLISECOND, wire, budget, strict=True)
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
            wait = wait_of(arq, now)
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
        """A large strict budget sends whole segments."""
        arq = self.make(overhead=20)
        arq.write(bytes(5_000))
        _, sent, _ = self.strict(arq, 144 * 9)
        self.assertEqual([len(one.payload) for one in sent], [100, 100, 100])

    def test_shortMessage(self) -> None:
        """A message may begin with a short fragment; the others follow as usual."""
        arq = self.make(stream=False, overhead=20)
        arq.send(bytes(range(200)))
        _, first, _ = self.strict(arq, 300)
        self.hear(arq, self.control(ACK, sn=0, una=1))
        rest = self.flush(arq)
        self.assertEqual([one.frg for one in first + rest], [2, 1, 0])
        self.assertEqual([len(one.payload) for one in first + rest], [56, 100, 44])
        self.assertEqual(b"".join(one.payload for one in first + rest), bytes(range(200)))

    def test_acknowledgementsThatDoNotFit(self) -> None:
        """Control segments that a strict budget has no room for stay due."""
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
        """A strict budget is never exceeded, whatever is due."""
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
    """Runs with holes, out of order and at the edge of the window."""

    def run_of(self, *segments: Segment) -> bytes:
        return b"".join(segment.pack() for segment in segments)

    def test_mixed(self) -> None:
        """One run may hold what is in order, a hole, and what comes behind it."""
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
        self.assertEqual((len(arq.receiver.held), arq.counters.repeat_segs), (3, 4))

    def test_timestamps(self) -> None:
        """Each segment out of order is acknowledged with its own timestamp."""
        arq = self.make()
        arq.input(self.run_of(self.push(2, ts=20), self.push(3, ts=30)), 25, 0)
        self.assertEqual([(one.sn, one.ts) for one in self.flush(arq)], [(2, 20), (3, 30)])

    def test_timestampsInPieces(self) -> None:
        """What left together is taken together, though the run holds more than one such piece."""
        arq = self.make()
        stamps = {number: 10 * (number // 4) for number in range(2, 16)}
        pushes = [self.push(number, b"%x" % number, ts=ts) for number, ts in stamps.items()]
        arq.input(self.run_of(*pushes), 25, 0)
        self.assertEqual({one.sn: one.ts for one in self.flush(arq)}, stamps)
        pieces = {(first, count) for first, count, _, _ in arq.receiver.held.values()}
        self.assertEqual(pieces, {(2, 2), (4, 4), (8, 4), (12, 4)})
        arq.input(self.run_of(self.push(0, b"0"), self.push(1, b"1")), 25, 0)
        data = b"".join(iter(lambda: arq.take(99), b""))
        self.assertEqual(data, b"0123456789abcdef")

    def test_crowded(self) -> None:
        """A run behind a gap is not kept when there are bytes enough; it is not acknowledged."""
        arq = self.make()
        run = self.run_of(*(self.push(sn, b"%x" % sn) for sn in range(1, 9)))
        arq.receiver.limit = 4
        arq.input(run[: 4 * 25], 25, 0)
        self.assertEqual((arq.receiver.held_bytes, arq.receiver.crowded), (4, True))
        arq.input(run[4 * 25 :], 25, 0)
        self.assertEqual((arq.receiver.held_bytes, len(arq.receiver.held)), (4, 4))
        self.assertEqual(arq.counters.receive_limited, 4)
        self.assertEqual([one.sn for one in self.flush(arq)], [1, 2, 3, 4])

    def test_unaInOrder(self) -> None:
        """What comes in order tells what the peer has, also if nothing else has changed."""
        arq = self.make()
        self.hear(arq, self.push(0, wnd=128))
        arq.write(bytes(300))
        self.flush(arq)
        self.assertEqual(arq.sender.sent.outstanding, 3)
        arq.input(self.run_of(self.push(1, una=2, wnd=128), self.push(2, una=2, wnd=128)), 25, 0)
        self.assertEqual((arq.rcv_nxt, arq.sender.sent.outstanding), (3, 1))

    def test_fullQueue(self) -> None:
        """In order into a full queue: held and acknowledged, and given out later."""
        arq = self.make(rcvwnd=3)
        arq.input(self.run_of(*(self.push(sn, b"%d" % sn) for sn in range(5))), 25, 0)
        self.assertEqual((arq.rcv_nxt, arq.receiver.free), (3, 0))
        self.assertEqual({one.sn for one in self.flush(arq)}, {3, 4})
        self.assertEqual(arq.take(9) + arq.take(9), b"01234")

    def test_smallDatagrams(self) -> None:
        """A run of datagrams that are one header each is taken one by one."""
        arq = self.make()
        arq.write(bytes(400))
        self.flush(arq)
        foreign = Segment(CONV + 1, ACK, MARK, 0, 0, 0, 0)
        run = self.run_of(self.control(ACK, sn=2), foreign, self.control(ACK, sn=1))
        arq.input(run, 24, 0)
        self.assertEqual((arq.counters.kcp_in_errors, arq.sender.sent.in_flight), (1, 200))
