"""
Tests for L{twisted_rudp.raknet.channels} and L{twisted_rudp.raknet.arrivals}, the
two state machines of the receiving half.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.core.serial import MASK24
from twisted_rudp.raknet.arrivals import Arrival, Arrivals
from twisted_rudp.raknet.channels import ReceiveChannel, SendChannel
from twisted_rudp.raknet.profiles import DEFAULT
from twisted_rudp.raknet.records import parse_records
from twisted_rudp.raknet.wire import Frame, Reliability

ORDERED, SEQUENCED = Reliability.RELIABLE_ORDERED, Reliability.RELIABLE_SEQUENCED


def frames(kinds: list[bool], first: int) -> list[Frame]:
    """
    What a channel sends: an ordered message for True, a sequenced one for False.
    The payload is the message's place.
    """
    channel = SendChannel(first)
    made = []
    for place, ordered in enumerate(kinds):
        data = place.to_bytes(2, "big")
        if ordered:
            made.append(Frame(ORDERED, data, 0, None, channel.ordered() & MASK24))
        else:
            order, sequence = channel.sequenced()
            made.append(Frame(SEQUENCED, data, 0, sequence, order & MASK24))
    return made


class ChannelTests(SynchronousTestCase):
    """Ordering and sequencing (raknet.md 7)."""

    @given(
        kinds=st.lists(st.booleans(), max_size=40),
        seed=st.integers(0, 9999),
        first=st.sampled_from([0, MASK24 - 5]),
        again=st.booleans(),
    )
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_promises(self, kinds: list[bool], seed: int, first: int, again: bool) -> None:
        """
        In whatever order frames come, also twice and across 2^24: all ordered
        messages are delivered once and in order, sequenced ones never go back, and
        nothing waits in the end.
        """
        sent = frames(kinds, first)
        shuffled = sent * (2 if again else 1)
        random.Random(seed).shuffle(shuffled)
        channel = ReceiveChannel(first)
        got = [frame for each in shuffled for frame in channel.put(each)]
        places = [int.from_bytes(frame.payload, "big") for frame in got]
        ordered = [place for place in places if kinds[place]]
        self.assertEqual(ordered, [place for place, kind in enumerate(kinds) if kind])
        self.assertEqual(places, sorted(set(places)))
        self.assertEqual((len(channel), channel.size), (0, 0))

    @given(kinds=st.lists(st.booleans(), max_size=40))
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_undisturbed(self, kinds: list[bool]) -> None:
        """What comes in the order it was sent is all delivered."""
        sent = frames(kinds, 0)
        channel = ReceiveChannel(0)
        self.assertEqual([frame for each in sent for frame in channel.put(each)], sent)

    def test_sequenceWraps(self) -> None:
        """
        Sequence indices go on across 2^24: none is taken for an old one, and an old one
        for none.
        """
        start = MASK24 - 2
        sending, receiving = SendChannel(7, start), ReceiveChannel(7, start)
        made = []
        for place in range(6):
            order, sequence = sending.sequenced()
            made.append(Frame(SEQUENCED, bytes((place,)), 0, sequence & MASK24, order))
        self.assertEqual([frame.sequence for frame in made[2:4]], [MASK24, 0])
        for frame in made:
            self.assertEqual(receiving.put(frame), [frame])
        for frame in made:
            self.assertEqual(receiving.put(frame), [])

    def test_heldBySize(self) -> None:
        """What waits is counted, each message once."""
        channel = ReceiveChannel(0)
        for _ in range(3):
            self.assertEqual(channel.put(Frame(ORDERED, b"abc", 0, None, 5)), [])
        self.assertEqual((len(channel), channel.size), (1, 3))


class ArrivalsTests(SynchronousTestCase):
    """Acknowledging (raknet.md 8)."""

    def numbers(self, datagrams: list[bytes]) -> set[int]:
        """What ACKs or NACKs name."""
        return {
            number
            for datagram in datagrams
            for low, high in parse_records(datagram)
            for number in range(low, high + 1)
        }

    @given(
        seed=st.integers(0, 9999),
        count=st.integers(1, 120),
        first=st.sampled_from([0, MASK24 - 30]),
        rate=st.sampled_from([0.0, 0.2, 0.5]),
    )
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_everything(self, seed: int, count: int, first: int, rate: float) -> None:
        """
        On a link that loses, repeats and reorders: every number that came is
        acknowledged, is new once, and exactly those below the highest that did not
        come in time are asked for, once.
        """
        source = random.Random(seed)
        came = [number for number in range(count) if source.random() >= rate]
        came += [number for number in came if source.random() < 0.2]
        came.sort(key=lambda number: number + source.random() * 4)
        arrivals = Arrivals(DEFAULT, first)
        fresh = []
        for number in came:
            near = arrivals.near((first + number) & MASK24)
            self.assertEqual(near, first + number)
            if arrivals.accept(near, 1, 100, 0, 10 * MILLISECOND) is Arrival.NEW:
                fresh.append(number)
        self.assertEqual(sorted(fresh), sorted(set(came)))
        self.assertEqual(arrivals.complaints(9 * MILLISECOND, 1464), [])
        asked = self.numbers(arrivals.complaints(10 * MILLISECOND, 1464))
        missing = set(range(max(came, default=0))) - set(came)
        self.assertEqual(asked, {(first + number) & MASK24 for number in missing})
        self.assertEqual(arrivals.complaints(10**12, 1464), [])
        told = self.numbers(arrivals.acknowledgements(1464))
        self.assertEqual(told, {(first + number) & MASK24 for number in came})
        self.assertEqual(arrivals.acknowledgements(1464), [])

    def test_repeated(self) -> None:
        """
        Each acknowledgement names again what the two before it named, so that the
        loss of one loses nothing.
        """
        arrivals = Arrivals(DEFAULT)
        named = []
        for number in range(5):
            arrivals.accept(number, 1, 100, 0, 0)
            named.append(self.numbers(arrivals.acknowledgements(1464)))
        self.assertEqual(named, [{0}, {0, 1}, {0, 1, 2}, {1, 2, 3}, {2, 3, 4}])

    def test_when(self) -> None:
        """
        At once for the first datagrams and for two full ones, else after ten
        milliseconds or 32 datagrams (raknet.md 8.1).
        """
        arrivals = Arrivals(DEFAULT)
        arrivals.accept(0, 1, 50, 0, 0)
        self.assertTrue(arrivals.is_ack_due(0, 1464))
        arrivals.accept(1, 40, 2000, 0, 0)
        arrivals.acknowledgements(1464)
        self.assertFalse(arrivals.is_ack_due(0, 1464))
        arrivals.accept(41, 1, 50, 0, 0)
        self.assertFalse(arrivals.is_ack_due(9 * MILLISECOND, 1464))
        self.assertTrue(arrivals.is_ack_due(10 * MILLISECOND, 1464))
        arrivals.accept(42, 2, 2928, 0, 0)
        self.assertTrue(arrivals.is_ack_due(0, 1464))

    def test_withheld(self) -> None:
        """What was dropped for lack of room is asked for when there is room again."""
        arrivals = Arrivals(DEFAULT)
        arrivals.accept(0, 1, 50, 0, 0)
        for number in (1, 2, 3):
            arrivals.withhold(number)
        self.assertTrue(arrivals.withholding)
        self.assertEqual(arrivals.complaints(10**12, 1464), [])
        arrivals.release(5)
        self.assertEqual(self.numbers(arrivals.complaints(5, 1464)), {1, 2, 3})
        self.assertFalse(arrivals.withholding)
