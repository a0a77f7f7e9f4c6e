"""
Writes the tables of the endpoint reference from what the endpoint classes declare. With
C{--check} it only says whether they are as they should be.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted_rudp.strings import EVERY, MuxParser, NodeParser, Role, Transport, mux, node


def rows(role: Role) -> Iterator[tuple[str, str, str, str]]:
    """One row for each option: name, what may be given, default, meaning."""
    for name, option in role.table().items():
        yield (
            f"``{name}``",
            marked(option.kind.expected),
            "required" if option.required else option.default_text(),
            marked(option.meaning),
        )


def marked(text: str) -> str:
    """Epytext's markup of code to that of reStructuredText."""
    return re.sub(r"C\{([^}]*)\}", r"``\1``", text)


def table(role: Role) -> str:
    """A list table."""
    lines = [
        ".. list-table::",
        "   :class: stacked",
        "   :header-rows: 1",
        "   :widths: 16 26 14 44",
        "",
    ]
    for row in [("argument", "value", "default", "meaning"), *rows(role)]:
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}")
    return "\n".join(lines)


def changeable(role: Role) -> str:
    """Which arguments can be changed while a session runs."""
    names = [f"``{name}``" for name, option in role.table().items() if option.changeable]
    if not names:
        return "None of these can be changed while a session runs."
    return f"Can be changed while a session runs (:ref:`configure`): {', '.join(names)}."


def page(transport: Transport) -> str:
    """The generated part of the reference for one transport."""
    prefix = transport.prefix
    parts = [
        f".. Made by docs/arguments.py; edit twisted_rudp/endpoints/{prefix}.py instead.",
        "",
        f"Server: ``{prefix}:PORT``",
        "~" * (len(prefix) + 18),
        "",
        table(transport.server),
        "",
        f"Client: ``{prefix}:HOST:PORT``",
        "~" * (len(prefix) + 23),
        "",
        table(transport.client),
        "",
        changeable(transport.client),
        "",
    ]
    return "\n".join(parts)


def nodes() -> str:
    """The generated part of the reference for nodes."""
    prefix = NodeParser.prefix
    return "\n".join(
        [
            ".. Made by docs/arguments.py; edit twisted_rudp/endpoints/node.py instead.",
            "",
            f"Client: ``{prefix}:ID``",
            "~" * (len(prefix) + 16),
            "",
            table(node.NODE),
            "",
            "Any argument of a transport's client may follow, but for ``host`` and ``port``; it",
            "goes to each of ``transports`` that knows it.",
            "",
        ]
    )


def muxed() -> str:
    """The generated part of the reference for multiplexers."""
    return "\n".join(
        [
            ".. Made by docs/arguments.py; edit twisted_rudp/endpoints/mux.py instead.",
            "",
            "Client: ``mux:ENDPOINT``",
            "~~~~~~~~~~~~~~~~~~~~~~~~",
            "",
            table(mux.CLIENT),
            "",
            "The arguments of the endpoint behind it may stand before or after these.",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write or check every table."""
    stale = []
    pages = {transport.prefix: page(transport) for transport in EVERY}
    pages[NodeParser.prefix] = nodes()
    pages[MuxParser.prefix] = muxed()
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
