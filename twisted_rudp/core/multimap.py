"""Several values under a key, where most keys have one: a container for each would cost more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Multimap:
    """
    Values by key, those of a key in the order in which they came. A value is under a key once,
    and may be all that can be hashed but a C{dict}.
    """

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        # A value, or a dictionary whose keys are several.
        self._by_key: dict[Any, Any] = {}

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._by_key)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def add(self, key: Any, value: Any) -> None:
        """Put a value under a key."""
        by_key = self._by_key
        if key not in by_key:
            by_key[key] = value
            return
        there = by_key[key]
        if isinstance(there, dict):
            there[value] = None
        elif there != value:
            by_key[key] = {there: None, value: None}

    def discard(self, key: Any, value: Any) -> None:
        """Take a value away, if it is there."""
        by_key = self._by_key
        there = by_key.get(key)
        if isinstance(there, dict):
            there.pop(value, None)
            if not there:
                del by_key[key]
        elif there == value and key in by_key:
            del by_key[key]

    def count(self, key: Any) -> int:
        """How many values a key has."""
        if key not in self._by_key:
            return 0
        there = self._by_key[key]
        return len(there) if isinstance(there, dict) else 1

    def of(self, key: Any) -> Sequence[Any]:
        """The values of a key."""
        if key not in self._by_key:
            return ()
        there = self._by_key[key]
        return tuple(there) if isinstance(there, dict) else (there,)

    def items(self) -> Iterator[tuple[Any, Sequence[Any]]]:
        """The keys with their values."""
        for key in self._by_key:
            yield key, self.of(key)

    def clear(self) -> None:
        """Forget everything."""
        self._by_key.clear()
