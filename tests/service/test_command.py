"""Tests for L{twisted_rudp.service.command}, as a person runs it."""

from __future__ import annotations

import os
import socket
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import environment, python
from tests.service.programs import TWIST, Program, relay, run
from twisted_rudp import __version__, kernels
from twisted_rudp.service.command import UNREAD, USAGE_ERROR, Options

RUDP = ("-c", "from twisted_rudp.service.command import main; main()")


class CommandTests(SynchronousTestCase):
    """The C{rudp} command."""

    def test_help(self) -> None:
        """Help lists the tools and says how to go on."""
        for arguments in (("--help",), ("demo", "--help"), ("link", "--help")):
            status, output = run(*RUDP, *arguments)
            self.assertEqual(status, 0)
            self.assertIn("Usage: ", output)
        status, output = run(*RUDP, "--help")
        self.assertIn("rudp link --help", output)

    def test_examples(self) -> None:
        """Examples in help are indented, below a line that introduces them."""
        for _, _, options, _ in Options.subCommands:
            text = options.examples.strip()
            self.assertTrue(not text or (text[0].isupper() and "\n\n  " in text), text)

    def test_version(self) -> None:
        """The version says which kernels are in use, in a fresh process."""
        version = subprocess.run(
            python(*RUDP, "--version"), env=environment(), capture_output=True, text=True
        )
        self.assertEqual((version.returncode, version.stderr), (0, ""))
        self.assertEqual(
            version.stdout, f"twisted_rudp {__version__}, {kernels.description()}\n"
        )

    def test_refused(self) -> None:
        """
        A wrong command line is answered with a sentence and a status (SVC-7),
        also where only running the tool shows that it is wrong.
        """
        for arguments, expected in [
            ((), "rudp: expected a command: ban, browse, configure, connect, decode,"),
            (("lnk",), "rudp: Unknown command: lnk"),
            (("link",), "rudp: --to is missing"),
            (("ping",), "rudp: expected one endpoint"),
            (("ping", "tcp:127.0.0.1:1"), "this endpoint does not support ping"),
            (("ping", "raknet:x"), "port is missing"),
            (("link", "--to", "example.org:1"), "rudp: --to: "),
            (("demo", "--megabytes", "0"), "'0' is not a positive integer"),
        ]:
            status, output = run(*RUDP, *arguments)
            self.assertEqual(status, USAGE_ERROR)
            self.assertIn(expected, output)
            self.assertNotIn("Traceback", output)

    def test_unread(self) -> None:
        """C{rudp ... | head}: when nobody reads on, a command ends without a word."""
        read, write = os.pipe()
        os.close(read)
        key = self.mktemp()
        ended = subprocess.run(
            python(*RUDP, "keygen", key),
            env=environment(),
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write)
        self.assertEqual((ended.returncode, ended.stderr), (UNREAD, ""))

    def test_link(self) -> None:
        """C{rudp link} relays there and back, and an interrupt ends it with what it has seen."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            for each in (server, client):
                each.settimeout(60)
            server.bind(("127.0.0.1", 0))
            link = Program(*RUDP, "link", "--to", f"127.0.0.1:{server.getsockname()[1]}")
            self.addCleanup(link.kill)
            port = int(link.expect(r"Relaying from UDP port (\d+)")[1])
            client.sendto(b"ping", ("127.0.0.1", port))
            question, address = server.recvfrom(100)
            server.sendto(b"pong", address)
            self.assertEqual((question, client.recv(100)), (b"ping", b"pong"))
        link.interrupt()
        link.end()
        self.assertIn("forward_delivered: 1", link.output)


class ConnectTests(SynchronousTestCase):
    """C{rudp connect} and C{forward --listen stdio:}, against an echo service."""

    def setUp(self) -> None:
        description = "kcp:0:interface=127.0.0.1:crypt=null"
        self.echo = Program(*TWIST, "rudp", "echo", "--listen", description)
        self.addCleanup(self.echo.kill)
        self.far = f"kcp:127.0.0.1:{self.echo.port()}:crypt=null"

    def test_connect(self) -> None:
        """Input goes there, what comes is printed, and the end of input ends it."""
        typed = b"hello\n" * 1000
        self.assertEqual(relay(*RUDP, "connect", self.far, typed=typed), (0, typed, b""))

    def test_file(self) -> None:
        """A file can be the input."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"from a file")
        with open(path, "rb") as file:
            output = subprocess.run(
                python(*RUDP, "connect", self.far),
                env=environment(),
                stdin=file,
                capture_output=True,
                timeout=60,
            ).stdout
        self.assertEqual(output, b"from a file")

    def test_refused(self) -> None:
        """Nobody there is said in one line, with status 1."""
        far = "kcp:127.0.0.1:9:crypt=null:timeout=1"
        status, output, errors = relay(*RUDP, "connect", far, typed=b"")
        self.assertEqual((status, output), (1, b""))
        self.assertTrue(errors.startswith(b"rudp: "), errors)
        self.assertEqual(errors.count(b"\n"), 1)

    def test_stdio(self) -> None:
        """A forward of standard input keeps its log off the data, and ends with them."""
        arguments = ("-m", "twisted", "rudp", "forward", "--listen", "stdio:", "--to", self.far)
        status, output, errors = relay(*arguments, typed=b"over stdio")
        self.assertEqual((status, output), (0, b"over stdio"))
        self.assertIn(b"connection 1 closed", errors)

    def test_peerFirst(self) -> None:
        """
        The peer ends the connection in order while there may be more input: the command ends, too,
        and well, as all that was typed has arrived.
        """
        relay = Program(*RUDP, "connect", self.far, keyboard=True)
        self.addCleanup(relay.kill)
        relay.type("good night\n")
        relay.expect("good night")
        self.echo.process.terminate()
        self.echo.end()
        self.assertEqual(relay.end(), 0)
        self.assertNotIn("reset", relay.output)

    def test_withoutHalfClose(self) -> None:
        """Where the end of input cannot be told by itself, it ends the connection."""
        listen = "raknet:0:interface=127.0.0.1"
        echo = Program(*TWIST, "rudp", "echo", "--listen", listen)
        self.addCleanup(echo.kill)
        far = f"raknet:127.0.0.1:{echo.port()}"
        status, _, errors = relay(*RUDP, "connect", far, typed=b"hello")
        self.assertEqual((status, errors), (0, b""))
        echo.expect("connection 1 closed after .*: 5 bytes received")
