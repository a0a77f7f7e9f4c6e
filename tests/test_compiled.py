"""What is compiled by mypyc, and what says so."""

from __future__ import annotations

import ast
import os
import sys
from importlib import import_module, metadata
from importlib.machinery import ExtensionFileLoader

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from twisted_rudp import kernels


def lists() -> dict[str, list[str]]:
    """The folders that C{setup.py} has compiled, and the modules of them that it does not."""
    found: dict[str, list[str]] = {}
    for node in ast.parse((CHECKOUT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("COMPILED", "INTERPRETED"):
                found[name] = list(ast.literal_eval(node.value))
    return found


class CompiledTests(SynchronousTestCase):
    def test_expected(self) -> None:
        """Tests that are to run compiled do: C{TWISTED_RUDP_EXPECT} says that these are."""
        if os.environ.get("TWISTED_RUDP_EXPECT") == "compiled":
            self.assertTrue(kernels.COMPILED)

    def test_all(self) -> None:
        """Either every module that is to be compiled is, or none."""
        listed = lists()
        for folder in listed["COMPILED"]:
            for path in (CHECKOUT / "twisted_rudp" / folder).glob("*.py"):
                name = f"{folder}/{path.stem}"
                if path.stem == "__init__":
                    continue
                loader = import_module(f"twisted_rudp.{name.replace('/', '.')}").__loader__
                self.assertEqual(
                    isinstance(loader, ExtensionFileLoader),
                    kernels.COMPILED and name not in listed["INTERPRETED"],
                    name,
                )

    def test_interpreted(self) -> None:
        """Each module that stays interpreted is there."""
        for name in lists()["INTERPRETED"]:
            self.assertTrue((CHECKOUT / "twisted_rudp" / f"{name}.py").exists(), name)

    def test_tag(self) -> None:
        """A wheel is for this CPython alone, and says so, if it has compiled modules."""
        about = metadata.distribution("twisted_rudp").read_text("WHEEL") or ""
        python = f"cp{sys.version_info.major}{sys.version_info.minor}"
        self.assertEqual(f"\nTag: {python}-{python}-" in about, kernels.COMPILED)

    def test_description(self) -> None:
        """The description, which versions and logs have, names kernels and modules."""
        self.assertEqual(
            kernels.description(),
            f"{kernels.IMPLEMENTATION} kernels,"
            f" {'compiled' if kernels.COMPILED else 'interpreted'} modules",
        )
