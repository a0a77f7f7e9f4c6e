"""
From the JSON of a run to a page of the manual: C{python -m
tests.benchmarks.publish docs/benchmarks.json docs/benchmarks.rst}. With
matplotlib the page has plots, without it tables only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.metrics import COST, GOODPUT

Rows = Sequence[Mapping[str, Any]]

HEADINGS = {
    "goodput": "MB/s",
    "cost": "CPU s/GB",
    "p50": "p50 us",
    "p99": "p99 us",
    "load": "% of a core",
    "memory": "KB each",
}

COLOURS = {
    "kcp-go": "#8c8c8c",
    "go-raknet": "#8c8c8c",
    "aioquic": "#8c8c8c",
    "ours": "#1f6fb4",
    "tcp": "#c9a227",
    "mixed": "#5aa469",
}


def page(document: Mapping[str, Any], plots: Sequence[str]) -> str:
    """
    The page in reStructuredText.

    @param plots: file names, beside the page.
    """
    lines = ["Benchmarks", "==========", "", *_introduction(document["environment"])]
    for plot in plots:
        lines += [f".. image:: {plot}", ""]
    for scenario in document["scenarios"].values():
        lines += [scenario["title"], "-" * len(scenario["title"]), ""]
        lines += [f"``{' '.join(scenario['flags'])}``", "", *_table(scenario["rows"]), ""]
    return "\n".join(lines)


def _introduction(facts: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Written by ``make bench`` on {facts['date']}: {facts['cpu']}, {facts['cores']} cores,"
        f" {facts['system']}, Python {facts['python']}, Twisted {facts['twisted']},"
        f" kcp-go {facts['kcp_go']}. Loopback. Load average before the run {facts['load']:.1f}."
    )
    yield ""
    if facts["quick"]:
        yield (
            "This was a quick run: rounds of one second, on a machine that others used at the"
            " same time. Ratios say more than figures, and neither says much about a tenth."
        )
        yield ""
    yield (
        "Medians of alternating rounds, least and most in brackets. Ratios are of the first column:"
        " *stock* to the other library as it comes, *best* to the best of its rows. Both ends in"
        " one process share one thread here, and all cores in kcp-go."
    )
    yield ""


def _table(rows: Rows) -> Iterator[str]:
    names = next((list(row["values"]) for row in rows if row["values"]), [])
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    yield from _line(["", *(HEADINGS.get(name, name) for name in names), "x stock", "x best"])
    for row in rows:
        values = [_spread(row["values"].get(name)) for name in names]
        ratios = [row["ratios"].get(name) for name in ("stock", "best")]
        shown = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        yield from _line([row["name"], *values, *shown])


def _line(cells: Sequence[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'* -' if not number else '  -'} {cell}".rstrip()


def _spread(spread: Mapping[str, float] | None) -> str:
    if spread is None:
        return "failed"
    return (
        f"{_number(spread['median'])} [{_number(spread['least'])} - {_number(spread['most'])}]"
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def draw(document: Mapping[str, Any], directory: Path) -> list[str]:
    """
    A plot for each metric of a stream.

    @return: the names of the files; none without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    streams = {
        name: scenario["rows"]
        for name, scenario in document["scenarios"].items()
        if any(GOODPUT.name in row["values"] for row in scenario["rows"])
    }
    if not streams:
        return []
    return [_bars(streams, metric.name, metric.title, directory) for metric in (GOODPUT, COST)]


def _bars(streams: Mapping[str, Rows], metric: str, title: str, directory: Path) -> str:
    """
    A row of bars for each scenario.
    """
    from matplotlib import pyplot

    heights = [len(rows) for rows in streams.values()]
    figure, axes = pyplot.subplots(
        len(streams),
        figsize=(8, 0.3 * sum(heights) + 0.5 * len(heights)),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    for ax, (name, rows) in zip(axes[:, 0], streams.items(), strict=True):
        shown = [row for row in reversed(rows) if row["values"]]
        values = [row["values"][metric]["median"] for row in shown]
        colours = [COLOURS[row["group"]] for row in shown]
        bars = ax.barh([row["name"] for row in shown], values, color=colours)
        ax.bar_label(bars, labels=[*map(_number, values)], padding=3, fontsize=7)
        ax.set_title(f"{name}, {title}", fontsize=9, loc="left")
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        ax.margins(x=0.1)
    file = f"benchmarks-{metric}.svg"
    figure.savefig(directory / file, metadata={"Date": None})
    pyplot.close(figure)
    return file


def publish(source: Path, target: Path) -> None:
    document = json.loads(source.read_text())
    target.write_text(page(document, draw(document, target.parent)))


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
