"""Tests for L{twisted_rudp.testing.clock}."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing.clock import EventClock

SECONDS = st.integers(0, 20)

DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("callLater"), SECONDS),
        st.tuples(st.sampled_from(["reset", "delay"]), st.integers(0, 30), SECONDS),
        st.tuples(st.just("delay"), st.integers(0, 30), st.integers(-5, -1)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("advance"), SECONDS),
    ),
    max_size=40,
)


def history(clock: Clock, deeds: list[tuple[Any, ...]]) -> list[tuple[float, int, list[float]]]:
    """
    Do all of it.

    @return: after each deed the time, how many calls have run, and the
        times of what is scheduled.
    """
    calls: list[Any] = []
    ran: list[int] = []
    seen = []
    for deed, *arguments in [*deeds, ("advance", 1000)]:
        if deed == "callLater":
            calls.append(clock.callLater(*arguments, ran.append, len(calls)))
        elif deed == "advance":
            clock.advance(*arguments)
        elif active := [call for call in calls if call.active()]:
            which, *how = arguments
            getattr(active[which % len(active)], deed)(*how)
        seen.append((clock.seconds(), len(ran), [call.getTime() for call in clock.calls]))
    return seen


class EventClockTests(SynchronousTestCase):
    """L{EventClock}."""

    @given(DEEDS)
    @settings(max_examples=300, deadline=None, derandomize=True)
    def test_likeClock(self, deeds: list[tuple[Any, ...]]) -> None:
        """
        It runs as much at the same times as a L{Clock}, whatever is moved and
        cancelled, and has what is left in order at any time.
        """
        expected = [(now, ran, sorted(left)) for now, ran, left in history(Clock(), deeds)]
        self.assertEqual(history(EventClock(), deeds), expected)

    def test_equalTimes(self) -> None:
        """Of calls for one time the oldest is the first."""
        clock, ran = EventClock(), []
        for number in range(5):
            clock.callLater(1, ran.append, number)
        clock.advance(1)
        self.assertEqual(ran, [0, 1, 2, 3, 4])
