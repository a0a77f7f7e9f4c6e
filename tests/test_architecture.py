"""
The house rules, checked from the syntax trees: which subpackage may know which, who
may print, where a broad C{except} stands, that everything public is described.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator, Sequence, Set
from configparser import ConfigParser
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT, environment, python

PACKAGE = "twisted_rudp"

MAY_IMPORT: dict[str, set[str]] = {
    "kernels": set(),
    "messages": set(),
    "core": {"kernels", "messages"},
    "kcp": {"core", "kernels", "messages"},
    "qotp": {"core", "kernels", "messages"},
    "raknet": {"core", "kernels", "messages"},
    "mux": {"core", "messages"},
    "errors": {"core.engine"},
    "interfaces": {"core.engine", "messages"},
    "asyncio": {"core.engine", "interfaces", "messages"},
    "stats": {"kernels"},
    "tracing": {"core"},
    "net": {"core", "kernels", "errors", "interfaces", "messages", "stats", "tracing"},
    "decoding": {"kcp", "qotp", "raknet", "discovery", "core", "tracing"},
    "discovery": {"net", "core", "errors", "interfaces", "stats"},
    "endpoints": {
        "discovery",
        "tracing",
        "net",
        "kcp",
        "mux",
        "qotp",
        "raknet",
        "core",
        "kernels",
        "errors",
        "interfaces",
        "messages",
        "stats",
    },
    "strings": {"endpoints", "core.settings"},
    "testing": {
        "tracing",
        "net",
        "core",
        "kernels",
        "errors",
        "interfaces",
        "messages",
        "stats",
        "endpoints",
    },
    "service": {
        "decoding",
        "tracing",
        "testing",
        "endpoints",
        "discovery",
        "net",
        "kcp.snmp",
        "mux.control",
        "qotp.keys",
        "core",
        "kernels",
        "errors",
        "interfaces",
        "messages",
        "stats",
    },
}
"""
What each subpackage may import besides itself. A name with a dot allows that module
only. Whoever is not named here may import nothing.
"""

WITHOUT_TWISTED = {"core", "kcp", "mux", "qotp", "raknet", "kernels"}

GUARDS = {
    ("net.usercode", "callUser"),  # calls user code
    ("net.transport", "SessionTransport._call"),  # calls user code
    ("net.messages", "MessageTransport._read"),  # calls user code, for each message
    ("net.session", "Session.receive"),  # calls an engine from the socket
    ("net.session", "Session.visit"),  # calls an engine from the timer and at a turn's end
    ("net.session", "Session.call"),  # calls an engine from anywhere else
    ("net.session", "Session.end"),  # calls an engine to say its last
    ("net.traced", "TracedSession._note"),  # writes a trace, without which a session goes on
    ("net.stream", "StreamTransport._read"),  # calls user code, for each delivery
    ("net.hub", "Hub.runReceived"),  # calls a demultiplexer from the socket
    ("net.hub", "Hub._visitDemux"),  # calls a demultiplexer from the timer and at a turn's end
    ("net.hub", "Hub.owns"),  # asks a demultiplexer whose a datagram is
    ("net.hub", "Hub.ownsAll"),  # the same for a run
    ("net.table", "SessionTable._judge"),  # asks a demultiplexer about an unknown peer
    ("testing.port", "MemoryUDPPort._doRead"),  # a reactor's: calls any datagram protocol
    ("testing.events", "SystemEvents.fire.goOn"),  # a reactor's: calls any trigger
}
"""The functions that may catch everything, and whom each of them calls."""

PRINTERS = {"service"}


CLOCKS = {
    ("net.schedule", "time.monotonic_ns"),
    ("net.monotonic", "time.CLOCK_MONOTONIC"),
    # Only asked whether it was set.
    ("net.monotonic", "time.CLOCK_REALTIME"),
    ("net.udp.whentoread", "time.perf_counter_ns"),
    ("discovery.suspend", "time.monotonic"),
    ("discovery.suspend", "time.time"),
}
"""The modules that have a clock of the system's as default, and which."""


def usedOf(node: ast.AST, names: set[str]) -> Iterator[str]:
    """What a node takes out of the modules with these names."""
    if isinstance(node, ast.ImportFrom) and node.module in names:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
        and not isinstance(node.ctx, ast.Store)
    ):
        yield ast.unparse(node)


@cache
def modules() -> Sequence[tuple[str, Path, ast.Module]]:
    """Every module of the package: its dotted name below the package, its file, its tree."""
    found = []
    for path in sorted((CHECKOUT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(CHECKOUT / PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found.append((name, path, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def subpackage(name: str) -> str:
    """The subpackage that a module, named below the package, is in."""
    return name.partition(".")[0]


def imports(tree: ast.AST, here: str = "") -> Iterator[str]:
    """
    The absolute names of everything that a module imports, wherever it does.

    @param here: the package that the module is in, for relative imports.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            above = here.split(".")[: len(here.split(".")) - node.level + 1] if node.level else []
            source = ".".join(filter(None, [*above, node.module]))
            for alias in node.names:
                yield f"{source}.{alias.name}"


def importedAtImport(tree: ast.Module) -> Iterator[str]:
    """The names imported outside of functions, when the program runs."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def handlers(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.ExceptHandler]]:
    """Every C{except} clause with the qualified name of the function it is in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from handlers(node, f"{function}.{node.name}".lstrip("."))
        else:
            if isinstance(node, ast.ExceptHandler):
                yield function, node
            yield from handlers(node, function)


def isBroad(handler: ast.ExceptHandler) -> bool:
    """Whether it catches C{Exception} or more."""
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        isinstance(each, ast.Name) and each.id in ("Exception", "BaseException")
        for each in caught
    )


class DirectionTests(SynchronousTestCase):
    """Imports run one way: plugin, strings, endpoints, net and transports, core, kernels."""

    def test_directions(self) -> None:
        """No subpackage imports what is not below it."""
        wrong = []
        for name, path, tree in modules():
            here = subpackage(name)
            package = ".".join(path.relative_to(CHECKOUT).parent.parts)
            for imported in imports(tree, package):
                if not imported.startswith(f"{PACKAGE}."):
                    continue
                target = imported.removeprefix(f"{PACKAGE}.")
                allowed = MAY_IMPORT.get(here, set()) | {here, "__version__"}
                if not any(target == each or target.startswith(f"{each}.") for each in allowed):
                    wrong.append(f"{name or PACKAGE} imports {target}")
        self.assertEqual("\n".join(wrong), "")

    def test_everySubpackageIsPlaced(self) -> None:
        """A new subpackage must be given its place in L{MAY_IMPORT}."""
        found = {subpackage(name) for name, _, _ in modules()} - {""}
        self.assertEqual(found - MAY_IMPORT.keys(), set())

    def test_oneWay(self) -> None:
        """The allowed directions have no circle."""
        left = {name: {subpackage(each) for each in MAY_IMPORT[name]} for name in MAY_IMPORT}
        while left:
            ready = {name for name, needs in left.items() if not needs & left.keys()}
            self.assertTrue(ready, f"a circle among {sorted(left)}")
            left = {name: needs for name, needs in left.items() if name not in ready}

    def test_withoutTwisted(self) -> None:
        """
        Engines and what is below them know neither Twisted nor sockets, clocks
        or randomness that was not given to them.
        """
        forbidden = ("twisted", "socket", "time", "asyncio", "random")
        wrong = [
            f"{name} imports {imported}"
            for name, _, tree in modules()
            if subpackage(name) in WITHOUT_TWISTED
            for imported in imports(tree)
            if imported.partition(".")[0] in forbidden
            and imported not in ("random.Random",)
        ]
        self.assertEqual("\n".join(wrong), "")

    def test_stringsAreLazy(self) -> None:
        """Nothing of a transport is imported before a string is parsed (STR-9)."""
        for name, _, tree in modules():
            if subpackage(name) == "strings":
                for imported in importedAtImport(tree):
                    self.assertFalse(
                        imported.startswith(f"{PACKAGE}.")
                        and not imported.startswith(f"{PACKAGE}.strings."),
                        f"{name} imports {imported}",
                    )

    def test_plugin(self) -> None:
        """
        The plugin file knows the strings and nothing else of ours (PLG-2,
        STR-9), and its folders are not packages (PLG-1).
        """
        folder = CHECKOUT / "twisted"
        [plugin] = folder.rglob("*.py")
        self.assertEqual(plugin.relative_to(folder).as_posix(), "plugins/twisted_rudp_plugin.py")
        ours = {
            imported.rpartition(".")[0]
            for imported in imports(ast.parse(plugin.read_text(encoding="utf-8")))
            if imported.startswith(PACKAGE)
        }
        self.assertEqual(ours, {f"{PACKAGE}.strings"})


class ReactorTests(SynchronousTestCase):
    """The reactor is the program's to choose."""

    def test_noReactorAtImport(self) -> None:
        """Importing every module, the plugin too, installs no reactor (TIME-1)."""
        names = [f"{PACKAGE}.{name}".rstrip(".") for name, _, _ in modules()]
        names.append("twisted.plugins.twisted_rudp_plugin")
        script = (
            "import importlib, sys\n"
            "for name in sys.argv[1:]:\n"
            "    importlib.import_module(name)\n"
            "    assert 'twisted.internet.reactor' not in sys.modules, name\n"
        )
        result = subprocess.run(
            python("-c", script, *(name for name in names if not name.endswith("_native"))),
            env=environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))


class HabitTests(SynchronousTestCase):
    """What linters do not see."""

    def test_noPrint(self) -> None:
        """Only command-line tools print (LOG-4)."""
        wrong = [
            f"{name}:{node.lineno}"
            for name, _, tree in modules()
            if subpackage(name) not in PRINTERS
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
        ]
        self.assertEqual("\n".join(wrong), "")

    def test_guards(self) -> None:
        """
        Broad C{except} clauses stand in the named guards and nowhere else, and
        every named guard is one (design 4, FAC-5).
        """
        found = {
            (name, function)
            for name, _, tree in modules()
            for function, handler in handlers(tree)
            if isBroad(handler)
        }
        self.assertEqual(found, GUARDS)

    def test_noGlobalTime(self) -> None:
        """
        Nobody reads the wall clock or the process's random state: clocks and
        randomness are given (TIME-3, TIME-7). Two defaults are about real sockets and
        a machine that was asleep.
        """
        found = {
            (name, used)
            for name, _, tree in modules()
            for node in ast.walk(tree)
            for used in usedOf(node, {"time", "random"})
        }
        sources = {("discovery.service", "random.SystemRandom")}
        seeded = {(name, "random.Random") for name, used in found if used == "random.Random"}
        self.assertEqual(found - seeded - sources, CLOCKS)

    def test_docstrings(self) -> None:
        """
        Every public module, class and function says what it is (DOC-1). What an
        interface or a protocol class declares is described there.
        """
        declared = {
            method.name
            for _, _, tree in modules()
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            and any(ast.unparse(base) == "Protocol" for base in node.bases)
            for method in node.body
            if isinstance(method, ast.FunctionDef)
        }
        wrong = []
        for name, _, tree in modules():
            if tree.body and not ast.get_docstring(tree):
                wrong.append(name or PACKAGE)
            wrong.extend(f"{name}.{each}" for each in undescribed(tree, declared))
        self.assertEqual("\n".join(wrong), "")


def undescribed(
    tree: ast.Module | ast.ClassDef, declared: Set[str], prefix: str = ""
) -> Iterator[str]:
    """
    The public classes, functions and methods without a docstring. A method of a
    class that has bases or declares interfaces may be described there.

    @param declared: names that the protocol classes of this package describe.
    """
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        inherited = isinstance(tree, ast.ClassDef) and (
            bool(tree.bases or tree.decorator_list) or node.name in declared
        )
        if not ast.get_docstring(node) and not inherited:
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from undescribed(node, declared, f"{prefix}{node.name}.")


class PackagingTests(SynchronousTestCase):
    """C{setup.cfg} against the tree."""

    def test_everyPackage(self) -> None:
        """Every package of ours is listed, and C{twisted.plugins} (PLG-5)."""
        config = ConfigParser()
        config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
        listed = set(config["options"]["packages"].split())
        found = {
            ".".join(path.parent.relative_to(CHECKOUT).parts)
            for path in (CHECKOUT / PACKAGE).rglob("__init__.py")
        }
        self.assertEqual(listed, found | {"twisted.plugins"})
