"""L{twisted_rudp.asyncio}, in processes of their own: a process has one reactor."""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interpreter import CHECKOUT, environment, python


class AsyncioTests(SynchronousTestCase):
    """C{tests/asyncio_program.py} with both event loops."""

    def passes(self, *arguments: str) -> None:
        """The program comes to its end."""
        result = subprocess.run(
            python("-m", "tests.asyncio_program", *arguments),
            cwd=CHECKOUT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=200,
        )
        self.assertEqual((result.stdout, result.returncode), ("passed\n", 0), result.stderr)

    def test_asyncio(self) -> None:
        """The loop of the standard library."""
        self.passes()

    def test_uvloop(self) -> None:
        """uvloop."""
        try:
            import uvloop  # noqa: F401
        except ImportError:
            raise SkipTest("uvloop is not installed") from None
        self.passes("uvloop")

    def test_otherReactor(self) -> None:
        """Where Twisted has another reactor already, the error says what to do."""
        program = (
            "import asyncio\n"
            "from twisted.internet import reactor\n"
            "from twisted_rudp.asyncio import open_connection\n"
            "asyncio.run(open_connection('kcp:host=127.0.0.1:port=9'))\n"
        )
        result = subprocess.run(
            python("-c", program), env=environment(), capture_output=True, text=True, timeout=60
        )
        self.assertIn("RuntimeError: Twisted already has a reactor", result.stderr)
