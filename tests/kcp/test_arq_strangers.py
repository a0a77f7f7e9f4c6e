"""L{ARQ} and whatever an unknown peer may send."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kcp.arqcase import CONV, WORD, ARQTestCase, wait_of
from tests.kcp.segments import Segment
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.wire import ACK, END, MARK, PUSH, RESET, WASK, WINS


class UnknownPeerTests(ARQTestCase):
    """Whatever arrives, nothing is raised and memory stays bounded."""

    def check_bounded(self, arq: ARQ) -> None:
        receiver = arq.receiver
        self.assertLessEqual(len(receiver.held), 32)
        self.assertLessEqual(receiver.queue.segments, 32)
        self.assertLessEqual(len(receiver.acks), 4_096 + 64)

    def test_timestampOfAnother(self) -> None:
        """
        An acknowledgement that echoes a time of long ago does not make the round trip
        meaningless; one of ours is a sample.
        """
        arq = self.make()
        arq.write(b"x")
        self.flush(arq, now=1_000)
        self.hear(arq, self.control(ACK, ts=(1_000 - 140_000_000) & WORD), now=1_020)
        trip = arq.sender.recovery.round_trip
        self.assertEqual((trip.timeout, trip.smoothed), (200, 0))
        self.hear(arq, self.control(ACK, ts=1_000), now=1_020)
        self.assertEqual(arq.sender.recovery.round_trip.smoothed, 20)

    def test_sizes(self) -> None:
        """Any length and any size of a run, also impossible ones."""
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
        """Arbitrary segments, damaged anywhere, in runs of any size."""
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
            size, regular = data.draw(st.integers(-1, 120)), data.draw(st.booleans())
            arq.input(run, size, now * 100 * MILLISECOND, regular)
            self.check_bounded(arq)
            if data.draw(st.booleans()):
                self.flush(arq, now * 100)
            if data.draw(st.booleans()):
                _ = arq.take(5) if arq.settings.stream else arq.take_message()
            wait = wait_of(arq, now * 100)
            self.assertTrue(wait is None or wait >= 0)
            self.assertGreaterEqual(arq.sender.sent.in_flight, 0)
            self.assertGreaterEqual(arq.receiver.queue.size, 0)

    def test_unaOvertakesAcknowledgement(self) -> None:
        """An ACK whose number a later C{una} of the same datagram covers is no news."""
        arq = self.make()
        arq.write(bytes(300))
        self.flush(arq)
        self.hear(arq, self.control(ACK, sn=1), self.control(ACK, sn=0, una=3))
        self.assertTrue(arq.sender.drained)

    def test_noise(self) -> None:
        """Pure noise."""
        random = Random(1)
        arq = self.make()
        for _ in range(300):
            arq.input(random.randbytes(random.randrange(200)), random.randrange(1, 100), 0)
        self.assertEqual((arq.rcv_nxt, arq.counters.in_segs), (0, 0))
