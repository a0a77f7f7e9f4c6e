"""The announcements of a registry: bounded in number and bytes, the oldest evicted first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import Source
from twisted_rudp.discovery.urls import Address

_OVERHEAD = 500
"""Bytes that a record takes besides its addresses, roughly."""


@dataclass(eq=False, slots=True)
class Record:
    """
    What one source said about one node.

    @ivar seen: when it said so last, in seconds.
    @ivar queued: the time under which the heap has this record.
    @ivar restarted: when a new instance number was last acted upon.
    @ivar stale: from before the machine slept.
    """

    id: NodeId
    source: Source
    addresses: tuple[Address, ...]
    instance: int | None
    seen: float
    expires: float
    queued: float = 0.0
    restarted: float | None = None
    stale: bool = False
    held: bool = True

    @property
    def weight(self) -> int:
        """Bytes, for the bound on all of them."""
        return _OVERHEAD + sum(len(a.host) + len(a.rest) + 60 for a in self.addresses)


class Table:
    """Records by node and source."""

    def __init__(self, limit: int, weight: int) -> None:
        """
        @param limit: records.
        @param weight: bytes of all records together.
        """
        self._limit = limit
        self._most_weight = weight
        self._weight = 0
        self._nodes: dict[NodeId, dict[Source, Record]] = {}
        self._by_age: OrderedDict[tuple[NodeId, Source], Record] = OrderedDict()
        self._heap: list[tuple[float, int, Record]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(list(self._nodes))

    def get(self, node: NodeId, source: Source) -> Record | None:
        """What a source said about a node."""
        return self._nodes.get(node, {}).get(source)

    def of(self, node: NodeId) -> list[Record]:
        """Everything said about a node."""
        return list(self._nodes.get(node, {}).values())

    def id_of(self, node: NodeId) -> NodeId:
        """A node's id with its name, if any source has told that."""
        ids = [record.id for record in self.of(node)]
        return next((each for each in ids if each.name is not None), ids[0] if ids else node)

    def add(self, record: Record) -> None:
        """Enter a record for a node and source that has none."""
        self._nodes.setdefault(record.id, {})[record.source] = record
        self._by_age[record.id, record.source] = record
        self._weight += record.weight
        self._queue(record)

    def renew(
        self, record: Record, addresses: tuple[Address, ...], seen: float, expires: float
    ) -> None:
        """The source has said it again, or something else."""
        if addresses != record.addresses:
            self._weight -= record.weight
            record.addresses = addresses
            self._weight += record.weight
        record.seen = seen
        record.stale = False
        self._by_age.move_to_end((record.id, record.source))
        self.expire_at(record, expires)

    def expire_at(self, record: Record, expires: float) -> None:
        """Set the end of a record. A later end costs nothing until the earlier has come."""
        record.expires = expires
        if expires < record.queued:
            self._queue(record)

    def remove(self, record: Record) -> None:
        """Forget a record."""
        record.held = False
        self._weight -= record.weight
        del self._by_age[record.id, record.source]
        sources = self._nodes[record.id]
        del sources[record.source]
        if not sources:
            del self._nodes[record.id]

    def records(self) -> Iterator[Record]:
        """All of them, oldest first."""
        return iter(list(self._by_age.values()))

    def crowded(self) -> bool:
        """Whether a record must go."""
        return len(self._by_age) > self._limit or self._weight > self._most_weight

    def oldest(self, pinned: Container[NodeId]) -> Record | None:
        """The record to go first. Those of pinned nodes stay."""
        return next((r for r in self._by_age.values() if r.id not in pinned), None)

    def due(self, now: float) -> Iterator[Record]:
        """The records whose end has come, still in the table."""
        while (moment := self.next()) is not None and moment <= now:
            _, _, record = heappop(self._heap)
            if record.expires > now:
                self._queue(record)
            else:
                yield record

    def next(self) -> float | None:
        """When to ask for L{due} again."""
        while self._heap and not self._means(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _queue(self, record: Record) -> None:
        record.queued = record.expires
        heappush(self._heap, (record.expires, next(self._order), record))
        if len(self._heap) > 4 * len(self._by_age) + 64:
            self._heap = sorted(filter(self._means, self._heap))

    @staticmethod
    def _means(entry: tuple[float, int, Record]) -> bool:
        """Whether an entry of the heap is still its record's."""
        queued, _, record = entry
        return record.held and queued == record.queued
