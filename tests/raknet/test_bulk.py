"""Runs of messages and of the stream: what is alike goes out and comes in together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raknet.frames import Starts
from tests.raknet.pair import MESSAGES, Fate, Pair
from twisted_rudp.core.engine import Event
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.raknet.settings import GO_RAKNET_2023, Settings

WRAP = Starts(0xFFFFF0, 0xFFFFF0, 0xFFFFF0)


def lossy(seed: int, share: float) -> Fate:
    """A link that loses a share of the datagrams, by chance."""
    chance = random.Random(seed)
    return lambda number, datagram: () if number > 6 and chance.random() < share else (10,)


def connected(settings: Settings = MESSAGES, there: Fate | None = None) -> Pair:
    """A session just below the wrap of all its counters."""
    pair = Pair(settings, there=there, starts=WRAP)
    pair.connect()
    pair.run(3000)
    return pair


class MessageRunTests(SynchronousTestCase):
    """Messages in runs."""

    def carry(self, pair: Pair, messages: Sequence[bytes], milliseconds: int = 60_000) -> None:
        """All of them arrive, once and in order."""
        for message in messages:
            pair.client.engine.send(message)
        pair.client.turn(pair.client.engine)
        pair.run(milliseconds)
        self.assertEqual(pair.server.messages, [Message(message) for message in messages])
        self.assertEqual(pair.client.engine.facts()["bytes_in_flight"], 0)

    def test_alike(self) -> None:
        """
        Equally long messages leave one to a datagram where no two fit, across the wrap
        of every counter.
        """
        pair = connected()
        before = pair.client.engine.counters()["datagrams_out"]
        self.carry(pair, [b"\xfe%04d" % number + bytes(1300) for number in range(300)], 1500)
        after = pair.client.engine.counters()["datagrams_out"]
        self.assertIn(after - before, (300, 301, 302))  # with a ping and a pong
        self.assertEqual(pair.server.engine.counters()["frames_repeated"], 0)

    def test_small(self) -> None:
        """Small ones share datagrams, as many as fit (raknet.md 5)."""
        pair = connected()
        before = pair.client.engine.counters()["datagrams_out"]
        self.carry(pair, [b"\xfe%04d" % number for number in range(1000)], 500)
        datagrams = pair.client.engine.counters()["datagrams_out"] - before
        self.assertEqual(datagrams, -(-1000 // ((1492 - 28 - 4) // 15)))

    def test_mixed(self) -> None:
        """Lengths that alternate share datagrams too."""
        pair = connected()
        before = pair.client.engine.counters()["datagrams_out"]
        self.carry(pair, [b"\xfe" + bytes(number % 2) for number in range(100)], 500)
        self.assertEqual(pair.client.engine.counters()["datagrams_out"] - before, 1)

    def test_seed(self) -> None:
        """The profile of the older go-raknet has one frame in each datagram (raknet.md 14)."""
        pair = connected(replace(GO_RAKNET_2023, stream=False))
        before = pair.client.engine.counters()["datagrams_out"]
        for number in range(40):
            pair.client.engine.send(b"\xfe%02d" % number)
        pair.client.turn(pair.client.engine)
        self.assertEqual(pair.client.engine.counters()["datagrams_out"] - before, 40)

    def test_loss(self) -> None:
        """
        What is lost of a run is sent again, frame by frame, and nothing twice to the
        application.
        """
        for size, share in ((0, 0.4), (100, 0.1), (1300, 0.1)):
            pair = connected(there=lossy(size, share))
            self.carry(pair, [b"\xfe%04d" % number + bytes(size) for number in range(800)])
            self.assertGreater(pair.client.engine.counters()["retransmitted"], 0)

    def test_priority(self) -> None:
        """An urgent message overtakes a run that waits, which keeps its own order."""
        pair = connected()
        many = [b"\xfe%04d" % number + bytes(1300) for number in range(200)]
        for message in many:
            pair.client.engine.send(message, priority=0)
        pair.client.engine.send(b"\xffnow", Delivery.RELIABLE, priority=3)
        pair.client.turn(pair.client.engine)
        pair.run(5000)
        got = [message.data for message in pair.server.messages]
        self.assertEqual(got[0], b"\xffnow")
        self.assertEqual(got[1:], many)

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([1, 1, 20, 20, 700, 1400, 1432, 1433, 4000]),
                st.sampled_from([3, 3, 3, 3, 2, 4]),
                st.sampled_from([0, 0, 0, 5]),
                st.sampled_from([1, 1, 1, 2]),
                st.booleans(),
            ),
            max_size=60,
        ),
        st.integers(0, 2),
    )
    def test_anything(self, wanted: list[tuple[int, int, int, int, bool]], seed: int) -> None:
        """
        Whatever is mixed, with losses: reliable messages arrive once, those of a
        channel and a delivery in order, and every receipt says so.
        """
        pair = connected(there=lossy(seed, 0.05 * seed))
        engine = pair.client.engine
        sent: dict[tuple[int, int], list[bytes]] = {}
        receipts = []
        for number, (size, kind, channel, priority, receipt) in enumerate(wanted):
            data = (b"\xfe%03d" % number).ljust(size, b".")
            told = engine.send(data, Delivery(kind), channel, priority, receipt)
            receipts += [] if told is None else [told]
            sent.setdefault((kind, channel), []).append(data)
        pair.client.turn(engine)
        pair.run(60_000)
        for (kind, channel), messages in sent.items():
            got = [
                message.data
                for message in pair.server.messages
                if (message.delivery, message.channel) == (kind, channel)
                or (kind == 2 and message.delivery == kind)
            ]
            if kind == Delivery.RELIABLE_ORDERED:
                self.assertEqual(got, messages)
            elif kind == Delivery.RELIABLE:
                every = [m for key, each in sent.items() if key[0] == kind for m in each]
                self.assertEqual(sorted(got), sorted(every))
            else:
                self.assertLessEqual(set(got), set(messages))
        fates = [event for event in pair.client.happened if event[0] == Event.RECEIPT]
        self.assertEqual(sorted(fates), [(Event.RECEIPT, told, True) for told in receipts])
