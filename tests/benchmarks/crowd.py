"""
A crowd of sessions with small messages: what they cost a server that echoes, and how long an
answer takes. kcp-go is the crowd; the servers are kcp-go's, and ours interpreted and compiled::

    python -m tests.benchmarks.crowd --rates 10 20

10 000 sessions of kcp-go keep a machine busy by themselves. C{--light} has another crowd, whose
sessions are a few numbers each and which comes in at C{--dial} sessions a second. It measures a
crowd that is large, or idle::

    python -m tests.benchmarks.crowd --light --sessions 10000 --rates 2
    python -m tests.benchmarks.crowd --light --sessions 100000 --rates 0 --dial 2000 --seconds 20

C{make compiled} makes the compiled one; without it its rows are left out. The figures say
something if server and crowd have a core each and nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.benchmarks.contenders import COMPILED
from tests.benchmarks.runner import RunError
from tests.interop.harness import ROOT, kcpgo

LISTEN = "kcp:0:interface=127.0.0.1:maxSessions=100000:backlog=4096:perHost=2048"
"""The crowd dials at once and from one host, of which a server admits a few at a time else."""

TICKS = os.sysconf("SC_CLK_TCK")

_SERVER = """
import sys
from twisted.internet import endpoints, protocol, reactor
from twisted_rudp import kernels

class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

def listening(port):
    host = port.getHost()
    print('{"address": "%s:%d", "in_use": "%s"}' % (host.host, host.port, kernels.description()))
    sys.stdout.flush()

server = endpoints.serverFromString(reactor, sys.argv[1])
server.listen(protocol.Factory.forProtocol(Echo)).addCallback(listening)
reactor.run()
"""


class Server(NamedTuple):
    """Who is measured."""

    name: str
    argv: tuple[str, ...]
    folder: Path = ROOT


@dataclass(frozen=True)
class Load:
    """What the crowd does."""

    sessions: int
    rate: float
    seconds: float
    warmup: float

    dial: float | None = None
    """Sessions a second that the light crowd begins; None: kcp-go is the crowd."""

    @property
    def argv(self) -> list[str]:
        """Who is the crowd, and what it is told."""
        program = "kcpcrowd" if self.dial is None else "kcpmany"
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return [*kcpgo(program), *(f"-{name}={value}" for name, value in told.items())]


def servers(listen: str) -> list[Server]:
    """All there are here."""
    mine = ("-c", _SERVER, listen)
    found = [
        Server("kcp-go", (*kcpgo("kcpcrowd"), "-role", "server")),
        Server("interpreted", (sys.executable, *mine)),
    ]
    if (COMPILED / "bin" / "python").exists():
        # Where no twisted_rudp is beside it.
        found.append(Server("compiled", (str(COMPILED / "bin" / "python"), *mine), COMPILED))
    return found


class Running:
    """A process that says one thing a line. What it complains of goes where ours does."""

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        # Unbuffered, or a line could wait where select does not see it.
        self._process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self._process.pid

    def read(self, *others: Running) -> dict[str, Any]:
        """
        What it says next.

        @param others: must go on meanwhile.
        @raise RunError: one of them, or this one, has ended instead.
        """
        said: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        while not select.select([said], [], [], 0.5)[0]:
            for other in others:
                other.check()
        line = said.readline()
        if not line:
            self._process.wait()
            self.check()
        for other in others:
            other.check()
        parsed: dict[str, Any] = json.loads(line)
        return parsed

    def check(self) -> None:
        """
        @raise RunError: it has ended.
        """
        status = self._process.poll()
        if status is not None:
            raise RunError(f"{self._process.args!r} ended with status {status}")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def running(argv: Sequence[str], folder: Path) -> Iterator[Running]:
    """A process that does not outlive the block."""
    process = Running(argv, folder)
    try:
        yield process
    finally:
        process.kill()


def cpu(pid: int) -> float:
    """Seconds of a core that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(server: Server, load: Load) -> dict[str, Any]:
    """One server under one load."""
    with running(server.argv, server.folder) as serving:
        listening = serving.read()
        pid = serving.pid
        if "in_use" in listening and (server.name in ("interpreted", "compiled")):
            assert server.name in listening["in_use"], listening
        empty = resident(pid)
        with running([*load.argv, "-addr", listening["address"]], ROOT) as crowd:
            crowd.read(serving)
            before = cpu(pid)
            crowd.read(serving)
            used = cpu(pid) - before
            memory = resident(pid)
            result = crowd.read(serving)
    return {
        "server": server.name,
        **asdict(load),
        **result,
        "cpu": round(used / load.seconds, 3),
        "memory": memory,
        "a_session": round((memory - empty) / load.sessions),
    }


def row(result: dict[str, Any]) -> str:
    """A result as a line of a table."""
    answered, sent = result["answered"], result["sent"]
    names = ("p50_us", "p99_us", "max_us")
    trips = [f"{result.get(name, float('nan')) / 1e3:8.2f}" for name in names]
    missing = result["sessions"] - result.get("connected", result["sessions"])
    cost = f"{result['cpu'] * result['seconds'] / answered * 1e6:6.1f}" if answered else " " * 6
    return (
        f"{result['server']:12} {result['sessions']:6} x {result['rate']:<4g}"
        f" {100 * result['cpu']:6.1f} %  {cost} us  {' '.join(trips)} ms"
        f"  {answered}/{sent}  {result['memory'] / 1e6:.0f} MB,"
        f" {result['a_session'] / 1e3:.1f} kB a session"
        + (f"; {missing} were not let in" if missing else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 20])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--warmup", type=float, default=2.0)
    parser.add_argument("--light", action="store_true", help="not kcp-go is the crowd")
    parser.add_argument("--dial", type=float, default=1000, help="sessions a second, with --light")
    parser.add_argument("--rounds", type=int, default=1, help="in turn; each is a row")
    parser.add_argument("--only", nargs="+", help="names of servers")
    parser.add_argument("--listen", default=LISTEN)
    parser.add_argument("--json", type=Path, help="add the results to this file, a line each")
    options = parser.parse_args()
    print(
        "server       sessions x rate   CPU   an exchange   p50      p99      max    answered"
        "  memory"
    )
    dial = options.dial if options.light else None
    for rate in options.rates:
        load = Load(options.sessions, rate, options.seconds, options.warmup, dial)
        for _ in range(options.rounds):
            for server in servers(options.listen):
                if options.only and server.name not in options.only:
                    continue
                result = measure(server, load)
                print(row(result), flush=True)
                if options.json is not None:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
