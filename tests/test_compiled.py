"""What is compiled by mypyc, and what says so."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

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


def sources() -> Iterator[tuple[str, Path]]:
    """The modules in those folders, by the names that C{setup.py} gives them."""
    for folder in lists()["COMPILED"]:
        for path in sorted((CHECKOUT / "twisted_rudp" / folder).glob("*.py")):
            if path.stem != "__init__":
                yield f"{folder}/{path.stem}", path


MADE_OTHERWISE = ("Enum", "Flag", "NamedTuple", "Protocol", "dataclass")
"""Ends of the names of bases and decorators that give attributes of a class another meaning."""

PATCHED = {
    "kcp/arq MANY_ACKS",
    "net/multiplex MAX_WAITING",
    "net/table MAX_TIME_WAIT",
    "qotp/extensions OFFER",
}
"""Constants that tests give other values. One that is C{Final} is compiled in where it is used."""


def given(body: list[ast.stmt]) -> Iterator[tuple[str, str, ast.expr]]:
    """The names that statements give values to, how they are annotated, and the values."""
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.target), ast.unparse(node.annotation), node.value
        elif isinstance(node, ast.Assign):
            # Several at once cannot be annotated.
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, "", node.value


def set_by_methods(node: ast.ClassDef) -> set[str]:
    """The attributes of C{self} that something in a class assigns."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and ast.unparse(each.value) == "self"
    }


def loose(tree: ast.Module) -> Iterator[str]:
    """The constants of a module, and of its classes, that are not declared to be constant."""
    for name, annotation, value in given(tree.body):
        # Another name of a class or a function is no value.
        alias = isinstance(value, ast.Name)
        if name.isupper() and not alias and not annotation.startswith("Final"):
            yield name
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        kinds = [ast.unparse(each).partition("(")[0] for each in node.bases + node.decorator_list]
        if any(kind.endswith(MADE_OTHERWISE) for kind in kinds):
            continue
        changing = {"__slots__"} | set_by_methods(node)
        for name, annotation, _ in given(node.body):
            if name not in changing and not annotation.startswith(("Final", "ClassVar")):
                yield f"{node.name}.{name}"


class ConstantTests(SynchronousTestCase):
    """
    What mypyc takes for a variable it looks up in a dictionary, or keeps in each object. A
    constant has to be declared as one.
    """

    def test_final(self) -> None:
        """Each constant of a compiled module is C{Final}, or a C{ClassVar}."""
        found = {
            f"{name} {each}"
            for name, path in sources()
            if name not in lists()["INTERPRETED"]
            for each in loose(ast.parse(path.read_text(encoding="utf-8")))
        }
        self.assertEqual(found - PATCHED, set())

    def test_patched(self) -> None:
        """What tests patch is there, and is not C{Final}."""
        paths = dict(sources())
        for name, constant in map(str.split, PATCHED):
            self.assertIn(constant, loose(ast.parse(paths[name].read_text(encoding="utf-8"))))

    def test_loose(self) -> None:
        """What is looked for is found."""
        source = (
            "A = 1\nB: Final = 2\nC: int = 3\nlower = 4\nD = A\n"
            "class K:\n __slots__ = ()\n a = 1\n b: Final = 2\n c: ClassVar[int] = 3\n d = 4\n"
            " def m(self):\n  self.d = 5\n"
            "class E(IntEnum):\n a = 1\n"
        )
        self.assertEqual(list(loose(ast.parse(source))), ["A", "C", "K.a"])


class CompiledTests(SynchronousTestCase):
    def test_expected(self) -> None:
        """Tests that are to run compiled do: C{TWISTED_RUDP_EXPECT} says that these are."""
        if os.environ.get("TWISTED_RUDP_EXPECT") == "compiled":
            self.assertTrue(kernels.COMPILED)

    def test_all(self) -> None:
        """Either every module that is to be compiled is, or none."""
        interpreted = lists()["INTERPRETED"]
        for name, _ in sources():
            loader = import_module(f"twisted_rudp.{name.replace('/', '.')}").__loader__
            self.assertEqual(
                isinstance(loader, ExtensionFileLoader),
                kernels.COMPILED and name not in interpreted,
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
