"""Tests for L{twisted_rudp.net.ratelog}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.ratelog import INTERVAL, KINDS, RateLimitedLog


class RateLimitedLogTests(SynchronousTestCase):
    """L{RateLimitedLog}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        self.log = RateLimitedLog(self.clock, Logger(observer=self.events.append))

    def said(self) -> list[str]:
        """The lines since the last time."""
        said = [formatEvent(event) for event in self.events]
        self.events.clear()
        return said

    def test_once(self) -> None:
        """A kind is said at once, then after the interval with the number left out."""
        for peer in range(5):
            self.log.note("refused", "refused {peer}", peer=peer)
        self.assertEqual(self.said(), ["refused 0"])
        self.clock.advance(INTERVAL)
        self.log.note("refused", "refused {peer}", peer=9)
        self.assertEqual(self.said(), ["refused 9 (4 more times since it was last logged)"])

    def test_kinds(self) -> None:
        """One kind does not silence another; their number is bounded."""
        for number in range(3 * KINDS):
            self.log.note(f"kind {number}", "here")
        self.assertEqual(len(self.said()), 3 * KINDS)
        self.log.note("kind 0", "here")
        self.log.note(f"kind {3 * KINDS - 1}", "here")
        self.assertEqual(self.said(), ["here"])

    def test_clear(self) -> None:
        """What is over is said at once when it comes again."""
        self.assertFalse(self.log.clear("down"))
        self.log.note("down", "down", LogLevel.error)
        self.assertEqual(self.events[0]["log_level"], LogLevel.error)
        self.assertTrue(self.log.clear("down"))
        self.log.note("down", "down")
        self.assertEqual(self.said(), ["down", "down"])

    def test_failure(self) -> None:
        """An exception is logged with its traceback, at the same rate."""
        for _ in range(2):
            try:
                raise KeyError("x")
            except KeyError:
                self.log.failure("demux", "it failed")
        [event] = self.events
        self.assertIs(event["log_failure"].type, KeyError)

    def test_clockSetBack(self) -> None:
        """A wall clock that is set back by a day silences nothing for a day."""
        self.clock.advance(100_000)
        self.log.note("x", "x")
        self.clock.rightNow -= 86_400
        self.log.note("x", "x")
        self.assertEqual(len(self.said()), 2)
