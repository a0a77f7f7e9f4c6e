"""
The directory that received files go to. The peer chooses their names, but nothing it names
lies outside of the directory, whatever links there are in it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from stat import S_ISREG
from typing import IO, Final

LONGEST_NAME: Final = 4096
LONGEST_PART: Final = 240
DEEPEST: Final = 64
"""Bytes of a whole name, bytes of each part of it, and how many parts."""

_UNFINISHED: Final = ".rudp-part"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class BadName(ValueError):
    """A name that no file is given here."""


def partsOf(name: bytes) -> tuple[str, ...]:
    """
    The directories and the file that a name on the wire stands for.

    @raise BadName: it is not relative, not in UTF-8, too long, or has parts that are not
        names: empty ones, C{.} and C{..}, such with control characters or backslashes.
    """
    if len(name) > LONGEST_NAME:
        raise BadName("the name is too long")
    try:
        parts = tuple(name.decode("utf-8").split("/"))
    except UnicodeDecodeError:
        raise BadName("the name is not in UTF-8") from None
    if len(parts) > DEEPEST:
        raise BadName("there are too many directories in the name")
    for part in parts:
        if part in ("", ".", "..") or "\\" in part or not part.isprintable():
            raise BadName("the name is none of a file below a directory")
        if len(part.encode()) > LONGEST_PART or part.endswith(_UNFINISHED):
            raise BadName("a part of the name cannot be used here")
    return parts


class Destination:
    """One directory."""

    def __init__(self, path: str, *, force: bool = False) -> None:
        """
        @param path: is made if there is nothing.
        @param force: replace files that exist.
        @raise OSError: it is no directory, or cannot be made.
        """
        self._force = force
        with suppress(FileExistsError):
            os.mkdir(path)
        self._top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Close the directory; no file can be placed in it afterwards."""
        os.close(self._top)

    @property
    def free(self) -> int:
        """Bytes that there is room for."""
        found = os.fstatvfs(self._top)
        return found.f_bavail * found.f_frsize

    def place(self, parts: tuple[str, ...]) -> Place:
        """
        Where a file goes. Directories are made.

        @raise OSError: a part of its name is no directory, or a link.
        """
        directory = os.dup(self._top)
        try:
            for part in parts[:-1]:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=directory)
                below = os.open(part, _DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = below
        except OSError:
            os.close(directory)
            raise
        return Place(directory, parts[-1], self._force)


class Place:
    """
    A file that is being received, under another name until it is whole.

    @ivar name: that it is to have.
    """

    def __init__(self, directory: int, name: str, force: bool) -> None:
        """
        @param directory: descriptor of its directory; the place closes it.
        """
        self.name = name
        self._part = f".{name}{_UNFINISHED}"
        self._directory = directory
        self._force = force

    def close(self) -> None:
        """Harmless when repeated."""
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    def existing(self) -> tuple[IO[bytes], bool] | None:
        """
        What there is already of it.

        @return: the file to read, and whether it is whole; None: nothing. What is no plain
            file is not looked at.
        """
        for name, whole in ((self.name, True), (self._part, False)):
            if whole and self._force:
                continue
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                file = os.fdopen(os.open(name, flags, dir_fd=self._directory), "rb")
                if S_ISREG(os.fstat(file.fileno()).st_mode):
                    return file, whole
                file.close()
        return None

    @property
    def taken(self) -> bool:
        """Something has its name and is not to be replaced."""
        if self._force:
            return False
        try:
            os.stat(self.name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def open(self, offset: int) -> IO[bytes]:
        """
        The file to write, from an offset on. What is behind it is cut off.

        @raise OSError: that is not possible.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        file = os.fdopen(os.open(self._part, flags, 0o666, dir_fd=self._directory), "wb")
        file.truncate(offset)
        file.seek(offset)
        return file

    def discard(self) -> None:
        """What was received is wrong."""
        with suppress(OSError):
            os.unlink(self._part, dir_fd=self._directory)

    def finish(self, executable: bool) -> None:
        """
        It is whole: give it its name.

        @raise OSError: something has the name meanwhile, and is not to be replaced.
        """
        at = self._directory
        if executable:
            mode = os.stat(self._part, dir_fd=at, follow_symlinks=False).st_mode
            os.chmod(self._part, mode | (mode & 0o444) >> 2, dir_fd=at)
        if self._force:
            os.rename(self._part, self.name, src_dir_fd=at, dst_dir_fd=at)
        else:
            os.link(self._part, self.name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
            os.unlink(self._part, dir_fd=at)

