"""C{rudp kcptun-client} and C{rudp kcptun-server}: kcptun's command lines and files."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import TWIST, Program, freePort
from tests.service.test_command import RUDP
from tests.service.test_twist import ask
from twisted_rudp.endpoints.kcptun import KCPTunClientEndpoint, KCPTunServerEndpoint
from twisted_rudp.service import kcptun
from twisted_rudp.service.kcptun import ClientOptions, Place, ServerOptions, SNMPLog, place


class PlaceTests(SynchronousTestCase):
    """L{place}."""

    def test_forms(self) -> None:
        """What kcptun takes."""
        self.assertEqual(place(":12948"), Place("", 12948, 12948))
        self.assertEqual(place("vps:29900-29910"), Place("vps", 29900, 29910))
        self.assertEqual(place("[2001:db8::1]:80"), Place("2001:db8::1", 80, 80))

    def test_refused(self) -> None:
        """What it does not."""
        for bad in ("", "80", "host", "host:", "host:0", "host:70000", "host:9-8", "host:1-x"):
            self.assertRaises(ValueError, place, bad)


class OptionsTests(SynchronousTestCase):
    """The command lines."""

    def setUp(self) -> None:
        self.made: list[tuple[Any, Any]] = []
        self.patch(kcptun, "ForwardService", self.remember)
        self.patch(os, "environ", {})

    def remember(self, clock: Any, description: str, near: Any, far: Any, **more: Any) -> Any:
        """Instead of a service: keep its endpoints."""
        self.made.append((near, far))

    def client(self, *arguments: str) -> KCPTunClientEndpoint:
        """The far endpoint of a client."""
        self.made.clear()
        ClientOptions().parseOptions(list(arguments))  # type: ignore[no-untyped-call]
        ((_, far),) = self.made
        assert isinstance(far, KCPTunClientEndpoint)
        return far

    def server(self, *arguments: str) -> list[KCPTunServerEndpoint]:
        """The near endpoints of a server."""
        self.made.clear()
        ServerOptions().parseOptions(list(arguments))  # type: ignore[no-untyped-call]
        return [near for near, _ in self.made]

    def test_defaults(self) -> None:
        """Without options both are what kcptun's are (kcp.md 8.4)."""
        client = self.client()
        (server,) = self.server()
        for end in (client, server):
            self.assertEqual((end.crypt, end.profile, end.mtu), ("aes", "fast", 1350))
            self.assertEqual((end.dataShards, end.parityShards), (10, 3))
            self.assertEqual((end.nocomp, end.smuxver, end.framesize), (False, 2, 8192))
            self.assertEqual((end.smuxbuf, end.streambuf), (4194304, 2097152))
            self.assertEqual((end.keepalive, end.qpp), (10.0, False))
        self.assertEqual((client.host, client.port), ("vps", 29900))
        self.assertEqual((client.sndwnd, client.rcvwnd, client.conn), (128, 512, 1))
        self.assertEqual((server.sndwnd, server.rcvwnd, server.port), (1024, 1024, 29900))

    def test_options(self) -> None:
        """Options of kcptun's by their names."""
        client = self.client(
            "-l", "127.0.0.1:1", "-r", "[::1]:5-9", "--key", "k", "--crypt", "salsa20",
            "--mode", "manual", "--nodelay", "1", "--interval", "20", "--resend", "2", "--nc", "1",
            "--ds", "20", "--parityshard", "6", "--nocomp", "--smuxver", "1", "--conn", "4",
            "--autoexpire", "60", "--scavengettl", "30", "--dscp", "46", "--sockbuf", "1000000",
            "--sndwnd", "256", "--acknodelay", "--ratelimit", "100000", "--QPP", "--QPPCount", "7",
        )  # fmt: skip
        self.assertEqual((client.host, client.port, client.lastPort), ("::1", 5, 9))
        self.assertEqual((client.nodelay, client.interval), (1, 20))
        self.assertEqual((client.resend, client.nc), (2, True))
        self.assertEqual((client.dataShards, client.parityShards), (20, 6))
        self.assertEqual((client.conn, client.autoexpire, client.scavengettl), (4, 60.0, 30.0))
        self.assertEqual((client.nocomp, client.smuxver, client.sndwnd), (True, 1, 256))
        self.assertEqual((client.dscp, client.ackNoDelay, client.rateLimit), (46, True, 100_000))
        self.assertEqual((client.qpp, client.qppCount), (True, 7))

    def test_manyPorts(self) -> None:
        """A server listens on all ports of a range; a client dials some of them."""
        self.assertEqual([each.port for each in self.server("-l", ":5-8")], [5, 6, 7, 8])
        client = self.client("-r", "example.org:5-8")
        self.assertEqual({client._peerPort() for _ in range(200)}, {5, 6, 7, 8})

    def test_file(self) -> None:
        """A JSON file of kcptun's is taken as it is, and stands above the command line."""
        name = self.mktemp()
        Path(name).write_text(
            json.dumps(
                {
                    "listen": ":4000", "target": "/run/x.sock", "key": "k", "crypt": "none",
                    "mode": "fast3", "mtu": 1300, "sndwnd": 2048, "datashard": 0,
                    "parityshard": 0, "nocomp": True, "quiet": False, "tcp": False, "pprof": True,
                    "smuxver": 1, "keepalive": 5, "closewait": 30, "QPP": False, "qpp-count": 61,
                }
            )
        )  # fmt: skip
        (server,) = self.server("-c", name, "-l", ":1", "--mode", "normal")
        self.assertEqual((server.port, server.profile, server.crypt), (4000, "fast3", "none"))
        self.assertEqual((server.mtu, server.sndwnd, server.dataShards), (1300, 2048, 0))
        self.assertEqual((server.nocomp, server.smuxver, server.keepalive), (True, 1, 5.0))

    def test_badFiles(self) -> None:
        """A file that is not there, is not JSON, or says what is not known."""
        for text, word in (
            ("{", "JSON"),
            ("[]", "object"),
            ('{"crypto": "aes"}', "crypto"),
            ('{"mode": "fastest"}', "mode"),
            ('{"mtu": [1]}', "mtu"),
            ('{"datashard": 300}', "datashard"),
            ('{"nocomp": "false"}', "nocomp"),
            ('{"nocomp": 2}', "nocomp"),
            ('{"key": true}', "key"),
            ('{"mtu": true}', "mtu"),
            ("[" * 100_000, "JSON"),
        ):
            name = self.mktemp()
            Path(name).write_text(text)
            error = self.assertRaises(usage.UsageError, self.server, "-c", name)
            self.assertIn(word, str(error))
        for value, wanted in (("0", False), ("1", True), ("false", False)):
            name = self.mktemp()
            Path(name).write_text(f'{{"listen": ":4000", "nocomp": {value}}}')
            (server,) = self.server("-c", name, "-t", "127.0.0.1:80")
            self.assertEqual(server.nocomp, wanted)
        error = self.assertRaises(usage.UsageError, self.server, "-c", self.mktemp())
        self.assertIn("No such file", str(error))

    def test_refused(self) -> None:
        """What is invalid is named; TCP is refused with the reason."""
        for arguments, word in (
            (("--tcp",), "raw sockets"),
            (("--mode", "slow"), "--mode"),
            (("--crypt", "rot13"), "crypt"),
            (("-r", "nowhere"), "HOST:PORT"),
            (("--keepalive", "31"), "--keepalive"),
            (("--smuxver", "3"), "--smuxver"),
            (("--ds", "x"), "x"),
            (("--datashard", "200", "--parityshard", "200"), "hards"),
        ):
            error = self.assertRaises((usage.UsageError, ValueError), self.client, *arguments)
            self.assertIn(word, str(error))

    def test_environment(self) -> None:
        """KCPTUN_KEY is the key, unless the command line has one."""
        self.patch(os, "environ", {"KCPTUN_KEY": "other"})
        mine, default = self.client(), None
        self.patch(os, "environ", {})
        default = self.client()
        given = self.client("--key", "other")
        secrets = [each._secret.reveal() for each in (mine, default, given)]
        self.assertEqual(secrets[0], secrets[2])
        self.assertNotEqual(secrets[0], secrets[1])


class ProgramTests(SynchronousTestCase):
    """Both programs."""

    def start(self, *arguments: str) -> Program:
        program = Program(*arguments)
        self.addCleanup(program.kill)
        return program

    def test_programs(self) -> None:
        """They carry bytes there and back, write counters, and stop in order."""
        echo = self.start(*TWIST, "rudp", "echo", "--listen", "tcp:0:interface=127.0.0.1")
        counters = Path(self.mktemp()).resolve()
        server = self.start(
            *RUDP, "kcptun-server", "-l", f"127.0.0.1:{freePort(socket.SOCK_DGRAM)}",
            "-t", f"127.0.0.1:{echo.port()}", "--snmplog", str(counters), "--snmpperiod", "1",
        )  # fmt: skip
        client = self.start(
            *RUDP, "kcptun-client", "-l", f"127.0.0.1:{freePort(socket.SOCK_STREAM)}",
            "-r", f"127.0.0.1:{server.port()}",
        )  # fmt: skip
        question = bytes(range(256)) * 400
        self.assertEqual(ask(client.port(), question), question)
        for program in (client, server):
            program.interrupt()
            program.expect("stopped: connections=1 ")
            program.end()
            self.assertNotIn("Traceback", program.output)


class SNMPLogTests(SynchronousTestCase):
    """L{SNMPLog}."""

    def test_lines(self) -> None:
        """
        The names once, then a line of numbers each time, in a file named by the date. The folder's
        name holds what would be a date and stays as it is.
        """
        folder = os.path.join(self.mktemp(), "2006-01-02 15:04:05")
        os.makedirs(folder)
        clock = Clock()
        clock.advance(1_600_000_000)
        log = SNMPLog(clock, f"{folder}/snmp-20060102.log")
        log.write()
        log.write()
        (name,) = os.listdir(folder)
        self.assertRegex(name, r"^snmp-202009\d\d\.log$")
        lines = Path(folder, name).read_text().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertTrue(lines[0].startswith("Unix,BytesSent,BytesReceived,"))
        self.assertEqual(lines[1].partition(",")[0], "1600000000")
        self.assertEqual({line.count(",") for line in lines}, {lines[0].count(",")})
