"""
Our transports beside kcp-go, go-raknet, aioquic and TCP, on this machine, in one go: C{python -m
tests.benchmarks}.

Rounds alternate: every contender runs once before any runs again, so that a
noisy minute falls on all of them.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.links import missing
from tests.benchmarks.metrics import Result
from tests.benchmarks.progress import Progress
from tests.benchmarks.report import document, environment, heading, merge, table
from tests.benchmarks.runner import RunError, run
from tests.benchmarks.scenarios import Scenario, scenarios
from tests.benchmarks.summary import summarise


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, two rounds")
    parser.add_argument("--rounds", type=int, help="alternating rounds (default 3)")
    parser.add_argument(
        "--only", nargs="+", metavar="SCENARIO", help="names or patterns, such as 'link*'"
    )
    parser.add_argument("--skip", nargs="+", metavar="SCENARIO", default=(), help="as --only")
    parser.add_argument("--list", action="store_true", help="the names of those, and no run")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--contender", metavar="TEXT", help="only those with TEXT in the name")
    kept.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results there, beside other ones"
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """What the command line asked for."""
    known = {scenario.name: scenario for scenario in scenarios(options.quick)}
    for pattern in (*(options.only or ()), *options.skip):
        if not fnmatch.filter(known, pattern):
            sys.exit(f"no scenario is called {pattern}; there are {', '.join(known)}")
    named = [
        scenario
        for name, scenario in known.items()
        if _matches(name, options.only or ["*"]) and not _matches(name, options.skip)
    ]
    wanted = options.contender or ""
    return [
        replace(s, contenders=tuple(c for c in s.contenders if wanted in c.name)) for s in named
    ]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def possible(selected: Sequence[Scenario]) -> Sequence[Scenario]:
    """Without those that cannot be measured here, which is said."""
    if not any(scenario.link for scenario in selected):
        return selected
    reason = missing()
    if reason is None:
        return selected
    print(f"no scenario with a link: {reason}", file=sys.stderr)
    return [scenario for scenario in selected if not scenario.link]


def measure(chosen: Sequence[Scenario], rounds: int) -> dict[str, dict[str, list[Result]]]:
    """All runs, by scenario and contender. What fails is reported and left out."""
    turns = [
        (scenario, seed, c)
        for scenario in chosen
        for seed in range(1, rounds + 1)
        for c in scenario.contenders
    ]
    runs: dict[str, dict[str, list[Result]]] = {
        scenario.name: {c.name: [] for c in scenario.contenders} for scenario in chosen
    }
    progress = Progress(max(1, len(turns)))
    for scenario, seed, c in turns:
        progress.start(f"{scenario.name}: {c.name}")
        try:
            runs[scenario.name][c.name].append(run(c, scenario.flags, scenario.link, seed))
        except RunError as error:
            progress.close()
            print(f"{scenario.name}: {c.name}: {error}", file=sys.stderr)
        progress.step()
    progress.close()
    return runs


def save(new: dict[str, Any], file: Path) -> None:
    """Put results in a file in the place of older ones, and leave the others."""
    old = json.loads(file.read_text()) if file.exists() else {"scenarios": {}}
    order = dict.fromkeys(s.name for quick in (False, True) for s in scenarios(quick))
    file.write_text(json.dumps(merge(old, new, [*order]), indent=1) + "\n")


def main() -> int:
    options = arguments()
    selected = chosen(options)
    if options.list:
        print("\n".join(scenario.name for scenario in selected))
        return 0
    selected = possible(selected)
    rounds = options.rounds or (2 if options.quick else 3)
    facts = environment(options.quick)
    runs = measure(selected, rounds)
    measured = [(s, summarise(s, runs[s.name]), runs[s.name]) for s in selected]
    print(heading(facts))
    for scenario, rows, _ in measured:
        print()
        print(table(scenario, rows))
    if options.json:
        save(document(facts, measured), options.json)
    return int(any(not row.rounds for _, rows, _ in measured for row in rows))


if __name__ == "__main__":
    sys.exit(main())
