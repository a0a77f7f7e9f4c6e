"""What a discovery server remembers (discovery.md 1.5, 1.6 rule 6)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
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
