"""Tests for L{twisted_rudp.raknet.life}: the states of a session and their table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import SERVER
from twisted_rudp.raknet.life import NEXT, OVER, Life
from twisted_rudp.raknet.profiles import DEFAULT
from twisted_rudp.raknet.state import State
from twisted_rudp.raknet.wire import ZERO


class TableTests(SynchronousTestCase):
    """The table as a graph."""

    def test_everyState(self) -> None:
        """Each state has its ways, each can be over at once, and only the last has none."""
        self.assertEqual(set(NEXT), set(Life))
        for life, following in NEXT.items():
            self.assertEqual(following & OVER == frozenset(), life is Life.FORGOTTEN)

    def test_noReturn(self) -> None:
        """The states are in order: no way leads back, so that no session is endless."""
        order = list(Life)
        for life, following in NEXT.items():
            for each in following:
                self.assertGreater(order.index(each), order.index(life))

    def test_enter(self) -> None:
        """A session goes only where the table leads."""
        for here in Life:
            for there in Life:
                state = State(SERVER, DEFAULT, 0, 1, 0, None, False, ZERO)
                state.life = here
                if there in NEXT[here]:
                    state.enter(there)
                    self.assertIs(state.life, there)
                else:
                    self.assertRaises(AssertionError, state.enter, there)
                    self.assertIs(state.life, here)
