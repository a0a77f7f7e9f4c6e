"""Debian's Syncthing on one machine and our discovery on another: each lists the other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.harness import unavailable
from tests.interop.namespaces import Cable
from tests.service.programs import TWIST, Program
from twisted_rudp.discovery.ids import to_device_id

RUDP = ("-c", "from twisted_rudp.service.command import main; main()")
OURS = to_device_id(bytes(range(1, 33)))
PATIENCE = 60.0

ASK = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"X-API-Key": sys.argv[2]})
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""

OFF = ("globalAnnounceEnabled", "relaysEnabled", "natEnabled", "crashReportingEnabled")


class SyncthingTests(SynchronousTestCase):
    """Local discovery with today's wire."""

    def setUp(self) -> None:
        if shutil.which("syncthing") is None:
            raise unavailable("syncthing is not installed (apt-get install syncthing)")
        cable = Cable()
        self.addCleanup(cable.remove)
        self.one, self.two = cable.machines
        self.home = Path(self.mktemp()).absolute()
        self.configure()
        self.syncthing = subprocess.Popen(
            [*self.one.prefix, "syncthing", "serve", "--home", str(self.home), "--no-browser",
             "--no-restart", "--skip-port-probing", "--no-default-folder"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.addCleanup(self.syncthing.wait, PATIENCE)
        # Not killed: it watches over another process of itself, which would go on alone.
        self.addCleanup(self.syncthing.terminate)
        self.theirs: str = self.until("/rest/system/status", lambda answer: answer["myID"])

    def configure(self) -> None:
        """An identity, and nothing that would look for the world."""
        subprocess.run(
            ["syncthing", "generate", "--home", str(self.home), "--no-default-folder"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        path = self.home / "config.xml"
        config = path.read_text()
        for name in OFF:
            config = re.sub(f"<{name}>true<", f"<{name}>false<", config)
        [self.key] = re.findall("<apikey>(.*)</apikey>", config)
        config = re.sub(r"(<gui[^>]*>\s*<address>)[^<]*<", r"\g<1>127.0.0.1:8384<", config)
        path.write_text(config)

    def ask(self, path: str) -> Any:
        """One question to its programming interface; None while it does not answer."""
        status, output = self.one.run("-c", ASK, f"http://127.0.0.1:8384{path}", self.key)
        return json.loads(output) if status == 0 else None

    def until(self, path: str, wanted: Any) -> Any:
        """Ask until the answer is the one that is wanted."""
        end = monotonic() + PATIENCE
        answer = None
        while monotonic() < end:
            answer = self.ask(path)
            found = answer is not None and wanted(answer)
            if found:
                return found
            sleep(0.3)
        raise AssertionError(f"{path} is still {answer!r}")

    def announce(self) -> Program:
        """Ourselves as one of them."""
        program = self.two.start(
            *TWIST, "rudp", "announce", "--id", OURS, "--profile", "syncthing",
            "--url", "tcp://[::]:22000", "--url", "kcp://[::]:4000?profile=fast",
            "--url", "raknet://0.0.0.0:4001",
        )  # fmt: skip
        self.addCleanup(program.kill)
        return program

    def test_eachOther(self) -> None:
        """
        Syncthing lists us with our addresses filled in, over both families, and forgets
        the addresses at our goodbye; we list it with its own (discovery.md 3).
        """
        browsing = self.two.start(*RUDP, "browse", "--profile", "syncthing")
        self.addCleanup(browsing.kill)
        ours = self.announce()
        listed = self.until(
            "/rest/system/discovery",
            lambda answer: (
                len(answer.get(OURS, {}).get("addresses") or ()) >= 4 and answer[OURS]
            ),
        )
        addresses = set(listed["addresses"])
        self.assertIn("tcp://10.77.0.2:22000", addresses)
        self.assertIn("kcp://10.77.0.2:4000?profile=fast", addresses)
        self.assertTrue(any(address.startswith("tcp://[fe80::") for address in addresses))
        self.assertEqual(
            [address for address in addresses if address.startswith("raknet:")],
            ["raknet://10.77.0.2:4001"],
        )
        line = browsing.expect(rf"^[+~] {self.theirs} .*tcp://10\.77\.0\.1:22000")
        self.assertIn("quic://10.77.0.1:22000", line.string)
        ours.interrupt()
        ours.end()
        self.assertNotIn("Traceback", ours.output)
        self.until(
            "/rest/system/discovery",
            lambda answer: not (answer.get(OURS) or {}).get("addresses") and "gone",
        )
