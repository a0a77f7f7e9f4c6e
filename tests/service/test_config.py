"""Tests for L{twisted_rudp.service.config}."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from tests.service.programs import TWIST, Program, run
from twisted_rudp.service.config import ConfigError, arguments, endpointString, parsed, read
from twisted_rudp.service.udpforward import parseUDP


class ConfigTests(SynchronousTestCase):
    """From a file to command lines."""

    def arguments(self, text: str) -> list[list[str]]:
        return arguments("f", tomllib.loads(text))

    def refused(self, text: str) -> str:
        with self.assertRaises(ConfigError) as caught:
            self.arguments(text)
        return str(caught.exception)

    def test_services(self) -> None:
        """Each table is a command with its options; lists repeat one."""
        self.assertEqual(
            self.arguments(
                """
                control = "/run/c"
                [[forward]]
                listen = ["kcp:1", "kcp:2"]
                to = ["tcp:h:1", "tcp:h:2"]
                drain = 2.5
                [[forward]]
                listen = { type = "kcp", port = 3, crypt = "aes", nc = true }
                to = "tcp:h:3"
                [discovery-server]
                by-network = true
                full-queries = false
                """
            ),
            [
                [
                    "forward",
                    "--listen=kcp:1",
                    "--listen=kcp:2",
                    "--to=tcp:h:1",
                    "--to=tcp:h:2",
                    "--drain=2.5",
                ],
                ["forward", "--listen=kcp:port=3:crypt=aes:nc=yes", "--to=tcp:h:3"],
                ["discovery-server", "--by-network"],
            ],
        )

    def test_datagrams(self) -> None:
        """A table of C{udp:} is what its string is."""
        [[_, listen, to]] = self.arguments(
            """
            [[forward]]
            listen = { type = "kcp", port = 4000 }
            to = { type = "udp", host = "::1", port = 53 }
            """
        )
        self.assertEqual(listen, "--listen=kcp:port=4000")
        self.assertEqual(parseUDP(to.removeprefix("--to="), listening=False), ("::1", 53))

    def test_quoted(self) -> None:
        """Colons and backslashes in values of tables need no escape."""
        table = {"type": "kcp", "host": "fd00::1", "port": 1, "password": "a:b\\c"}
        self.assertEqual(
            endpointString("f", table), "kcp:host=fd00\\:\\:1:port=1:password=a\\:b\\\\c"
        )

    def test_secrets(self) -> None:
        """Secrets come from a file, the environment, or a credential of systemd."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "secret").write_text("sesame\n")
        for name, value in (("CREDENTIALS_DIRECTORY", str(folder)), ("RUDP_SECRET", "sesame")):
            self.patch(os, "environ", {**os.environ, name: value})
        for source, name in (
            ("file", str(folder / "secret")),
            ("env", "RUDP_SECRET"),
            ("credential", "secret"),
        ):
            table: dict[str, Any] = {"type": "kcp", "password": {source: name}}
            self.assertEqual(endpointString("f", table), "kcp:password=sesame")

    def test_refused(self) -> None:
        """What is wrong is said with its place, and no secret is repeated."""
        for text, expected in [
            ("x = 1", "f: unknown key 'x'; the keys are control"),
            ("forward = 1", "f: forward 1: expected a table, [[forward]]"),
            ("[[echo]]\nlisten = {port = 1}", "f: echo 1: listen: type is missing"),
            ("[[echo]]\nlisten = 1979-05-27", "f: echo 1: listen: unexpected"),
            (
                "[[echo]]\nlisten = {type = 'kcp', key = [1]}",
                "f: echo 1: listen.key: expected a value, or a table with one of file, env",
            ),
            (
                "[[echo]]\nlisten = {type = 'kcp', key = {env = 'NO_SUCH_VARIABLE'}}",
                "f: echo 1: listen.key: $NO_SUCH_VARIABLE is not set",
            ),
            (
                "[[echo]]\nlisten = {type = 'kcp', key = {file = '/nonexistent'}}",
                "f: echo 1: listen.key: /nonexistent: No such file",
            ),
        ]:
            self.assertIn(expected, self.refused(text))
        with self.assertRaises(ConfigError):
            read("/nonexistent")
        path = Path(self.mktemp())
        path.write_bytes(b"\xff")
        self.assertRaises(ConfigError, read, str(path))
        self.assertRaises(ConfigError, parsed, "f", "= 1")

    def test_example(self) -> None:
        """The example is right, but for what only its machine has."""
        path = str(CHECKOUT / "examples" / "deploy" / "rudp.toml")
        config = parsed(path, read(path))
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "kcp.password").write_text("x")
        self.patch(os, "environ", {**os.environ, "CREDENTIALS_DIRECTORY": str(folder)})
        [line] = arguments("f", config)
        self.assertIn("--listen=kcp:port=4000:crypt=aes-256-gcm:password=x", line)


class ProgramTests(SynchronousTestCase):
    """C{twist rudp --config}."""

    def test_program(self) -> None:
        """All services of the file run in one process."""
        path = Path(self.mktemp())
        path.write_text(
            """
            [[echo]]
            listen = "kcp:0:interface=127.0.0.1:crypt=null"
            [[echo]]
            listen = { type = "tcp", port = 0, interface = "127.0.0.1" }
            """
        )
        program = Program(*TWIST, "rudp", "--config", str(path))
        self.addCleanup(program.kill)
        self.assertNotEqual(program.port(), program.port())
        program.interrupt()
        self.assertIn(program.end(), (0, -2))

    def test_refused(self) -> None:
        """An invalid file, and one that contradicts a command, are refused in one line."""
        path = Path(self.mktemp())
        path.write_text('[[echo]]\nlisten = "kcp:x"')
        for arguments_, expected in [
            (("--config", str(path)), "port='x' is invalid"),
            (("--config", str(path), "echo", "--listen", "tcp:0"), "--config has the services"),
        ]:
            status, output = run(*TWIST, "rudp", *arguments_)
            self.assertNotEqual(status, 0)
            self.assertIn(expected, output)
