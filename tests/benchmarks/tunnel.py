"""
Tunnels in one run: kcptun, C{rudp kcptun-client} and C{rudp kcptun-server}, and C{forward --mux}
for those who have twisted_rudp at both ends: C{python -m tests.benchmarks.tunnel}, or
C{make bench-tunnel}.

Goodput of a download and of an upload and the CPU of both programs for them; how long a new
connection takes to its first byte, while nothing else is carried and beside a download, and its
CPU; and the bytes on the link. Debian's kcptun has to be installed; the links need root.
C{make compiled} makes the compiled programs; without it their rows are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.contenders import COMPILED
from tests.benchmarks.links import SERVER, Link, Road, missing, road

LINKS = tuple(Link(20, 100, loss, queue=100) for loss in (0, 1, 5))
"""100 Mbit/s with a round trip of 40 ms."""

CHUNK = 1 << 20
PORT, KCP_PORT, TARGET_PORT = 7300, 7301, 7302
PROBES = 200
"""New connections whose first byte is timed, one after another."""

_TICKS = os.sysconf("SC_CLK_TCK")


# what runs at the ends

_DATA = random.Random(1).randbytes(CHUNK)
"""Made once: it takes 4 ms, as long as all else that a first byte waits for on loopback."""


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do what a connection's first 9 bytes ask for: send so many bytes, or take them."""
    request = await reader.readexactly(9)
    size = int.from_bytes(request[1:], "big")
    if request[:1] == b"D":
        while size > 0:
            writer.write(_DATA[:size])
            size -= CHUNK
            await writer.drain()
    else:
        while size > 0:
            size -= len(await reader.read(CHUNK))
        writer.write(b"!")
    await writer.drain()
    writer.close()


async def target(host: str, port: int) -> None:
    """The service behind the tunnel."""
    server = await asyncio.start_server(_serve, host, port)
    await server.serve_forever()


async def _transfer(host: str, port: int, kind: bytes, size: int) -> float:
    """
    @return: seconds that it took.
    """
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(kind + size.to_bytes(8, "big"))
    if kind == b"U":
        left = size
        while left > 0:
            writer.write(_DATA[:left])
            left -= CHUNK
            await writer.drain()
        await reader.readexactly(1)
    else:
        got = 0
        while got < size:
            more = await reader.read(CHUNK)
            if not more:
                raise ConnectionError(f"the download ended after {got} of {size} bytes")
            got += len(more)
    writer.close()
    return time.perf_counter() - began


async def load(host: str, port: int, size: int) -> dict[str, Any]:
    """Measure through a tunnel; what it takes, by the names of the report."""
    for attempt in range(400):
        try:
            await asyncio.wait_for(_transfer(host, port, b"D", 1), 3)
            break
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            if attempt == 399:
                raise
            await asyncio.sleep(0.1)
    # What the programs did to start is none of the work that is measured.
    _pause()
    first = sorted([await _transfer(host, port, b"D", 1) for _ in range(PROBES)])
    _pause()
    down = await _transfer(host, port, b"D", size)
    up = await _transfer(host, port, b"U", size)
    _pause()
    downloading = asyncio.create_task(_transfer(host, port, b"D", size))
    busy: list[float] = []
    while not downloading.done():
        busy.append(await _transfer(host, port, b"D", 1))
    await downloading
    busy.sort()
    return {
        "first_p50_ms": median(first) * 1000,
        "first_p99_ms": _p99(first) * 1000,
        "busy_p50_ms": median(busy) * 1000,
        "busy_p99_ms": _p99(busy) * 1000,
        "down_mbps": size * 8 / down / 1e6,
        "up_mbps": size * 8 / up / 1e6,
    }


def _pause() -> None:
    """A part is over: what the programs have done for it is looked at now."""
    print(flush=True)
    sys.stdin.readline()


def _p99(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


# the programs


@dataclass(frozen=True)
class Contender:
    """
    A pair of programs.

    @ivar client: the words of its command; C{{remote}} stands for the host of the server.
    @ivar server: the same.
    """

    name: str
    client: tuple[str, ...]
    server: tuple[str, ...]


def _kcptun(name: str, command: Callable[[str], Sequence[str]], flags: Sequence[str]) -> Contender:
    """A pair of programs with kcptun's options."""
    near = ("-l", f"127.0.0.1:{PORT}", "-r", f"{{remote}}:{KCP_PORT}")
    far = ("-l", f":{KCP_PORT}", "-t", f"127.0.0.1:{TARGET_PORT}")
    return Contender(
        name,
        (*command("kcptun-client"), *near, *flags),
        (*command("kcptun-server"), *far, *flags),
    )


def _forward(name: str, twist: str, kind: str) -> Contender:
    """Our own ends, without any option."""
    command = (twist, "rudp", "forward", "--mux")
    near = (f"tcp:{PORT}:interface=127.0.0.1", f"{kind}:{{remote}}:{KCP_PORT}")
    far = (f"{kind}:{KCP_PORT}", f"tcp:127.0.0.1:{TARGET_PORT}")
    return Contender(
        name,
        (*command, "--listen", near[0], "--to", near[1]),
        (*command, "--listen", far[0], "--to", far[1]),
    )


def contenders(flags: Sequence[str]) -> list[Contender]:
    """
    Ours, interpreted and compiled, and kcptun's, as far as they are there.

    @param flags: for the programs with kcptun's options.
    """
    found: list[Contender] = []
    for folder, suffix in ((Path(sys.executable).parent, ""), (COMPILED / "bin", " compiled")):
        if not (folder / "rudp").exists():
            continue
        rudp, twist = str(folder / "rudp"), str(folder / "twist")
        found.append(_kcptun(f"ours{suffix}", partial(_words, rudp), flags))
        found += [_forward(f"mux {kind}{suffix}", twist, kind) for kind in ("kcp", "qotp")]
    if shutil.which("kcptun-client") and shutil.which("kcptun-server"):
        found.append(_kcptun("kcptun", _words, flags))
    return found


def _words(*command: str) -> Sequence[str]:
    return command


class _Programs:
    """Processes that end with the measurement."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> int:
        """
        @return: its process id.
        """
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._running.append(process)
        return process.pid

    def stop(self) -> None:
        """End them."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu(pid: int) -> float:
    """Seconds of work of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def _place(link: Link | None) -> Iterator[Road | None]:
    if link is None:
        yield None
        return
    with road(link, seed=1) as here:
        yield here


def measure(contender: Contender, link: Link | None, size: int) -> dict[str, Any]:
    """One contender on one link, or on loopback."""
    with ExitStack() as cleaning:
        here = cleaning.enter_context(_place(link))
        programs = _Programs()
        cleaning.callback(programs.stop)
        near = here.client.prefix if here else ()
        far = here.server.prefix if here else ()
        remote = SERVER if here else "127.0.0.1"
        me = (sys.executable, "-m", "tests.benchmarks.tunnel")
        for machine in (near, far):
            if machine:
                subprocess.run([*machine, "ip", "link", "set", "lo", "up"], check=True)
        programs.start(*far, *me, "--target", f"127.0.0.1:{TARGET_PORT}")
        pids = [
            programs.start(*far, *contender.server),
            programs.start(*near, *(word.format(remote=remote) for word in contender.client)),
        ]
        loading = subprocess.Popen(
            [*near, *me, "--load", f"127.0.0.1:{PORT}", "--megabytes", str(size / 1e6)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert loading.stdin is not None and loading.stdout is not None
        spent: list[float] = []
        for _ in range(3):
            if not loading.stdout.readline():
                sys.exit(f"{contender.name}: nothing was measured")
            spent.append(sum(map(cpu, pids)))
            loading.stdin.write(b"\n")
            loading.stdin.flush()
        output, _ = loading.communicate(timeout=600)
        if loading.returncode:
            sys.exit(f"{contender.name}: nothing was measured")
        found: dict[str, Any] = json.loads(output)
        found["cpu_ms_each"] = (spent[1] - spent[0]) / PROBES * 1000
        found["cpu_s_per_gb"] = (spent[2] - spent[1]) / (2 * size / 1e9)
    if here is not None:
        found["wire"] = here.traffic["wire_bytes"] / (3 * size)
    return found


def _hostPort(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    return host, int(port)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=30.0, help="each way")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=("loopback", "links"))
    parser.add_argument("--contender", nargs="+", help="only these")
    parser.add_argument("--flags", default="", help="for kcptun's programs and ours, as '--nocomp'")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = int(options.megabytes * 1e6)
    if options.target:
        asyncio.run(target(*_hostPort(options.target)))
    if options.load:
        print(json.dumps(asyncio.run(load(*_hostPort(options.load), size))))
        return
    places: list[Link | None] = [] if options.only == "links" else [None]
    if options.only != "loopback":
        reason = missing()
        if reason is None:
            places += LINKS
        else:
            print(f"no links: {reason}", file=sys.stderr)
    columns = (
        "down_mbps", "up_mbps", "cpu_s_per_gb", "cpu_ms_each", "wire",
        "first_p50_ms", "first_p99_ms", "busy_p50_ms", "busy_p99_ms",
    )  # fmt: skip
    print(f"{'where':26}{'who':20}" + "".join(f"{name:>14}" for name in columns))
    for _ in range(options.rounds):
        for place in places:
            for contender in contenders(options.flags.split()):
                if options.contender is None or contender.name in options.contender:
                    found = measure(contender, place, size)
                    where = place.name if place else "loopback"
                    cells = (f"{found[c]:14.2f}" if c in found else f"{'-':>14}" for c in columns)
                    print(f"{where:26}{contender.name:20}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
