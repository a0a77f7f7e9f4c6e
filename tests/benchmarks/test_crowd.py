"""L{tests.benchmarks.crowd}: what is told of a process that is measured."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.crowd import running
from tests.benchmarks.runner import RunError
from tests.interop.harness import ROOT


class RunningTests(SynchronousTestCase):
    """A process that says one thing a line."""

    def test_ended(self) -> None:
        """One that ends before it has said all is named, with its status."""
        program = "print('{\"address\": 1}', flush=True); raise SystemExit(3)"
        with running([sys.executable, "-c", program], ROOT) as process:
            self.assertEqual(process.read(), {"address": 1})
            error = self.assertRaises(RunError, process.read)
        self.assertIn("SystemExit(3)", str(error))
        self.assertTrue(str(error).endswith("ended with status 3"), error)

    def test_otherEnded(self) -> None:
        """So is one that has to go on while another one is listened to."""
        silent = [sys.executable, "-c", "import signal; signal.pause()"]
        ending = [sys.executable, "-c", "raise SystemExit(4)"]
        with running(silent, ROOT) as process, running(ending, ROOT) as other:
            error = self.assertRaises(RunError, process.read, other)
        self.assertIn("SystemExit(4)", str(error))
