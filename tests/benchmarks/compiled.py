"""
Both ends in one process, interpreted and compiled, in alternating rounds: C{python -m
tests.benchmarks.compiled}.

C{make compiled} makes what is compared with the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.contenders import COMPILED
from tests.benchmarks.metrics import COST, GOODPUT, MEDIAN_TRIP, Metric, Result
from tests.interop.harness import ROOT

TRANSPORTS = ("kcp", "raknet", "qotp")

EXCHANGES = 10_000

FLAGS: Mapping[str, tuple[str, ...]] = {
    "echo": ("-job", "echo", "-count", str(EXCHANGES)),
    "bulk": ("-job", "bulk", "-seconds", "3"),
}

METRICS = {
    "echo": (
        MEDIAN_TRIP,
        Metric("cpu", "CPU us each", lambda r: r["cpu_seconds"] / EXCHANGES * 1e6),
    ),
    "bulk": (GOODPUT, COST),
}
"""What others do on the machine changes the second of each job least."""


class Way(NamedTuple):
    """What runs the package, where Python finds it in the folder or only as installed."""

    python: str
    folder: Path


def measure(way: Way, *flags: str) -> Result:
    """One run, both ends in one process."""
    argv = (way.python, "-m", "tests.benchmarks.worker", "-role", "both", *flags)
    said = subprocess.run(argv, cwd=way.folder, stdout=subprocess.PIPE, check=True, timeout=120)
    result: Result = json.loads(said.stdout.splitlines()[-1])
    return result


def rows(job: str, transport: str, ways: Sequence[Way], rounds: int) -> Iterator[str]:
    """Medians of all ways, what they lie between, and how the last compares with the first."""
    results: list[list[Result]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, found in zip(ways, results, strict=True):
            found.append(measure(way, *FLAGS[job], "-transport", transport))
    for metric in METRICS[job]:
        values = [sorted(map(metric.of, found)) for found in results]
        medians = [statistics.median(found) for found in values]
        cells = "".join(
            f"{median:9.2f} ({found[0]:.2f} - {found[-1]:.2f})"
            for median, found in zip(medians, values, strict=True)
        )
        yield f"{job} {transport:7} {metric.title:12}{cells}  {medians[-1] / medians[0]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=sorted(FLAGS), default=list(FLAGS))
    parser.add_argument("--compiled", type=Path, default=COMPILED, help="where it is installed")
    options = parser.parse_args()
    compiled = options.compiled.resolve()
    ways = Way(sys.executable, ROOT), Way(str(compiled / "bin" / "python"), compiled / "tree")
    print("median (least - most) of each, interpreted and compiled, and their ratio")
    for job in options.jobs:
        for transport in TRANSPORTS:
            for row in rows(job, transport, ways, options.rounds):
                print(row, flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
