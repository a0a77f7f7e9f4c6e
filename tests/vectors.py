"""
Golden vectors: data recorded from other implementations, in C{tests/vectors}. The
environment variable C{RUDP_VECTORS} names another folder with the same layout.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("RUDP_VECTORS", Path(__file__).parent / "vectors"))


def load(transport: str, name: str) -> Any:
    """
    One file, packed or not.

    @param name: without its suffixes.
    """
    plain = FOLDER / transport / f"{name}.json"
    if plain.exists():
        return json.loads(plain.read_text(encoding="utf-8"))
    with gzip.open(FOLDER / transport / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def names(transport: str, prefix: str) -> Iterator[str]:
    """The files of a transport whose names begin so, without suffixes."""
    folder = FOLDER / transport
    found = {path.name.partition(".json")[0] for path in folder.glob(f"{prefix}*.json*")}
    return iter(sorted(found))
