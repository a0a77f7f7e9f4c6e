"""Tests for L{twisted_rudp.service.command}, as a person runs it."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import Program, run
from twisted_rudp import __version__, kernels
from twisted_rudp.service.command import USAGE_ERROR

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

    def test_version(self) -> None:
        """The version says which kernels are in use."""
        status, output = run(*RUDP, "--version")
        self.assertEqual(
            (status, output),
            (0, f"twisted_rudp {__version__}, {kernels.IMPLEMENTATION} kernels\n"),
        )

    def test_refused(self) -> None:
        """
        A wrong command line is answered with a sentence and a status (SVC-7),
        also where only running the tool shows that it is wrong.
        """
        for arguments, expected in [
            ((), "rudp: expected a command: browse, demo, kcptun-client, kcptun-server, keygen,"),
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
