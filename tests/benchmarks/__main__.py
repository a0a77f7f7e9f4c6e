"""
Our transports beside kcp-go, go-raknet and TCP, on this machine, in one go: C{python -m
tests.benchmarks}.

Rounds alternate: every contender runs once before any runs again, so that a
noisy minute falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.metrics import Result
from tests.benchmarks.progress import Progress
from tests.benchmarks.report import document, environment, heading, table
from tests.benchmarks.runner import RunError, run
from tests.benchmarks.scenarios import Scenario, scenarios
from tests.benchmarks.summary import summarise


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, two rounds")
    parser.add_argument("--rounds", type=int, help="alternating rounds (default 5)")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="not all of them")
    parser.add_argument("--contender", metavar="TEXT", help="only those with TEXT in the name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """
    What the command line asked for.
    """
    known = {scenario.name: scenario for scenario in scenarios(options.quick)}
    unknown = set(options.only or ()) - set(known)
    if unknown:
        sys.exit(f"no scenario is called {', '.join(unknown)}; there are {', '.join(known)}")
    named = [known[name] for name in options.only or known]
    wanted = options.contender or ""
    return [
        replace(s, contenders=tuple(c for c in s.contenders if wanted in c.name)) for s in named
    ]


def measure(chosen: Sequence[Scenario], rounds: int) -> dict[str, dict[str, list[Result]]]:
    """
    All runs, by scenario and contender. What fails is reported and left out.
    """
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


def main() -> int:
    options = arguments()
    selected = chosen(options)
    rounds = options.rounds or (2 if options.quick else 5)
    facts = environment(options.quick)
    runs = measure(selected, rounds)
    measured = [(s, summarise(s, runs[s.name]), runs[s.name]) for s in selected]
    print(heading(facts))
    for scenario, rows, _ in measured:
        print()
        print(table(scenario, rows))
    if options.json:
        options.json.write_text(json.dumps(document(facts, measured), indent=1) + "\n")
    return int(any(not row.rounds for _, rows, _ in measured for row in rows))


if __name__ == "__main__":
    sys.exit(main())
