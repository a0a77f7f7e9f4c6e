"""
The configuration file of C{twist rudp --config FILE}: several services in one TOML file.

Endpoints are strings as on the command line, or tables whose values may be secrets from
elsewhere: C{{ file = "PATH" }}, C{{ env = "NAME" }} or C{{ credential = "NAME" }}, the last
one from systemd.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet.endpoints import quoteStringArgument
from twisted.python import usage

SERVICES: Final = ("forward", "reverse", "echo", "announce", "discovery-server", "raknet-pong")
"""The tables of services, each an array; their keys are the options of that command."""

GENERAL: Final = (
    "control",
    "metrics",
    "metrics-per-session",
    "pcap",
    "trace",
    "workers",
    "workers-by-host",
)
"""The keys outside of tables."""


class ConfigError(usage.UsageError):
    """The file is invalid; the text names the place."""


def read(path: str) -> str:
    """
    The text of a file.

    @raise ConfigError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise ConfigError(f"--config {path}: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"--config {path}: {problem}") from None


def parsed(path: str, text: str) -> dict[str, Any]:
    """
    What a file says.

    @param path: for errors.
    @raise ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"--config {path}: {problem}") from None


def arguments(path: str, config: Mapping[str, Any]) -> list[list[str]]:
    """
    The command lines that a file stands for: for each table of a service its command and
    options. They are parsed as any other and stay in this process.

    @raise ConfigError: a key is unknown, or has a value of another kind.
    """
    lines = []
    for name, value in config.items():
        if name in GENERAL:
            continue
        if name not in SERVICES:
            known = ", ".join((*GENERAL, *SERVICES))
            raise ConfigError(f"--config {path}: unknown key {name!r}; the keys are {known}")
        tables = value if isinstance(value, list) else [value]
        for number, table in enumerate(tables, 1):
            where = f"{path}: {name} {number}"
            if not isinstance(table, dict):
                raise ConfigError(f"--config {where}: expected a table, [[{name}]]")
            lines.append([name, *_options(where, table)])
    return lines


def _options(where: str, table: Mapping[str, Any]) -> list[str]:
    line: list[str] = []
    for option, value in table.items():
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                line.append(f"--{option}")
            elif isinstance(each, dict):
                line.append(f"--{option}={endpointString(f'{where}: {option}', each)}")
            elif isinstance(each, str | int | float) and each is not False:
                line.append(f"--{option}={each}")
            elif each is not False:
                raise ConfigError(f"--config {where}: {option}: unexpected {each!r}")
    return line


def endpointString(where: str, table: Mapping[str, Any]) -> str:
    """
    The endpoint string of a table.

    @raise ConfigError: it has no C{type}, or a value is no value of an argument.
    """
    kind = table.get("type")
    if not isinstance(kind, str):
        raise ConfigError(f"--config {where}: type is missing, such as type = \"kcp\"")
    parts = [kind]
    for name, value in table.items():
        if name != "type":
            parts.append(f"{name}={_quoted(_value(f'{where}.{name}', value))}")
    return ":".join(parts)


def _quoted(text: str) -> str:
    quoted: str = quoteStringArgument(text)  # type: ignore[no-untyped-call]
    return quoted


def _value(where: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, dict) and len(value) == 1:
        [(source, name)] = value.items()
        if source in _SECRETS and isinstance(name, str):
            return secret(where, source, name)
    raise ConfigError(
        f"--config {where}: expected a value, or a table with one of {', '.join(_SECRETS)}"
    )


def _file(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


def _environment(name: str) -> str:
    return os.environ[name]


def _credential(name: str) -> str:
    return Path(os.environ["CREDENTIALS_DIRECTORY"], name).read_text(encoding="utf-8")


_SECRETS: Mapping[str, Callable[[str], str]] = {
    "file": _file,
    "env": _environment,
    "credential": _credential,
}


def secret(where: str, source: str, name: str) -> str:
    """
    A secret from a file, the environment, or a credential of systemd, without the end of
    its line.

    @raise ConfigError: there is none; repeats no secret.
    """
    try:
        text = _SECRETS[source](name).rstrip("\r\n")
    except KeyError as problem:
        raise ConfigError(f"--config {where}: ${problem.args[0]} is not set") from None
    except OSError as problem:
        raise ConfigError(f"--config {where}: {name}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config {where}: {name}: not a text file") from None
    if not text:
        raise ConfigError(f"--config {where}: {source} {name} is empty")
    return text
