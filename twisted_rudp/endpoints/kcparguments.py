"""
What the arguments of the KCP endpoints say when they are taken together.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted_rudp.kcp.checking import require_choice, require_flag
from twisted_rudp.kcp.keys import Secret, from_hex, from_password
from twisted_rudp.kcp.profiles import PROFILES, Settings
from twisted_rudp.net.making import Mode


def settingsFor(
    profile: str = "default",
    *,
    nodelay: int | None = None,
    interval: int | None = None,
    resend: int | None = None,
    nc: bool | None = None,
    sndwnd: int | None = None,
    rcvwnd: int | None = None,
    congestion: str | None = None,
    deadLink: int | None = None,
    mtu: int = 1400,
    mode: str = Mode.STREAM,
) -> Settings:
    """
    A named profile with what was given by name in its place.

    @raise ValueError: names the argument, its value and what would be right.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r} is not one of {', '.join(PROFILES)}")
    if nc is not None:
        require_flag("nc", nc)
    carrying = require_choice("mode", mode, Mode)
    given: dict[str, Any] = {
        "nodelay": nodelay,
        "interval": interval,
        "resend": resend,
        "nc": None if nc is None else int(nc),
        "sndwnd": sndwnd,
        "rcvwnd": rcvwnd,
        "congestion": congestion,
        "dead_link": deadLink,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(PROFILES[profile], mtu=mtu, stream=carrying is Mode.STREAM, **changes)


def secretFor(
    crypt: str | None, key: str | None, password: str | None, keyFile: str | None
) -> Secret:
    """
    The cipher and its key, of which at most one source is given.

    @raise ValueError: something about them is not right; repeats no secret.
    """
    given = [
        name
        for name, value in (("key", key), ("password", password), ("keyFile", keyFile))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: give one of them")
    if keyFile is not None:
        try:
            key = Path(keyFile).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "not a text file"
            raise ValueError(f"keyFile={keyFile!r}: {problem}") from None
    if key is not None:
        return Secret(crypt, from_hex(key))
    if password is not None:
        if not password:
            raise ValueError("password: an empty one protects nothing")
        return Secret(crypt, from_password(password))
    return Secret(crypt, None)
