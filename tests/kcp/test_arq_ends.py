"""L{ARQ} and the end of a conversation: the verdict about the peer, ends of stream, resets."""

from __future__ import annotations

from tests.kcp.arqcase import CONV, UNLIMITED, WORD, ARQTestCase, wait_of
from tests.kcp.segments import Segment, Wire, parse
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.control import Peer
from twisted_rudp.kcp.wire import ACK, END, MARK, PUSH, RESET, WASK, WINS, reset


class VerdictTests(ARQTestCase):
    """The table of kcp-close.md 2."""

    def test_table(self) -> None:
        """Unknown, marked and unmarked after each sequence of C{frg}."""
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
            self.assertIs(arq.control.peer, verdict, heard)

    def test_ourMark(self) -> None:
        """All ACK, WASK and WINS of ours are marked, no PUSH is."""
        arq = self.make()
        self.hear(arq, self.push(0), self.control(WASK))
        arq.write(b"x")
        arq.control.ask = True
        self.assertEqual(
            {(one.cmd, one.frg) for one in self.flush(arq)},
            {(ACK, MARK), (WASK, MARK), (WINS, MARK), (PUSH, 0)},
        )

    def test_controlsAreRemembered(self) -> None:
        """C{ts} and C{una} of the last regular WASK or WINS are kept."""
        arq = self.make()
        self.hear(arq, self.control(WINS, ts=5), self.control(ACK, ts=6))
        control = arq.control
        self.assertEqual((control.heard_controls, control.heard_ts, control.heard_una), (1, 5, 0))
        self.hear(arq, self.control(WASK, ts=7, una=WORD))
        self.hear(arq, self.control(WASK, ts=8), regular=False)
        found = (control.heard_controls, control.heard_ts, control.heard_una)
        self.assertEqual(found, (2, 7, WORD))


class ReceivedEndTests(ARQTestCase):
    """The receiving half of kcp-close.md 3."""

    def acked(self, arq: ARQ) -> list[int]:
        return [one.sn for one in self.flush(arq) if one.cmd == ACK]

    def test_inOrder(self) -> None:
        """In order: acknowledged, and given to the application after the last byte."""
        arq = self.make()
        self.hear(arq, self.push(0, b"ab"), self.end(1))
        self.assertTrue(arq.receiver.end_in_order)
        self.assertFalse(arq.receiver.end_received)
        self.assertEqual(arq.take(1), b"a")
        self.assertFalse(arq.receiver.end_received)
        self.assertEqual(arq.take(1), b"b")
        self.assertTrue(arq.receiver.end_received)
        (ack,) = self.flush(arq)
        self.assertEqual((ack.sn, ack.una), (1, 2))

    def test_noSlot(self) -> None:
        """In order it takes no place in the window, even a full one."""
        arq = self.make(rcvwnd=2)
        self.hear(arq, self.push(0), self.push(1), self.end(2))
        self.assertTrue(arq.receiver.end_in_order)
        arq.take(1)
        self.assertEqual(arq.receiver.free, 1)

    def test_gap(self) -> None:
        """Before a gap is filled: acknowledged and remembered."""
        arq = self.make()
        self.hear(arq, self.end(2))
        self.assertEqual(self.acked(arq), [2])
        self.hear(arq, self.push(1))
        self.assertFalse(arq.receiver.end_in_order)
        self.hear(arq, self.push(0))
        self.assertTrue(arq.receiver.end_in_order)
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
        """Data that was held already and turns out to be after the end is dropped."""
        arq = self.make()
        run = b"".join(self.push(sn).pack() for sn in (3, 4, 5))
        arq.input(run, 25, 0)
        self.hear(arq, self.push(1), self.end(2))
        self.assertEqual(arq.counters.data_after_end, 3)
        self.hear(arq, self.push(0))
        self.assertTrue(arq.receiver.end_in_order)
        self.assertEqual((arq.take(9), arq.rcv_nxt), (b"xx", 3))

    def test_duplicates(self) -> None:
        """A PUSH up to the end, and the end itself, are acknowledged again."""
        arq = self.make()
        self.hear(arq, self.push(0), self.end(1))
        self.acked(arq)
        self.hear(arq, self.push(0))
        self.assertEqual(self.acked(arq), [0])
        self.hear(arq, self.end(1))
        self.assertEqual(self.acked(arq), [1])
        self.assertEqual(arq.take(9), b"x")

    def test_secondEnd(self) -> None:
        """An end with another number is dropped and counted."""
        arq = self.make()
        self.hear(arq, self.end(3))
        self.acked(arq)
        for sn in (0, 2, 4):
            self.hear(arq, self.end(sn))
        self.assertEqual((self.acked(arq), arq.counters.second_ends), ([], 3))

    def test_beyondWindow(self) -> None:
        """An end beyond the window is dropped like data."""
        arq = self.make()
        self.hear(arq, self.end(32))
        self.assertEqual(self.acked(arq), [])
        self.hear(arq, self.end(0))
        self.assertTrue(arq.receiver.end_in_order)

    def test_oldEnd(self) -> None:
        """An end with a number that was data is a duplicate of that."""
        arq = self.make()
        self.hear(arq, self.push(0), self.end(0))
        self.assertEqual((self.acked(arq), arq.receiver.end_in_order), ([0], False))
        self.hear(arq, self.push(2), self.end(2), self.push(1))
        self.assertFalse(arq.receiver.end_in_order)
        self.assertEqual(arq.rcv_nxt, 3)

    def test_fromUnmarked(self) -> None:
        """
        From an unmarked peer it is an empty piece of data: acknowledged, not
        delivered, counted (kcp-close.md 2.2).
        """
        for stream in (True, False):
            arq = self.make(stream=stream)
            self.hear(arq, self.control(ACK, 0), self.end(1))
            self.hear(arq, self.push(0, b"a"), self.push(2, b"b"))
            self.assertEqual((arq.rcv_nxt, arq.counters.unmarked_ends), (3, 1))
            self.assertFalse(arq.receiver.end_in_order)
            taken = [arq.take(9)] if stream else [arq.take_message(), arq.take_message()]
            self.assertEqual(taken, [b"ab"] if stream else [b"a", b"b"])
            self.assertFalse(arq.receiver.queue.readable)

    def test_lastNumber(self) -> None:
        """The number may be 2^32 - 1."""
        arq = self.make(first=(0, WORD - 1))
        self.hear(arq, self.end(WORD))
        self.hear(arq, self.push(WORD - 1))
        self.assertTrue(arq.receiver.end_in_order)
        self.assertEqual((arq.rcv_nxt, self.acked(arq)), (0, [WORD - 1]))
        self.hear(arq, self.push(0))
        self.assertEqual(arq.counters.data_after_end, 1)

    def test_incompleteMessage(self) -> None:
        """A message the peer did not complete does not hold the end up."""
        arq = self.make(stream=False)
        self.hear(arq, self.push(0, b"a"), self.push(1, b"b", frg=1), self.end(2))
        self.assertFalse(arq.receiver.end_received)
        self.assertEqual(arq.take_message(), b"a")
        self.assertTrue(arq.receiver.end_received)
        self.assertIsNone(arq.take_message())


class SentEndTests(ARQTestCase):
    """The sending half of kcp-close.md 3."""

    def test_afterTheData(self) -> None:
        """It is numbered after all data and may share its datagram."""
        arq = self.make()
        self.hear(arq, self.control())
        arq.write(b"ab")
        arq.finish()
        wire = Wire()
        arq.flush(0, wire, UNLIMITED)
        (datagram,) = wire.datagrams()
        data, end = parse(datagram)
        self.assertEqual((data.payload, end.frg, end.payload, end.sn), (b"ab", END, b"", 1))
        sender = arq.sender
        self.assertEqual(sender.transmitter.end_sendings, 1)
        self.assertEqual((sender.end_sent, sender.end_acknowledged), (True, False))
        self.hear(arq, self.control(una=1))
        self.assertFalse(arq.sender.drained or arq.sender.end_acknowledged)
        self.hear(arq, self.control(una=2))
        self.assertTrue(arq.sender.drained and arq.sender.end_acknowledged)

    def test_oneByOne(self) -> None:
        """It is acknowledged when everything up to it is, one by one."""
        arq = self.make()
        self.hear(arq, self.control())
        arq.write(bytes(150))
        arq.finish()
        self.flush(arq)
        for sn in (2, 0):
            self.hear(arq, self.control(ACK, sn=sn))
            self.assertFalse(arq.sender.end_acknowledged)
        self.hear(arq, self.control(ACK, sn=1))
        self.assertTrue(arq.sender.end_acknowledged)

    def test_onlyToMarked(self) -> None:
        """While the verdict is unknown it waits; an unmarked peer never gets one."""
        arq = self.make()
        arq.finish()
        self.assertEqual(self.flush(arq), [])
        self.hear(arq, self.control(ACK, 0))
        self.assertEqual(self.flush(arq), [])
        self.assertTrue(arq.sender.drained)
        self.assertFalse(arq.sender.end_sent)

    def test_windowZero(self) -> None:
        """It obeys the peer's window; at 0 probing goes on."""
        arq = self.make()
        self.hear(arq, self.control(wnd=0))
        arq.finish()
        self.assertEqual(self.flush(arq), [])
        self.assertEqual(wait_of(arq, 0), 500)
        self.assertEqual([one.cmd for one in self.flush(arq, 500)], [WASK])
        self.hear(arq, self.control(wnd=1), now=500)
        self.assertEqual([one.frg for one in self.flush(arq, 500)], [END])

    def test_fullWindow(self) -> None:
        """It waits for room in the send window."""
        arq = self.make(sndwnd=2)
        self.hear(arq, self.control())
        arq.write(bytes(200))
        arq.finish()
        self.assertEqual([one.frg for one in self.flush(arq)], [0, 0])
        self.hear(arq, self.control(ACK, una=1))
        self.assertEqual([one.frg for one in self.flush(arq)], [END])

    def test_repeated(self) -> None:
        """After a timeout it is sent again as it was, with the present window and una."""
        arq = self.make()
        self.hear(arq, self.control())
        arq.finish()
        self.flush(arq)
        self.hear(arq, self.push(0))
        wait = wait_of(arq, 0)
        end = next(one for one in self.flush(arq, wait) if one.cmd == PUSH)
        self.assertEqual((end.frg, end.payload, end.sn, end.una, end.wnd), (END, b"", 0, 1, 31))
        self.assertEqual(arq.sender.transmitter.end_sendings, 2)

    def test_lastNumber(self) -> None:
        """Its number may be 2^32 - 1."""
        arq = self.make(first=(WORD, 0))
        self.hear(arq, self.control(una=WORD))
        arq.finish()
        (end,) = self.flush(arq)
        self.assertEqual((end.sn, arq.snd_nxt), (WORD, 0))
        self.hear(arq, self.control(ACK, sn=WORD, una=0))
        self.assertTrue(arq.sender.end_acknowledged)

    def test_firstAfterTheirs(self) -> None:
        """It is known whether theirs was in order when ours was sent first."""
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
    """The reset of kcp-close.md 6."""

    def make_used(self) -> ARQ:
        """snd_una 1, snd_nxt 3, rcv_nxt 1, window 32."""
        arq = self.make()
        arq.write(bytes(300))
        self.flush(arq)
        self.hear(arq, self.control(ACK, una=1), self.push(0, una=1))
        return arq

    def test_bounds(self) -> None:
        """Every number within the bounds is valid, the next ones on either side are not."""
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
            self.assertEqual(arq.control.reset_heard, valid, (una, sn))
            self.assertEqual(arq.counters.bad_resets, 0 if valid else 1)

    def test_invalidChangesNothing(self) -> None:
        """C{una} and C{wnd} of an invalid one are not used."""
        arq = self.make_used()
        self.hear(arq, self.control(WINS, RESET, sn=99, una=2, wnd=0))
        self.assertEqual((arq.snd_una, arq.sender.peer_window), (1, 32))

    def test_otherKinds(self) -> None:
        """Only a WINS is a reset."""
        for cmd in (ACK, WASK, PUSH):
            arq = self.make_used()
            self.hear(arq, self.control(cmd, RESET, sn=1, una=1, wnd=0))
            self.assertFalse(arq.control.reset_heard)

    def test_ours(self) -> None:
        """Ours names C{snd_nxt} and C{rcv_nxt}, and is valid for the other side."""
        arq = self.make_used()
        (ours,) = parse(reset(CONV, arq.snd_nxt, arq.rcv_nxt))
        self.assertEqual(
            ours, Segment(CONV, WINS, RESET, 0, ours.ts, arq.snd_nxt, arq.rcv_nxt)
        )
        other = self.make(first=(0, 1))
        other.write(b"x")
        self.flush(other)
        self.hear(other, ours)
        self.assertTrue(other.control.reset_heard)
