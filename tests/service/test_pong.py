"""Tests for C{twist rudp raknet-pong} and C{rudp ping}, as a person runs them."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import TWIST, Program, run
from twisted_rudp.interfaces import Pong
from twisted_rudp.service.ping import lines

RUDP = ("-c", "from twisted_rudp.service.command import main; main()")

MOTD = "MCPE;Back at noon: see you;685;1.21;3;20"


class PingPongTests(SynchronousTestCase):
    """One program asks, the other answers."""

    def test_answer(self) -> None:
        """The fields of a Bedrock text are shown by name, with the round trip."""
        listen = "raknet:port=0:interface=127.0.0.1:guid=1234"
        server = Program(*TWIST, "rudp", "raknet-pong", "--listen", listen, "--motd", MOTD)
        self.addCleanup(server.kill)
        port = server.port()
        status, output = run(*RUDP, "ping", f"raknet:127.0.0.1:{port}")
        self.assertEqual(status, 0, output)
        self.assertRegex(
            output, rf"pong from 127\.0\.0\.1 port {port} in [0-9.]+ ms, guid 0000000000001234\n"
        )
        self.assertIn("motd        Back at noon: see you\n", output)
        self.assertIn("maxPlayers  20\n", output)
        server.interrupt()
        server.end()
        self.assertRegex(server.output, r"stopped: replied=1 ")
        self.assertNotIn("Traceback", server.output)

    def test_silence(self) -> None:
        """Nobody there is a sentence and a status."""
        status, output = run(*RUDP, "ping", "raknet:127.0.0.1:9:timeout=0.2")
        self.assertEqual(status, 1)
        self.assertIn("rudp: ", output)
        self.assertIn("no pong from 127.0.0.1 port 9", output)
        self.assertNotIn("Traceback", output)

    def test_refused(self) -> None:
        """An endpoint that answers no pings is refused (SVC-7)."""
        status, output = run(*TWIST, "rudp", "raknet-pong", "--listen", "tcp:0")
        self.assertNotEqual(status, 0)
        self.assertIn("this endpoint does not answer pings", output)

    def test_terminal(self) -> None:
        """
        What a server says cannot control the terminal; other texts than Bedrock's
        are shown as they are.
        """
        address = IPv4Address("UDP", "192.0.2.1", 19132)
        shown = lines(Pong(address, 5, "hi\x1b[2J", None, 0.0123))
        self.assertEqual(
            shown,
            ["pong from 192.0.2.1 port 19132 in 12.3 ms, guid 0000000000000005", "hi?[2J"],
        )
