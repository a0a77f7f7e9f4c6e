"""From many runs to medians and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.contenders import Contender, Group
from tests.benchmarks.metrics import Metric, Result
from tests.benchmarks.scenarios import Scenario

REFERENCES = (Group.KCP_GO, Group.GO_RAKNET, Group.AIOQUIC)


@dataclass(frozen=True)
class Spread:
    """The values of one metric over the rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Row:
    """
    What one contender achieved.

    @ivar values: by name of metric; empty if no run came to a result.
    @ivar ratios: the first metric against the first row of another library and
        against the best one, by those names.
    @ivar rounds: how many runs came to a result.
    """

    contender: Contender
    values: Mapping[str, Spread]
    ratios: Mapping[str, float]
    rounds: int


Runs = Mapping[str, Sequence[Result]]
"""The results of a scenario by name of contender."""


def summarise(scenario: Scenario, runs: Runs) -> list[Row]:
    """Medians of every contender, and their ratios to those of the others' libraries."""
    values = {c.name: _spreads(scenario.metrics, runs[c.name]) for c in scenario.contenders}
    first = scenario.metrics[0]
    references = [
        values[c.name][first.name].median
        for c in scenario.contenders
        if c.group in REFERENCES and values[c.name]
    ]
    best = max if first.more_is_better else min
    against = {"stock": references[0], "best": best(references)} if references else {}
    return [
        Row(c, values[c.name], _ratios(values[c.name], first, against), len(runs[c.name]))
        for c in scenario.contenders
    ]


def _spreads(metrics: Sequence[Metric], results: Sequence[Result]) -> dict[str, Spread]:
    if not results:
        return {}
    columns = {m.name: [m.of(result) for result in results] for m in metrics}
    return {name: Spread(median(c), min(c), max(c)) for name, c in columns.items()}


def _ratios(
    values: Mapping[str, Spread], metric: Metric, against: Mapping[str, float]
) -> dict[str, float]:
    if not values:
        return {}
    return {name: values[metric.name].median / other for name, other in against.items() if other}
