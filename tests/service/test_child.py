"""Tests for L{twisted_rudp.service.child}."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ProcessDone
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.child import Child, ChildFailed


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
