"""Tests for L{twisted_rudp.service.destination}."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.destination import (
    DEEPEST,
    LONGEST_NAME,
    LONGEST_PART,
    BadName,
    Destination,
    partsOf,
)


class MadeTests(SynchronousTestCase):
    """The directory itself."""

    def test_made(self) -> None:
        """It is made if there is none; those above it are not."""
        path = self.mktemp()
        Destination(path).close()
        Destination(path).close()
        self.assertTrue(os.path.isdir(path))
        self.assertRaises(FileNotFoundError, Destination, os.path.join(path, "a", "b"))

    def test_file(self) -> None:
        """A file is no directory."""
        path = self.mktemp()
        Path(path).write_bytes(b"")
        self.assertRaises(NotADirectoryError, Destination, path)


class NameTests(SynchronousTestCase):
    """Names that a stranger chooses."""

    def test_good(self) -> None:
        """Relative names of files, in any language."""
        self.assertEqual(partsOf(b"a"), ("a",))
        self.assertEqual(partsOf("Füße/… .txt".encode()), ("Füße", "… .txt"))
        self.assertEqual(partsOf(b"/".join([b"x"] * DEEPEST)), ("x",) * DEEPEST)

    def test_bad(self) -> None:
        """Whatever could lead elsewhere, or surprise somebody."""
        for name in (
            b"", b"/etc/passwd", b"../x", b"a/../b", b"a//b", b"a/", b".", b"./a", b"a\\b",
            b"a\0b", b"a\nb", b"\x1b[2J", b"\xff", b"x" * (LONGEST_PART + 1),
            b"/".join([b"x"] * (DEEPEST + 1)), b"a/" * LONGEST_NAME, b".x.rudp-part",
            "\u202etxt.exe".encode(),
        ):  # fmt: skip
            self.assertRaises(BadName, partsOf, name)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(
        st.one_of(
            st.binary(max_size=60),
            st.lists(st.sampled_from(["..", ".", "", "a", "b\\c", "\0", "~"])).map(
                lambda parts: "/".join(parts).encode()
            ),
        )
    )
    def test_inside(self, name: bytes) -> None:
        """Whatever is accepted is a path below a directory."""
        try:
            parts = partsOf(name)
        except BadName:
            return
        path = os.path.normpath(os.path.join("/top", *parts))
        self.assertTrue(path.startswith("/top/"))
        self.assertEqual("/".join(parts).encode(), name)


class DestinationTests(SynchronousTestCase):
    """A directory."""

    def setUp(self) -> None:
        self.top = Path(self.mktemp())
        self.top.mkdir()
        self.outside = Path(self.mktemp())
        self.outside.mkdir()

    def destination(self, force: bool = False) -> Destination:
        made = Destination(str(self.top), force=force)
        self.addCleanup(made.close)
        return made

    def write(self, destination: Destination, name: str, data: bytes, offset: int = 0) -> None:
        place = destination.place(partsOf(name.encode()))
        self.addCleanup(place.close)
        with place.open(offset) as file:
            file.write(data)
        place.finish(executable=False)

    def test_write(self) -> None:
        """A file has its name when it is whole, in directories that are made for it."""
        destination = self.destination()
        place = destination.place(("a", "b", "c"))
        self.addCleanup(place.close)
        with place.open(0) as file:
            file.write(b"12345")
        self.assertFalse((self.top / "a/b/c").exists())
        with place.open(3) as file:
            file.write(b"xy")
        place.finish(executable=True)
        self.assertEqual((self.top / "a/b/c").read_bytes(), b"123xy")
        self.assertTrue(os.access(self.top / "a/b/c", os.X_OK))
        self.assertEqual(os.listdir(self.top / "a/b"), ["c"])
        self.assertGreater(destination.free, 0)

    def test_existing(self) -> None:
        """Nothing is replaced without C{force}, also what has come since."""
        (self.top / "a").write_bytes(b"mine")
        destination = self.destination()
        self.assertTrue(destination.place(("a",)).taken)
        self.assertRaises(FileExistsError, self.write, destination, "a", b"theirs")
        self.assertEqual((self.top / "a").read_bytes(), b"mine")
        self.write(self.destination(force=True), "a", b"theirs")
        self.assertEqual((self.top / "a").read_bytes(), b"theirs")

    def test_links(self) -> None:
        """Links in the directory lead nowhere."""
        (self.top / "away").symlink_to(self.outside.absolute())
        (self.outside / "secret").write_bytes(b"secret")
        (self.top / "file").symlink_to((self.outside / "secret").absolute())
        (self.top / ".new.rudp-part").symlink_to((self.outside / "new").absolute())
        destination = self.destination()
        self.assertRaises(OSError, destination.place, ("away", "x"))
        self.assertRaises(OSError, destination.place, ("away", "y", "x"))
        place = destination.place(("file",))
        self.assertIsNone(place.existing())
        self.assertTrue(place.taken)
        self.assertRaises(OSError, destination.place(("new",)).open, 0)
        self.write(self.destination(force=True), "file", b"theirs")
        self.assertEqual((self.outside / "secret").read_bytes(), b"secret")
        self.assertEqual(os.listdir(self.outside), ["secret"])

    def test_parts(self) -> None:
        """What is there of a file is found: whole, a part, or neither; wrong parts can go."""
        destination = self.destination()
        place = destination.place(("x",))
        self.assertIsNone(place.existing())
        with place.open(0) as file:
            file.write(b"123")
        found = place.existing()
        assert found is not None
        with found[0] as file:
            self.assertEqual((file.read(), found[1]), (b"123", False))
        place.discard()
        place.discard()
        self.assertIsNone(place.existing())
        os.mkfifo(self.top / "pipe")
        self.assertIsNone(destination.place(("pipe",)).existing())
        self.assertRaises(OSError, destination.place, ("pipe", "x"))
