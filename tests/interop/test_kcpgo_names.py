"""The manual says for everything that kcp-go exports what there is here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.interop.harness import NEWEST_KCPGO, PEERS, PeerTestCase, kcpgo

PACKAGE = "github.com/xtaci/kcp-go/v5"
MANUAL = Path(__file__).parents[2] / "docs" / "guides" / "kcp-go.rst"

EXPORTED = re.compile(r"^ *(?:func(?: \(\w+ \*\w+\))?|var) ([A-Z]\w+)", re.MULTILINE)

INSIDE = {"NewRingBuffer"}
"""A container that happens to be exported."""

CIPHERS = re.compile("New[A-Z].*(?:BlockCrypt|GCMCrypt)")
"""Chosen by name here; each is tried in L{tests.interop.test_kcpgo_protection}."""


def exported(version: str, *names: str) -> set[str]:
    """Functions and variables of a version of the package, or methods of a type in it."""
    target = ".".join([PACKAGE, *names])
    argv = ["go", "doc", "-short", target]
    environ = dict(os.environ)
    if version:
        environ["GOFLAGS"] = f"-modfile=go-{version}.mod"
    told = subprocess.run(
        argv, cwd=PEERS / "kcpgo", check=True, capture_output=True, text=True, env=environ
    )
    return set(EXPORTED.findall(told.stdout))


class NamesTests(PeerTestCase):
    """C{docs/guides/kcp-go.rst}."""

    def test_everything(self) -> None:
        """Each function, each method of sessions, listeners and counters is in it."""
        names: set[str] = set()
        for version in ("", NEWEST_KCPGO):
            kcpgo(version=version)
            for kind in ((), ("UDPSession",), ("Listener",), ("Snmp",)):
                names |= exported(version, *kind)
        self.assertGreater(len(names), 50)
        self.assertLessEqual({"SetNoDelay", "ListenWithOptions", "Copy", "TryRead"}, names)
        manual = MANUAL.read_text()
        missing = {
            name
            for name in names - INSIDE
            if not CIPHERS.fullmatch(name) and not re.search(rf"\b{name}\b", manual)
        }
        self.assertEqual(missing, set())
