"""
From the JSON of runs to a page of the manual: C{python -m tests.benchmarks.publish
docs/benchmarks.json docs/benchmarks.rst}. With matplotlib that page has plots, without
it tables only, as those of other machines have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.metrics import HEADINGS
from tests.benchmarks.plots import draw, draw_choices, number
from tests.benchmarks.targets import TARGETS, verdicts

Rows = Sequence[Mapping[str, Any]]
Scenarios = Mapping[str, Mapping[str, Any]]

MATRICES = (
    ("goodput", "Goodput over emulated links, MB/s"),
    ("wire", "Bytes sent for each that arrived, both directions, headers included"),
    ("p50_ms", "Latency of 1 kB messages every 20 ms, one way, p50 in ms"),
    ("p99_ms", "Latency of 1 kB messages every 20 ms, one way, p99 in ms"),
)
"""Figures of emulated links, a table each: links down, contenders across."""

READING = """\
How to read this
----------------

``make bench`` measures all of it, on your machine. ``make bench BENCH_FLAGS='--only plain
echo'`` does a part and leaves the rest of this page as it is; names may be patterns,
``'link*'``.

Figures are medians of alternating rounds: every contender runs once before any runs again.
Least and most are in brackets. Ratios are of the first column: *stock* to the other library as
it comes, *best* to the best of its rows. Both ends in one process share one thread here, and
all cores in kcp-go.

The emulated links are two network namespaces with ``tests/benchmarks/link.c`` between them.
Delay, rate and loss hold in each direction, so a delay of 20 ms is a round trip of 40. In front
of the rate there is a queue of 50 ms. Bursts are ten packets lost in a row on average. TCP is
the kernel's, with buffers of up to 32 MB. kcp-go is tuned for speed as its users do:
``nodelay`` 1, ``interval`` 10, ``resend`` 2, no congestion window; our ``fast3`` is the same,
our ``default`` has a congestion window and paces. Messages are sent in ten sessions at a time;
one that does not come in two seconds counts as one that takes for ever.
"""


OTHERS = """
How many times faster one library is than another depends on the machine as much as on the
libraries: on that of :doc:`benchmarks-xeon`, a nested virtual machine, the ratios of streams are
about half of those here. What was measured there is a version that did not poll before it sleeps.
"""


def page(
    document: Mapping[str, Any],
    plots: Sequence[str],
    title: str = "Benchmarks",
    reading: str = READING,
) -> str:
    """
    The page in reStructuredText.

    @param plots: file names, beside the page.
    @param reading: how to understand it.
    """
    scenarios: Scenarios = document["scenarios"]
    linked = {name: s for name, s in scenarios.items() if s["link"]}
    lines = [title, "=" * len(title), "", *_introduction(scenarios, plots)]
    for plot in plots:
        lines += [f".. image:: {plot}", ""]
    lines += [*_targets(document), reading]
    for metric, title in MATRICES:
        lines += _matrix(linked, metric, title)
    for name, scenario in scenarios.items():
        if name not in linked:
            lines += [*_heading(scenario["title"]), f"``{' '.join(scenario['flags'])}``", ""]
            lines += [*_when(scenario["environment"]), *_rows(scenario["rows"]), ""]
    return "\n".join(lines)


def _heading(title: str) -> Sequence[str]:
    return [title, "-" * len(title), ""]


def _introduction(scenarios: Scenarios, plots: Sequence[str]) -> Iterator[str]:
    """
    What is to be seen, and the machines, of which there is one if all parts were
    measured on the same.
    """
    yield (
        "KCP of this library beside kcp-go, whose wire it speaks, and beside TCP; RakNet beside"
        " go-raknet, QOTP beside aioquic."
        + (
            " First pictures, then what was aimed at, then every figure. Longer bars are better for"
            " MB/s, shorter ones for everything else."
            if plots
            else ""
        )
    )
    yield ""
    for machine in sorted({_machine(s["environment"]) for s in scenarios.values()}):
        yield machine
        yield ""


def _machine(facts: Mapping[str, Any]) -> str:
    return (
        f"Written by ``make bench``: {facts['cpu']}, {facts['cores']} cores, {facts['system']},"
        f" Python {facts['python']}, Twisted {facts['twisted']}, kcp-go {facts['kcp_go']}."
    )


def _when(facts: Mapping[str, Any]) -> Iterator[str]:
    quick = ", in a quick run with short rounds" if facts["quick"] else ""
    yield f"Measured on {facts['date']}{quick}, load average before it {facts['load']:.1f}."
    yield ""


def _targets(document: Mapping[str, Any]) -> Iterator[str]:
    yield from _heading("Targets against the best of the other library's rows")
    used = [s for name, s in document["scenarios"].items() if name in {t.scenario for t in TARGETS}]
    if any(scenario["environment"]["quick"] for scenario in used):
        yield "Some of this is of a quick run on a machine that others used, which proves little."
        yield ""
    yield from _table(["", "target", "got", ""], [v.cells() for v in verdicts(document)])
    yield ""


def _matrix(linked: Scenarios, metric: str, title: str) -> Iterator[str]:
    """Nothing if no link has the metric."""
    found = {
        scenario["link"]: {
            row["name"]: row["values"][metric]
            for row in scenario["rows"]
            if metric in row["values"]
        }
        for name, scenario in linked.items()
        if any(metric in row["values"] for row in scenario["rows"])
        and not (metric == "wire" and name.startswith("messages"))
    }
    if not found:
        return
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    yield from _heading(title)
    yield from _when(next(iter(linked.values()))["environment"])
    lines = [
        [link, *(number(values[name]["median"]) if name in values else "" for name in names)]
        for link, values in found.items()
    ]
    yield from _table(["", *names], lines)
    yield ""


def _rows(rows: Rows) -> Iterator[str]:
    names = next((list(row["values"]) for row in rows if row["values"]), [])
    lines = []
    for row in rows:
        values = [_spread(row["values"].get(name)) for name in names]
        ratios = [row["ratios"].get(name) for name in ("stock", "best")]
        shown = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        lines.append([row["name"], *values, *shown])
    yield from _table(["", *(HEADINGS[name] for name in names), "x stock", "x best"], lines)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    for cells in (header, *lines):
        for place, cell in enumerate(cells):
            yield f"   {'* -' if not place else '  -'} {cell}".rstrip()


def _spread(spread: Mapping[str, float] | None) -> str:
    if spread is None:
        return "failed"
    median, least, most = (number(spread[name]) for name in ("median", "least", "most"))
    return f"{median} [{least} - {most}]"


def publish(source: Path, target: Path) -> None:
    """
    @param target: C{benchmarks.rst}, which has the pictures, also those of the page
        about choosing; or another, of another machine, with tables only.
    """
    document = json.loads(source.read_text())
    if target.stem == "benchmarks":
        draw_choices(document, target.parent)
        target.write_text(page(document, draw(document, target.parent), reading=READING + OTHERS))
    else:
        (machine, *_) = (s["environment"]["cpu"] for s in document["scenarios"].values())
        target.write_text(page(document, [], f"Benchmarks on {machine}"))


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
