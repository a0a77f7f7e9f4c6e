"""Ordering and sequencing within a channel, of what is sent and of what arrives."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.serial import MASK24
from twisted_rudp.raknet.queue import SendChannel
from twisted_rudp.raknet.receiver import ReceiveChannel
from twisted_rudp.raknet.wire import Frame, Reliability

ORDERED, SEQUENCED = Reliability.RELIABLE_ORDERED, Reliability.RELIABLE_SEQUENCED


def frames(kinds: list[bool], first: int) -> list[Frame]:
    """
    What a channel sends: an ordered message for True, a sequenced one for False.
    The payload is the message's place.
    """
    channel = SendChannel()
    channel.order = first
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
        channel = ReceiveChannel()
        channel.next = first
        got = [frame for each in shuffled for frame in channel.put(each)]
        places = [int.from_bytes(frame.payload, "big") for frame in got]
        ordered = [place for place in places if kinds[place]]
        self.assertEqual(ordered, [place for place, kind in enumerate(kinds) if kind])
        self.assertEqual(places, sorted(set(places)))
        self.assertEqual((len(channel.waiting), channel.size), (0, 0))

    @given(kinds=st.lists(st.booleans(), max_size=40))
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_undisturbed(self, kinds: list[bool]) -> None:
        """What comes in the order it was sent is all delivered."""
        sent = frames(kinds, 0)
        channel = ReceiveChannel()
        self.assertEqual([frame for each in sent for frame in channel.put(each)], sent)

    def test_sequenceWraps(self) -> None:
        """
        Sequence indices go on across 2^24: none is taken for an old one, and an old one
        for none.
        """
        start = MASK24 - 2
        sending, receiving = SendChannel(), ReceiveChannel()
        sending.order = receiving.next = 7
        sending.sequence = receiving.sequence = start
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
        channel = ReceiveChannel()
        for _ in range(3):
            self.assertEqual(channel.put(Frame(ORDERED, b"abc", 0, None, 5)), [])
        self.assertEqual((len(channel.waiting), channel.size), (1, 3))
