"""The table of a discovery server, and the file that keeps it (discovery.md 1.5, 1.6 rule 6)."""

from __future__ import annotations

import json
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
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

MAX_PER_NODE = 4
"""Places of one node in each family of addresses."""


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
    Where nodes said they are. The oldest announcements are evicted first.

    Nobody proves who it is, so several places are kept for one node: a forged announcement
    does not replace the true one. Those that were there first stay; newer ones compete for
    the last.

    @ivar counters: what happened, by name.
    @ivar evicted: called with the node and the address of a place that made room for another.
    """

    def __init__(
        self,
        life: float = LIFE,
        nodes: int = MAX_NODES,
        per_source: int = MAX_PER_SOURCE,
        same_family: bool = True,
        per_node: int = MAX_PER_NODE,
    ) -> None:
        """
        @param life: seconds.
        @param nodes: places stored at most; fewer, if the ids are longer than L{ID_BYTES}
            on average.
        @param per_source: of these, places with the same address.
        @param same_family: answer with an address of the asker's family if there is
            one, instead of always the newest, as the original did.
        @param per_node: places of one node in each family.
        """
        self._life = life
        self._limit = nodes
        self._most_id_bytes = max(_FEWEST_ID_BYTES, ID_BYTES * nodes)
        self._id_bytes = 0
        self._per_source = per_source
        self._same_family = same_family
        self._per_node = per_node
        self._places: OrderedDict[tuple[bytes, bytes], Place] = OrderedDict()
        self._nodes: dict[bytes, dict[bytes, None]] = {}
        self._sources: Counter[bytes] = Counter()
        self.evicted: Callable[[bytes, bytes], None] | None = None
        self.counters = dict.fromkeys(
            ("expired", "evicted", "refused_source", "replaced"), 0
        )

    def __len__(self) -> int:
        return len(self._places)

    def announce(self, node: bytes, ip: bytes, port: int, now: float) -> bool:
        """
        Store where a node is.

        @return: False if its address has announced too many already.
        """
        self.expire(now)
        key = (node, ip)
        if key in self._places:
            self._places[key] = Place(ip, port, now)
            self._places.move_to_end(key)
            return True
        if self._sources[ip] >= self._per_source:
            self.counters["refused_source"] += 1
            return False
        family = [other for other in self._nodes.get(node, ()) if len(other) == len(ip)]
        if len(family) >= self._per_node:
            self._evict((node, family[-1]))
            self.counters["replaced"] += 1
        self._places[key] = Place(ip, port, now)
        self._nodes.setdefault(node, {})[ip] = None
        self._sources[ip] += 1
        self._id_bytes += len(node)
        while len(self._places) > self._limit or self._id_bytes > self._most_id_bytes:
            self._evict(next(iter(self._places)))
            self.counters["evicted"] += 1
        return True

    def place(self, node: bytes, ip: bytes) -> Place | None:
        """One place."""
        return self._places.get((node, ip))

    def left(self, place: Place, now: float) -> float:
        """Seconds for which a place still holds."""
        return min(place.seen + self._life - now, self._life)

    def placed(self, ip: bytes, port: int, now: float, left: float) -> Place:
        """The inverse of L{left}: a place that holds so long."""
        return Place(ip, port, now + min(left, self._life) - self._life)

    @property
    def longest_file(self) -> int:
        """The largest file that this table can need, in bytes."""
        return 2 * self._most_id_bytes + 100 * (self._limit + 2)

    def find(
        self,
        node: bytes,
        family: int,
        now: float,
        turn: int = 0,
        elsewhere: Sequence[Place] = (),
    ) -> Place | None:
        """
        @param family: 4 or 16, the length of the asker's address.
        @param turn: how often the same asker was answered just now: who asks again gets
            the next place, beginning with the newest.
        @param elsewhere: what other servers know of this node.
        """
        known = {ip: self._places[node, ip] for ip in self._nodes.get(node, ())}
        for place in elsewhere:
            own = known.get(place.ip)
            if own is None or own.seen < place.seen:
                known[place.ip] = place
        fresh = [place for place in known.values() if now < place.seen + self._life]
        fresh.sort(key=lambda place: place.seen, reverse=True)
        if not fresh:
            return None
        if not self._same_family:
            return fresh[0]
        fresh = [place for place in fresh if len(place.ip) == family] or fresh
        return fresh[turn % len(fresh)]

    def expire(self, now: float) -> None:
        """Remove what is too old. Costs nothing when nothing is."""
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

    def _evict(self, key: tuple[bytes, bytes]) -> None:
        self._forget(key)
        if self.evicted is not None:
            self.evicted(*key)

    def _forget(self, key: tuple[bytes, bytes]) -> None:
        node, ip = key
        del self._places[key]
        self._id_bytes -= len(node)
        del self._nodes[node][ip]
        if not self._nodes[node]:
            del self._nodes[node]
        self._sources[ip] -= 1
        if not self._sources[ip]:
            del self._sources[ip]


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
