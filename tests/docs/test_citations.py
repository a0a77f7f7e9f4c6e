"""What code and tests cite is in the tree: pages, their sections, and rules by number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT

DOCS = CHECKOUT / "docs"
WIRE = DOCS / "wire"

FOLDERS = ("twisted_rudp", "twisted", "tests", "examples", "docs")
SUFFIXES = {".py", ".c", ".h"}

CITED = re.compile(r"\b([\w/-]+\.(?:md|rst))\b\}?")

NUMBERS = re.compile(
    r"(?:,?\s*(?:and|to|or)?\s*(?:sections?\s+)?)(\d+(?:\.\d+)*)(?![\w%])"
    r"(?:\s*,?\s*(?:steps?|rules?|items?)\s+(\d+)(?:\s+to\s+(\d+))?)?"
)

OF_QOTP = re.compile(r"\b([WR]\d+b?)\b")
"""A weakness or a rule for talking to the release: rows of C{qotp.md}."""


def sources() -> Iterator[tuple[Path, str]]:
    """Every source file, its text on one line without the signs of comments."""
    for folder in FOLDERS:
        for path in sorted((CHECKOUT / folder).rglob("*")):
            made = {"_build", "node_modules"} & {*path.parts}
            if path.suffix in SUFFIXES and not made and path != Path(__file__):
                text = path.read_text(encoding="utf-8")
                yield path, re.sub(r"\s*\n\s*(?:#:?|\*(?!/))?\s*", " ", text)


class Page:
    """A page and what can be cited of it."""

    def __init__(self, path: Path) -> None:
        self.sections: set[str] = set()
        section = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            heading = re.match(r"#+ (\d+(?:\.\d+)*)\.? ", line)
            item = re.match(r" {0,3}(\d+)\. ", line)
            if heading:
                section = heading[1]
                self.sections.add(section)
            elif item:
                self.sections.add(f"{section}.{item[1]}")

    def missing(self, text: str) -> Iterator[str]:
        """The sections that the beginning of a text names and that are not there."""
        position = 0
        while found := NUMBERS.match(text, position):
            section, first, last = found.groups()
            for name in [section, *(f"{section}.{item}" for item in (first, last) if item)]:
                if name not in self.sections:
                    yield name
            position = found.end()


class CitationTests(SynchronousTestCase):
    """Convention 7: no citation that a fresh clone cannot open."""

    def test_pages(self) -> None:
        """A page that is named lies in the manual or beside it."""
        unknown = {
            (str(path.relative_to(CHECKOUT)), name)
            for path, text in sources()
            for name in CITED.findall(text)
            if not (CHECKOUT / name).exists() and not any(DOCS.rglob(name))
        }
        self.assertEqual(unknown, set())

    def test_sections(self) -> None:
        """A section, step or rule that is named is on the page."""
        pages = {path.name: Page(path) for path in WIRE.glob("*.md")}
        missing = [
            f"{path.relative_to(CHECKOUT)}: {cited[1]} {section}"
            for path, text in sources()
            for cited in CITED.finditer(text)
            if Path(cited[1]).name in pages
            for section in pages[Path(cited[1]).name].missing(text[cited.end() : cited.end() + 80])
        ]
        self.assertEqual(missing, [])

    def test_numbers(self) -> None:
        """Each number is that of one section, so that a citation has one meaning."""
        for path in WIRE.glob("*.md"):
            text = path.read_text(encoding="utf-8")
            numbers = re.findall(r"^#+ (\d+(?:\.\d+)*)\.? ", text, re.MULTILINE)
            self.assertEqual(len(numbers), len(set(numbers)), path.name)

    def test_rules(self) -> None:
        """W1 and the like, and R1 and the like, are rows of the page on QOTP."""
        rows = set(re.findall(r"^\| ([WR]\d+b?) \|", (WIRE / "qotp.md").read_text(), re.MULTILINE))
        cited = {
            rule
            for path, text in sources()
            if "qotp" in path.parts
            for rule in OF_QOTP.findall(text)
        }
        self.assertEqual(cited - rows, set())

    def test_reads(self) -> None:
        """The test itself understands the forms in use."""
        page = Page(WIRE / "kcp.md")
        for right in ("1.11 step 5", " 1.3 and 8.3", " sections 3, 5 and 6", " 1.11 steps 1 to 3"):
            self.assertEqual(list(page.missing(right)), [], right)
        self.assertEqual(list(page.missing(" 1.3, 97 and 1.11 step 9")), ["97", "1.11.9"])
