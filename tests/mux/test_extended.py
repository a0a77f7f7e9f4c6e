"""What two ends of twisted_rudp add to smux (C{mux.md} section 2)."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mux.pipe import PEER
from tests.mux.test_smux import End, Two
from twisted_rudp.core.engine import SECOND, Reason
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.mux.smux import (
    EXTENDED_WINDOW,
    MOST_ANSWERS,
    MOST_STREAMS,
    Command,
    SmuxEngine,
    SmuxSettings,
    WindowBudget,
    pack,
    pack_update,
)

BUFFER = 4 << 20


class Extended(End):
    """An end that knows its peer as a twisted_rudp."""

    def __init__(self, role: Role, budget: int = 256 << 20, **more: Any) -> None:
        options = SmuxSettings(extended=True, receive_buffer=64 << 20, stream_buffer=BUFFER)
        super().__init__(role, options, **more)
        self.budget = WindowBudget(budget)
        self.engine = SmuxEngine(self.pipe, role, options, 0, budget=self.budget)


class Pair(Two):
    """Both ends."""

    def __init__(self, budget: int = 256 << 20) -> None:
        super().__init__()
        self.client: Extended = Extended(Role.CLIENT, budget)
        self.server: Extended = Extended(Role.SERVER, budget)


class ExtendedTests(SynchronousTestCase):
    """Two ends with each other."""

    def test_control(self) -> None:
        """Stream 0 carries bytes both ways, before those of other streams, and counts as none."""
        two = Pair()
        number = two.client.engine.open_stream()
        two.client.engine.write(number, bytes(500_000))
        two.client.engine.write(0, b"first")
        two.run(1)
        self.assertEqual(two.server.got[0], b"first")
        two.server.engine.write(0, b"answer")
        two.run()
        self.assertEqual(two.client.got[0], b"answer")
        self.assertEqual(two.client.engine.facts()["streams"], 1)

    def test_reset(self) -> None:
        """A stream that is given up is a reset for the peer; nothing is reserved for it then."""
        two = Pair()
        before = two.server.budget.free
        number = two.client.engine.open_stream()
        two.client.engine.write(number, b"hello")
        two.run()
        two.client.engine.reset_stream(number)
        two.run()
        self.assertEqual((two.server.reset, two.server.ended), ([number], []))
        self.assertEqual(two.server.budget.free, before)
        two.server.engine.write(number, b"too late")
        two.run()
        self.assertIsNone(two.client.over)
        self.assertEqual(two.server.engine.facts()["streams"], 0)

    def test_readsNoMore(self) -> None:
        """
        Who has ended its half and reads no more answers what still comes with a reset; what it
        wrote before is read all the same.
        """
        two = Pair()
        number = two.client.engine.open_stream()
        two.server.paused.add(number)
        two.client.engine.write(number, b"last words")
        two.client.engine.close_stream(number)
        two.run()
        two.client.engine.discard_stream(number)
        two.run()
        self.assertEqual(two.server.reset, [])
        two.server.engine.write(number, b"to nobody")
        two.run()
        self.assertEqual((two.server.reset, two.server.ended), ([], []))
        two.server.engine.write(number, b"more")
        two.server.paused.clear()
        two.server.read(number)
        two.run()
        self.assertEqual(two.server.got[number], b"last words")
        self.assertEqual((two.server.ended, two.server.reset), ([number], [number]))
        self.assertEqual(two.server.engine.facts()["streams"], 0)

    def test_windows(self) -> None:
        """
        A window begins small and grows with what is read. Streams that nobody reads fill
        theirs and stop no other, however many they are.
        """
        two = Pair()
        stuck = [two.client.engine.open_stream() for _ in range(200)]
        two.server.paused.update(stuck)
        for number in stuck:
            two.client.engine.write(number, bytes(1 << 20))
        two.run(60)
        self.assertEqual({two.server.engine.unread(n) for n in stuck}, {EXTENDED_WINDOW})
        other = two.client.engine.open_stream()
        data = random.Random(1).randbytes(8_000_000)
        two.client.engine.write(other, data)
        two.run(60)
        self.assertEqual(two.server.got[other], data)
        two.server.paused.add(other)
        two.client.engine.write(other, bytes(8_000_000))
        two.run(60)
        self.assertTrue(EXTENDED_WINDOW < two.server.engine.unread(other) <= BUFFER)

    def test_quietStreams(self) -> None:
        """
        The window of streams that carry little, however long, doubles once, and that of one that
        carries much grows to the most.
        """
        two = Pair()
        before = two.server.budget.free
        quiet = [two.client.engine.open_stream() for _ in range(100)]
        for _ in range(100):
            for number in quiet:
                two.client.engine.write(number, bytes(3000))
            two.run(1)
        kept = two.server.budget.free
        self.assertEqual(kept, before - 200 * EXTENDED_WINDOW)
        busy = two.client.engine.open_stream()
        data = bytes(30 << 20)
        two.client.engine.write(busy, data)
        two.run(60)
        self.assertEqual(len(two.server.got[busy]), len(data))
        self.assertEqual(two.server.budget.free, kept - BUFFER)

    def test_budget(self) -> None:
        """Windows of all sessions of a socket are reserved from one budget, and given back."""
        two = Pair(budget=5 * EXTENDED_WINDOW)
        for _ in range(4):
            two.client.engine.open_stream()
        self.assertRaises(RuntimeError, two.client.engine.open_stream)
        two.server.budget.free -= EXTENDED_WINDOW
        two.run()
        self.assertEqual(len(two.server.opened), 3)
        self.assertEqual(len(two.client.reset), 1)
        self.assertEqual(two.server.engine.counters()["streams_refused"], 1)
        two.client.engine.close(two.now)
        two.run()
        self.assertEqual(two.client.over, (Reason.DONE, None))
        self.assertEqual(two.client.budget.free, 5 * EXTENDED_WINDOW)
        two.server.engine.abort(two.now)
        two.run()
        self.assertEqual(two.server.budget.free, 4 * EXTENDED_WINDOW)

    def test_close(self) -> None:
        """What was written before a close arrives, on stream 0 too."""
        two = Pair()
        number = two.client.engine.open_stream()
        two.client.engine.write(number, bytes(300_000))
        two.client.engine.write(0, b"goodbye")
        two.client.engine.close(two.now)
        two.run(60)
        self.assertEqual((len(two.server.got[number]), two.server.got[0]), (300_000, b"goodbye"))
        self.assertEqual(two.client.over, (Reason.DONE, None))

    def test_version(self) -> None:
        """Version 1 has none of this."""
        self.assertRaises(ValueError, SmuxSettings, version=1, extended=True)


class HostileTests(SynchronousTestCase):
    """What a peer can send."""

    def sent(self, *frames: bytes) -> Extended:
        """A listening end that has got frames."""
        end = Extended(Role.SERVER)
        end.turn(SECOND)
        end.paused.update((0, 3))
        for frame in frames:
            end.engine.receive(frame, len(frame), PEER, SECOND)
            end.turn(SECOND)
        return end

    def test_refused(self) -> None:
        """What breaks the rules ends the session, and what is kept stays within the window."""
        half = bytes(EXTENDED_WINDOW // 2)
        for frames in (
            (pack(2, Command.FIN, 0),),
            (pack(2, Command.RST, 0),),
            (pack(2, Command.RST, 3, b"x"),),
            (pack(2, 6, 3),),
            (pack(1, Command.SYN, 3),),
            (pack_update(0, 1, 0),),
            (pack(2, Command.SYN, 3), *[pack(2, Command.PSH, 3, half)] * 2, pack(2, 2, 3, b"x")),
            (*[pack(2, Command.PSH, 0, half)] * 2, pack(2, Command.PSH, 0, b"x")),
        ):
            end = self.sent(*frames)
            assert end.over is not None, frames
            self.assertIs(end.over[0], Reason.PROTOCOL)
            self.assertTrue(end.engine.unread(3) <= EXTENDED_WINDOW)
            self.assertEqual(end.budget.free, 256 << 20)

    def test_answersNotTaken(self) -> None:
        """The same with data for streams that are not open."""
        end = self.sent()
        end.pipe.window = 0
        frames = pack(2, Command.PSH, 9, b"x") * 1000
        for _ in range(100):
            end.engine.receive(frames, len(frames), PEER, 2 * SECOND)
            end.turn(2 * SECOND)
        self.assertTrue(end.pipe.unsent() <= MOST_ANSWERS + 10_000, end.pipe.unsent())
        assert end.over is not None
        self.assertIs(end.over[0], Reason.PROTOCOL)

    def test_manyStreams(self) -> None:
        """No more than so many streams; a further one is reset at once."""
        syns = [pack(2, Command.SYN, 2 * n + 3) for n in range(MOST_STREAMS + 50)]
        end = self.sent(b"".join(syns))
        self.assertEqual(end.engine.facts()["streams"], MOST_STREAMS - 1)
        self.assertTrue(end.budget.free >= (256 << 20) - (MOST_STREAMS + 1) * EXTENDED_WINDOW)

    @given(data=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7), st.binary(max_size=9))))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_anyFrames(self, data: list[tuple[int, int, bytes]]) -> None:
        """Frames in any order raise nothing, and all that was reserved is given back."""
        end = self.sent()
        frames = b"".join(pack(2, *each) for each in data)
        end.engine.receive(frames, len(frames), PEER, SECOND)
        for number in (2, 3, 5, 7):
            end.engine.write(number, b"x")
        end.turn(SECOND)
        end.engine.abort(SECOND)
        end.turn(SECOND)
        self.assertEqual(end.budget.free, 256 << 20)
