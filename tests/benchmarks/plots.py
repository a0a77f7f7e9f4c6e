"""The plots of the page, with matplotlib if that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from tests.benchmarks.metrics import COST, GOODPUT, HEADINGS

Rows = Sequence[Mapping[str, Any]]

COLOURS = {
    "kcp-go": "#8c8c8c",
    "go-raknet": "#8c8c8c",
    "aioquic": "#8c8c8c",
    "ours": "#1f6fb4",
    "tcp": "#c9a227",
    "mixed": "#5aa469",
}

LINK_COLOURS = {
    "kcp-go, window 1024": "#8c8c8c",
    "kcp-go, window 4096": "#8c8c8c",
    "go-raknet, window 512": "#bdbdbd",
    "aioquic": "#dddddd",
    "twisted_rudp, default": "#1f6fb4",
    "twisted_rudp, interactive": "#74a9d8",
    "twisted_rudp, fast3": "#74a9d8",
    "twisted_rudp, raknet, stream": "#3f9c6b",
    "twisted_rudp, qotp, gso port": "#7b5ea7",
    "TCP CUBIC": "#c9a227",
    "TCP BBR": "#e2cc78",
}


TITLES = {
    "goodput": "Goodput in MB/s",
    "wire": "Bytes sent for each that arrived",
    "p99_ms": "Latency of messages, 99th percentile in ms",
}
"""Of the pictures of emulated links, by metric."""


def number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def draw(document: Mapping[str, Any], directory: Path) -> list[str]:
    """
    A plot for each metric of a stream, and one for each of the links.

    @return: the names of the files; none without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    scenarios = document["scenarios"]
    streams = {
        scenario["title"]: scenario["rows"]
        for scenario in scenarios.values()
        if not scenario["link"] and _has(scenario["rows"], GOODPUT.name)
    }
    plots = [_bars(streams, m.name, directory) for m in (GOODPUT, COST) if streams]
    for metric, kind in (("goodput", "link-"), ("wire", "link-"), ("p99_ms", "messages-")):
        links = {
            scenario["link"]: scenario["rows"]
            for name, scenario in scenarios.items()
            if name.startswith(kind) and _has(scenario["rows"], metric)
        }
        if links:
            plots.append(_groups(links, metric, directory))
    return plots


PROTECTIONS = {
    "plain": "none",
    "fec": "FEC 10+3",
    "aes": "AES-256",
    "gcm": "AES-128-GCM",
    "aesfec": "AES-256, FEC 10+3",
}
"""Scenarios that differ in nothing else, and what people call that."""

CHOICES = {"twisted_rudp, default": "default", "twisted_rudp, fast3": "fast3"}
"""Rows of the links that differ in the profile."""

OURS = {
    "twisted_rudp, gso port, kernels": "kernels",
    "twisted_rudp, gso port, pure Python": "pure Python",
}


def draw_choices(document: Mapping[str, Any], directory: Path) -> list[str]:
    """
    What the page about choosing shows: the profiles over the slow links, and what FEC
    and ciphers cost.

    @return: the names of the files; those of which nothing was measured are left out,
        and all are without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    scenarios = document["scenarios"]
    links = {
        scenario["link"]: scenario["rows"]
        for name, scenario in scenarios.items()
        if name.startswith("link-") and " 100 Mbit/s" in scenario["link"]
    }
    costs = {
        title: scenarios[name]["rows"] for name, title in PROTECTIONS.items() if name in scenarios
    }
    files = []
    if links:
        titles = {"goodput": "goodput, MB/s", "wire": "bytes sent for each that arrives"}
        files.append(_panels(links, titles, CHOICES, "choosing-profile.svg", directory))
    if costs:
        titles = {"goodput": "one process, MB/s", "cost": "CPU seconds per GB, both ends"}
        files.append(_panels(costs, titles, OURS, "choosing-protection.svg", directory))
    return files


def _panels(
    groups: Mapping[str, Rows],
    titles: Mapping[str, str],
    rows: Mapping[str, str],
    file: str,
    directory: Path,
) -> str:
    """
    A panel for each metric, side by side, and in each a group of bars for each title.

    @param titles: by metric.
    @param rows: which contenders, and how they are called.
    """
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(titles), figsize=(8, 0.45 * len(groups) + 1), sharey=True, layout="constrained"
    )
    height = 0.8 / len(rows)
    for ax, (metric, title) in zip(panels, titles.items(), strict=True):
        for place, (name, shown) in enumerate(rows.items()):
            values = [
                next((r["values"][metric]["median"] for r in found if r["name"] == name), 0.0)
                for found in groups.values()
            ]
            places = [at + place * height for at in range(len(groups))]
            bars = ax.barh(places, values, height=height, label=shown, color=_SHADES[place])
            ax.bar_label(bars, labels=[*map(number, values)], padding=2, fontsize=6)
        ax.set_title(title, fontsize=9, loc="left")
        ax.margins(x=0.12)
        _tidy(ax)
    panels[0].set_yticks([at + 0.4 - height / 2 for at in range(len(groups))], list(groups))
    panels[0].invert_yaxis()
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, fontsize=7, frameon=False, loc="outside lower center", ncols=2)
    return _save(figure, file, directory)


_SHADES = ("#1f6fb4", "#74a9d8")


def _has(rows: Rows, metric: str) -> bool:
    return any(metric in row["values"] for row in rows)


def _bars(streams: Mapping[str, Rows], metric: str, directory: Path) -> str:
    """A row of bars for each scenario."""
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
        ax.bar_label(bars, labels=[*map(number, values)], padding=3, fontsize=7)
        ax.set_title(f"{name}: {HEADINGS[metric]}", fontsize=9, loc="left")
        _tidy(ax)
        ax.margins(x=0.1)
    return _save(figure, f"benchmarks-{metric}.svg", directory)


def _groups(links: Mapping[str, Rows], metric: str, directory: Path) -> str:
    """A group of bars for each link."""
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["name"] for rows in links.values() for row in rows))
    height = 0.8 / len(names)
    figure, ax = pyplot.subplots(figsize=(8, 0.9 * len(links) + 1), layout="constrained")
    for place, name in enumerate(names):
        values = [
            sum(r["values"][metric]["median"] for r in rows if r["name"] == name and r["values"])
            for rows in links.values()
        ]
        places = [at + place * height for at in range(len(links))]
        colour = LINK_COLOURS.get(name)
        finite = [value if isfinite(value) else 0.0 for value in values]
        bars = ax.barh(places, finite, height=height, label=name, color=colour)
        ax.bar_label(bars, labels=[*map(number, values)], padding=2, fontsize=6)
    ax.set_yticks([at + 0.4 - height / 2 for at in range(len(links))], list(links))
    ax.invert_yaxis()
    if metric == GOODPUT.name:
        # The slowest has less than a hundredth of the fastest.
        ax.set_xscale("log")
    ax.set_title(f"{TITLES[metric]}, emulated links", fontsize=9, loc="left")
    ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.05), ncols=3, frameon=False)
    _tidy(ax)
    return _save(figure, f"benchmarks-links-{metric}.svg", directory)


def _tidy(ax: Any) -> None:
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, file: str, directory: Path) -> str:
    from matplotlib import pyplot

    figure.savefig(directory / file, metadata={"Date": None})
    pyplot.close(figure)
    return file
