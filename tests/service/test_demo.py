"""Tests for L{twisted_rudp.service.demo}."""

from __future__ import annotations

from io import StringIO
from typing import Any

from twisted.internet.error import ProcessDone
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import run
from tests.service.test_command import RUDP
from twisted_rudp.service.demo import Child, ChildFailed, Progress


class DemoTests(SynchronousTestCase):
    """What an unknown peer sees first."""

    def test_demo(self) -> None:
        """A small download crosses the bad link whole, and the table says what it took."""
        status, output = run(*RUDP, "demo", "--megabytes", "1")
        self.assertEqual(status, 0, output)
        self.assertIn("100 %", output)
        self.assertRegex(output, r"downloaded +1\.0 MB in \d+\.\d\d s")
        self.assertRegex(output, r"digest +SHA-256 [0-9a-f]{16}\.\.\., as sent")
        self.assertRegex(output, r"lost by the link +[1-9]\d* of \d+ datagrams")
        self.assertRegex(output, r"retransmitted +[1-9]\d* segments")
        self.assertRegex(output, r"round trip +[6-9]\d\.\d ms|round trip +\d{3,}\.\d ms")
        self.assertIn("twist rudp forward --listen kcp:4000", output)


class Process:
    """Remembers the signals."""

    def __init__(self) -> None:
        self.signals: list[str] = []

    def signalProcess(self, signal: str) -> None:
        self.signals.append(signal)


class ChildTests(SynchronousTestCase):
    """Reading a service's log."""

    def setUp(self) -> None:
        self.child = Child()
        self.process: Any = Process()
        self.child.makeConnection(self.process)

    def test_listening(self) -> None:
        """The port is told as soon as it is logged, however the bytes are cut."""
        for byte in b"x\n... forward a -> b: listening on 127.0.0.1 port 4711 (UDP)\n":
            self.child.outReceived(bytes([byte]))
        self.assertEqual(self.successResultOf(self.child.listening), 4711)

    def test_stop(self) -> None:
        """Stopping interrupts it and answers with the counters it logged."""
        self.child.outReceived(b"listening on 127.0.0.1 port 1 (UDP)\n")
        ended = self.child.stop()
        self.assertEqual(self.process.signals, ["INT"])
        self.child.outReceived(b"forward a -> b: stopped: connections=1 round_trip_ms=31.5\n")
        self.assertNoResult(ended)
        self.child.processEnded(Failure(ProcessDone(0)))
        self.assertEqual(
            self.successResultOf(ended), {"connections": 1.0, "round_trip_ms": 31.5}
        )
        self.child.kill()
        self.assertEqual(self.process.signals, ["INT"])

    def test_failed(self) -> None:
        """One that ends before it listens says why."""
        self.child.errReceived(b"cannot do this\n")
        self.child.processEnded(Failure(ProcessDone(0)))
        failure = self.failureResultOf(self.child.listening, ChildFailed)
        self.assertIn("cannot do this", failure.getErrorMessage())
        self.successResultOf(self.child.ended)

    def test_kill(self) -> None:
        """A child that has not ended can be killed."""
        self.child.kill()
        self.assertEqual(self.process.signals, ["KILL"])

    def test_start(self) -> None:
        """It is C{twist rudp} under this interpreter."""
        spawned: list[Any] = []
        reactor: Any = MemoryReactor()
        reactor.spawnProcess = lambda *args, **kwargs: spawned.append(args)
        child = Child.start(reactor, "echo", "--listen", "kcp:0")
        [(protocol, _, command)] = spawned
        self.assertIs(protocol, child)
        self.assertEqual(command[-4:], ["rudp", "echo", "--listen", "kcp:0"])


class Terminal(StringIO):
    """A text file that is a terminal."""

    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    """How far something is."""

    def test_terminal(self) -> None:
        """On a terminal one line is drawn over and over, and ended at the end."""
        out = Terminal()
        progress = Progress(2_000_000, out)
        progress.show(500_000, 0.5)
        progress.show(2_000_000, 1.0)
        self.assertEqual(
            out.getvalue(),
            f"\r[{'#' * 10}{'.' * 30}]  25 %    1.00 MB/s\r[{'#' * 40}] 100 %    2.00 MB/s\n",
        )

    def test_elsewhere(self) -> None:
        """In a file there is one line for each tenth, however often it is shown."""
        out = StringIO()
        progress = Progress(1000, out)
        for done in range(0, 1001, 10):
            progress.show(done, 1.0)
        self.assertEqual(len(out.getvalue().splitlines()), 10)
        self.assertNotIn("\r", out.getvalue())
