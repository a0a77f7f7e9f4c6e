"""Whatever two applications do, over links that lose, repeat and reorder."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Literal, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.pair import chancy, steady
from tests.qotp.pair import Pair
from tests.qotp.releasepair import ReleasePair, sink
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import Event, Reason

Act: TypeAlias = tuple[
    Literal[0, 1], Literal["open", "write", "end", "reset", "pause", "resume"], int, int, int
]
"""Who, what, which of the streams, how many bytes, how many milliseconds later."""

acts = st.lists(
    st.tuples(
        st.sampled_from([0, 1]),
        st.sampled_from(["open", "write", "write", "write", "end", "reset", "pause", "resume"]),
        st.integers(0, 7),
        st.sampled_from([1, 64, 1361, 1362, 5000, 70_000]),
        st.sampled_from([0, 0, 1, 30, 300]),
    ),
    max_size=25,
)


class History:
    """What was done, and what therefore has to be seen."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.ends = (pair.client, pair.server)
        self.written: tuple[defaultdict[int, bytearray], ...] = (
            defaultdict(bytearray),
            defaultdict(bytearray),
        )
        self.ended: tuple[set[int], set[int]] = (set(), set())
        self.broken: set[int] = set()
        self.random = random.Random(1)

    def do(self, act: Act) -> None:
        """One act, then some time."""
        who, what, which, size, later = act
        end = self.ends[who]
        streams = sorted(end.engine.streams)
        stream = streams[which % len(streams)]
        if what == "open":
            stream = end.engine.open_stream()
            what = "write"
        if what == "pause":
            end.reading = False
        elif what == "resume":
            end.reading = True
        elif what == "reset" and stream:
            self.broken.add(stream)
            end.engine.reset_stream(stream)
        elif what == "end" and stream:
            self.ended[who].add(stream)
            end.engine.close_stream(stream)
        elif what == "write" and stream not in self.ended[who]:
            data = self.random.randbytes(size)
            self.written[who][stream] += data
            end.engine.write(stream, data)
        end.turn(end.engine)
        self.pair.run(later)

    def check(self, case: SynchronousTestCase) -> None:
        """Everything that was not given up has arrived, and nothing else."""
        for who, end in enumerate(self.ends):
            written, ended = self.written[1 - who], self.ended[1 - who]
            for stream, data in written.items():
                found = bytes(end.streams[stream])
                if stream in self.broken:
                    case.assertTrue(data.startswith(found))
                else:
                    case.assertTrue(found == data, (stream, len(found), len(data)))
            case.assertEqual({n for n, d in end.streams.items() if d} - set(written), set())
            for stream in ended - self.broken:
                case.assertEqual(end.happened.count((Event.STREAM_ENDED, stream)), 1)
            openings = [each[1] for each in end.happened if each[0] is Event.STREAM_OPENED]
            case.assertEqual(len(openings), len(set(openings)))


class EverythingTests(SynchronousTestCase):
    """Two of our own."""

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(acts, st.sampled_from([0.0, 0.05, 0.2]), st.integers(0, 3))
    def test_anything(self, script: list[Act], loss: float, seed: int) -> None:
        """
        What is written arrives once and in order; ends are told once; streams that are
        over are forgotten; a close ends both sides in order; nothing stays in use.
        """
        pair = Pair(chancy(loss, seed), chancy(loss, seed + 10))
        free = pair.settings.budget.free
        pair.dial()
        pair.run(5000)
        history = History(pair)
        for act in script:
            history.do(act)
        for end in history.ends:
            end.reading = True
            end.turn(end.engine)
        pair.fates["client"] = pair.fates["server"] = steady()
        pair.run(20_000)
        history.check(self)
        over = history.broken | (history.ended[0] & history.ended[1])
        for end in history.ends:
            # A ping that asks for a sign of life may be on its way.
            self.assertLess(end.engine.facts()["bytes_in_flight"], 50)
            self.assertEqual(over & set(end.engine.streams), set())
        for end in history.ends:
            end.engine.close(pair.now)
            end.turn(end.engine)
        pair.run(30_000)
        for end in history.ends:
            self.assertEqual(end.happened[-1], (Event.ENDED, Reason.DONE, None))
            self.assertEqual(end.engines, {})
        self.assertEqual(pair.settings.budget.free, free)


says = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([0, 2, 5, 77]),
        st.sampled_from([1, 100, 1361, 1362, 9000]),
        st.sampled_from([0, 0, 5, 100]),
    ),
    min_size=1,
    max_size=12,
)
"""Whether we say it, on which stream, how many bytes, how many milliseconds later."""


class ReleaseTests(SynchronousTestCase):
    """One of our own and the model of the release, which is strict."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(says, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.05]))
    def test_anything(
        self, script: list[tuple[bool, int, int, int]], dialling: bool, known: bool, early: bool,
        loss: float,
    ) -> None:  # fmt: skip
        """
        What both say arrives, on whatever streams and however the connection came about;
        the release's loop never ends; and our close comes to an end in order.
        """
        pair = ReleasePair(
            sink, dialling=dialling, there=chancy(loss, 3), back=chancy(loss, 4), early_data=early
        )
        if dialling:
            connection = pair.call(known)
            connection.write(script[0][1], b"first")
            pair.happens(Event.CONNECTED)
        else:
            connection = pair.connected(known)
        written: tuple[defaultdict[int, bytearray], ...] = (
            defaultdict(bytearray),
            defaultdict(bytearray),
        )
        if dialling:
            written[0][script[0][1]] += b"first"
        chance = random.Random(1)
        for we, stream, size, later in script:
            data = chance.randbytes(size)
            if we and stream in pair.mine.engine.streams:
                write(pair.mine, stream, data)
            elif we:
                stream = pair.mine.engine.open_stream()
                write(pair.mine, stream, data)
            else:
                connection.write(stream, data)
            written[we][stream] += data
            pair.run(later)
        for stream, wanted in written[0].items():
            self.assertTrue(pair.receives(len(wanted), stream) == wanted)
        for stream, wanted in written[1].items():
            self.assertTrue(pair.delivers(connection, len(wanted), stream) == wanted)
        pair.close()
        pair.happens(Event.ENDED, Reason.DONE)
        pair.run(20_000)
        self.assertIsNone(connection.dead)
