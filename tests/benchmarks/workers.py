"""
What an exchange costs a server with one process and with two: C{python -m
tests.benchmarks.workers}, on Linux.

Clients in another process send 64 bytes each now and then, and the server sends them back. Two
processes have twice as many clients, so that each has as many as the one, for what is read
together costs less. As long as an exchange costs the same processor time, two processes on two
cores carry twice as much as one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import task
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol

from tests.benchmarks.progress import Progress
from tests.service.programs import TWIST, Program
from twisted_rudp.service.status import asked

CLIENTS = 150
"""For each process of the server."""

PERIOD = 0.2
"""Seconds between two messages of one client."""

STEPS = 10
SETTLING = 1.5
SECONDS = 6.0
ROUNDS = 2

KINDS = {"kcp": ":crypt=null", "raknet": "", "qotp": ""}


class Counting(Protocol):
    """A client."""

    received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += 1


def processorTime(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(reactor: Any, kind: str, workers: int) -> tuple[float, float]:
    """
    @return: exchanges a second, and microseconds of the server's processor time for each.
    """
    with TemporaryDirectory() as directory:
        path = f"{directory}/control"
        options = KINDS[kind]
        program = Program(
            *TWIST, "rudp", "echo", "--control", path, "--workers", str(workers),
            "--listen", f"{kind}:0:interface=127.0.0.1{options}",
        )  # fmt: skip
        try:
            pattern = "workers share" if workers > 1 else "listening on"
            port = program.expect(rf"{pattern} 127\.0\.0\.1 port (\d+)")[1]
            for _ in range(workers if workers > 1 else 0):
                program.expect("ready, process")
            endpoint = clientFromString(reactor, f"{kind}:host=127.0.0.1:port={port}{options}")
            clients: list[Any] = [
                await connectProtocol(endpoint, Counting()) for _ in range(CLIENTS * workers)
            ]
            found = asked(path, command="status").get("workers")
            pids = [program.process.pid] if found is None else [each["pid"] for each in found]
            turn = 0

            def step() -> None:
                nonlocal turn
                for client in clients[turn::STEPS]:
                    client.transport.write(bytes(64))
                turn = (turn + 1) % STEPS

            sending = task.LoopingCall(step)
            sending.start(PERIOD / STEPS)
            await task.deferLater(reactor, SETTLING, lambda: None)
            began = [processorTime(pid) for pid in pids]
            before = sum(client.received for client in clients)
            await task.deferLater(reactor, SECONDS, lambda: None)
            used = sum(map(processorTime, pids)) - sum(began)
            exchanges = sum(client.received for client in clients) - before
            sending.stop()
            return exchanges / SECONDS, used / exchanges * 1e6
        finally:
            program.kill()


async def main(reactor: Any) -> None:
    """Print a table."""
    progress = Progress(len(KINDS) * ROUNDS * 2)
    costs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for kind in KINDS:
            for workers in (1, 2):
                progress.start(f"{kind} {workers}")
                rate, cost = await run(reactor, kind, workers)
                costs.setdefault((kind, workers), []).append((cost, rate))
                progress.step()
    progress.close()
    wanted = CLIENTS / PERIOD
    print(f"{'':8} {'1 process':>20} {'2 workers':>20}  two carry")
    for kind in KINDS:
        (one, first), (two, second) = (min(costs[kind, workers]) for workers in (1, 2))
        print(
            f"{kind:8} {one:7.1f} us {first:6.0f} /s {two:7.1f} us {second:6.0f} /s"
            f" {2 * one / two:7.2f} of one"
        )
    print(f"Void where far fewer exchanges come than the {wanted:.0f} a second of each process.")


if __name__ == "__main__":
    sys.exit(task.react(lambda reactor: ensureDeferred(main(reactor))))
