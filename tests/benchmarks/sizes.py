"""
What an exchange and a session cost a server as sessions grow, where all of them together do the
same; as a picture of the manual::

    python -m tests.benchmarks.sizes measure results.jsonl
    python -m tests.benchmarks.sizes draw results.jsonl docs/benchmarks-sizes.svg

The crowd is the light one of L{tests.benchmarks.crowd}. Drawing needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.benchmarks.crowd import Load, measure, row, servers

SESSIONS = (10, 100, 1000, 10_000)

TOTAL = 2000
"""Exchanges a second of all sessions together."""

DIAL = 1000
"""New sessions a second."""

LISTEN = "kcp:0:interface=127.0.0.1:maxSessions=100000"

COLOURS = {"kcp-go": "#8c8c8c", "interpreted": "#1f6fb4", "compiled": "#74a9d8"}
NAMES = {
    "kcp-go": "kcp-go",
    "interpreted": "twisted_rudp, interpreted",
    "compiled": "twisted_rudp, compiled",
}

LEAST = 100
"""With fewer sessions the memory of the process is not that of its sessions."""


class Point(NamedTuple):
    """What one server needs for so many sessions."""

    sessions: int
    exchange: float
    """Microseconds of processor time."""

    session: float
    """Bytes."""


def points(results: Sequence[dict[str, Any]], server: str) -> list[Point]:
    """The medians of all that was measured of a server, by the number of sessions."""
    found = [each for each in results if each["server"] == server and each["answered"]]
    return [
        Point(
            sessions,
            median(1e6 * each["cpu"] * each["seconds"] / each["answered"] for each in same),
            median(each["a_session"] for each in same),
        )
        for sessions in sorted({each["sessions"] for each in found})
        if (same := [each for each in found if each["sessions"] == sessions])
    ]


def draw(results: Sequence[dict[str, Any]], target: Path) -> None:
    """A panel for exchanges and one for sessions, and in each a line for each server."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for name, shown in NAMES.items():
        found = points(results, name)
        kept = [each for each in found if each.sessions >= LEAST]
        lines = (
            [(each.sessions, each.exchange) for each in found],
            [(each.sessions, each.session / 1e3) for each in kept],
        )
        for ax, line in zip(panels, lines, strict=True):
            if line:
                ax.plot(*zip(*line, strict=True), marker="o", label=shown, color=COLOURS[name])
    titles = ("processor time an exchange, us", "memory a session, kB")
    for ax, title in zip(panels, titles, strict=True):
        ax.set_title(title, fontsize=9, loc="left")
        ax.set_xscale("log")
        ax.set_ylim(bottom=0)
        ax.set_xlabel("sessions", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    names, shown_names = panels[0].get_legend_handles_labels()
    figure.legend(
        names, shown_names, fontsize=7, frameon=False, loc="outside lower center", ncols=3
    )
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("measure", "draw"))
    parser.add_argument("results", type=Path, help="a line for each measurement; they are added")
    parser.add_argument("target", type=Path, nargs="?", help="the picture")
    parser.add_argument("--sessions", type=int, nargs="+", default=SESSIONS)
    parser.add_argument("--only", nargs="+", help="names of servers")
    options = parser.parse_args()
    if options.action == "draw":
        lines = options.results.read_text(encoding="utf-8").splitlines()
        draw([json.loads(line) for line in lines], options.target)
        return
    for sessions in options.sessions:
        load = Load(sessions, TOTAL / sessions, seconds=4.0, warmup=1.0, dial=DIAL)
        for server in servers(LISTEN):
            if options.only and server.name not in options.only:
                continue
            result = measure(server, load)
            print(row(result), flush=True)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
