"""
What is read off the result of one run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
"""What a program printed: C{bytes}, C{seconds}, C{cpu_seconds} and the like."""


@dataclass(frozen=True)
class Metric:
    """
    One column of a table.

    @ivar name: its name in the JSON file.
    @ivar title: its heading, with the unit.
    @ivar of: computes it.
    @ivar more_is_better: whether the best is the largest.
    """

    name: str
    title: str
    of: Callable[[Result], float]
    more_is_better: bool = False


GOODPUT = Metric("goodput", "MB/s", lambda r: r["bytes"] / r["seconds"] / 1e6, more_is_better=True)
COST = Metric("cost", "CPU s/GB", lambda r: r["cpu_seconds"] / max(r["bytes"], 1) * 1e9)
MEDIAN_TRIP = Metric("p50", "p50 us", lambda r: r["p50_us"])
SLOW_TRIP = Metric("p99", "p99 us", lambda r: r["p99_us"])
LOAD = Metric("load", "% of a core", lambda r: r["cpu_seconds"] / r["seconds"] * 100)
MEMORY = Metric("memory", "KB a pair", lambda r: r["bytes_per_session"] / 1e3)
MEMORY_OF_CLIENT = Metric("memory", "KB a client", lambda r: r["bytes_per_session"] / 1e3)
