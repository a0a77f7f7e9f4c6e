"""Tests for L{twisted_rudp.service.places}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.places import fingerprint, placeOf


class PlaceTests(SynchronousTestCase):
    """Two services want the same socket if their places are equal."""

    def test_same(self) -> None:
        """Transport, other arguments and the way it is written do not matter."""
        places = {
            placeOf(each)
            for each in (
                "kcp:4000",
                "kcp:port=4000:crypt=null",
                "raknet:4000:interface=0.0.0.0",
                "qotp:04000:0.0.0.0",
                "kcptun:4000",
                "mux:kcp:4000:secretFile=x",
            )
        }
        self.assertEqual(places, {("udp", "0.0.0.0", "4000")})

    def test_other(self) -> None:
        """Port, interface and kind of socket do."""
        places = [
            placeOf(each)
            for each in (
                "kcp:4000",
                "kcp:4001",
                "kcp:0",
                r"kcp:4000:\:\:",
                r"kcp:4000:interface=\:\:1",
                "kcp:1:fd=3",
                "tcp:4000",
                "tcp6:4000",
                "tcp:4000:interface=127.0.0.1",
                "ssl:4000",
                "unix:/run/x",
            )
        ]
        self.assertEqual(len(set(places)), len(places))
        self.assertIn(("udp", "::", "4000"), places)
        self.assertIn(("udp", "fd", "3"), places)

    def test_unknown(self) -> None:
        """Of other endpoints nothing is known."""
        self.assertIsNone(placeOf("stdio:"))


class FingerprintTests(SynchronousTestCase):
    """Whether a service is still the same."""

    def setUp(self) -> None:
        self.key = Path(self.mktemp()).absolute()
        self.key.write_text("one", encoding="utf-8")
        self.line = ["forward", f"--listen=kcp:4000:keyFile={self.key}", "--to=tcp:h:1"]

    def test_same(self) -> None:
        """It is, if nothing changed."""
        self.assertEqual(fingerprint(self.line), fingerprint(list(self.line)))

    def test_option(self) -> None:
        """Any option counts, and where one ends."""
        self.assertNotEqual(fingerprint(self.line), fingerprint([*self.line, "--drain=1"]))
        self.assertNotEqual(fingerprint(["a", "bc"]), fingerprint(["ab", "c"]))

    def test_file(self) -> None:
        """So does what is in a file that an argument names, also if it is not there any more."""
        seen = {fingerprint(self.line)}
        self.key.write_text("two", encoding="utf-8")
        seen.add(fingerprint(self.line))
        self.key.unlink()
        seen.add(fingerprint(self.line))
        self.assertEqual(len(seen), 3)
