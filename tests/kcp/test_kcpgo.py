"""
Loss and congestion of kcp-go: L{SegmentPacer}, and peers that acknowledge nothing; the rest is
in the tests of the ARQ.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import Pair
from tests.pair import chancy
from twisted_rudp.core.engine import SECOND, Event
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.kcpgo import LEAST_BURST, SegmentPacer
from twisted_rudp.kcp.settings import PROFILES, Settings

START = -123_456_789
"""Clocks begin anywhere."""


class SegmentPacerTests(SynchronousTestCase):
    """With a window of 320 over 80 ms, 8 segments a millisecond and 20 together."""

    def setUp(self) -> None:
        self.pacer = SegmentPacer()
        self.number = 7

    def admit(self, now: int, room: int = 300) -> int:
        allowed = self.pacer.admit(room, self.number, START + now, 320, 80)
        self.number += allowed
        return allowed

    def test_first(self) -> None:
        """
        The first few leave together, whatever the clock shows; the rest may go a
        millisecond later.
        """
        self.assertEqual(self.admit(0), LEAST_BURST)
        self.assertEqual(self.pacer.due, START + 1)

    def test_pace(self) -> None:
        """Two windows leave in a round trip."""
        self.admit(0)
        self.assertEqual([self.admit(now) for now in (1, 2, 3)], [8, 8, 8])
        self.assertEqual(sum(self.admit(now) for now in range(4, 84)), 640)

    def test_pause(self) -> None:
        """However long nothing was sent, no more than a sixteenth of the window leaves together."""
        self.admit(0)
        self.assertEqual(self.admit(5_000), 20)

    def test_little(self) -> None:
        """What the window does not admit is not waited for."""
        self.assertEqual(self.admit(0, room=5), 5)
        self.assertEqual(self.admit(0, room=5), 5)
        self.assertEqual(self.pacer.due, NEVER)

    def test_unpaced(self) -> None:
        """What has left meanwhile without being asked about is not held against what follows."""
        self.admit(0)
        self.number += 100_000
        self.assertEqual(self.admit(10), 20)


class SilenceTests(SynchronousTestCase):
    """A peer, or a path, that acknowledges nothing for a while."""

    WINDOW = 1024 * 1400

    def open(self, settings: Settings) -> None:
        """A connected pair whose path can be shut."""
        self.shut = False
        fate = lambda number, datagram: () if self.shut else (10,)  # noqa: E731
        self.pair = Pair(fate, settings=settings)
        self.pair.connect()
        # Round trip and window are known.
        self.pair.client.engine.write(0, bytes(100_000))
        self.pair.client.turn(self.pair.client.engine)
        self.pair.run(500)

    def sent(self, milliseconds: float) -> int:
        """Bytes that leave meanwhile."""
        client = self.pair.client
        before = len(client.sent)
        client.turn(client.engine)
        self.pair.run(milliseconds)
        return sum(map(len, client.sent[before:]))

    def test_bounded(self) -> None:
        """
        A window is sent three times, then one segment asks, until the peer counts as gone
        (RFC 6298 5.5).
        """
        for name in ("normal", "fast3"):
            self.open(PROFILES[name])
            self.shut = True
            self.pair.client.engine.write(0, bytes(5_000_000))
            self.assertLess(self.sent(3_000), 3.2 * self.WINDOW)
            self.assertLess(self.sent(90_000), 0.1 * self.WINDOW)
            self.assertEqual(self.pair.client.kinds()[-1], Event.ENDED)

    def test_exact(self) -> None:
        """kcp-go's own rule goes on to send all that has expired."""
        self.open(replace(PROFILES["fast3"], congestion="kcp-go"))
        self.shut = True
        self.pair.client.engine.write(0, bytes(5_000_000))
        self.assertGreater(self.sent(10_000), 8 * self.WINDOW)

    def test_resumes(self) -> None:
        """The path works again: all is sent at once when the first segment is acknowledged."""
        self.open(PROFILES["fast3"])
        self.shut = True
        self.pair.client.engine.write(0, bytes(1_000_000))
        self.sent(20_000)
        self.shut = False
        began = self.pair.now
        while len(self.pair.server.received) < 1_100_000:
            self.pair.run(10)
            self.assertLess(self.pair.now - began, 3 * SECOND)
        repeated = self.pair.server.engine.counters()["RepeatSegs"]
        self.assertLess(repeated, 10)

    def test_lossy(self) -> None:
        """Paths that lose half each way are no silent ones: they stay as quick as ever."""
        pair = Pair(chancy(0.5, 1), chancy(0.5, 2), PROFILES["fast3"])
        pair.dial()
        pair.run(3000)
        pair.client.engine.write(0, bytes(1_000_000))
        pair.client.turn(pair.client.engine)
        began = pair.now
        while len(pair.server.received) < 1_000_000:
            pair.run(10)
        self.assertLess(pair.now - began, 3 * SECOND)
