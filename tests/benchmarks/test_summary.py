"""Tests of the arithmetic behind the tables."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.contenders import Contender, Group
from tests.benchmarks.loss import lose
from tests.benchmarks.metrics import COST, GOODPUT, MEDIAN_TRIP, Metric, Result
from tests.benchmarks.publish import page, publish
from tests.benchmarks.report import document, environment, table
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.summary import Runs, summarise
from twisted_rudp.endpoints import kcp as kcpendpoints

ROWS = (
    Contender("go small", Group.KCP_GO, ()),
    Contender("go large", Group.KCP_GO, ()),
    Contender("mine", Group.OURS, ()),
)


def scenario(*metrics: Metric) -> Scenario:
    return Scenario("name", "Title", (), metrics, ROWS)


def moved(megabytes: float) -> Result:
    return {"bytes": megabytes * 1e6, "seconds": 1.0, "cpu_seconds": 2.0}


class SummaryTests(SynchronousTestCase):
    def test_ratios(self) -> None:
        """Ratios are of medians: to kcp-go's first row and to its best."""
        rows = summarise(
            scenario(GOODPUT, COST),
            {
                "go small": [moved(100), moved(90), moved(500)],
                "go large": [moved(200), moved(200), moved(200)],
                "mine": [moved(1000), moved(800), moved(900)],
            },
        )
        mine = rows[2]
        self.assertEqual(mine.ratios, {"stock": 9.0, "best": 4.5})
        spread = mine.values["goodput"]
        self.assertEqual((spread.least, spread.median, spread.most), (800, 900, 1000))

    def test_stalled(self) -> None:
        """A run in which nothing arrived, or one piece, has no goodput."""
        for size in (0, 1376):
            stalled = {"bytes": size, "seconds": 0.0, "cpu_seconds": 1.0}
            self.assertEqual(GOODPUT.of(stalled), 0.0)

    def test_bestOfTimes(self) -> None:
        """Where less is better, the best of kcp-go is the least."""
        rows = summarise(
            scenario(MEDIAN_TRIP),
            {"go small": [{"p50_us": 20}], "go large": [{"p50_us": 40}], "mine": [{"p50_us": 10}]},
        )
        self.assertEqual(rows[2].ratios, {"stock": 0.5, "best": 0.5})

    def test_failed(self) -> None:
        """A contender without a result is shown as failed and is no reference."""
        chosen = scenario(GOODPUT)
        rows = summarise(chosen, {"go small": [], "go large": [moved(200)], "mine": [moved(400)]})
        self.assertEqual(rows[2].ratios, {"stock": 2.0, "best": 2.0})
        self.assertIn("failed", table(chosen, rows))


class PageTests(SynchronousTestCase):
    def test_page(self) -> None:
        """The page names the machine, every contender with its figures, and what failed."""
        chosen = scenario(GOODPUT)
        runs: Runs = {"go small": [], "go large": [moved(200)], "mine": [moved(400)]}
        facts = environment(quick=True)
        written = page(document(facts, [(chosen, summarise(chosen, runs), runs)]), ["plot.svg"])
        for expected in (
            f"{facts['cores']} cores",
            "a quick run",
            ".. image:: plot.svg",
            "   * - go small\n     - failed\n",
            "   * - mine\n     - 400 [400 - 400]\n     - 2.00\n     - 2.00\n",
        ):
            self.assertIn(expected, written)

    def test_otherMachine(self) -> None:
        """A page of another name is that of another machine, without pictures."""
        chosen = scenario(GOODPUT)
        runs: Runs = {"go small": [], "go large": [moved(200)], "mine": [moved(400)]}
        facts = {**environment(quick=False), "cpu": "Abacus"}
        source, target = Path(self.mktemp()), Path(self.mktemp())
        source.write_text(json.dumps(document(facts, [(chosen, summarise(chosen, runs), runs)])))
        publish(source, target)
        written = target.read_text()
        self.assertTrue(written.startswith("Benchmarks on Abacus\n====================\n"))
        self.assertIn("   * - mine\n", written)
        self.assertNotIn("image", written)


class LossTests(SynchronousTestCase):
    def test_share(self) -> None:
        """
        The demultiplexer loses about the share asked for, single datagrams, and keeps the others in
        order.
        """
        self.patch(kcpendpoints, "KCPDemultiplexer", kcpendpoints.KCPDemultiplexer)
        lose(0.1, 1)
        demux = kcpendpoints.KCPDemultiplexer()
        numbers: list[int] = []
        for start in range(0, 5000, 50):
            sent = [at.to_bytes(24, "big") for at in range(start, start + 50)]
            for _, run, size in demux.open(b"".join(sent), 24, ("192.0.2.1", 1)):
                got = bytes(run)
                starts = range(0, len(got), size)
                numbers += [int.from_bytes(got[at : at + size], "big") for at in starts]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertTrue(4300 < len(numbers) < 4700, len(numbers))
