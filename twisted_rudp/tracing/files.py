"""Files that grow while a program runs: bounded, private, and never in the program's way."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from stat import S_ISREG
from typing import BinaryIO, Final

MODE: Final = 0o600
"""What is captured may be private: nobody but the owner may read it."""

BUFFER: Final = 1 << 16


def open_private(path: str, flags: int) -> int:
    """
    Open a file for writing that nobody but its owner can read, also if it was there before.

    @param flags: besides those.
    @return: its descriptor.
    @raise OSError: it cannot be opened, or is not ours.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, MODE)
    try:
        if S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, MODE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class TraceFile:
    """
    A file that records are appended to. A record is written whole or not at all.

    @ivar size: bytes written so far.
    @ivar dropped: records that were not written: the file is full, closed or broken.
    """

    def __init__(
        self, path: str, limit: int, failed: Callable[[OSError], object] | None = None
    ) -> None:
        """
        @param limit: bytes that the file has at most.
        @param failed: told once if the disk fails afterwards; nothing is written then.
        @raise OSError: the file cannot be opened.
        """
        descriptor = open_private(path, os.O_TRUNC)
        self._file: BinaryIO | None = os.fdopen(descriptor, "wb", BUFFER)
        self._limit = limit
        self._failed = failed
        self.size = 0
        self.dropped = 0

    def write(self, record: bytes) -> bool:
        """
        Append a record.

        @return: whether it was written.
        """
        file = self._file
        if file is None or self.size + len(record) > self._limit:
            self.dropped += 1
            return False
        try:
            file.write(record)
        except OSError as problem:
            self._break(problem)
            return False
        self.size += len(record)
        return True

    def flush(self) -> None:
        """Let readers of the file see what was written."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as problem:
                self._break(problem)

    def close(self) -> None:
        """Write what is left. Harmless when repeated."""
        self.flush()
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _break(self, problem: OSError) -> None:
        """Give the file up: what else would fail is not tried."""
        self.dropped += 1
        file, self._file = self._file, None
        if file is not None:
            # It tries to write what is buffered once more.
            with suppress(OSError):
                file.close()
        if self._failed is not None:
            self._failed(problem)


class AppendedFile:
    """
    A file that several programs may append to. It is opened for each text, so nothing is to
    be closed.
    """

    def __init__(
        self, path: str, limit: int, failed: Callable[[OSError], object] | None = None
    ) -> None:
        """
        @param limit: bytes up to which texts are appended.
        @param failed: told once if the disk fails afterwards; nothing is written then.
        @raise OSError: the file cannot be opened.
        """
        os.close(open_private(path, os.O_APPEND))
        self._path = path
        self._limit = limit
        self._failed = failed
        self._broken = False

    def write(self, text: str) -> None:
        """Append a text."""
        if self._broken:
            return
        try:
            descriptor = open_private(self._path, os.O_APPEND)
            with os.fdopen(descriptor, "wb") as file:
                if os.fstat(descriptor).st_size < self._limit:
                    file.write(text.encode())
        except OSError as problem:
            self._broken = True
            if self._failed is not None:
                self._failed(problem)
