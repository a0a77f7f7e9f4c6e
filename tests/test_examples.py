"""
The programs in C{examples/}, run as a reader would run them (DOC-3).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT, environment, python
from tests.service.programs import PATIENCE, Program


class ExamplesMixin:
    """
    Every example, over one transport.
    """

    transport: str

    def answer(self, example: str, verb: str, *more: str, typed: str = "") -> str:
        """
        Start an example's server and ask it.
        """
        path = str(CHECKOUT / "examples" / example)
        server = Program(path, "serve", f"{self.transport}:port=0:interface=127.0.0.1")
        self.addCleanup(server.kill)  # type: ignore[attr-defined]
        result = subprocess.run(
            python(path, verb, f"{self.transport}:host=127.0.0.1:port={server.port()}", *more),
            env=environment(),
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        server.interrupt()
        server.end()
        self.assertNotIn("Traceback", server.output)  # type: ignore[attr-defined]
        return result.stdout

    def test_echo(self) -> None:
        """
        C{echo.py} brings the text back.
        """
        answer = self.answer("echo.py", "ask", "hello over there")
        self.assertEqual(answer, "hello over there\n")  # type: ignore[attr-defined]

    def test_web(self) -> None:
        """
        C{web_over_kcp.py} has a Site answer an Agent.
        """
        answer = self.answer("web_over_kcp.py", "get", "http://example.org/")
        self.assertEqual(  # type: ignore[attr-defined]
            answer, "200 Hello from example.org, to 127.0.0.1\n"
        )

    def test_halfClose(self) -> None:
        """
        C{half_close.py} answers after the end of the question.
        """
        question = "x" * 100_000
        answer = self.answer("half_close.py", "ask", typed=question)
        self.assertEqual(answer, "100000 bytes\n")  # type: ignore[attr-defined]


class TCPExamplesTests(ExamplesMixin, SynchronousTestCase):
    """
    Over TCP, to know that the examples themselves are right.
    """

    transport = "tcp"


class KCPExamplesTests(ExamplesMixin, SynchronousTestCase):
    """
    Over KCP.
    """

    transport = "kcp"

    def test_tunnel(self) -> None:
        """
        C{encrypted_tunnel.py} brings the text through TCP, the tunnel, and TCP.
        """
        answer = self.answer("encrypted_tunnel.py", "ask", "hello over there")
        self.assertEqual(answer, "hello over there\n")


class UsageTests(SynchronousTestCase):
    """
    The examples called without arguments.
    """

    def test_usage(self) -> None:
        """
        Every example says how it is used.
        """
        examples = sorted(Path(CHECKOUT / "examples").glob("*.py"))
        self.assertTrue(examples)
        for example in examples:
            result = subprocess.run(
                python(str(example)), env=environment(), capture_output=True, text=True
            )
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"    python examples/{example.name} ", result.stderr)
