"""The manual as it is read: tables and pictures in the HTML that Sphinx makes of it."""

from __future__ import annotations

import fcntl
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT, environment, python

DOCS = CHECKOUT / "docs"

SPARSE = ("wire/",)
"""Pages whose tables may have empty cells, but no empty rows."""


class Tables(HTMLParser):
    """
    Collects the cells of each row of each table, and the pictures.

    @ivar rows: the texts of the cells, a list for each row.
    @ivar pictures: the alternative text of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.pictures: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A row, a cell or a picture begins."""
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._inside = True
        elif tag == "img":
            self.pictures.append(dict(attrs).get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        """A cell ends."""
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        """Text of a cell, or of something else."""
        if self._inside:
            self.rows[-1][-1] += data


@cache
def built() -> Path:
    """
    The folder with the HTML: what C{make docs} has left there, brought up to date. The suite
    runs in several processes, of which one builds at a time.
    """
    target = DOCS / "_build" / "html"
    target.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(
            python("-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(target)),
            env=environment(),
            capture_output=True,
            text=True,
        )
    if made.returncode:
        raise AssertionError(made.stderr)
    return target


def pages() -> Iterator[tuple[str, Tables]]:
    """Each page of the manual with what is in it."""
    for path in sorted(DOCS.rglob("*")):
        name = path.relative_to(DOCS).with_suffix(".html")
        html = built() / name
        if path.suffix in (".rst", ".md") and "_build" not in path.parts and html.exists():
            tables = Tables()
            tables.feed(html.read_text(encoding="utf-8"))
            yield str(name), tables


class SourceTests(SynchronousTestCase):
    """What can be seen without Sphinx."""

    def test_tables(self) -> None:
        """
        No page has a simple table: a line that continues the first column begins a row
        in them, which nothing complains about.
        """
        simple = [
            path.name
            for path in [*DOCS.rglob("*.rst"), *CHECKOUT.glob("*.rst")]
            if re.search(r"^ *=+( +=+)+$", path.read_text(encoding="utf-8"), re.MULTILINE)
        ]
        self.assertEqual(simple, [])


class HTMLTests(SynchronousTestCase):
    """What a browser is given."""

    if not all(find_spec(name) for name in ("sphinx", "furo", "myst_parser")):
        skip = "needs what 'make docs' installs"

    def test_rows(self) -> None:
        """No table has an empty row, and only those of wire pages have empty cells."""
        count = 0
        for name, page in pages():
            for row in page.rows:
                count += 1
                texts = [cell.strip() for cell in row]
                self.assertTrue(any(texts), f"{name}: an empty row")
                if not name.startswith(SPARSE):
                    self.assertTrue(all(texts), f"{name}: an empty cell in {texts}")
        self.assertGreater(count, 500)

    def test_pictures(self) -> None:
        """Each picture says in words what it shows."""
        for name, page in pages():
            for text in page.pictures:
                self.assertGreater(len(text), 40, f"{name}: {text!r}")
