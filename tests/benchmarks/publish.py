"""
From the JSON of runs to a page of the manual: C{python -m tests.benchmarks.publish
docs/benchmarks.json docs/benchmarks.rst}. With matplotlib that page has plots, without
it tables only, as those of other machines have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Group
from tests.benchmarks.metrics import HEADINGS
from tests.benchmarks.plots import draw, draw_choices, number
from tests.benchmarks.targets import TARGETS, verdicts

Rows = Sequence[Mapping[str, Any]]
Scenarios = Mapping[str, Mapping[str, Any]]

MATRICES = (
    ("goodput", "Goodput over emulated links, MB/s"),
    ("wire", "Bytes sent for each that arrived, both directions, headers included"),
    ("sender_cost", "CPU seconds per GB over emulated links, sender"),
    ("receiver_cost", "CPU seconds per GB over emulated links, receiver"),
    ("p50_ms", "Latency of 1 kB messages every 20 ms, one way, p50 in ms"),
    ("p99_ms", "Latency of 1 kB messages every 20 ms, one way, p99 in ms"),
)
"""Figures of emulated links, a table each: links down, contenders across."""

READING = """\
How to read this
----------------

``make bench`` measures all of it on your machine. ``make bench BENCH_FLAGS='--only plain
echo'`` repeats a part and keeps the rest of this page; names may be patterns, ``'link*'``.

* Figures are medians. Contenders take turns: each runs once before any runs again. The lowest and
  highest figures are in brackets.
* *x stock* is the ratio to the other library as it comes, *x best* the ratio to its best row.
* *gso port* uses the kernel's segmentation offload, *plain port* does not, *stock port* is
  Twisted's own UDP port. *kernels* are the native functions, *pure Python* the same functions
  without a compiler.
* With both ends in one process, ours share one thread, while kcp-go uses all cores.

The emulated links are two network namespaces with ``tests/benchmarks/link.c`` between them.
Delay, rate and loss apply in each direction, so a delay of 20 ms is a round trip of 40. The queue
in front of the bottleneck holds what is under way in a round trip. TCP is the kernel's, with
buffers of up to 32 MB. kcp-go is tuned for speed as its users do: ``nodelay`` 1, ``interval`` 10,
``resend`` 2, no congestion window. Our ``fast3`` is the same; our ``default`` has a congestion
window and paces. A message that does not arrive within two seconds counts as infinitely late.
Goodput counts from the dial on, so it includes the start.
"""


KERNELS = "twisted_rudp, gso port, kernels"

FLOW = "benchmarks-flow.svg"
"""Made by L{tests.benchmarks.flow}."""

SIZES = "benchmarks-sizes.svg"
"""Made by L{tests.benchmarks.sizes}."""

SLOW = "link-20ms-100mbit-5%"


@dataclass(frozen=True)
class Headline:
    """
    One line of the table at the top.

    @ivar what: for people, with the unit.
    @ivar row: the contender of ours.
    @ivar others: the group of the other library; its best row is shown.
    """

    what: str
    scenario: str
    metric: str
    row: str = KERNELS
    others: Group = Group.KCP_GO
    more_is_better: bool = False


HEADLINES = (
    Headline("KCP, stream, MB/s", "plain2", "goodput", more_is_better=True),
    Headline("KCP, stream with AES-128-GCM, MB/s", "gcm-2", "goodput", more_is_better=True),
    Headline("KCP, stream with FEC 10+3, MB/s", "fec-2", "goodput", more_is_better=True),
    Headline("KCP, stream, CPU seconds per GB", "plain2", "cost"),
    Headline("KCP, echo of 64 bytes, median in microseconds", "echo2", "p50"),
    Headline("KCP, 1000 idle sessions, KB each", "idle1000", "memory"),
    Headline(
        "KCP, 100 Mbit/s, 40 ms round trip, 5 % loss, MB/s",
        SLOW,
        "goodput",
        "twisted_rudp, default",
        more_is_better=True,
    ),
    Headline("the same, bytes sent for each that arrives", SLOW, "wire", "twisted_rudp, default"),
    Headline(
        "RakNet, stream, MB/s",
        "raknet2",
        "goodput",
        "twisted_rudp, raknet, stream",
        Group.GO_RAKNET,
        more_is_better=True,
    ),
    Headline(
        "QOTP, stream, MB/s",
        "qotp2",
        "goodput",
        "twisted_rudp, qotp, gso port",
        Group.AIOQUIC,
        more_is_better=True,
    ),
)
"""What a reader wants to know first."""

_LINKS = "over emulated links. Every figure is in the tables below."

_STREAMS = "over loopback, one for each scenario. Every figure is in the tables below."

ALTERNATIVES = {
    "benchmarks-goodput.svg": f"Bar charts of the goodput of streams in MB/s {_STREAMS}",
    "benchmarks-cost.svg": f"Bar charts of CPU seconds per GB of streams {_STREAMS}",
    "benchmarks-links-goodput.svg": f"Bar chart of the goodput of streams in MB/s {_LINKS}",
    "benchmarks-links-wire.svg": f"Bar chart of the bytes sent for each that arrived {_LINKS}",
    "benchmarks-links-p99_ms.svg": f"Bar chart of the latency of messages {_LINKS}",
    FLOW: "One flow of each transport over 20 Mbit/s with 100 ms and 1 % loss, in a simulation,"
    " which meets a second flow from 5 to 9 s: goodput, window, bytes in flight and round trip.",
    SIZES: "Processor time an exchange and memory a session of KCP servers, with 10 to 10 000"
    " sessions that together exchange 2000 messages a second. The guide to scaling has figures.",
}
"""What the pictures show, in words, by file."""

GOALS = """\
Goals of the benchmarks
=======================

What contributors aim at, and what the latest run of ``make bench`` measured. A figure that ends in
``x`` is a ratio to the best row of the other library. :doc:`benchmarks` has all figures.
"""

NONE = "n/a"
"""What a table shows where there is no figure."""


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
    lines += _headlines(scenarios)
    for plot in plots:
        lines += [".. container:: wide", "", f"   .. image:: {plot}"]
        lines += [f"      :alt: {ALTERNATIVES.get(plot, plot)}", ""]
    lines += [reading]
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
        "KCP of this library next to kcp-go, whose wire it speaks, and next to TCP; RakNet next to"
        " go-raknet; QOTP next to aioquic."
        + (
            " In the charts, longer bars are better for MB/s, shorter ones for everything else."
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
        f"Measured by ``make bench`` on {facts['cpu']}, {facts['cores']} cores, {facts['system']},"
        f" Python {facts['python']}, Twisted {facts['twisted']}, kcp-go {facts['kcp_go']}."
    )


def _when(facts: Mapping[str, Any]) -> Iterator[str]:
    quick = ", in a quick run with short rounds" if facts["quick"] else ""
    yield f"Measured on {facts['date']}{quick}, load average before it {facts['load']:.1f}."
    yield ""


def _headlines(scenarios: Scenarios) -> Iterator[str]:
    """The table at the top: ours, the best of the other library, TCP."""
    lines = []
    for line in HEADLINES:
        figures = {
            row["name"]: (row["group"], row["values"][line.metric]["median"])
            for row in scenarios.get(line.scenario, {"rows": ()})["rows"]
            if line.metric in row["values"]
        }
        if line.row not in figures:
            continue
        best = max if line.more_is_better else min
        cells = [
            number(best(found)) if found else NONE
            for group in (line.others.value, Group.TCP.value)
            for found in [[value for of, value in figures.values() if of == group]]
        ]
        lines.append([line.what, number(figures[line.row][1]), *cells])
    if lines:
        yield from _heading("In short")
        yield "Between two processes of one machine, where nothing else is said."
        yield ""
        header = ["measurement", "twisted_rudp", "kcp-go, go-raknet or aioquic", "best TCP"]
        yield from _table(header, lines)
        yield ""


def goals(document: Mapping[str, Any]) -> str:
    """The page for contributors: what was aimed at."""
    lines = [GOALS]
    used = [s for name, s in document["scenarios"].items() if name in {t.scenario for t in TARGETS}]
    if any(scenario["environment"]["quick"] for scenario in used):
        lines.append("Some figures are from a quick run on a shared machine and not reliable.\n")
    lines += _table(["goal", "aim", "reached", "verdict"], [v.cells() for v in verdicts(document)])
    return "\n".join([*lines, ""])


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
        [
            link,
            *(number(values[name]["median"]) if name in values else NONE for name in names),
        ]
        for link, values in found.items()
    ]
    yield from _table(["link", *names], lines)
    yield ""


def _rows(rows: Rows) -> Iterator[str]:
    names = next((list(row["values"]) for row in rows if row["values"]), [])
    lines = []
    for row in rows:
        values = [_spread(row["values"].get(name)) for name in names]
        ratios = [row["ratios"].get(name) for name in ("stock", "best")]
        shown = [NONE if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        lines.append([row["name"], *values, *shown])
    header = ["contender", *(HEADINGS[name] for name in names), "x stock", "x best"]
    yield from _table(header, lines)


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
        plots = draw(document, target.parent)
        plots += [each for each in (FLOW, SIZES) if target.with_name(each).exists()]
        target.write_text(page(document, plots))
        target.with_name("benchmarks-goals.rst").write_text(goals(document))
    else:
        (machine, *_) = (s["environment"]["cpu"] for s in document["scenarios"].values())
        target.write_text(page(document, [], f"Benchmarks on {machine}"))


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
