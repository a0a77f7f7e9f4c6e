"""Tests for L{twisted_rudp.service.decode}."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.decoding.talk import talk
from twisted_rudp.service.decode import DecodeOptions, runDecode
from twisted_rudp.tracing.pcapng import Capture, header, packet

ENDS = ("192.0.2.1", 4000), ("192.0.2.2", 5000)


class DecodeTests(SynchronousTestCase):
    """C{rudp decode}."""

    def decode(self, *arguments: str) -> list[str]:
        """The lines that are printed."""
        options = DecodeOptions()
        options.parseOptions(arguments)
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        try:
            runDecode(None, options)
        finally:
            self.lines = out.getvalue().splitlines()
        return self.lines

    def talked(self, wire: str, *arguments: Any, **both: Any) -> str:
        path = self.mktemp()
        talk(path, wire, *arguments, **both)
        return path

    def test_prints(self) -> None:
        """Each datagram has a line with its ends and what became of it, and its parts below."""
        lines = self.decode(self.talked("kcp"))
        self.assertEqual(lines[0], "0.000000 10.0.0.1:49152 > 10.0.0.2:4000 kcp 24 bytes")
        self.assertRegex(lines[1], "^    conv [0-9a-f]{8} WASK sn 0 una 0 wnd 1024 ts 0 marked$")
        self.assertTrue(any(line.endswith(" bytes (lost)") for line in lines))
        self.assertRegex(lines[-1], r"^\d+ datagrams: \d+ kcp$")

    def test_keys(self) -> None:
        """Keys are taken from files, and from the command line."""
        key = self.mktemp()
        Path(key).write_text("0b" * 32)
        path = self.talked("kcp", crypt="aes", keyFile=key)
        for arguments in (["--key-file", key], ["--crypt", "aes", "--key", "0b" * 32]):
            self.assertRegex(self.decode(*arguments, path)[-1], r"^(\d+) datagrams: \1 kcp$")
        log = self.mktemp()
        path = self.talked("qotp", {"keyLogFile": log})
        self.assertIn("stream 0 offset 0", "\n".join(self.decode("--key-log", log, path)))

    def test_narrowed(self) -> None:
        """Only one port, and only so many."""
        path = self.talked("kcp")
        self.assertEqual(self.decode("--port", "5", path), ["0 datagrams"])
        self.assertEqual(self.decode("--limit", "2", path)[-1], "2 datagrams: 2 kcp")

    def test_terminal(self) -> None:
        """Nothing in a capture controls the terminal."""
        path = self.mktemp()
        capture = Capture(path)
        capture.datagram(0, *ENDS, b"x", "\x1b[31m")
        capture.close()
        self.assertIn("(?[31m)", self.decode(path)[0])

    def test_broken(self) -> None:
        """What comes before the broken place is printed, then the error."""
        path = self.mktemp()
        Path(path).write_bytes(header() + packet(0, *ENDS, b"x") + b"\x06")
        problem = self.assertRaises(SystemExit, self.decode, path)
        self.assertIn("the file ends within a block", str(problem))
        self.assertEqual(self.lines[1], "    of no known wire")

    def test_errors(self) -> None:
        """What cannot be is a usage error that says what."""
        for arguments, expected in (
            ([], "FILE"),
            (["/nowhere"], "No such file"),
            (["--wire", "tcp", "x"], "--wire"),
            (["--key", "xyz", "x"], "hexadecimal"),
            (["--key", "0b" * 32, "--password", "x", "x"], "give one"),
            (["--crypt", "aes", "x"], "needs a key"),
            (["--key-log", "/nowhere", "x"], "--key-log"),
        ):
            problem = self.assertRaises(UsageError, self.decode, *arguments)
            self.assertIn(expected, str(problem))
