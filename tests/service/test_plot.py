"""Tests for L{twisted_rudp.service.plot}."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.decoding.talk import talk
from twisted_rudp.service.plot import PlotOptions, runPlot
from twisted_rudp.service.tracing import endTraces, traceSessions

try:
    import matplotlib
except ImportError:
    matplotlib = None


class PlotTests(SynchronousTestCase):
    """C{rudp plot}."""

    def setUp(self) -> None:
        self.addCleanup(endTraces)

    def trace(self) -> str:
        """The trace of a client."""
        folder = self.mktemp()
        traceSessions(folder)
        talk(self.mktemp(), "kcp")
        endTraces()
        return str(min(Path(folder).iterdir()))

    def plot(self, *arguments: str) -> str:
        options = PlotOptions()
        options.parseOptions(arguments)
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        runPlot(None, options)
        return out.getvalue()

    def test_draws(self) -> None:
        """An SVG beside the trace, or a PNG where it was asked for, with all there is to see."""
        if matplotlib is None:
            self.skipTest("needs matplotlib")
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            trace = self.trace()
            picture = trace.replace(".sqlog", ".svg")
            self.assertEqual(self.plot(trace), f"{picture}\n")
            text = Path(picture).read_text()
            for label in ("kcp client, closed in order", "sent", "received", "Mbit/s", "window",
                          "in flight", "round trip", "ms", "seconds"):  # fmt: skip
                self.assertIn(f">{label}<", text)
            self.assertRegex(text, r">[1-9]\d* lost<")
            other = self.mktemp() + ".png"
            broken = Path(trace).read_bytes()[:-3]
            Path(trace).write_bytes(broken)
            self.assertIn("drawn up to there", self.plot("-o", other, trace))
            self.assertEqual(Path(other).read_bytes()[:4], b"\x89PNG")

    def test_missing(self) -> None:
        """Without matplotlib the error says what to install."""
        before = sys.modules.get("matplotlib.figure")
        sys.modules["matplotlib.figure"] = None  # type: ignore[assignment]
        if before is None:
            self.addCleanup(sys.modules.pop, "matplotlib.figure")
        else:
            self.addCleanup(sys.modules.__setitem__, "matplotlib.figure", before)
        problem = self.assertRaises(UsageError, self.plot, "x.sqlog")
        self.assertIn("pip install 'twisted_rudp[plot]'", str(problem))

    def test_errors(self) -> None:
        """What cannot be is a usage error that says what."""
        if matplotlib is None:
            self.skipTest("needs matplotlib")
        junk = self.mktemp()
        Path(junk).write_bytes(b"junk")
        for arguments, expected in (
            ([], "TRACE"),
            (["-o", "x.pdf", "y"], ".svg or .png"),
            (["/nowhere.sqlog"], "No such file"),
            ([junk], "not a qlog file"),
            (["-o", "/nowhere/x.svg", self.trace()], "--output"),
        ):
            problem = self.assertRaises(UsageError, self.plot, *arguments)
            self.assertIn(expected, str(problem))
