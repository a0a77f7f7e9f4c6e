"""L{tests.benchmarks.attack}: what it does when one of its processes dies."""

from __future__ import annotations

import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.attack import Attacker, Died


def dies(number: int, told: Any) -> None:
    """Says something, and then no more."""
    told.send(number)
    signal.raise_signal(signal.SIGKILL)


class AttackerTests(SynchronousTestCase):
    """L{Attacker}."""

    def test_died(self) -> None:
        """What it says is heard. Nobody waits for more for ever: it is named, with its status."""
        attacker = Attacker(dies, 7)
        self.assertEqual(attacker.hear(), 7)
        died = self.assertRaises(Died, attacker.hear)
        self.assertIn("'dies' ended with status -9", str(died))
        self.assertTrue(attacker.spoke())
        self.assertFalse(attacker.alive())
