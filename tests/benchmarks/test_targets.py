"""Tests of the verdicts about targets, and of the files that results are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.contenders import ONE_PORT
from tests.benchmarks.report import merge
from tests.benchmarks.scenarios import scenarios
from tests.benchmarks.targets import TARGETS, Verdict, verdicts


def document(name: str, metric: str, *rows: tuple[str, str, float]) -> Mapping[str, Any]:
    """One scenario, with rows of contender, group and figure."""
    listed = [
        {"name": row, "group": group, "values": {metric: {"median": value}}}
        for row, group, value in rows
    ]
    return {"scenarios": {name: {"rows": listed}}}


class VerdictTests(SynchronousTestCase):
    """L{verdicts}."""

    def verdict(self, what: str, found: Mapping[str, Any]) -> Verdict:
        (verdict,) = [v for v in verdicts(found) if v.target.what == what]
        return verdict

    def test_best(self) -> None:
        """A ratio is to the best window of kcp-go."""
        rows = [
            ("small", "kcp-go", 100.0),
            ("large", "kcp-go", 200.0),
            ("Twisted TCP", "tcp", 5000.0),
            ("twisted_rudp, gso port, kernels", "ours", 1900.0),
        ]
        what = "plain stream, one process, goodput"
        verdict = self.verdict(what, document("plain", "goodput", *rows))
        self.assertEqual(verdict.got, 9.5)
        self.assertEqual(verdict.cells(), (what, ">= 10.00x", "9.50x", "**missed**"))

    def test_least(self) -> None:
        """Of times the best is the least, and less than the target meets it."""
        rows = [("go", "kcp-go", 80.0), ("twisted_rudp, gso port, kernels", "ours", 40.0)]
        verdict = self.verdict("64-byte echo, two processes, p50", document("echo2", "p50", *rows))
        self.assertEqual((verdict.got, verdict.met), (0.5, True))

    def test_figure(self) -> None:
        """Some targets are figures."""
        what = "1000 idle pairs on two ports, KB a pair"
        verdict = self.verdict(what, document("idle1000", "memory", (ONE_PORT, "ours", 12.0)))
        self.assertEqual(verdict.cells(), (what, "<= 10.00", "12.00", "**missed**"))

    def test_missing(self) -> None:
        """What was not measured is not met."""
        for verdict in verdicts({"scenarios": {}}):
            self.assertFalse(verdict.met)
            self.assertEqual(verdict.cells()[-2:], ("not measured", "open"))

    def test_exists(self) -> None:
        """Each target is asked of something that is measured."""
        known = {
            (scenario.name, contender.name, metric.name)
            for scenario in scenarios(quick=False)
            for contender in scenario.contenders
            for metric in scenario.metrics
        }
        for target in TARGETS:
            self.assertIn((target.scenario, target.row, target.metric), known)


class MergeTests(SynchronousTestCase):
    """L{merge}."""

    def test_replaced(self) -> None:
        """
        New results take the place of old ones, in the order of the scenarios; those that
        are no scenarios any more go.
        """
        old = {"scenarios": {"c": 1, "a": 1, "gone": 1}}
        new = {"scenarios": {"b": 2, "a": 2}}
        merged = merge(old, new, ["a", "b", "c"])
        self.assertEqual([*merged["scenarios"].items()], [("a", 2), ("b", 2), ("c", 1)])
