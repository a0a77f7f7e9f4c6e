"""
The conventions of CONTRIBUTING that syntax trees show: how classes are cut, what core
holds, who reaches how far into whom, that every module is tested.

L{tests.debts} lists what does not keep to them yet. Nothing may be added to it; what is
mended is taken out.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import debts
from tests.interpreter import CHECKOUT
from tests.test_architecture import PACKAGE, imports, modules, subpackage

TRANSPORTS = ("kcp", "raknet", "qotp")
PARTS = (
    *("wire", "settings", "demux", "engine", "handshake", "close"),
    *("sender", "sent", "receiver"),
)
"""What every transport has, under the same names."""

USERS_OF_CORE = {*TRANSPORTS, "mux", "net", "discovery"}
"""Two of these make a module of C{core} shared."""

LONGEST_LINE = 100


@cache
def trees() -> dict[str, tuple[Path, ast.Module]]:
    """All modules of the package by their names below it."""
    return {name: (path, tree) for name, path, tree in modules()}


@cache
def of_tests() -> list[tuple[Path, ast.Module]]:
    """All modules of the tests."""
    paths = (CHECKOUT / "tests").rglob("*.py")
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


@cache
def imported(name: str) -> frozenset[str]:
    """The modules of the package that one imports, under C{TYPE_CHECKING} too."""
    path, tree = trees()[name]
    package = ".".join(path.relative_to(CHECKOUT).parent.parts)
    found = set()
    for each in imports(tree, package):
        target = each.removeprefix(f"{PACKAGE}.")
        if target == each:
            continue
        module = target if target in trees() else target.rpartition(".")[0]
        if module in trees() and module != name:
            found.add(module)
    return frozenset(found)


def reached(tree: ast.AST) -> Iterator[ast.Attribute]:
    """The whole chains of attributes that begin with a name."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            yield node


def dots(node: ast.expr) -> int:
    """How many attributes follow each other."""
    count = 0
    while isinstance(node, ast.Attribute):
        node, count = node.value, count + 1
    return count if isinstance(node, ast.Name) else 0


class Classes:
    """The classes of the package and what they inherit from."""

    def __init__(self) -> None:
        self.bases: dict[str, list[str]] = {}
        self.subclasses: dict[str, set[str]] = defaultdict(set)
        for name, (path, tree) in trees().items():
            package = ".".join(path.relative_to(CHECKOUT).parent.parts)
            known = {each.rpartition(".")[2]: each for each in imports(tree, package)}
            local = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
            known.update((node.name, f"{PACKAGE}.{name}.{node.name}") for node in local)
            for node in local:
                qualified = f"{PACKAGE}.{name}.{node.name}"
                self.bases[qualified] = [self._resolved(base, known) for base in node.bases]
                for base in self.bases[qualified]:
                    self.subclasses[base].add(qualified)

    @staticmethod
    def _resolved(base: ast.expr, known: dict[str, str]) -> str:
        if isinstance(base, ast.Subscript):
            base = base.value
        first, _, rest = ast.unparse(base).partition(".")
        found = known.get(first, first)
        return f"{found}.{rest}" if rest else found

    def roots(self, name: str) -> Iterator[str]:
        """The names of everything outside that a class inherits from."""
        for base in self.bases.get(name, ()):
            if base in self.bases:
                yield from self.roots(base)
            else:
                yield base.rpartition(".")[2]


class ConventionTests(SynchronousTestCase):
    """One method for each."""

    def none(self, found: Iterable[str], known: Iterable[str]) -> None:
        """Nothing is against the convention but what is known to be."""
        self.assertEqual(sorted({*found} - {*known}), [])

    def fewer(self, found: Counter[str], known: dict[str, int]) -> None:
        """The same with how often in which module."""
        more = {name: n for name, n in found.items() if n > known.get(name, 0)}
        self.assertEqual(more, {})

    def test_bases(self) -> None:
        """A base class has two subclasses, or is a protocol or an error (convention 1)."""
        classes = Classes()
        # Protocols and errors; a class that is made itself may have one subclass beside it.
        kept = {"Protocol", "Interface", "Exception", "Enum", "Flag", "IntEnum", "IntFlag"}
        self.none(
            (
                name.removeprefix(f"{PACKAGE}.")
                for name, below in classes.subclasses.items()
                if name in classes.bases
                and len(below) == 1
                and name.removeprefix(f"{PACKAGE}.") not in debts.MADE
                and not any(
                    root in kept or root.endswith(("Error", "Done", "Lost"))
                    for root in classes.roots(name)
                )
            ),
            debts.BASES,
        )

    def test_parts(self) -> None:
        """The same part has the same name in every transport (convention 2)."""
        self.none(
            (
                f"{transport}.{part}"
                for transport in TRANSPORTS
                for part in PARTS
                if f"{transport}.{part}" not in trees()
            ),
            debts.PARTS,
        )

    def test_core(self) -> None:
        """C{core} holds what two transports use (convention 4)."""
        users: dict[str, set[str]] = defaultdict(set)
        for name in trees():
            for module in imported(name):
                users[module].add(name)

        def users_in(module: str, seen: frozenset[str] = frozenset()) -> set[str]:
            found = set()
            for user in users[module] - seen:
                here = subpackage(user)
                found |= users_in(user, seen | {module}) if here == "core" else {here}
            return found & USERS_OF_CORE

        self.none(
            (
                name
                for name in trees()
                if subpackage(name) == "core" and name != "core" and len(users_in(name)) < 2
            ),
            debts.CORE,
        )

    def test_circles(self) -> None:
        """No circle of imports, those for type checkers included (convention 1)."""
        left = {name: set(imported(name)) for name in trees()}
        for name, needs in left.items():
            # Whoever imports a package's module has the package.
            needs.discard(name.rpartition(".")[0])
        while ready := {name for name, needs in left.items() if not needs & left.keys()}:
            left = {name: needs for name, needs in left.items() if name not in ready}
        # What is left has a circle or stands above one.
        while above := {n for n in left if not any(n in left[other] for other in left)}:
            left = {name: needs for name, needs in left.items() if name not in above}
        self.none(left, debts.CIRCLES)

    def test_reach(self) -> None:
        """Nobody reaches deeper than two dots (convention 8)."""
        found: Counter[str] = Counter()
        for name, (_, tree) in trees().items():
            deep = sum(dots(node) > 2 for node in reached(tree))
            if deep:
                found[name] = deep
        self.fewer(found, debts.REACH)

    def test_docstrings(self) -> None:
        """A docstring of one sentence that fits stands on one line (convention 6)."""
        found: Counter[str] = Counter()
        for name, (_, tree) in trees().items():
            for node in ast.walk(tree):
                if not isinstance(
                    node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
                ):
                    continue
                if not ast.get_docstring(node):
                    continue
                expression = node.body[0]
                assert isinstance(expression, ast.Expr)
                text = inspect.cleandoc(ast.get_docstring(node) or "")
                lines = (expression.end_lineno or 0) - expression.lineno + 1
                width = expression.col_offset + len(text) + 6
                if lines > 1 and "\n" not in text and text[0] != "@" and width <= LONGEST_LINE:
                    found[name] += 1
        self.fewer(found, debts.DOCSTRINGS)

    def test_tested(self) -> None:
        """Each module has its test, or a test that imports it (convention 10)."""
        known: set[str] = set()
        tests: set[str] = set()
        for path, tree in of_tests():
            tests.add(".".join(path.relative_to(CHECKOUT / "tests").with_suffix("").parts))
            package = ".".join(path.relative_to(CHECKOUT).parent.parts)
            for each in imports(tree, package):
                target = each.removeprefix(f"{PACKAGE}.")
                known |= {target, target.rpartition(".")[0]}
        untested = {
            name
            for name, (path, tree) in trees().items()
            if name not in known
            and f"{name.rpartition('.')[0]}.test_{name.rpartition('.')[2]}".lstrip(".") not in tests
            and path.name != "__init__.py"
            and any(not isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body[1:])
        }
        self.none(untested - debts.EXERCISED.keys(), debts.UNTESTED)
        for name, by in debts.EXERCISED.items():
            self.assertIn(name, trees())
            self.assertIn(by.removeprefix("tests."), tests)

    def test_private(self) -> None:
        """Tests do not touch what is private to others (convention 10)."""
        found: Counter[str] = Counter()
        for path, tree in of_tests():
            name = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
            touched = sum(
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
                and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
                and not ast.unparse(node.value).startswith("super(")
                for node in ast.walk(tree)
            )
            if touched:
                found[name] = touched
        self.fewer(found, debts.PRIVATE)
