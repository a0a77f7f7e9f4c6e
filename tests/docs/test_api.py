"""The page of public names: what is on it can be imported, and what is public is on it."""

from __future__ import annotations

import re
from importlib import import_module
from inspect import isclass

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from twisted_rudp import errors, interfaces, messages
from twisted_rudp.strings import EVERY

PAGE = (CHECKOUT / "docs" / "api.rst").read_text(encoding="utf-8")

ROW = re.compile(r"   \* - ``(twisted_rudp[\w.]*)``\n((?:     .*\n)+)")


def listed() -> dict[str, set[str]]:
    """The names on the page, by module."""
    found: dict[str, set[str]] = {}
    for row in ROW.finditer(PAGE):
        names = re.findall(r"``([A-Za-z]\w*)``", row[2])
        found.setdefault(row[1], set()).update(names)
    text = PAGE[PAGE.index("Errors\n") : PAGE.index("Discovery\n")]
    found["twisted_rudp.errors"] = set(re.findall(r"``([A-Z]\w*)``", text))
    return found


class PublicNamesTests(SynchronousTestCase):
    """C{docs/api.rst} (convention 12)."""

    def test_there(self) -> None:
        """Each name can be imported from the module beside it."""
        for module, names in listed().items():
            for name in names:
                self.assertTrue(hasattr(import_module(module), name), f"{module}.{name}")

    def test_endpoints(self) -> None:
        """Both endpoint classes of each transport are listed."""
        page = listed()
        for transport in EVERY:
            for role in (transport.server, transport.client):
                self.assertIn(role.endpoint, page[role.module])

    def test_modules(self) -> None:
        """All classes of the modules that have nothing but public names are listed."""
        page = listed()
        for module in (errors, interfaces, messages):
            own = {
                name
                for name, value in vars(module).items()
                if isclass(value) or type(value).__name__ == "InterfaceClass"
                if value.__module__ == module.__name__ and not name.startswith("_")
            }
            self.assertEqual(own - page[module.__name__] - {"Phase"}, set(), module.__name__)

    def test_upgrading(self) -> None:
        """What was renamed can be imported under its new name."""
        page = (CHECKOUT / "docs" / "upgrading.rst").read_text(encoding="utf-8")
        rows = re.findall(
            r"   \* - ``(twisted_rudp[\w.]+)``\n     - ``(twisted_rudp[\w.]+)``", page
        )
        self.assertTrue(rows)
        for _, new in rows:
            module, _, name = new.rpartition(".")
            self.assertTrue(hasattr(import_module(module), name), new)
