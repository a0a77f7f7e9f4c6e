"""Fresh Python processes that see the package under test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import twisted_rudp

CHECKOUT = Path(__file__).resolve().parent.parent
"""The source tree that the tests are in."""


def environment(**more: str) -> dict[str, str]:
    """
    This process's environment, with the package under test on the path: the
    C{twist} and C{trial} scripts do not look in the current directory (PLG-7).
    """
    here = str(Path(twisted_rudp.__file__).resolve().parent.parent)
    path = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}


def python(*arguments: str) -> list[str]:
    """The command line of this very interpreter."""
    return [sys.executable, *arguments]
