"""
Programs that a process runs in forks of itself: what they all import it has imported, which
takes longer than what most of them do.

C{python -m tests.service.forks} has a socket as its argument. Requests in it, JSON each, start a
program with three descriptors for its streams, or wait for one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import IO, Any

from tests.interpreter import environment, python

COMMON = (
    "twisted.application.runner",
    "twisted.application.twist",
    "twisted.internet.endpoints",
    "twisted.internet.posixbase",
    "twisted.plugin",
    "twisted.web.client",
    "twisted.web.server",
    "twisted_rudp.endpoints.kcp",
    "twisted_rudp.endpoints.node",
    "twisted_rudp.endpoints.qotp",
    "twisted_rudp.endpoints.raknet",
    "twisted_rudp.service.command",
    "twisted_rudp.service.options",
)
"""What most programs import."""

LARGEST = 1 << 17
"""Bytes of a request, most of them the environment."""


class Forked:
    """A program in a fork, with what of C{subprocess.Popen} the tests use."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None

    def poll(self) -> int | None:
        """Its status, if it has ended."""
        return self._status(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end, and give its status."""
        status = self._status(0)
        assert status is not None
        return status

    def _status(self, options: int) -> int | None:
        if self.returncode is None:
            self.returncode = self._forks.ask({"pid": self.pid, "options": options})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process, from the side of the tests."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                python("-m", __name__, str(theirs.fileno())),
                # The streams of its forks are of the same kind as its own.
                env=environment(PYTHONUNBUFFERED="1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.stop)

    def start(
        self, arguments: Sequence[str], streams: Sequence[int], directory: str | None = None
    ) -> Forked:
        """
        Start a program.

        @param streams: descriptors of its input, its output and its errors.
        """
        request = {
            "arguments": arguments,
            "directory": directory or os.getcwd(),
            "environment": environment(PYTHONUNBUFFERED="1"),
        }
        return Forked(self, self.ask(request, streams))

    def ask(self, request: object, descriptors: Sequence[int] = ()) -> Any:
        """Send a request with descriptors, and wait for the answer."""
        socket.send_fds(self._connection, [json.dumps(request).encode()], descriptors)
        return json.loads(self._connection.recv(LARGEST))

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        self._process.communicate()


@cache
def forks() -> Forks:
    """One for all tests of this process."""
    return Forks()


def serve(connection: socket.socket) -> list[str]:
    """
    Answer requests.

    @return: in a fork, what it is to run; else nothing, when there are no more.
    """
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 3)
        if not data:
            return []
        request = json.loads(data)
        answer: int | None
        if "pid" in request:
            ended, status = os.waitpid(request["pid"], request["options"])
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if not answer:
                connection.close()
                _enter(request, descriptors)
                return list(request["arguments"])
            for descriptor in descriptors:
                os.close(descriptor)
        connection.send(json.dumps(answer).encode())


def _enter(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Be in the folder, with the environment and the streams that are asked for."""
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.addaudithook(_counted)
    # A shell's background job ignores it, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _counted(event: str, arguments: tuple[Any, ...]) -> None:
    """
    Twisted ends a program by the signal that has stopped it, which C{make coverage} does not see:
    what the program has run is written before.
    """
    if event == "os.kill" and arguments[0] == os.getpid() and "coverage" in sys.modules:
        from coverage import Coverage

        counting = Coverage.current()
        if counting is not None:
            counting.stop()
            counting.save()


def become(first: str, *rest: str) -> None:
    """Do what Python does with these arguments."""
    sys.orig_argv = [sys.executable, first, *rest]
    if first == "-c":
        sys.argv = [first, *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        sys.path[0] = os.path.dirname(first)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    for name in COMMON:
        import_module(name)
    if "twisted.internet.reactor" in sys.modules:
        raise SystemExit("a reactor cannot be used in several processes")
    # What is there now is not looked at by the collectors of the forks.
    gc.freeze()
    if asked := serve(socket.socket(fileno=int(sys.argv[1]))):
        become(*asked)
