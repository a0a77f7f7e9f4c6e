"""
Programs that a process runs in forks of itself: what they all import it has imported, which
takes longer than what most of them do.

C{python -m tests.service.forks} reads a command line after the other, JSON each, and answers with
the status and what was printed.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module

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


class Forks:
    """The process, from the side of the tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            python("-m", __name__),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.stop)

    def run(self, arguments: tuple[str, ...], patience: int) -> tuple[int, str]:
        """
        Run a program to its end.

        @param patience: seconds after which it is killed.
        @return: its status and everything that it printed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"arguments": arguments, "directory": os.getcwd(), "patience": patience}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        status, output = json.loads(self._process.stdout.readline())
        if status == -signal.SIGALRM:
            raise AssertionError(f"no end in {patience} s:\n{output}")
        return status, output

    def stop(self) -> None:
        """End it."""
        self._process.communicate()


@cache
def forks() -> Forks:
    """One for all tests of this process."""
    return Forks()


def serve() -> list[str]:
    """
    Answer requests.

    @return: in a fork, what it is to run; else nothing, when there are no more.
    """
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as output:
            child = os.fork()
            if not child:
                signal.alarm(request["patience"])
                os.chdir(request["directory"])
                with open(os.devnull, "rb") as nothing:
                    os.dup2(nothing.fileno(), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                return list(request["arguments"])
            _, status = os.waitpid(child, 0)
            output.seek(0)
            printed = output.read().decode()
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), printed]) + "\n")
        sys.stdout.flush()
    return []


def become(first: str, *rest: str) -> None:
    """Do what Python does with these arguments."""
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
    if asked := serve():
        become(*asked)
