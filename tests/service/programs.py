"""Programs of ours as real processes, heard line by line."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Timer

from tests.interpreter import environment, python
from tests.service.forks import forks

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
        @param prefix: another command that runs it, such as C{ip netns exec NAME}.
        @param keyboard: its input is ours, and stays open.
        """
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            # We are a shell's background job; our children would ignore it as well.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [*prefix, *python(*arguments)],
            env=environment(PYTHONUNBUFFERED="1"),
            cwd=directory,
            stdin=subprocess.PIPE if keyboard else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

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
            rest, _ = self.process.communicate()
        self.output += rest
        if self.process.returncode == -signal.SIGKILL:
            raise AssertionError(f"no end in {PATIENCE} s:\n{self.output}")
        return self.process.returncode

    def kill(self) -> None:
        """For cleaning up, whatever its state."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    @contextmanager
    def _patience(self) -> Iterator[None]:
        timer = Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def run(*arguments: str) -> tuple[int, str]:
    """
    Run a program to its end.

    @return: its status and everything that it printed.
    """
    return forks().run(arguments, PATIENCE)
