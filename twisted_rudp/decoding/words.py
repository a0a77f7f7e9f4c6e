"""What readers of all wires write alike."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_rudp.core.engine import Address


def place(address: Address) -> str:
    """An address as people write it."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def spans(ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges, of which the last number belongs to each."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
