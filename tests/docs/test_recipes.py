"""What the manual tells its readers to type: programs compile, commands have these options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from twisted_rudp.service.command import Options as Command
from twisted_rudp.service.options import Options as Service

PAGES = [
    path
    for path in [*(CHECKOUT / "docs").rglob("*.rst"), CHECKOUT / "README.rst"]
    if "_build" not in path.parts
]

BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.MULTILINE)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Each block of code in this language, with the name of its page."""
    for path in PAGES:
        for found in BLOCK.finditer(path.read_text(encoding="utf-8") + "\n"):
            if found[1] == language:
                yield path.name, dedent(found[2])


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command line of the package, in words."""
    for page, text in blocks("shell"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("twist", "twistd", "rudp") and "rudp" in words:
                yield page, words


class RecipeTests(SynchronousTestCase):
    """The blocks of code on all pages."""

    def test_python(self) -> None:
        """Each program compiles, and what it imports is there."""
        count = 0
        for page, text in blocks("python"):
            count += 1
            for node in ast.walk(ast.parse(text, page)):
                if isinstance(node, ast.ImportFrom) and node.module != "twisted.internet":
                    module = import_module(node.module or "")
                    for alias in node.names:
                        known = hasattr(module, alias.name)
                        self.assertTrue(known, f"{page}: {node.module}.{alias.name}")
        self.assertGreater(count, 10)

    def test_commands(self) -> None:
        """Each command is one, with options and endpoints that it takes."""
        count = 0
        key = Path(self.mktemp())
        key.write_text("ab" * 32)
        key.chmod(0o600)
        for page, words in commands():
            count += 1
            options = Command() if words[0] == "rudp" else Service()
            given = [
                re.sub(r"(keyFile|allowedKeys)=[\w./-]+", rf"\1={key}", word)
                .replace("PUBLIC-KEY", "09" * 32)
                .replace("/etc/rudp/reverse.secret", str(key))
                for word in words[words.index("rudp") + 1 :]
            ]
            if "--help" in given or "--version" in given:
                continue
            try:
                options.parseOptions(given)
            except usage.UsageError as problem:
                self.fail(f"{page}: {shlex.join(words)}: {problem}")
        self.assertGreater(count, 20)

    def test_everyCommand(self) -> None:
        """Each command, and each option of the services, has its place on the page of commands."""
        page = (CHECKOUT / "docs" / "commands.rst").read_text(encoding="utf-8")
        for program, options in (("rudp", Command()), ("twist rudp", Service())):
            for name, _, kind, _ in options.subCommands:
                self.assertIn(f"{program} {name}", page)
                if program == "twist rudp" and name in ("forward", "reverse", "echo"):
                    for option in kind().synonyms.values():
                        if option not in ("help", "version"):
                            self.assertIn(f"--{option}", page, name)
