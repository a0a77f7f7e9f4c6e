"""A C{twist rudp} process as a child, heard through its log."""

from __future__ import annotations

import os
import re
import sys

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

_LISTENING = re.compile(rb"listening on \S+ port (\d+)")
_STOPPED = re.compile(rb"stopped: (.*)")
_KEPT = 20


class ChildFailed(Exception):
    """The child ended before it was told to; the text has its last lines."""


class Child(ProcessProtocol):
    """
    One service in a process of its own.

    @ivar listening: fires with the port that it listens on.
    @ivar ended: fires with the counters that it logged last.
    """

    transport: IProcessTransport

    def __init__(self) -> None:
        self.listening: Deferred[int] = Deferred()
        self.ended: Deferred[dict[str, float]] = Deferred()
        self._rest = b""
        self._lines: list[bytes] = []
        self._counters: dict[str, float] = {}

    @classmethod
    def start(cls, reactor: IReactorProcess, *arguments: str) -> Child:
        """Start C{twist rudp} with this interpreter."""
        child = cls()
        command = [sys.executable, "-m", "twisted", "--log-format=text", "rudp", *arguments]
        reactor.spawnProcess(child, sys.executable, command, env=dict(os.environ))
        return child

    def stop(self) -> Deferred[dict[str, float]]:
        """
        Interrupt it, as a person would.

        @return: fires with the counters that it logs when it stops.
        """
        self.transport.signalProcess("INT")
        return self.ended

    def kill(self) -> None:
        """End it whatever it does."""
        if not self.ended.called:
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        if not self.listening.called:
            told = b"\n".join(self._lines).decode(errors="replace")
            self.listening.errback(ChildFailed(told))
        self.ended.callback(self._counters)

    def _line(self, line: bytes) -> None:
        self._lines = [*self._lines[1 - _KEPT :], line]
        listening = _LISTENING.search(line)
        if listening and not self.listening.called:
            self.listening.callback(int(listening[1]))
        stopped = _STOPPED.search(line)
        if stopped:
            self._counters = dict(_counter(pair) for pair in stopped[1].split() if b"=" in pair)


def _counter(pair: bytes) -> tuple[str, float]:
    name, _, value = pair.decode().partition("=")
    return name, float(value)
