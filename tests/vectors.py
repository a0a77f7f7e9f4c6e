"""
The recorded values that tests compare with, C{tests/vectors/<transport>/}. The
environment variable C{RUDP_VECTORS} names another folder with the same layout.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("RUDP_VECTORS", Path(__file__).parent / "vectors"))


def load(transport: str, name: str) -> Any:
    """
    One file, packed or not.

    @param name: without C{.json}.
    """
    plain = FOLDER / transport / f"{name}.json"
    if plain.exists():
        return json.loads(plain.read_text(encoding="utf-8"))
    with gzip.open(plain.with_suffix(".json.gz"), "rt", encoding="utf-8") as file:
        return json.load(file)


def names(transport: str, beginning: str) -> list[str]:
    """
    The files whose names begin so.
    """
    paths = (FOLDER / transport).glob(f"{beginning}*.json*")
    return sorted({path.name.partition(".")[0] for path in paths})
