"""Tests for L{twisted_rudp.tracing.files}."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.tracing.files import AppendedFile, TraceFile


class TraceFileTests(SynchronousTestCase):
    """L{TraceFile}."""

    def setUp(self) -> None:
        self.path = self.mktemp()

    def test_private(self) -> None:
        """Only its owner may read it, also if it was there before with another mode."""
        Path(self.path).write_bytes(b"old")
        os.chmod(self.path, 0o644)
        file = TraceFile(self.path, 100)
        file.write(b"new")
        file.close()
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(Path(self.path).read_bytes(), b"new")

    def test_bounded(self) -> None:
        """What does not fit is left out whole, and counted."""
        file = TraceFile(self.path, 10)
        self.assertEqual([file.write(bytes(n)) for n in (6, 5, 4, 1)], [True, False, True, False])
        file.close()
        self.assertEqual((file.size, file.dropped), (10, 2))
        self.assertEqual(os.stat(self.path).st_size, 10)

    def test_fullDisk(self) -> None:
        """An error of the disk is told once; nothing is written or raised afterwards."""
        if not platform.isLinux():
            self.skipTest("only Linux has a disk that is always full")
        problems: list[OSError] = []
        file = TraceFile("/dev/full", 1 << 20, problems.append)
        file.write(b"one")
        file.flush()
        file.write(b"two")
        file.flush()
        file.close()
        self.assertEqual([problem.strerror for problem in problems], ["No space left on device"])
        self.assertEqual(file.dropped, 2)

    def test_closed(self) -> None:
        """After the end nothing is written; closing twice is harmless."""
        file = TraceFile(self.path, 10)
        file.close()
        file.close()
        self.assertFalse(file.write(b"x"))

    def test_noPlace(self) -> None:
        """A file that cannot be opened is an C{OSError} at once."""
        self.assertRaises(OSError, TraceFile, "/nowhere/at/all", 10)


class AppendedFileTests(SynchronousTestCase):
    """L{AppendedFile}."""

    def test_appends(self) -> None:
        """Texts of several are one after the other, for their owner only."""
        path = self.mktemp()
        for text in ("one\n", "two\n"):
            AppendedFile(path, 100).write(text)
        self.assertEqual(Path(path).read_text(), "one\ntwo\n")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

    def test_bounded(self) -> None:
        """A file that is long enough gets no more."""
        path = self.mktemp()
        file = AppendedFile(path, 4)
        for _ in range(3):
            file.write("one\n")
        self.assertEqual(Path(path).read_text(), "one\n")

    def test_gone(self) -> None:
        """If its folder is gone that is told once, and not raised."""
        folder = Path(self.mktemp())
        folder.mkdir()
        problems: list[OSError] = []
        file = AppendedFile(str(folder / "keys"), 100, problems.append)
        (folder / "keys").unlink()
        folder.rmdir()
        file.write("one\n")
        file.write("two\n")
        self.assertEqual(len(problems), 1)
