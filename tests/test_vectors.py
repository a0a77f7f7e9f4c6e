"""Tests that compare with golden vectors take all that they compare from the files."""

from __future__ import annotations

import ast
import re
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.interpreter import CHECKOUT, environment, python
from tests.othervectors import Maker


def comparing() -> list[str]:
    """The test cases that read vectors, and the modules of those that are made as they are read."""
    found = []
    for path in sorted((CHECKOUT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        reading = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if re.match(
                r"tests\.(vectors|qotp\.test_transcripts)\b", f"{node.module}.{alias.name}"
            )
        }
        if reading:
            module = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
            cases = [name for name in using(tree, reading) if name.endswith("Tests")]
            found += [f"{module}.{name}" for name in cases] or [module]
    return found


def using(tree: ast.Module, names: set[str]) -> list[str]:
    """What a module defines that uses some names, directly or through what else it defines."""
    defined: dict[str, set[str]] = {}
    for node in tree.body:
        inside = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined[node.name] = inside
        else:
            defined.update(dict.fromkeys(inside, inside) if isinstance(node, ast.Assign) else {})
    known = set(names)
    while more := {name for name, inside in defined.items() if inside & known} - known:
        known |= more
    return [name for name in defined if name in known]


class OtherVectorsTests(TestCase):
    """C{RUDP_VECTORS} names any folder of the same schema."""

    timeout = 300

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name)

    async def passes(self, *modules: str) -> bytes:
        """Run the tests with the folder; what trial says."""
        from twisted.internet import reactor

        vectors = self.folder / "vectors"
        output: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            python()[0],
            [
                *("-m", "twisted.trial", "--reporter=text"),
                *(f"--temp-directory={self.folder}/trial", *modules),
            ],
            env=environment(RUDP_VECTORS=str(vectors)),
            path=str(CHECKOUT),
            reactor=reactor,
        )
        said, complained, code = await output
        self.assertEqual(code, 0, (said + complained).decode(errors="replace")[-4000:])
        return said

    async def test_others(self) -> None:
        """With other keys, bytes and names and fewer cases, all tests pass and none is skipped."""
        Maker(self.folder / "vectors", seed=7).make()
        modules = comparing()
        self.assertGreater(len(modules), 25)
        said = await self.passes(*modules)
        self.assertIn(b"PASSED (successes=", said)

    async def test_none(self) -> None:
        """Where a folder lacks files, what wants them is skipped."""
        (self.folder / "vectors").mkdir()
        said = await self.passes(*comparing())
        (skipped,) = re.findall(rb"PASSED \(skips=(\d+), successes=\d+\)", said)
        self.assertGreater(int(skipped), 30)
