"""Programs of ours as real processes, heard line by line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Timer

from tests.interpreter import environment, python
from tests.service.forks import Forked, forks

PATIENCE = 120
"""Seconds without what is waited for, after which a program is killed, which fails its test."""

TWIST = ("-m", "twisted", "--log-format=text")
TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")


class Program:
    """A running program with its standard output and error in one stream."""

    def __init__(
        self,
        *arguments: str,
        directory: str | None = None,
        prefix: Sequence[str] = (),
        keyboard: bool = False,
    ) -> None:
        """
        @param prefix: another command that runs it, such as C{ip netns exec NAME}. Without one it
            runs in a fork of a process that has imported what most programs import.
        @param keyboard: its input is ours, and stays open.
        """
        self.process = (
            self._outside(prefix, arguments, directory, keyboard)
            if prefix
            else self._forked(arguments, directory, keyboard)
        )
        self.output = ""

    @staticmethod
    def _outside(
        prefix: Sequence[str], arguments: Sequence[str], directory: str | None, keyboard: bool
    ) -> subprocess.Popen[str]:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            # We are a shell's background job; our children would ignore it as well.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            [*prefix, *python(*arguments)],
            env=environment(PYTHONUNBUFFERED="1"),
            cwd=directory,
            stdin=subprocess.PIPE if keyboard else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @staticmethod
    def _forked(arguments: Sequence[str], directory: str | None, keyboard: bool) -> Forked:
        read, output = os.pipe()
        given, typed = os.pipe() if keyboard else (os.open(os.devnull, os.O_RDONLY), None)
        process = forks().start(arguments, (given, output, output), directory)
        for theirs in (given, output):
            os.close(theirs)
        process.stdout = os.fdopen(read, encoding="utf-8")
        if typed is not None:
            process.stdin = os.fdopen(typed, "w", encoding="utf-8")
        return process

    def expect(self, pattern: str) -> re.Match[str]:
        """
        Read until a line has the pattern.

        @raise AssertionError: the program ended before.
        """
        assert self.process.stdout is not None
        with self._patience():
            for line in self.process.stdout:
                self.output += line
                found = re.search(pattern, line)
                if found:
                    return found
        raise AssertionError(f"no {pattern!r} in:\n{self.output}")

    def port(self) -> int:
        """The next port it says that it listens on."""
        return int(self.expect(r"listening on 127\.0\.0\.1 port (\d+)")[1])

    def type(self, text: str) -> None:
        """Give it something to read."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def leave(self) -> None:
        """End its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def interrupt(self) -> None:
        """What a person does with the keyboard."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """
        Wait for its end.

        @return: its status.
        @raise AssertionError: it had to be killed.
        """
        with self._patience():
            if self.process.stdin is not None:
                self.leave()
            assert self.process.stdout is not None
            self.output += self.process.stdout.read()
            status = self.process.wait()
        if status == -signal.SIGKILL:
            raise AssertionError(f"no end in {PATIENCE} s:\n{self.output}")
        return status

    def kill(self) -> None:
        """For cleaning up, whatever its state."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    @contextmanager
    def _patience(self) -> Iterator[None]:
        with patience(self.process):
            yield


def freePort(kind: int) -> int:
    """A port that nobody uses just now, for who cannot be told to take any."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def patience(process: Forked | subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process that has not ended in time."""
    timer = Timer(PATIENCE, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def run(*arguments: str, typed: str = "") -> tuple[int, str]:
    """
    Run a program to its end.

    @param typed: its input.
    @return: its status and everything that it printed.
    """
    with tempfile.TemporaryFile() as output:
        status = _ran(arguments, typed.encode(), output.fileno(), output.fileno())
        output.seek(0)
        return status, output.read().decode()


def relay(*arguments: str, typed: bytes) -> tuple[int, bytes, bytes]:
    """
    Run a program that has bytes as its input and its output.

    @return: its status, its output, and its errors.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        status = _ran(arguments, typed, output.fileno(), errors.fileno())
        for file in (output, errors):
            file.seek(0)
        return status, output.read(), errors.read()


def _ran(arguments: Sequence[str], typed: bytes, output: int, errors: int) -> int:
    given, keyboard = os.pipe()
    process = forks().start(arguments, (given, output, errors))
    os.close(given)
    with patience(process):
        # It may end without reading all.
        with suppress(BrokenPipeError), open(keyboard, "wb") as file:
            file.write(typed)
        status = process.wait()
    if status == -signal.SIGKILL:
        raise AssertionError(f"no end in {PATIENCE} s: {arguments}")
    return status
