"""A discovery server's table in a file, so that a restart forgets nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from twisted_rudp.discovery.servertable import Place

FORMAT = "twisted_rudp discovery table"
VERSION = 1


class CorruptFile(ValueError):
    """The file is not what was written."""


def save(path: Path, places: Iterable[tuple[bytes, Place]]) -> None:
    """
    Write all places, so that the file is the old one or the new one whatever happens.

    @raise OSError: it cannot be written.
    """
    head = json.dumps({"format": FORMAT, "version": VERSION})
    lines = [head]
    lines.extend(
        f"{node.hex()} {place.ip.hex()} {place.port} {place.seen:.3f}" for node, place in places
    )
    lines.append(f"end {len(lines) - 1}\n")
    beside = path.with_name(path.name + ".new")
    with open(beside, "w", encoding="ascii") as file:
        file.write("\n".join(lines))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def load(path: Path, longest: int) -> list[tuple[bytes, Place]]:
    """
    @param longest: bytes; a longer file is not ours.
    @return: what was saved, oldest first; nothing if there is no file.
    @raise CorruptFile: another format or version, or damaged.
    @raise OSError: it cannot be read.
    """
    try:
        if path.stat().st_size > longest:
            raise CorruptFile(f"longer than {longest} bytes")
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as problem:
        raise CorruptFile("not text") from problem
    _check(lines)
    try:
        places = [_place(line) for line in lines[1:-1]]
    except ValueError as problem:
        raise CorruptFile(str(problem)) from problem
    return sorted(places, key=lambda entry: entry[1].seen)


def set_aside(path: Path) -> Path:
    """
    Give a corrupt file another name, in place of one set aside earlier.

    @return: the name.
    @raise OSError: it cannot be renamed.
    """
    aside = path.with_name(path.name + ".corrupt")
    os.replace(path, aside)
    return aside


def _check(lines: list[str]) -> None:
    try:
        head = json.loads(lines[0])
    except (ValueError, IndexError, RecursionError) as problem:
        raise CorruptFile("not a discovery table") from problem
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise CorruptFile("not a discovery table")
    if head.get("version") != VERSION:
        raise CorruptFile(f"version {head.get('version')!r}; this program knows {VERSION}")
    if lines[-1] != f"end {len(lines) - 2}":
        raise CorruptFile("cut short")


def _place(line: str) -> tuple[bytes, Place]:
    """
    @raise ValueError: not a line of ours.
    """
    node, ip, port, seen = line.split(" ")
    place = Place(bytes.fromhex(ip), int(port), float(seen))
    if len(place.ip) not in (4, 16) or not 0 < place.port < 65536 or not node:
        raise ValueError(f"a line with {line[:100]!r}")
    if not 0 <= place.seen < 1e12:
        raise ValueError(f"a time of {place.seen!r}")
    return bytes.fromhex(node), place
