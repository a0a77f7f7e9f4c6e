"""Sockets that systemd has opened for this program: socket units (sd_listen_fds(3))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FIRST: Final = 3
"""The first descriptor that is passed."""


def initialEnvironment() -> Mapping[str, str]:
    """
    The environment at the start of this process. Twisted removes the variables of systemd
    from the present one when its endpoints are imported.
    """
    try:
        lines = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(line).partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def passedDescriptor(wanted: str, environment: Mapping[str, str], pid: int) -> int:
    """
    @param wanted: the name of a socket (C{FileDescriptorName=} in the unit; its own name by
        default), or its number, from 0.
    @param pid: this process, for which the sockets have to be meant.
    @raise OSError: there is no such socket.
    """
    count = _number(environment.get("LISTEN_FDS", ""))
    if not count or environment.get("LISTEN_PID") != str(pid):
        raise OSError("systemd has passed no sockets to this process")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if wanted in names[:count]:
        return FIRST + names.index(wanted)
    number = _number(wanted)
    if number is not None and number < count:
        return FIRST + number
    known = ", ".join(filter(None, names[:count])) or "none of them has a name"
    raise OSError(f"systemd has passed {count} sockets, but not {wanted!r}: {known}")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
