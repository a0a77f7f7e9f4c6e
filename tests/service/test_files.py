"""Tests for L{twisted_rudp.service.files}: C{rudp send} and C{rudp recv}, as a person runs them."""

from __future__ import annotations

import gc
import io
import os
import random
import sys
from pathlib import Path
from time import sleep
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.task import Clock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.support import Collecting
from tests.service.programs import Program, run
from tests.service.test_command import RUDP
from twisted_rudp.service.files import (
    INTERRUPTED,
    Progress,
    ReceiveOptions,
    SendOptions,
    amount,
    duration,
    runReceive,
    runSend,
)
from twisted_rudp.testing import Impairments, MemoryNetwork


class Terminal(io.StringIO):
    """Standard output on a terminal."""

    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    """What there is to see."""

    def test_words(self) -> None:
        """Amounts and times, for people."""
        amounts = [amount(size) for size in (0, 999, 1500, 2_500_000, 3 * 10**9, 4 * 10**12)]
        self.assertEqual(amounts, ["0 B", "999 B", "1.5 kB", "2.5 MB", "3.0 GB", "4.0 TB"])
        self.assertEqual([duration(s) for s in (0.5, 61, 3723)], ["0:00", "1:01", "1:02:03"])

    def shown(self, out: io.StringIO, *, quiet: bool = False) -> str:
        clock = Clock()
        progress = Progress(clock, out, quiet=quiet)
        progress.began("big\x1b[2J", 10_000_000, 2_000_000)
        for second in range(1, 8):
            clock.advance(1)
            progress.moved(2_000_000 + 1_000_000 * second)
        clock.advance(1)
        progress.ended("big\x1b[2J", bytes(32), None)
        progress.ended("there", bytes(32), None)
        return out.getvalue()

    def test_terminal(self) -> None:
        """Percent, rate and the time that is left, on one line; then the digest."""
        text = self.shown(Terminal())
        first = "\rbig?[2J:  30 % of 10.0 MB, 1.0 MB/s, 0:07 left\033[K"
        self.assertIn(f"{first}\rbig?[2J:  40 %", text)
        self.assertIn("continued at 2.0 MB", text)
        self.assertIn(f"big?[2J: 10.0 MB, 1.0 MB/s, BLAKE2b-256 {'00' * 32}\n", text)
        self.assertEqual(text.count("\n"), 3)

    def test_elsewhere(self) -> None:
        """Lines, and few of them; none if nobody wants them."""
        lines = self.shown(io.StringIO()).splitlines()
        self.assertEqual(lines[1], "big?[2J:  70 % of 10.0 MB, 1.0 MB/s, 0:03 left")
        self.assertEqual(len(lines), 4)
        self.assertEqual(self.shown(io.StringIO(), quiet=True), "")


class ProgramsTests(SynchronousTestCase):
    """Real programs."""

    def setUp(self) -> None:
        self.source, self.target = Path(self.mktemp()), Path(self.mktemp())
        for each in (self.source, self.target):
            each.mkdir()

    def start(self, *arguments: str) -> Program:
        program = Program(*RUDP, *arguments)
        self.addCleanup(program.kill)
        return program

    def test_interrupted(self) -> None:
        """
        Over a link that loses datagrams: an interrupt ends both sides, and the other one knows
        why; what has arrived is not sent again.
        """
        data = random.Random(1).randbytes(3_000_000)
        (self.source / "big").write_bytes(data)
        (self.source / "small").write_bytes(b"a word")
        where = "qotp:port=0:interface=127.0.0.1:password=sesame"
        port = "0"
        for interrupted in (True, False):
            receiver = self.start(
                "recv", "--listen", where.replace("=0:", f"={port}:"), str(self.target)
            )
            port = str(receiver.port())
            link = self.start(
                "link", "--to", f"127.0.0.1:{port}", "--loss", "5", "--delay", "10", "--rate", "16"
            )
            through = link.expect(r"Relaying from UDP port (\d+)")[1]
            sender = self.start(
                "send",
                "--to",
                f"qotp:127.0.0.1:{through}:password=sesame",
                str(self.source / "big"),
                str(self.source),
            )
            if interrupted:
                part = self.target / ".big.rudp-part"
                while not part.exists() or part.stat().st_size < 300_000:
                    self.assertIsNone(sender.process.poll(), "nothing arrives")
                    sleep(0.02)
                sender.interrupt()
                self.assertEqual(sender.end(), INTERRUPTED)
                self.assertEqual(receiver.end(), 1)
                self.assertIn("the other side ended it: interrupted", receiver.output)
                arrived = part.stat().st_size
                self.assertGreaterEqual(arrived, 300_000)
            else:
                self.assertEqual((sender.end(), receiver.end()), (0, 0), sender.output)
                self.assertIn(f"big: continued at {amount(arrived)}", sender.output)
                self.assertIn("3 files, ", sender.output)
            for program in (sender, receiver):
                self.assertNotIn("Traceback", program.output)
            link.interrupt()
            link.end()
        self.assertEqual((self.target / "big").read_bytes(), data)
        self.assertEqual((self.target / self.source.name / "small").read_bytes(), b"a word")

    def test_waiting(self) -> None:
        """An interrupt ends a receiver that waits, and nobody there is said in one line."""
        waiting = self.start("recv", "--listen", "tcp:0:interface=127.0.0.1", str(self.target))
        waiting.port()
        waiting.interrupt()
        status, output = run(
            *RUDP, "send", "--to", "qotp:127.0.0.1:9:timeout=1", str(Path(__file__))
        )
        self.assertEqual((status, output.count("\n")), (1, 1), output)
        self.assertEqual(waiting.end(), INTERRUPTED)


class CommandLineTests(SynchronousTestCase):
    """What cannot be."""

    def test_refused(self) -> None:
        """A wrong command line says what is missing."""
        for options, given, expected in (
            (SendOptions, ["x"], "expected either --to or --listen"),
            (SendOptions, ["--to", "kcp:1.2.3.4:1"], "expected files"),
            (ReceiveOptions, ["--listen", "kcp:0", "--from", "kcp:1.2.3.4:1"], "expected either"),
            (ReceiveOptions, ["--from", "kcp:1.2.3.4:1", "--keep"], "--keep requires --listen"),
            (ReceiveOptions, ["--from", "kcp:1.2.3.4:1", "--announce", "me"], "requires --listen"),
            (ReceiveOptions, ["--listen", "tcp:0", "a", "b"], "expected one directory"),
        ):
            made = options()
            error = self.assertRaises(usage.UsageError, made.parseOptions, given)
            self.assertIn(expected, str(error))

    def test_missing(self) -> None:
        """So do files and directories that are not there."""
        for options, given, program in (
            (SendOptions(), ["--to", "kcp:1.2.3.4:1", "/nonexistent"], runSend),
            (ReceiveOptions(), ["--listen", "kcp:0", "/nonexistent/below"], runReceive),
        ):
            options.parseOptions(given)
            running = Deferred.fromCoroutine(program(Clock(), options))
            error = self.failureResultOf(running, usage.UsageError).value
            self.assertIn("o such file", str(error))


class SimulatedTests(SynchronousTestCase):
    """Whole commands on a simulated network."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=8, delay=0.01)
        self.hosts = [self.network.host("sender"), self.network.host("receiver")]
        self.network.impair(Impairments(delay=0.01, rate=300_000), *self.hosts)
        self.source, self.target = Path(self.mktemp()), Path(self.mktemp())
        for each in (self.source, self.target):
            each.mkdir()
        self.errors = io.StringIO()
        self.patch(sys, "stdout", io.StringIO())
        self.patch(sys, "stderr", self.errors)

    def receive(self, **flags: bool) -> Deferred[None]:
        options = ReceiveOptions()
        options.parseOptions(["--listen", "kcp:4000", str(self.target)])
        options.update(flags)
        listening = serverFromString(self.hosts[1].reactor, "kcp:4000:crypt=null")
        options.ends = (listening, None)
        receiving = Deferred.fromCoroutine(runReceive(self.hosts[1].reactor, options))
        self.network.runFor(0.1)
        return receiving

    def send(self, name: str, data: bytes = b"data", port: int = 4000) -> Deferred[None]:
        (self.source / name).write_bytes(data)
        options = SendOptions()
        options.parseOptions(["--to", "kcp:1.2.3.4:4000", str(self.source / name)])
        dialling = clientFromString(
            self.hosts[0].reactor, f"kcp:receiver:{port}:crypt=null:timeout=5"
        )
        options.ends = (None, dialling)
        return Deferred.fromCoroutine(runSend(self.hosts[0].reactor, options))

    def status(self, command: Deferred[None]) -> int:
        """Its exit status."""
        self.network.run(lambda: command.called, limit=60)
        results: list[Any] = []
        command.addBoth(results.append)
        if results[0] is None:
            return 0
        return int(results[0].value.code)

    def test_keep(self) -> None:
        """One sender after the other; strangers, and who comes meanwhile, are sent away."""
        receiving = self.receive(keep=True)
        stranger = Collecting()
        clientFromString(self.hosts[0].reactor, "kcp:receiver:4000:crypt=null").connect(stranger)
        self.network.runFor(0.2)
        talk: Any = stranger.built[0]
        talk.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        self.network.runFor(5)
        self.assertIn(b"no rudp send or recv", talk.heard)
        self.assertEqual(self.status(self.send("one")), 0)
        long = self.send("long", bytes(800_000))
        self.network.runFor(0.5)
        self.assertEqual(self.status(self.send("two")), 1)
        self.assertEqual(self.status(long), 0)
        self.assertEqual(self.status(self.send("two")), 0)
        self.assertEqual(self.status(self.send("two", b"another")), 1)
        self.assertIn("1 file did not arrive", self.errors.getvalue())
        self.assertEqual(sorted(os.listdir(self.target)), ["long", "one", "two"])
        self.assertNoResult(receiving)
        self.hosts[1].reactor.stop()
        self.assertEqual(self.status(receiving), INTERRUPTED)

    def test_interrupted(self) -> None:
        """Whichever side is interrupted, the other one ends too, and knows why."""
        for index in (0, 1):
            receiving = self.receive()
            sending = self.send("long", bytes(800_000))
            self.network.runFor(1)
            self.hosts[index].reactor.stop()
            ends = [self.status(sending), self.status(receiving)]
            self.assertEqual((ends[index], ends[1 - index]), (INTERRUPTED, 1))
            self.assertIn("the other side ended it: interrupted", self.errors.getvalue())
            self.setUp()

    def test_nobody(self) -> None:
        """Nobody there is status 1, and an interrupt ends the waiting."""
        self.assertEqual(self.status(self.send("x", port=4001)), 1)
        self.assertIn("rudp: ", self.errors.getvalue())
        sending = self.send("x", port=4001)
        self.network.runFor(0.5)
        self.hosts[0].reactor.stop()
        self.assertEqual(self.status(sending), INTERRUPTED)
        del sending
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
