"""Tables for people, JSON for programs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import twisted
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.summary import Row, Runs, Spread
from tests.interop.harness import PEERS

_RATIOS = {"stock": "x stock", "best": "x best"}

_ALLOCATOR = "MALLOC_"
"""Settings of glibc's allocator change the figures, so they are told."""


def environment(quick: bool) -> dict[str, Any]:
    """What the figures depend on. To be asked before the run, for the load is the others'."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "quick": quick,
        "load": os.getloadavg()[0],
        "cpu": _processor(),
        "kcp_go": _version_of_kcp_go(),
        "python": platform.python_version(),
        "twisted": twisted.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "allocator": {k: v for k, v in os.environ.items() if k.startswith(_ALLOCATOR)},
    }


def _processor() -> str:
    """What Linux calls it."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor()


def _version_of_kcp_go() -> str:
    required = (PEERS / "kcpgo" / "go.mod").read_text()
    found = re.search(r"^require \S+/kcp-go/v5 v(\S+)$", required, re.MULTILINE)
    return found[1] if found else "?"


def heading(facts: dict[str, Any]) -> str:
    """The same in a line or two."""
    allocator = ", ".join(f"{k}={v}" for k, v in facts["allocator"].items()) or "as it comes"
    return (
        f"Python {facts['python']}, Twisted {facts['twisted']}, {facts['system']}, "
        f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']:.1f}; "
        f"allocator {allocator}.\n"
        "Medians [least - most] of alternating rounds. Ratios of the first column:\n"
        "to the first row of the other library (stock) and to its best row (best)."
    )


def table(scenario: Scenario, rows: Sequence[Row]) -> str:
    """One scenario."""
    header = ["", *(m.title for m in scenario.metrics), *_RATIOS.values()]
    lines = [header, *(_line(scenario, row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [scenario.title]
    for line in lines:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  ".join(["", first, *rest]))
    return "\n".join(text)


def document(
    facts: dict[str, Any], measured: Sequence[tuple[Scenario, Sequence[Row], Runs]]
) -> dict[str, Any]:
    """Everything, down to the single runs."""
    return {
        "scenarios": {
            scenario.name: {
                "title": scenario.title,
                "flags": scenario.flags,
                "link": scenario.link and scenario.link.title,
                "environment": facts,
                "rows": [_entry(row, runs) for row in rows],
            }
            for scenario, rows, runs in measured
        },
    }


def merge(old: dict[str, Any], new: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """
    What two documents say, the new one where both do. What is not in C{order} any more
    is dropped.
    """
    found = {**old["scenarios"], **new["scenarios"]}
    return {"scenarios": {name: found[name] for name in order if name in found}}


def _line(scenario: Scenario, row: Row) -> list[str]:
    if not row.values:
        return [row.contender.name, *("failed" for _ in scenario.metrics), *("" for _ in _RATIOS)]
    return [
        row.contender.name,
        *(_spread(row.values[m.name]) for m in scenario.metrics),
        *(f"{row.ratios[name]:.2f}" if name in row.ratios else "" for name in _RATIOS),
    ]


def _spread(spread: Spread) -> str:
    def number(value: float) -> str:
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"

    return f"{number(spread.median)} [{number(spread.least)} - {number(spread.most)}]"


def _entry(row: Row, runs: Runs) -> dict[str, Any]:
    return {
        "name": row.contender.name,
        "group": row.contender.group.value,
        "rounds": row.rounds,
        "values": {name: asdict(spread) for name, spread in row.values.items()},
        "ratios": dict(row.ratios),
        "runs": [dict(result) for result in runs[row.contender.name]],
    }
