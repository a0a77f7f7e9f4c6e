"""
Who may connect to a QOTP endpoint: the keys that a server allows, and the password of both
ends, from arguments and from files.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from twisted.logger import Logger

from twisted_rudp.core.settings import FileName, Kind
from twisted_rudp.qotp.authentication import Password
from twisted_rudp.qotp.keys import KEY_SIZE, parse_key

LONGEST_FILE: Final = 8 << 20
"""Bytes of a file of keys: some hundred thousand of them."""

GivenKeys: TypeAlias = str | os.PathLike[str] | Collection[str | bytes]
"""The name of a file, or the keys themselves."""


class KeysKind(Kind):
    """The name of a file of keys; a program may also give the keys."""

    expected = FileName.expected

    def parse(self, text: str) -> str:
        return FileName().parse(text)

    def accepts(self, value: Any) -> bool:
        if isinstance(value, (str, os.PathLike)):
            return FileName().accepts(value)
        return isinstance(value, Collection) and not isinstance(value, (bytes, bytearray))


class AllowedKeys:
    """
    The public keys that a server accepts. A file is read again when it has changed, and
    where that fails the keys from before remain.
    """

    _log = Logger()

    def __init__(self, source: GivenKeys) -> None:
        """
        @raise ValueError: there is no such file, or something in it is no key; names it.
        """
        self._path: Path | None = None
        self._state: tuple[int, ...] | None = None
        if isinstance(source, (str, os.PathLike)):
            self._path = Path(source)
            self._keys = self._read(self._path)
        else:
            self._keys = frozenset(map(_key, source))

    def __contains__(self, key: bytes) -> bool:
        """Whether a key is allowed, by the file as it is now."""
        if self._path is not None and self._state != _stateOf(self._path):
            try:
                self._keys = self._read(self._path)
            except ValueError as problem:
                self._state = _stateOf(self._path)
                self._log.error(
                    "{problem}; the {count} keys from before remain",
                    problem=str(problem),
                    count=len(self._keys),
                )
            else:
                self._log.info(
                    "allowedKeys={path}: read again, {count} keys",
                    path=str(self._path),
                    count=len(self._keys),
                )
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def reload(self) -> None:
        """
        Read the file again now; without one, nothing happens.

        @raise ValueError: that is not possible. Then the keys from before remain.
        """
        if self._path is not None:
            self._keys = self._read(self._path)

    def replace(self, keys: Iterable[str | bytes]) -> None:
        """
        Allow these keys from now on, and no file any more.

        @raise ValueError: one is no key.
        """
        self._keys = frozenset(map(_key, keys))
        self._path = None

    def _read(self, path: Path) -> frozenset[bytes]:
        # Before reading: what is written meanwhile is read the next time.
        state = _stateOf(path)
        try:
            with path.open("rb") as file:
                content = file.read(LONGEST_FILE + 1)
        except OSError as error:
            raise ValueError(f"allowedKeys={str(path)!r}: {error.strerror}") from None
        if len(content) > LONGEST_FILE:
            raise ValueError(f"allowedKeys={str(path)!r}: longer than {LONGEST_FILE} bytes")
        keys = set()
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            text = line.partition("#")[0].strip()
            try:
                if text:
                    keys.add(parse_key(text))
            except ValueError:
                raise ValueError(
                    f"allowedKeys={str(path)!r}, line {number}: no key; expected 64 hexadecimal"
                    " digits, as rudp keygen prints them"
                ) from None
        self._state = state
        return frozenset(keys)


def _stateOf(path: Path) -> tuple[int, ...] | None:
    """Differs after a file was written or replaced. None: there is no such file."""
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None


def _key(given: str | bytes) -> bytes:
    """
    @raise ValueError: neither 32 bytes nor 64 hexadecimal digits.
    """
    key = parse_key(given) if isinstance(given, str) else bytes(given)
    if len(key) != KEY_SIZE:
        raise ValueError(f"allowedKeys: a public key has {KEY_SIZE} bytes, not {len(key)}")
    return key


def passwordFrom(password: str | bytes | None, passwordFile: str | None) -> Password | None:
    """
    The password that was given, if one was.

    @param passwordFile: name of a file; its first line is the password.
    @raise ValueError: both are given, or the file holds none.
    """
    if passwordFile is None:
        return None if password is None else Password(password)
    if password is not None:
        raise ValueError("password and passwordFile cannot be given together")
    try:
        with Path(passwordFile).open("rb") as file:
            line = file.readline(LONGEST_FILE).rstrip(b"\r\n")
    except OSError as error:
        raise ValueError(f"passwordFile={passwordFile!r}: {error.strerror}") from None
    if not line:
        raise ValueError(f"passwordFile={passwordFile!r}: the first line, the password, is empty")
    return Password(line)
