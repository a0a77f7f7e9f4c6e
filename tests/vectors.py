"""
Golden vectors: data recorded from other implementations, in C{tests/vectors}.

The environment variable C{RUDP_VECTORS} names another folder with files of the same
schema. What is compared comes from the files, never from a constant in a test. Where
that folder lacks a file, the tests that want it are skipped.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

OWN = Path(__file__).parent / "vectors"
FOLDER = Path(os.environ.get("RUDP_VECTORS", OWN))
COMPLETE = FOLDER == OWN
"""
Ours has every kind of recording. So only there a test may want a number or a variety
of them, which shows that it compares what it is meant to.
"""


def load(transport: str, name: str) -> Any:
    """
    One file, packed or not.

    @param name: without its suffixes.
    @raise SkipTest: another folder than ours lacks it.
    """
    plain = FOLDER / transport / f"{name}.json"
    packed = plain.with_suffix(".json.gz")
    if plain.exists():
        return json.loads(plain.read_text(encoding="utf-8"))
    if not packed.exists() and not COMPLETE:
        raise SkipTest(f"{FOLDER} has no {transport}/{name}")
    with gzip.open(packed, "rt", encoding="utf-8") as file:
        return json.load(file)


@cache
def remembered(transport: str, name: str) -> Any:
    """L{load}, once for many examples of a property. Nobody may change it."""
    return load(transport, name)


def names(transport: str, prefix: str) -> Iterator[str]:
    """
    The files of a transport whose names begin so, without suffixes.

    @raise SkipTest: another folder than ours has none.
    """
    folder = FOLDER / transport
    found = {path.name.partition(".json")[0] for path in folder.glob(f"{prefix}*.json*")}
    if not found and not COMPLETE:
        raise SkipTest(f"{FOLDER} has no {transport}/{prefix}*")
    return iter(sorted(found))
