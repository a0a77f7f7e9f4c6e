"""
Writes the tables of the endpoint reference from what the parsers declare and
from the constructors' defaults. With C{--check} it only says whether they are
as they should be.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from twisted_rudp.strings import TRANSPORTS, NodeParser, Role, Transport, node
from twisted_rudp.strings.arguments import Argument


def rows(module: str, role: Role) -> Iterator[tuple[str, str, str, str]]:
    """One row for each argument: name, what may be given, default, meaning."""
    constructor = getattr(import_module(module), role.endpoint)
    parameters = inspect.signature(constructor).parameters
    for argument in role.arguments:
        default = parameters[argument.name].default
        yield (
            f"``{argument.name}``",
            marked(argument.expected),
            "required" if default is inspect.Parameter.empty else shown(argument, default),
            marked(argument.meaning),
        )


def shown(argument: Argument, default: object) -> str:
    """A default as it would be typed."""
    if default is None:
        return "by the profile" if argument.profiled else "any"
    if default == "":
        return "any"
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)


def marked(text: str) -> str:
    """Epytext's markup of code to that of reStructuredText."""
    return re.sub(r"C\{([^}]*)\}", r"``\1``", text)


def table(module: str, role: Role) -> str:
    """A list table."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 16 26 14 44", ""]
    for row in [("argument", "value", "default", "meaning"), *rows(module, role)]:
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}")
    return "\n".join(lines)


def page(transport: Transport) -> str:
    """The generated part of the reference for one transport."""
    prefix = transport.prefix
    parts = [
        ".. Made by docs/arguments.py; edit twisted_rudp/strings/transports.py instead.",
        "",
        f"Server: ``{prefix}:PORT``",
        "~" * (len(prefix) + 18),
        "",
        table(transport.module, transport.server),
        "",
        f"Client: ``{prefix}:HOST:PORT``",
        "~" * (len(prefix) + 23),
        "",
        table(transport.module, transport.client),
        "",
    ]
    return "\n".join(parts)


def nodes() -> str:
    """The generated part of the reference for nodes."""
    prefix = NodeParser.prefix
    return "\n".join(
        [
            ".. Made by docs/arguments.py; edit twisted_rudp/strings/node.py instead.",
            "",
            f"Client: ``{prefix}:ID``",
            "~" * (len(prefix) + 16),
            "",
            table(node.MODULE, node.NODE),
            "",
            "Any argument of a transport's client may follow, but for ``host`` and ``port``; it",
            "goes to each of ``transports`` that knows it.",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write or check every table."""
    stale = []
    pages = {transport.prefix: page(transport) for transport in TRANSPORTS}
    pages[NodeParser.prefix] = nodes()
    for name, wanted in pages.items():
        path = Path(__file__).parent / f"arguments-{name}.rst"
        if "--check" not in arguments:
            path.write_text(wanted, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(path.name)
    if stale:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run python docs/arguments.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
