"""Tests for L{twisted_rudp.service.options}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection, IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import TWIST, run
from twisted_rudp.service.echo import EchoService
from twisted_rudp.service.forward import ForwardService
from twisted_rudp.service.options import Options, makeService
from twisted_rudp.service.udpforward import UDPForwardService, UDPTargetService
from twisted_rudp.service.usage import redacted


class OptionsTests(SynchronousTestCase):
    """Command lines."""

    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def services(self, *arguments: str) -> list[Any]:
        return list(IServiceCollection(makeService(self.parse(*arguments))))

    def refused(self, *arguments: str) -> str:
        return str(self.assertRaises(UsageError, self.parse, *arguments))

    def test_beforeCommand(self) -> None:
        """An option of every service that is given before the command, or beside a file."""
        for arguments in (
            ("--control", "c", "echo", "--listen", "kcp:0"), ("--config", "f", "--trace", "c"),
        ):  # fmt: skip
            problem = self.refused(*arguments)
            self.assertIn("stands after the command; with --config, the file has it", problem)
        self.assertEqual(self.refused("--bogus"), "option --bogus not recognized")
        self.assertEqual(self.refused("echo", "--bogus"), "option --bogus not recognized")

    def test_table(self) -> None:
        """An error in a file says in which of several tables of a service it is."""
        path = self.mktemp()
        Path(path).write_text(
            "[[echo]]\nlisten = 'kcp:0'\n[[echo]]\nlisten = 'kcp:0'\nmax-conections = 1\n"
        )
        self.assertEqual(
            self.refused("--config", path),
            f"--config {path}: echo 2: option --max-conections not recognized",
        )

    def test_plugin(self) -> None:
        """C{twist} and C{twistd} find C{rudp} (SVC-1, PLG-8)."""
        [maker] = [each for each in getPlugins(IServiceMaker) if each.tapname == "rudp"]
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)

    def test_pairs(self) -> None:
        """The first C{--listen} belongs to the first C{--to}, in any order of writing."""
        services = self.services(
            "forward", "--to", "tcp:h:1", "--listen", "tcp:2", "--listen", "tcp:3",
            "--to", "tcp:i:4", "--drain", "0.5", "--max-connections", "9",
        )  # fmt: skip
        self.assertEqual(
            [service.description for service in services],
            ["forward tcp:2 -> tcp:h:1", "forward tcp:3 -> tcp:i:4"],
        )
        for service in services:
            self.assertIsInstance(service, ForwardService)

    def test_datagrams(self) -> None:
        """With C{udp:} on one side, it carries datagrams."""
        services = self.services(
            "forward", "--listen", "udp:1", "--to", "raknet:h:2", "--listen", "kcp:3", "--to",
            "udp:h:4", "--udp-idle", "60",
        )  # fmt: skip
        self.assertEqual(
            [type(service) for service in services], [UDPForwardService, UDPTargetService]
        )

    def test_datagramsHandedOver(self) -> None:
        """What ends C{udp:} hands its socket over at a reload or a takeover, as others do."""
        [service] = self.services(
            "forward", "--listen", "kcp:3", "--to", "udp:h:4", "--retire", "9"
        )
        self.assertEqual((service.place, service.patience), (("udp", "0.0.0.0", "3"), 9))

    def test_echo(self) -> None:
        """C{echo} listens on every C{--listen}."""
        services = self.services("echo", "--listen", "tcp:1", "--listen", "tcp:2")
        self.assertEqual(
            [service.description for service in services], ["echo tcp:1", "echo tcp:2"]
        )
        for service in services:
            self.assertIsInstance(service, EchoService)

    def test_secrets(self) -> None:
        """Keys and passwords are not in what is logged (LOG-3); a server's key is public."""
        self.assertEqual(
            redacted(r"kcp:4000:key=ab\:cd:password=x:serverKey=1:keyFile=/k:mtu=1400"),
            "kcp:4000:key=...:password=...:serverKey=1:keyFile=/k:mtu=1400",
        )
        self.assertNotIn("sesame", self.refused("echo", "--listen", "kcp:1:key=sesame"))

    def test_refused(self) -> None:
        """What is wrong is said in one line about what was typed (SVC-7)."""
        for arguments, expected in [
            ((), "echo, forward, raknet-pong or reverse"),
            (("forward",), "0 --listen but 0 --to: give one"),
            (("forward", "--listen", "tcp:1"), "1 --listen but 0 --to: give one"),
            (("forward", "--listen", "tcp:1", "--to", "x:1"), "--to x:1: Unknown endpoint type"),
            (
                ("forward", "--listen", "udp:1", "--to", "udp:h:2"),
                "one of both has to carry the datagrams",
            ),
            (
                ("forward", "--listen", "udp:x", "--to", "kcp:h:2"),
                "--listen udp:x: udp: port='x' is not a UDP port",
            ),
            (
                (
                    "forward", "--listen", "kcp:1", "--to", "udp:h:2", "--proxy-protocol", "v2",
                ),
                "--proxy-protocol: datagrams of UDP have no such header",
            ),
            (
                ("forward", "--listen", "tcp:1", "--to", "tcp:h:2", "--proxy-protocol", "3"),
                "--proxy-protocol: '3' is not one of v1, v2",
            ),
            (("forward", "--listen", "udp:1", "--to", "tcp:h:2"), "expected kcp:, qotp:, raknet:"),
            (("forward", "--listen", "tcp:1", "--to", "udp:h:2"), "expected kcp:, qotp:, raknet:"),
            (
                ("forward", "--mux", "--listen", "udp:1", "--to", "kcp:h:2", "--secret-file", "s"),
                "--secret-file: it is for connections only",
            ),
            (("echo",), "--listen is missing"),
            (("echo", "--listen", "node:alice"), "--listen node:alice: node: only connects"),
            (("echo", "--listen", "kcp:"), "--listen kcp:: kcp: port is missing"),
            (("echo", "--listen", "tcp:x"), "--listen tcp:x: tcp: port='x' is invalid"),
            (("echo", "--listen", "tcp:99999"), "tcp: port='99999' is invalid: expected"),
            (("echo", "--listen", "tcp6:interface=\\:\\::port=-1"), "tcp6: port='-1' is invalid"),
            (("echo", "--listen", "ssl:port="), "--listen ssl:port=: ssl: port='' is invalid"),
            (
                ("forward", "--listen", "tcp:1", "--to", "tcp:h:0"),
                "--to tcp:h:0: tcp: port='0' is invalid: expected an integer from 1 to 65535",
            ),
            (("forward", "--listen", "tcp:1", "--to", "tls:h:70000"), "port='70000' is invalid"),
            (("raknet-pong", "--listen", "tcp:x"), "--listen tcp:x: tcp: port='x' is invalid"),
            (
                ("echo", "--listen", "kcp:1:password="),
                "kcp: password is empty: expected any text",
            ),
            (("echo", "--listen", "tcp:1:y=2"), "--listen tcp:1:y=2: "),
            (("echo", "--listen", "tcp:1\\"), "--listen tcp:1\\: "),
            (("echo", "--listen", "tcp:1", "tcp:2"), "unexpected argument 'tcp:2'"),
            (
                ("forward", "--listen", "tcp:1", "--to", "tcp:host"),
                "--to tcp:host: missing or unexpected arguments (",
            ),
            (("echo", "--drain", "-1"), "--drain: '-1' is not a number of seconds from 0 to 3600"),
            (("echo", "--drain", "nan"), "--drain: 'nan' is not a number of seconds"),
            (("echo", "--max-connections", "0"), "--max-connections: '0' is not a positive"),
        ]:
            self.assertIn(expected, self.refused(*arguments))


class HelpTests(SynchronousTestCase):
    """What a person sees."""

    def test_help(self) -> None:
        """Help on every level has examples that can be typed (SVC-7)."""
        for arguments, example in [
            ((), "\n  twist rudp echo --listen kcp:4000\n"),
            (("forward",), "\n  twist rudp forward --listen kcp:4000 --to tcp:127.0.0.1:80\n"),
            (("echo",), "\n  twist rudp echo --listen kcp:4000\n"),
        ]:
            status, output = run(*TWIST, "rudp", *arguments, "--help")
            self.assertEqual(status, 0)
            self.assertIn(example, output)

    def test_noTraceback(self) -> None:
        """A wrong command line is answered with a sentence (SVC-7)."""
        for arguments in ((), ("echo", "--listen", "kcp:x"), ("forward", "--listen", "tcp:0")):
            status, output = run(*TWIST, "rudp", *arguments)
            self.assertNotEqual(status, 0)
            self.assertIn("Error: ", output)
            self.assertNotIn("Traceback", output)
