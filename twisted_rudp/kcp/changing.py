"""Settings that may change while a session runs, by the names they have for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted_rudp.core.checking import nanoseconds
from twisted_rudp.kcp.options import SessionOptions
from twisted_rudp.kcp.profiles import Settings, payload_mtu

_SETTINGS = {
    "congestion": "congestion",
    "deadLink": "dead_link",
    "interval": "interval",
    "mtu": "mtu",
    "nc": "nc",
    "nodelay": "nodelay",
    "rcvwnd": "rcvwnd",
    "resend": "resend",
    "sndwnd": "sndwnd",
}
_OPTIONS = {
    "ackNoDelay": "ack_no_delay",
    "alwaysParity": "always_parity",
    "dup": "dup",
    "rateLimit": "rate_limit",
    "readTimeout": "read_timeout",
    "writeDelay": "write_delay",
    "writeTimeout": "write_timeout",
}
_SECONDS = frozenset({"read_timeout", "write_timeout"})


def apply(
    changes: Mapping[str, Any], settings: Settings, options: SessionOptions, headers: int
) -> tuple[Settings, SessionOptions]:
    """
    What a session's settings and options become.

    @param changes: the time limits are seconds, C{mtu} is the session's.
    @param headers: what FEC and encryption take of it.
    @raise ValueError: a name is not known or cannot be changed, or a value is out
        of its range.
    """
    changeable = _SETTINGS.keys() | _OPTIONS.keys()
    unknown = sorted(changes.keys() - changeable)
    if unknown:
        known = ", ".join(sorted(changeable))
        raise ValueError(f"{unknown[0]} cannot be changed while a session runs; {known} can")
    arq = {_SETTINGS[name]: changes[name] for name in changes.keys() & _SETTINGS.keys()}
    if "mtu" in arq:
        arq["mtu"] = payload_mtu(arq["mtu"], headers)
    if "nc" in arq:
        arq["nc"] = int(arq["nc"])
    rest = {_OPTIONS[name]: changes[name] for name in changes.keys() & _OPTIONS.keys()}
    for name in rest.keys() & _SECONDS:
        rest[name] = nanoseconds(name, rest[name])
    return replace(settings, **arq), replace(options, **rest)
