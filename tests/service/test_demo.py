"""Tests for L{twisted_rudp.service.demo}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import run
from tests.service.test_command import RUDP


class DemoTests(SynchronousTestCase):
    """What an unknown peer sees first."""

    def test_demo(self) -> None:
        """A small download crosses the bad link whole, and the table says what it took."""
        status, output = run(*RUDP, "demo", "--megabytes", "1")
        self.assertEqual(status, 0, output)
        self.assertIn("100 %", output)
        self.assertRegex(output, r"downloaded +1\.0 MB in \d+\.\d\d s")
        self.assertRegex(output, r"digest +SHA-256 [0-9a-f]{16}\.\.\. as sent")
        self.assertRegex(output, r"lost by the link +[1-9]\d* of \d+ datagrams")
        self.assertRegex(output, r"sent again +[1-9]\d* segments")
        self.assertRegex(output, r"round trip +[6-9]\d\.\d ms|round trip +\d{3,}\.\d ms")
        self.assertIn("twist rudp forward --listen kcp:4000", output)
