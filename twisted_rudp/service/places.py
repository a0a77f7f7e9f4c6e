"""Where a service listens, as its endpoint string tells: whether two want the same socket."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_COLON: Final = re.compile(r"(?<!\\):")

_KINDS: Final = {
    "kcp": ("udp", "0.0.0.0"),
    "kcptun": ("udp", "0.0.0.0"),
    "qotp": ("udp", "0.0.0.0"),
    "raknet": ("udp", "0.0.0.0"),
    "tcp": ("tcp", "0.0.0.0"),
    "tcp6": ("tcp", "::"),
    "ssl": ("ssl", "0.0.0.0"),
    "unix": ("unix", ""),
}
"""The socket that a kind of endpoint listens on, and its interface if none is given."""

LARGEST_FILE: Final = 1 << 20
"""Bytes of a file that an argument may name and that is looked into."""

Place = tuple[str, str, str]
"""Kind, interface and port; of an inherited socket C{fd} and its number."""


def placeOf(description: str) -> Place | None:
    """
    The place of an endpoint for listening.

    @return: None where it cannot be told.
    """
    name, *arguments = _COLON.split(description.removeprefix("mux:"))
    if name not in _KINDS:
        return None
    kind, everywhere = _KINDS[name]
    named = dict(_pair(each) for each in arguments if "=" in each)
    given = [each.replace("\\:", ":") for each in arguments if "=" not in each]
    if kind == "unix":
        return kind, "", named.get("address", given[0] if given else "")
    for source in ("fd", "systemd"):
        if source in named:
            return kind, source, named[source]
    port = named.get("port", given[0] if given else "")
    interface = named.get("interface", given[1] if kind == "udp" and len(given) > 1 else "")
    return kind, interface or everywhere, port.lstrip("0") or "0"


def fingerprint(line: Sequence[str]) -> str:
    """
    Changes whenever the options of a service do, or a file that one of its endpoints names:
    keys and certificates are read when an endpoint is made.
    """
    digest = hashlib.sha256()
    for option in line:
        digest.update(option.encode("utf-8", "surrogateescape") + b"\0")
        for each in _COLON.split(option.partition("=")[2]):
            digest.update(_content(_pair(each)[1]) + b"\0")
    return digest.hexdigest()


def _pair(argument: str) -> tuple[str, str]:
    name, _, value = argument.partition("=")
    return name, re.sub(r"\\(.)", r"\1", value)


def _content(name: str) -> bytes:
    """What a file holds; nothing if the value names none."""
    if "/" not in name or len(name) > 4096 or "\0" in name:
        return b""
    path = Path(name)
    try:
        if path.is_file() and path.stat().st_size <= LARGEST_FILE:
            return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        # Whether it can be read is found out where it is needed.
        return b"unreadable"
    return b""
