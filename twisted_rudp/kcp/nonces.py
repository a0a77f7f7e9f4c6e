"""Random bytes for every datagram."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Entropy: TypeAlias = Callable[[int], bytes]
"""A cryptographically secure source: number of bytes -> so many."""

_BATCH = 4096


class Nonces:
    """
    Draws from a source in batches: one call of the system for each nonce would
    cost a quarter of the encryption.
    """

    __slots__ = ("_entropy", "_position", "_store")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._store = b""
        self._position = 0

    def take(self, count: int) -> bytes:
        """The next C{count} bytes; none is given twice."""
        end = self._position + count
        if end > len(self._store):
            rest = self._store[self._position :]
            self._store = rest + self._entropy(max(_BATCH, count))
            self._position, end = 0, count
        taken = self._store[self._position : end]
        self._position = end
        return taken
