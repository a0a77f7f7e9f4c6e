"""
A session survives a reload, and a takeover, under traffic, as often as one likes::

    python -m tests.takeovers 100 kcp qotp raknet
    python -m tests.takeovers 100 kcp*2 tcp*2

C{*2}: with two workers. Each try runs a service as a process of its own, loads it through a
session of its own, and compares what comes back.
"""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from tests.interpreter import environment, python
from tests.service.programs import TWIST, Program

RUDP = ("-c", "from twisted_rudp.service.command import main; main()")

PIECE = 100_000

PIECES = 12


class Load(Thread):
    """
    A session with an echo: piece by piece something is sent, and all of it is to come back.

    @ivar right: whether all that was sent came back.
    """

    def __init__(self, endpoint: str, seed: int) -> None:
        super().__init__()
        self.data = [random.Random(f"{seed} {n}").randbytes(PIECE) for n in range(PIECES)]
        self.process = subprocess.Popen(
            python(*RUDP, "connect", endpoint),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.digest = hashlib.sha256()
        self.heard = Event()
        self.right = False
        self._left = PIECES
        self.start()

    def run(self) -> None:
        """Read all."""
        assert self.process.stdout is not None
        left = PIECE * PIECES
        while data := self.process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
            self.digest.update(data)
            left -= len(data)
            if left <= 0:
                self.heard.set()
        self.heard.set()
        expected = hashlib.sha256(b"".join(self.data))
        self.right = self.digest.digest() == expected.digest() and self.process.wait() == 0

    def send(self, count: int) -> None:
        """Send some of the pieces."""
        assert self.process.stdin is not None
        for _ in range(count):
            self.process.stdin.write(self.data[len(self.data) - self._left])
            self._left -= 1
        self.process.stdin.flush()

    def end(self) -> bool:
        """
        Send the rest.

        @return: whether all came back.
        """
        self.send(self._left)
        # RakNet has no end of one direction: closing now would end both.
        self.heard.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.join()
        return self.right


class Server:
    """An echo with a configuration file."""

    def __init__(self, folder: Path, transport: str, workers: int) -> None:
        self.file = folder / "rudp.toml"
        self.control = folder / "control"
        self.transport = transport
        self.workers = workers
        self.write("backlog=100", 0)
        self.programs = [Program(*TWIST, "rudp", "--config", str(self.file))]
        found = self.programs[0].expect(r"(?:listening on|share) 127\.0\.0\.1 port (\d+)")
        self.port = int(found[1])
        self._ready()

    def _ready(self) -> None:
        """Wait until the newest process serves."""
        self.programs[-1].expect("Starting reactor")
        if self.workers > 1:
            for _ in range(self.workers):
                self.programs[-1].expect(r"worker \d+: ready")

    def write(self, option: str, port: int) -> None:
        """The file, with something that can be changed."""
        listen = f"{self.transport}:0:interface=127.0.0.1:{option}"
        self.file.write_text(
            f'control = "{self.control}"\nworkers = {self.workers}\n'
            f'[[echo]]\nlisten = "{listen}"\n',
            encoding="utf-8",
        )

    def reload(self) -> None:
        """Have it read the file, which has changed."""
        self.write("backlog=120", self.port)
        self.programs[-1].process.send_signal(signal.SIGHUP)
        self.programs[-1].expect("reloaded: 0 added, 0 removed, 1 changed, 0 unchanged")

    def takeover(self) -> None:
        """Start another process, which takes over."""
        self.programs.append(
            Program(
                *TWIST, "rudp", "--config", str(self.file), "--takeover", str(self.control)
            )
        )
        self._ready()
        if self.workers > 1:
            self.programs[-1].expect("took over 1 sockets of process")

    @property
    def endpoint(self) -> str:
        """For clients."""
        return f"{self.transport}:127.0.0.1:{self.port}"


@contextmanager
def served(transport: str, workers: int) -> Iterator[Server]:
    """A server that is ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), transport, workers)
        try:
            yield server
            for program in server.programs:
                program.process.terminate()
                program.end()
        finally:
            for program in server.programs:
                program.kill()


def attempt(transport: str, seed: int, brief: bool = False, workers: int = 1) -> list[str]:
    """
    One session through a reload and a takeover, and others that begin in between.

    @param brief: with only one other.
    @return: what went wrong.
    """
    problems = []
    with served(transport, workers) as server:
        first = Load(server.endpoint, seed)
        first.send(3)
        server.reload()
        first.send(3)
        loads = [first]
        if not brief:
            loads.append(Load(server.endpoint, seed + 1))
            loads[-1].send(3)
        server.takeover()
        loads.append(Load(server.endpoint, seed + 2))
        for number, load in enumerate(loads, 1):
            if not load.end():
                problems.append(f"session {number} of {transport}, try {seed}")
        old, _ = server.programs
        if old.end() != 0:
            problems.append(f"old process: {old.output}")
        if not brief and not Load(server.endpoint, seed + 3).end():
            problems.append(f"last session of {transport}, try {seed}")
    return problems


def main(arguments: Sequence[str]) -> int:
    """
    @return: how many tries failed.
    """
    count, *transports = arguments
    failed = 0
    for number in range(int(count)):
        for transport in transports:
            kind, _, workers = transport.partition("*")
            problems = attempt(kind, number, workers=int(workers or 1))
            failed += bool(problems)
            for each in problems:
                sys.stdout.write(f"{each}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{failed} of {int(count) * len(transports)} tries failed\n")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
