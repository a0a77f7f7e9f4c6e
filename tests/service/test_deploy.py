"""What C{examples/deploy} has for systemd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interpreter import CHECKOUT


class UnitTests(SynchronousTestCase):
    """The unit of the service."""

    def test_verify(self) -> None:
        """systemd finds nothing wrong with it, but for the program that is not installed here."""
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("systemd-analyze is not installed")
        unit = (CHECKOUT / "examples" / "deploy" / "rudp.service").read_text(encoding="utf-8")
        folder = Path(self.mktemp())
        folder.mkdir()
        copy = folder.resolve() / "rudp.service"
        copy.write_text(unit.replace("/opt/rudp/bin/twist", "/bin/true"), encoding="utf-8")
        checked = subprocess.run(
            [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True
        )
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))
