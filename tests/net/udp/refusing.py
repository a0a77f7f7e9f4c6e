"""UDP ports that refuse."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def refusing(host: str) -> Iterator[Any]:
    """
    A port that answers like one nobody listens on, and that no other program is given
    meanwhile: its socket is connected to somebody else.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as taken:
        taken.bind((host, 0))
        taken.connect((host, 9))
        yield taken.getsockname()
