"""Tests for C{docs/arguments.py}: the manual says what the parsers do."""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT, environment, python


class ReferenceTests(SynchronousTestCase):
    """The endpoint reference."""

    def test_upToDate(self) -> None:
        """
        The tables in the manual are those made from the parsers' tables and the
        constructors' defaults.
        """
        result = subprocess.run(
            python(str(CHECKOUT / "docs" / "arguments.py"), "--check"),
            env=environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))
