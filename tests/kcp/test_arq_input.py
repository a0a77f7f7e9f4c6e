"""Reading what the peer sent: the ways for many segments at once do what the way for one does."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.segments import Segment, Wire
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp import arq as arq_module
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import ACK, MARK, PUSH, WINS

CONV = 7


class ManyAcknowledgementsTests(SynchronousTestCase):
    """Datagrams of many ACK segments."""

    def make(self) -> ARQ:
        """40 segments in flight, sent at 100, the peer proved and its verdict known."""
        chosen = Settings(nc=False, congestion="kcp-go", mtu=124, sndwnd=64)
        arq = ARQ(CONV, chosen, first_sent=0xFFFFFFF0, first_received=0)
        arq.sender.recovery.controller.segments = 64  # type: ignore[attr-defined]
        arq.input(Segment(CONV, WINS, MARK, 64, 0, 0, 0xFFFFFFF0).pack(), 24, 90 * MILLISECOND)
        arq.write(bytes(4_000))
        arq.flush(100 * MILLISECOND, Wire(), 1 << 40)
        ack = Segment(CONV, ACK, MARK, 64, 100, 0xFFFFFFF0, 0xFFFFFFF0)
        arq.input(ack.pack(), 24, 110 * MILLISECOND)
        self.assertTrue(arq.sender.transmitter.validated)
        return arq

    def outcome(self, arq: ARQ, datagram: bytes, regular: bool) -> tuple[object, ...]:
        arq.input(datagram, len(datagram), 130 * MILLISECOND, regular)
        wire = Wire()
        arq.flush(140 * MILLISECOND, wire, 1 << 40)
        round_trip = arq.sender.recovery.round_trip
        return (
            arq.counters,
            arq.control.peer,
            arq.snd_una,
            arq.sender.peer_window,
            arq.sender.sent.in_flight,
            arq.sender.recovery.controller.window(),
            (round_trip.smoothed, round_trip.variation, round_trip.timeout),
            wire.runs,
        )

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        seed=st.integers(0, 1 << 20),
        count=st.integers(arq_module.MANY_ACKS, 40),
        una=st.integers(-2, 45),
        damage=st.one_of(st.none(), st.tuples(st.integers(0, 2_000), st.integers(0, 255))),
        tail=st.sampled_from([b"", b"?", Segment(CONV, PUSH, 0, 9, 1, 0, 0, b"x").pack()]),
        regular=st.booleans(),
    )
    def test_same(
        self,
        seed: int,
        count: int,
        una: int,
        damage: tuple[int, int] | None,
        tail: bytes,
        regular: bool,
    ) -> None:
        """
        Read together or one by one, with a byte changed or something behind
        them, they have the same effect.
        """
        random = Random(seed)
        first = 0xFFFFFFF0
        datagram = bytearray(
            b"".join(
                Segment(
                    CONV,
                    ACK,
                    MARK,
                    50,
                    random.choice((100, 100, 100, 99, 200)),
                    (first + random.randrange(-3, 45)) & 0xFFFFFFFF,
                    (first + una) & 0xFFFFFFFF,
                ).pack()
                for _ in range(count)
            )
        )
        if damage is not None:
            datagram[damage[0] % len(datagram)] = damage[1]
        data = bytes(datagram + tail)
        together = self.outcome(self.make(), data, regular)
        self.patch(arq_module, "MANY_ACKS", 1 << 30)
        singly = self.outcome(self.make(), data, regular)
        self.patch(arq_module, "MANY_ACKS", 4)
        self.assertEqual(together, singly)
