"""Tests for C{rudp keygen}, as a person runs it."""

from __future__ import annotations

import os
import stat

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import run
from tests.service.test_command import RUDP
from twisted_rudp.endpoints.kcp import KCPClientEndpoint
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.service.command import USAGE_ERROR


class KeygenTests(SynchronousTestCase):
    """Keys in files."""

    def test_made(self) -> None:
        """A key file is made for its owner alone, and its public key is printed, now and later."""
        path = self.mktemp()
        status, made = run(*RUDP, "keygen", path)
        self.assertEqual((status, len(made)), (0, 65))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(run(*RUDP, "keygen", "--show", path), (0, made))
        self.assertEqual(KeyPair.from_file(path).public.hex() + "\n", made)

    def test_kcp(self) -> None:
        """A key for KCP is one that its endpoints read; nothing of it is printed."""
        path = self.mktemp()
        status, output = run(*RUDP, "keygen", "--kcp", path)
        self.assertEqual(status, 0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        with open(path) as file:
            key = file.read().strip()
        self.assertEqual(len(key), 64)
        self.assertNotIn(key, output)
        KCPClientEndpoint(Clock(), "h", 1, keyFile=path, crypt="aes-256-gcm")
        self.assertEqual(run(*RUDP, "keygen", "--kcp", "--show", path)[0], USAGE_ERROR)

    def test_refused(self) -> None:
        """A file that is there is not overwritten, and one that is no key is named."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("not a key")
        for arguments, expected in [
            ((path,), "File exists"),
            (("--show", path), "a key is 64 hex digits"),
            (("--show", path + "x"), "No such file"),
            ((), "expected one FILE"),
        ]:
            status, output = run(*RUDP, "keygen", *arguments)
            self.assertEqual(status, USAGE_ERROR)
            self.assertIn(expected, output)
            self.assertNotIn("Traceback", output)
