"""What servers say of themselves in pongs (raknet.md 2.1)."""

from __future__ import annotations

from collections.abc import Mapping

_PREFIX = 2

BEDROCK_EDITIONS = ("MCPE", "MCEE")

BEDROCK_FIELDS = (
    "edition",
    "motd",
    "protocol",
    "version",
    "players",
    "maxPlayers",
    "guid",
    "level",
    "gameMode",
    "gameModeNumber",
    "portV4",
    "portV6",
)
"""Names for the fields of Bedrock's text; from the seventh on they may be missing."""


def pack_text(text: str) -> bytes:
    """A text as most programs write it: its length in two bytes, then UTF-8."""
    data = text.encode("utf-8", "surrogateescape")
    return len(data).to_bytes(_PREFIX, "big") + data


def unpack_text(data: bytes) -> str:
    """The text of a pong, with or without a length in front. What is no UTF-8 is replaced."""
    if len(data) >= _PREFIX and int.from_bytes(data[:_PREFIX], "big") == len(data) - _PREFIX:
        data = data[_PREFIX:]
    return data.decode("utf-8", "replace")


def bedrock_fields(text: str) -> Mapping[str, str] | None:
    """
    The fields of a Bedrock server's text by name; None if it is none. A semicolon
    inside of a field has a backslash before it.
    """
    fields: list[str] = [""]
    escaped = False
    for character in text:
        if character == ";" and not escaped:
            fields.append("")
        elif character != "\\" or escaped:
            fields[-1] += character
        escaped = character == "\\" and not escaped
    if fields[0] not in BEDROCK_EDITIONS:
        return None
    return dict(zip(BEDROCK_FIELDS, fields, strict=False))
