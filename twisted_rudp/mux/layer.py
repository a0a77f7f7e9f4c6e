"""
Putting a layer around the engines of a socket: the demultiplexer stays the transport's, and
the hub sees the layers' engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from twisted_rudp.core.engine import (
    Address,
    Admit,
    Buffer,
    Demultiplexer,
    Engine,
    Key,
    SessionTable,
    Verdict,
)


class LayeredEngine(Engine, Protocol):
    """An engine around another."""

    @property
    def inner(self) -> Engine:
        """The one that is on the wire."""


Wrap: TypeAlias = Callable[[Engine, int], LayeredEngine]
"""Puts a layer around an engine that was made at this time."""


class _InnerTable:
    """The sessions of a socket as the transport knows them."""

    __slots__ = ("_table",)

    def __init__(self, table: SessionTable) -> None:
        self._table = table

    def get(self, key: Key) -> Engine | None:
        """The inner engine under a key."""
        found = self._table.get(key)
        return None if found is None else _inner(found)

    @property
    def room(self) -> bool:
        """Whether one more session would be let in whose address is validated."""
        return self._table.room

    @property
    def backlog_room(self) -> bool:
        """Whether one more session would be let in whose address is not validated."""
        return self._table.backlog_room


def _inner(engine: Engine) -> Engine:
    return getattr(engine, "inner", engine)


class LayeredDemultiplexer:
    """A demultiplexer whose engines each get a layer when they are let in."""

    __slots__ = ("_inner", "_wrap")

    def __init__(self, inner: Demultiplexer, wrap: Wrap) -> None:
        """
        @param inner: of the transport.
        """
        self._inner = inner
        self._wrap = wrap

    @property
    def overhead(self) -> int:
        return self._inner.overhead

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        return self._inner.open(run, size, address)

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        return self._inner.seal(run, size)

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        verdict = self._inner.unknown_peer(datagram, address, now, _InnerTable(table))
        if isinstance(verdict, Admit):
            return verdict._replace(engine=self._wrap(verdict.engine, now))
        return verdict

    def continues(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> bool:
        return self._inner.continues(datagram, address, now, _InnerTable(table))

    def ended(self, engine: Engine, now: int) -> None:
        self._inner.ended(_inner(engine), now)

    def deadline(self) -> int | None:
        return self._inner.deadline()

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        return self._inner.tick(now)

    def counters(self) -> Mapping[str, int]:
        return self._inner.counters()

    def diagnosis(self) -> str | None:
        return self._inner.diagnosis()
