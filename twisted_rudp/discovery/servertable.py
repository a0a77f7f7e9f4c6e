"""The table of a discovery server, and the file that keeps it (discovery.md 1.5, 1.6 rule 6)."""

from __future__ import annotations

import json
import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

LIFE = 3600.0
"""Seconds for which an announcement holds."""

MAX_NODES = 100_000

ID_BYTES = 80
"""Bytes of an id, for the bound on all of them: more than a name has (64)."""

_FEWEST_ID_BYTES = 4096

MAX_PER_SOURCE = 256
"""Nodes that one address may have announced at one time."""


class Place(NamedTuple):
    """
    Where a node said it was.

    @ivar ip: 4 or 16 bytes.
    @ivar seen: when it said so, in seconds.
    """

    ip: bytes
    port: int
    seen: float


class ServerTable:
    """
    The newest place of each node in each family; the oldest go first.

    @ivar counters: what happened, by name.
    """

    def __init__(
        self,
        life: float = LIFE,
        nodes: int = MAX_NODES,
        per_source: int = MAX_PER_SOURCE,
        same_family: bool = True,
    ) -> None:
        """
        @param life: seconds.
        @param nodes: places remembered at most; fewer, if the ids are longer than
            L{ID_BYTES} on the average.
        @param per_source: of these, places with the same address.
        @param same_family: answer with an address of the asker's family if there is
            one, instead of always the newest, as the original did.
        """
        self._life = life
        self._limit = nodes
        self._most_id_bytes = max(_FEWEST_ID_BYTES, ID_BYTES * nodes)
        self._id_bytes = 0
        self._per_source = per_source
        self._same_family = same_family
        self._places: OrderedDict[tuple[bytes, int], Place] = OrderedDict()
        self._sources: Counter[bytes] = Counter()
        self.counters = dict.fromkeys(("expired", "evicted", "refused_source"), 0)

    def __len__(self) -> int:
        return len(self._places)

    def announce(self, node: bytes, ip: bytes, port: int, now: float) -> bool:
        """
        Remember where a node is.

        @return: False if its address has announced too many already.
        """
        self.expire(now)
        key = (node, len(ip))
        known = self._places.get(key)
        if (known is None or known.ip != ip) and self._sources[ip] >= self._per_source:
            self.counters["refused_source"] += 1
            return False
        self._forget(key)
        self._places[key] = Place(ip, port, now)
        self._sources[ip] += 1
        self._id_bytes += len(node)
        while len(self._places) > self._limit or self._id_bytes > self._most_id_bytes:
            self._forget(next(iter(self._places)))
            self.counters["evicted"] += 1
        return True

    @property
    def longest_file(self) -> int:
        """Bytes that this table takes in a file at most."""
        return 2 * self._most_id_bytes + 100 * (self._limit + 2)

    def find(self, node: bytes, family: int, now: float) -> Place | None:
        """
        @param family: 4 or 16, the length of the asker's address.
        """
        places = [self._places.get((node, length)) for length in (family, 20 - family)]
        fresh = [p for p in places if p is not None and now < p.seen + self._life]
        if not fresh:
            return None
        return fresh[0] if self._same_family else max(fresh, key=lambda place: place.seen)

    def expire(self, now: float) -> None:
        """Forget what is too old. Costs nothing when nothing is."""
        while self._places:
            key, place = next(iter(self._places.items()))
            if now < place.seen + self._life:
                return
            self._forget(key)
            self.counters["expired"] += 1

    def dump(self) -> Iterator[tuple[bytes, Place]]:
        """Everything as it is now, oldest first; may be read in another thread."""
        keys, places = list(self._places), list(self._places.values())
        return ((node, place) for (node, _), place in zip(keys, places, strict=True))

    def _forget(self, key: tuple[bytes, int]) -> None:
        place = self._places.pop(key, None)
        if place is not None:
            self._id_bytes -= len(key[0])
            self._sources[place.ip] -= 1
            if not self._sources[place.ip]:
                del self._sources[place.ip]


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
