"""Each rule of C{docs/conventions.rst} is named by a test, and there are no others."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT

MANUAL = CHECKOUT / "docs" / "conventions.rst"

BY_WRITING = "Rules without a test of their own"
"""Begins the heading of the rules without a test."""

RULE = re.compile(r"^:([A-Z]+-\d+):", re.MULTILINE)

NAMED = re.compile(
    r"\b(?:EP|PORT|CONN|FAC|TR|FLOW|CLOSE|ORD|LAY|ADDR|NAME|TIME|UDP|STR|PLG|SVC|LOG|TEST)-\d+\b"
)


def named(*folders: Path) -> set[str]:
    """The rules that Python files below these folders name."""
    files = [file for folder in folders for file in folder.rglob("*.py")]
    return {rule for file in files for rule in NAMED.findall(file.read_text())}


class ConventionsTests(SynchronousTestCase):
    """C{docs/conventions.rst}."""

    def setUp(self) -> None:
        tested, written = MANUAL.read_text().split(BY_WRITING)
        self.tested = RULE.findall(tested)
        self.written = RULE.findall(written)

    def test_tested(self) -> None:
        """Every rule but those at the end is named in a test or in the conformance suite."""
        tests = named(CHECKOUT / "tests", CHECKOUT / "twisted_rudp" / "testing")
        self.assertEqual(set(self.tested) - tests, set())

    def test_known(self) -> None:
        """What code and tests name is explained, once."""
        rules = self.tested + self.written
        self.assertEqual(len(rules), len(set(rules)))
        here = named(CHECKOUT / "tests", CHECKOUT / "twisted_rudp", CHECKOUT / "twisted")
        self.assertEqual(here - set(rules), set())
