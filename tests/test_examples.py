"""The programs in C{examples/}, run as a reader would run them (DOC-3)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT, environment, python
from tests.service.programs import PATIENCE, TWIST, Program, run


class ExamplesMixin:
    """Every example, over one transport."""

    transport: str

    def answer(self, example: str, verb: str, *more: str, typed: str = "") -> str:
        """Start an example's server and ask it."""
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
        """C{echo.py} brings the text back."""
        answer = self.answer("echo.py", "ask", "hello over there")
        self.assertEqual(answer, "hello over there\n")  # type: ignore[attr-defined]

    def test_web(self) -> None:
        """C{web_over_kcp.py} has a Site answer an Agent."""
        answer = self.answer("web_over_kcp.py", "get", "http://example.org/")
        self.assertEqual(  # type: ignore[attr-defined]
            answer, "200 Hello from example.org, to 127.0.0.1\n"
        )

    def test_halfClose(self) -> None:
        """C{half_close.py} answers after the end of the question."""
        question = "x" * 100_000
        answer = self.answer("half_close.py", "ask", typed=question)
        self.assertEqual(answer, "100000 bytes\n")  # type: ignore[attr-defined]


class TCPExamplesTests(ExamplesMixin, SynchronousTestCase):
    """Over TCP, to know that the examples themselves are right."""

    transport = "tcp"


class KCPExamplesTests(ExamplesMixin, SynchronousTestCase):
    """Over KCP."""

    transport = "kcp"

    def test_tunnel(self) -> None:
        """C{encrypted_tunnel.py} brings the text through TCP, the tunnel, and TCP."""
        answer = self.answer("encrypted_tunnel.py", "ask", "hello over there")
        self.assertEqual(answer, "hello over there\n")


class RakNetStreamExamplesTests(SynchronousTestCase):
    """A stream example over RakNet, which has no half close."""

    transport = "raknet"
    answer = ExamplesMixin.answer
    test_echo = ExamplesMixin.test_echo
    test_web = ExamplesMixin.test_web


class RakNetExamplesTests(SynchronousTestCase):
    """The examples of what only RakNet has."""

    def serve(self, example: str) -> tuple[Program, int]:
        """Start an example's server."""
        path = str(CHECKOUT / "examples" / example)
        listen = "raknet:port=0:interface=127.0.0.1:mode=messages"
        server = Program(path, "serve", listen)
        self.addCleanup(server.kill)
        return server, server.port()

    def test_list(self) -> None:
        """C{raknet_list.py} shows who answers, and who does not."""
        listen = "raknet:port=0:interface=127.0.0.1"
        server = Program(*TWIST, "rudp", "raknet-pong", "--listen", listen, "--motd", "hello")
        self.addCleanup(server.kill)
        here = f"raknet:127.0.0.1:{server.port()}"
        silent = "raknet:127.0.0.1:9:timeout=0.2"
        path = str(CHECKOUT / "examples" / "raknet_list.py")
        status, output = run(path, "list", here, silent)
        self.assertEqual(status, 0, output)
        self.assertIn(f"{here}: hello\n{silent}: ", output)

    def test_echo(self) -> None:
        """C{raknet_echo.py} brings the message back, with a receipt."""
        server, port = self.serve("raknet_echo.py")
        path = str(CHECKOUT / "examples" / "raknet_echo.py")
        status, output = run(path, "ask", f"raknet:127.0.0.1:{port}:mode=messages", "hello")
        self.assertEqual(status, 0, output)
        self.assertEqual(output, "it has arrived\nhello (RELIABLE_ORDERED, channel 0)\n")
        server.interrupt()
        server.end()
        self.assertNotIn("Traceback", server.output)

    def test_chat(self) -> None:
        """C{raknet_chat.py} brings what one guest says to the others in the room."""
        _, port = self.serve("raknet_chat.py")
        path = str(CHECKOUT / "examples" / "raknet_chat.py")
        where = f"raknet:127.0.0.1:{port}:mode=messages"
        listener = Program(path, "join", where, "3", keyboard=True)
        self.addCleanup(listener.kill)
        listener.expect("somebody joined")
        for room, text in (("4", "not here"), ("3", "hello room")):
            subprocess.run(
                python(path, "join", where, room),
                env=environment(),
                input=text + "\n",
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        listener.expect("> hello room")
        self.assertNotIn("not here", listener.output)


class UsageTests(SynchronousTestCase):
    """The examples called without arguments."""

    def test_usage(self) -> None:
        """Every example says how it is used."""
        examples = sorted(Path(CHECKOUT / "examples").glob("*.py"))
        self.assertTrue(examples)
        for example in examples:
            result = subprocess.run(
                python(str(example)), env=environment(), capture_output=True, text=True
            )
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"    python examples/{example.name} ", result.stderr)
