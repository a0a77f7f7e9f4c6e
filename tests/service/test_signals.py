"""Tests for L{twisted_rudp.service.signals}."""

from __future__ import annotations

import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.signals import onSignal, stopInTurn


class Reactor:
    """Installs handlers as Twisted's reactors do."""

    def __init__(self) -> None:
        self.starting: list[Any] = []
        self.turn: list[Any] = []
        self.handled: list[Any] = []

    def callWhenRunning(self, *call: Any) -> None:
        self.starting.append(call)

    def callFromThread(self, *call: Any) -> None:
        self.turn.append(call)

    def run(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.sigInt)
        signal.signal(signal.SIGTERM, self.sigTerm)
        for function, *arguments in self.starting:
            function(*arguments)

    def iterate(self) -> None:
        calls, self.turn = self.turn, []
        for function, *arguments in calls:
            function(*arguments)

    def sigInt(self, number: int, frame: Any) -> None:
        self.handled.append(("sigInt", number))

    def sigTerm(self, number: int, frame: Any) -> None:
        self.handled.append(("sigTerm", number))


class SignalTests(SynchronousTestCase):
    """Each in a turn of the reactor."""

    def setUp(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        # As in a program that has just started.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.reactor = Reactor()

    def test_onSignal(self) -> None:
        """A function is called once for each signal, in a turn."""
        onSignal("SIGUSR1", self.reactor, lambda: self.reactor.handled.append("called"))
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual(self.reactor.handled, [])
        self.reactor.iterate()
        self.assertEqual(self.reactor.handled, ["called"])

    def test_stopInTurn(self) -> None:
        """The handlers of the reactor have their signal in a turn."""
        stopInTurn(self.reactor)
        self.reactor.run()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.assertEqual(self.reactor.handled, [])
        self.reactor.iterate()
        self.assertEqual(
            self.reactor.handled, [("sigTerm", signal.SIGTERM), ("sigInt", signal.SIGINT)]
        )

    def test_beforeStart(self) -> None:
        """SIGINT that comes before the reactor runs ends it as soon as it does."""
        stopInTurn(self.reactor)
        signal.raise_signal(signal.SIGINT)
        self.reactor.run()
        self.reactor.iterate()
        signal.raise_signal(signal.SIGINT)
        self.reactor.iterate()
        self.assertEqual(self.reactor.handled, [("sigInt", signal.SIGINT)] * 2)

    def test_otherHandlers(self) -> None:
        """What the program handles itself stays as it is."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stopInTurn(self.reactor)
        self.reactor.run()
        self.assertEqual(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
