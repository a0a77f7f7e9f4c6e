"""Options of a socket that may change while it is open, by the names they have for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted_rudp.core.checking import require_within
from twisted_rudp.net.ports.contract import SocketOptions

LARGEST_BUFFER = 1 << 30

_SETTINGS = {
    "dscp": ("dscp", 0, 63),
    "readBuffer": ("receiveBuffer", 1, LARGEST_BUFFER),
    "writeBuffer": ("sendBuffer", 1, LARGEST_BUFFER),
}

SOCKET_SETTINGS = frozenset(_SETTINGS)
"""C{dscp}, 0 to 63, and C{readBuffer} and C{writeBuffer}, bytes."""


def changed(options: SocketOptions, changes: Mapping[str, Any]) -> SocketOptions:
    """
    @raise ValueError: a name is none of L{SOCKET_SETTINGS}, or a value is not possible.
    """
    unknown = sorted(changes.keys() - SOCKET_SETTINGS)
    if unknown:
        known = ", ".join(sorted(SOCKET_SETTINGS))
        raise ValueError(f"{unknown[0]} cannot be changed while a socket is open; {known} can")
    found = {}
    for name, value in changes.items():
        option, least, most = _SETTINGS[name]
        require_within(name, value, least, most)
        found[option] = value
    return replace(options, **found)
