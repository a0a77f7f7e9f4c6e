"""What is read off the result of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
"""What a program printed: C{bytes}, C{seconds}, C{cpu_seconds} and the like."""


def quantiles(trips: Sequence[float]) -> Mapping[str, float]:
    """
    @param trips: in microseconds, in any order.
    """
    ordered = sorted(trips)
    return {
        "p50_us": ordered[len(ordered) // 2],
        "p99_us": ordered[len(ordered) * 99 // 100],
    }


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


def _load(result: Result) -> float:
    return float(result["cpu_seconds"] / result["seconds"] * 100)


def _goodput(result: Result) -> float:
    """Nothing where nothing came, or one piece of it: kcp-go can stall from the start."""
    return float(result["bytes"] / result["seconds"] / 1e6) if result["seconds"] else 0.0


GOODPUT = Metric("goodput", "MB/s", _goodput, more_is_better=True)
COST = Metric("cost", "CPU s/GB", lambda r: r["cpu_seconds"] / max(r["bytes"], 1) * 1e9)
SENDER_COST = Metric(
    "sender_cost", "CPU s/GB, sender", lambda r: r["cpu_client"] / max(r["bytes"], 1) * 1e9
)
RECEIVER_COST = Metric(
    "receiver_cost", "CPU s/GB, receiver", lambda r: r["cpu_server"] / max(r["bytes"], 1) * 1e9
)
MEDIAN_TRIP = Metric("p50", "p50 us", lambda r: r["p50_us"])
SLOW_TRIP = Metric("p99", "p99 us", lambda r: r["p99_us"])
MEDIAN_DELAY = Metric("p50_ms", "p50 ms", lambda r: r["p50_us"] / 1e3)
SLOW_DELAY = Metric("p99_ms", "p99 ms", lambda r: r["p99_us"] / 1e3)
LOAD = Metric("load", "% of a core", _load)
MEMORY = Metric("memory", "KB each", lambda r: r["bytes_per_session"] / 1e3)
WIRE = Metric("wire", "bytes sent per byte", lambda r: r["wire_bytes"] / max(r["bytes"], 1))

HEADINGS = {
    metric.name: metric.title
    for metric in (
        GOODPUT,
        COST,
        SENDER_COST,
        RECEIVER_COST,
        MEDIAN_TRIP,
        SLOW_TRIP,
        MEDIAN_DELAY,
        SLOW_DELAY,
        LOAD,
        MEMORY,
        WIRE,
    )
}
"""By name. That of memory serves for clients as well."""
