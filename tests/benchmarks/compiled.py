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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.crowd import COMPILED
from tests.benchmarks.metrics import GOODPUT, MEDIAN_TRIP, Result
from tests.interop.harness import ROOT

TRANSPORTS = ("kcp", "raknet", "qotp")

FLAGS: Mapping[str, tuple[str, ...]] = {
    "echo": ("-job", "echo", "-count", "10000"),
    "bulk": ("-job", "bulk", "-seconds", "3"),
}

METRICS = {"echo": MEDIAN_TRIP, "bulk": GOODPUT}


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


def row(job: str, transport: str, ways: Sequence[Way], rounds: int) -> str:
    """Medians of all ways, how the last compares with the first, and what they lie between."""
    metric = METRICS[job]
    found: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, values in zip(ways, found, strict=True):
            values.append(metric.of(measure(way, *FLAGS[job], "-transport", transport)))
    medians = [statistics.median(values) for values in found]
    cells = " ".join(
        f"{median:8.1f} ({min(values):.1f} - {max(values):.1f})"
        for median, values in zip(medians, found, strict=True)
    )
    return f"{job} {transport:7} {cells} {metric.title}, {medians[-1] / medians[0]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=sorted(FLAGS), default=list(FLAGS))
    parser.add_argument("--compiled", type=Path, default=COMPILED, help="where it is installed")
    options = parser.parse_args()
    compiled = options.compiled.resolve()
    ways = Way(sys.executable, ROOT), Way(str(compiled / "bin" / "python"), compiled / "tree")
    for job in options.jobs:
        for transport in TRANSPORTS:
            print(row(job, transport, ways, options.rounds), flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
