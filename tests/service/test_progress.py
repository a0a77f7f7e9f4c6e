"""Tests for L{twisted_rudp.service.progress}."""

from __future__ import annotations

from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.progress import Progress


class Terminal(StringIO):
    """A text file that is a terminal."""

    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    """How far something is."""

    def test_terminal(self) -> None:
        """On a terminal one line is drawn over and over, and ended at the end."""
        out = Terminal()
        progress = Progress(2_000_000, out)
        progress.show(500_000, 0.5)
        progress.show(2_000_000, 1.0)
        self.assertEqual(
            out.getvalue(),
            f"\r[{'#' * 10}{'.' * 30}]  25 %    1.00 MB/s\r[{'#' * 40}] 100 %    2.00 MB/s\n",
        )

    def test_elsewhere(self) -> None:
        """In a file there is one line for each tenth, however often it is shown."""
        out = StringIO()
        progress = Progress(1000, out)
        for done in range(0, 1001, 10):
            progress.show(done, 1.0)
        self.assertEqual(len(out.getvalue().splitlines()), 10)
        self.assertNotIn("\r", out.getvalue())
