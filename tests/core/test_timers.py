"""Tests for L{twisted_rudp.core.timers}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.timers import NEVER, Timers

steps = st.lists(
    st.tuples(st.sampled_from(["set", "earlier", "stop", "expire"]), st.integers(0, 3),
              st.integers(0, 50)),
    max_size=40,
)  # fmt: skip


class TimersTests(SynchronousTestCase):
    """L{Timers} beside a dictionary."""

    @given(steps=steps)
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_model(self, steps: list[tuple[str, int, int]]) -> None:
        """Every operation does what it does to a dictionary of times."""
        timers = Timers(4)
        model: dict[int, int] = {}
        for kind, timer, when in steps:
            if kind == "set":
                timers.set(timer, when)
                model[timer] = when
            elif kind == "earlier":
                timers.set_earlier(timer, when)
                model[timer] = min(when, model.get(timer, NEVER))
            elif kind == "stop":
                timers.stop(timer)
                model.pop(timer, None)
            else:
                due = sorted(name for name, then in model.items() if then <= when)
                self.assertEqual(timers.expired(when), due)
                for name in due:
                    del model[name]
            for name in range(4):
                self.assertEqual(timers.due[name], model.get(name, NEVER))
                self.assertEqual(timers.running(name), name in model)

    def test_stopAll(self) -> None:
        """Nothing expires any more."""
        timers = Timers(2)
        timers.set(0, 5)
        timers.set(1, 6)
        timers.stop_all()
        self.assertEqual((timers.due, timers.expired(10)), ([NEVER, NEVER], []))
