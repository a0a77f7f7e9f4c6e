"""Tests for L{twisted_rudp.net.connect.Race}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.connect import Race


class RaceTests(SynchronousTestCase):
    """L{Race}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dialled: list[tuple[float, str]] = []
        self.race: Race[str, str] = Race(self.clock, 0.3, self.dial)

    def dial(self, address: str) -> None:
        self.dialled.append((round(self.clock.seconds(), 1), address))
        self.race.attempts.append(address)

    def advance(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds * 20))

    def test_delay(self) -> None:
        """Each is dialled some time after the one before; then nothing is scheduled."""
        self.assertTrue(self.race.enter("abc"))
        self.race.dialNext()
        self.advance(2)
        self.assertEqual(self.dialled, [(0, "a"), (0.3, "b"), (0.6, "c")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failed(self) -> None:
        """One that fails brings the next at once; the last one ends the race."""
        self.race.enter("abc")
        self.race.dialNext()
        self.advance(0.1)
        self.assertTrue(self.race.failed("a"))
        self.assertEqual(self.dialled, [(0, "a"), (0.1, "b")])
        self.advance(0.3)
        self.assertTrue(self.race.failed("b"))
        self.assertFalse(self.race.failed("c"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_won(self) -> None:
        """After a win nobody else is dialled, and the others are named."""
        self.race.enter(["a", "b", "c", "d"])
        self.race.dialNext()
        self.advance(0.65)
        self.assertEqual(self.race.finish("b"), ["a", "c"])
        self.assertEqual(self.race.attempts, ["b"])
        self.advance(1)
        self.assertEqual(len(self.dialled), 3)
        self.assertEqual(self.race.finish(), ["b"])

    def test_more(self) -> None:
        """What becomes known while the race goes on is dialled in it, and waited for."""
        news = [["a"], [], ["b"], []]
        self.race = Race(
            self.clock, 0.3, self.dial, lambda: None if not news else self.enter(news.pop(0))
        )
        self.race.dialNext()
        self.advance(1)
        self.assertEqual(self.dialled, [(0, "a"), (0.6, "b")])
        self.race.finish()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def enter(self, addresses: list[str]) -> None:
        self.race.enter(addresses)
